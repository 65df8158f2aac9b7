"""Policy of a relay: which things its clients may use, and what becomes of their requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.arguments import require_seconds
from turnout.relay.permissions import Kind, Permissions, require_kinds
from turnout.relay.verdicts import Verdicts, require_decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.handlers import H, Handler
    from turnout.relay.clients import Clients
    from turnout.relay.forwarding import Forwarder
    from turnout.router import Router


class Policy:
    """The policy of one relay, as its host registers it; `Relay.policy`.

    A request is first allowed or not by what it names (`allow`), and then decided about as a whole (`decide`), which
    never sees what was refused. An async function runs in the loop, a plain one in a thread: either may wait for a
    database, and holds up no other request.

    Args:
        router: in whose threads plain functions run, and whose limits hold.
        clients: on whose behalf they ask.
        forward: passes a request on.

    """

    def __init__(self, router: Router, clients: Clients, forward: Forwarder) -> None:
        self.permissions = Permissions(router, clients)
        self.verdicts = Verdicts(router, forward)
        self.changed: Callable[[], None] = lambda: None

    def allow(self, *kinds: Kind, timeout: float | None = 10.0) -> Callable[[H], H]:
        """Register what decides which tools, prompts and resources a client may use, and so is shown.

        It is called with the principal of the client (what `Relay.attach` was told; None for none), the kind, and a
        name as the client knows it: of a tool or a prompt, the URI of a resource, the URI template of a resource
        template. It returns True to let the client use it: `tools/call`, `prompts/get`, `resources/read`,
        subscriptions, completions that refer to it, and its place in a list. A completion that refers to neither a
        prompt nor a resource is refused, whatever its server might make of it. With False lists and listens leave it
        out, and every other use is answered as the relay answers for a name that no route takes; a predicate that
        allows only names that it knows tells nobody which other names there are. `RequestError` refuses the use by an
        error of its own. If it raises anything else, returns anything else or does not decide in time, the use is
        refused by an error, and the list leaves out what it failed for, which is logged; a list that is not decided
        in time is refused.

        Args:
            kinds: what it decides about: `"tool"`, `"prompt"`, `"resource"`, `"resource_template"`; none for all of
                them. Requests about other kinds never reach Python for it.
            timeout: seconds to decide about one request, or about all of one list; None for any time.

        Raises:
            TypeError: the parentheses are missing.
            ValueError: there is no such kind, something decides about it already, or the timeout is negative.

        """
        named = require_kinds(kinds)
        require_seconds("timeout", timeout)

        def decorate(function: H) -> H:
            self.permissions.register(named, function, timeout)
            self.changed()
            return function

        return decorate

    def decide(self, method: str, *, timeout: float | None = 10.0) -> Callable[[H], H]:
        """Register what decides about the requests of a method: once each, before it is passed on or answered here.

        It is called with the `Request`. It returns None to let the request go on byte for byte, `turnout.Forward` to
        change where it goes or with what, `turnout.Answer` to answer it; it raises `RequestError` to refuse it. If it
        raises anything else, or does not decide in time, its own request fails and no other; a plain function that
        blocks keeps its thread, though. A cancel of the request stops an async one.

        Args:
            method: the method; `"*"` for every method that nothing else decides about.
            timeout: seconds to decide; None for any time.

        Raises:
            TypeError: the method is no name.
            ValueError: something decides about the method already, or the timeout is negative.

        """
        require_decision(method, timeout)

        def decorate(function: H) -> H:
            self.verdicts.register(method, function, timeout)
            self.changed()
            return function

        return decorate

    @property
    def methods(self) -> set[str]:
        """The methods that it has a say in."""
        return {*self.verdicts.methods, *self.permissions.methods}

    def before(self, method: str, answers: Handler) -> Handler:
        """Make the handler that asks the policy about a method, where it has a say in it.

        Args:
            method: the method.
            answers: what answers the method here, or passes it on.

        """
        return self.permissions.before(method, self.verdicts.before(method, answers))


__all__ = ["Policy"]
