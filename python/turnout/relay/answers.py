"""Which requests of a relay's clients Python answers, and by what: the relay's own features, or its host's handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.handlers import Handler, Handlers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Relay
    from turnout.handlers import RequestHandler
    from turnout.relay.clients import Client, Clients
    from turnout.relay.policy import Policy
    from turnout.relay.routing.routes import RoutePlan


class Answers:
    """Gives each client the handlers that its plan leaves to Python, behind the policy of the method.

    Args:
        core: the native relay, which hands over the requests that somebody wants to see.
        clients: whose requests they are.
        handlers: the host's.
        policy: the host's.
        own: what the relay answers itself, by method.
        lists: answers a method that lists, where the relay merges it.
        rest: takes every other request that is handed over.

    """

    def __init__(
        self,
        core: Relay,
        clients: Clients,
        handlers: Handlers,
        policy: Policy,
        *,
        own: Mapping[str, RequestHandler],
        lists: RequestHandler,
        rest: RequestHandler,
    ) -> None:
        self._core = core
        self._clients = clients
        self._handlers = handlers
        self._policy = policy
        self._own = own
        self._lists = lists
        self._rest = Handler(rest, is_async=True, interruptible=True)
        # The methods in which the host has a say.
        self._watched: set[str] = set()

    def may_share(self, method: str) -> bool:
        """Whether nothing of the host's has a say in a method, which may depend on the client."""
        return self._watched.isdisjoint((method, "*"))

    def apply(self) -> None:
        """Ask for the requests that somebody here wants to see, and tell every client who handles what."""
        self._watched = {*self._policy.methods, *self._handlers.requests}
        self._core.watch(list(self._watched))
        for client in self._clients:
            self.apply_to(client)

    def apply_to(self, client: Client) -> None:
        """Tell one client who handles what."""
        client.handlers.requests = self._of_plan(client.plan)
        client.handlers.incoming = self._handlers.incoming
        client.handlers.outgoing = self._handlers.outgoing
        client.handlers.observers = self._handlers.observers
        client.handlers.listeners = self._handlers.listeners
        client.handlers.changed()

    def _of_plan(self, plan: RoutePlan) -> dict[str, Handler]:
        """What answers which method, with the policy that decides about it."""
        answers = {**self._own, **{kind.list: self._lists for kind in plan.kinds}}
        handlers = {
            method: Handler(function, is_async=True, interruptible=True)
            for method, function in answers.items()
            if method in plan.handled_locally
        }
        handlers["*"] = self._rest
        handlers.update(self._handlers.requests)
        decided = {*handlers, *self._policy.methods}
        return {
            method: self._policy.before(method, handlers.get(method, handlers["*"])) for method in decided
        }


__all__ = ["Answers"]
