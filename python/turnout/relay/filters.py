"""Filters of a relay: policy in Python for single methods, asked once a request; nothing else comes by here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from turnout.arguments import require_method, require_seconds
from turnout.handlers import H, Handler
from turnout.relay.deciding import decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout._native import Request
    from turnout.relay.relay import Relay


@dataclass(frozen=True)
class Forward:
    """A filter's verdict: the request goes on, changed.

    Args:
        upstream: the name of the upstream that it goes to; None for the one that the routes say.
        params: what it goes on with instead of its own params, as for `Connection.send`; None for its own.

    """

    upstream: str | None = None
    params: Any = None


@dataclass(frozen=True)
class Answer:
    """A filter's verdict: the request is answered here.

    Args:
        result: anything `turnout.json` writes, or bytes that are JSON.

    """

    result: Any


Verdict: TypeAlias = "Forward | Answer | None"


@dataclass(frozen=True)
class _Filter:
    function: Callable[[Request], Any]
    timeout: float | None


class Filters:
    """The filters of one relay, one a method.

    Args:
        relay: whose they are.

    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._by_method: dict[str, _Filter] = {}
        self.changed: Callable[[], None] = lambda: None

    @property
    def methods(self) -> list[str]:
        """The methods that have a filter."""
        return list(self._by_method)

    def register(self, method: str, *, timeout: float | None = 10.0) -> Callable[[H], H]:
        """Register the filter of a method: it sees each request once, before it is passed on or answered here.

        It is called with the `Request`, an async function in the loop, a plain one in a thread. It returns None to
        let the request go on byte for byte, `turnout.Forward` to change where it goes or with what, `turnout.Answer`
        to answer it; it raises `RequestError` to refuse it. One that raises anything else, or does not decide in
        time, fails its own request only; a plain function that blocks keeps its thread, though. A cancel of the
        request stops an async one.

        Args:
            method: the method; `"*"` for every method that has no filter of its own.
            timeout: seconds to decide; None for any time.

        Raises:
            TypeError: the method is no name.
            ValueError: the method has a filter already, or the timeout is negative.

        """
        require_method("filter", method)
        require_seconds("timeout", timeout)

        def decorate(function: H) -> H:
            if method in self._by_method:
                raise ValueError(f"{method} has a filter already; one filter decides about a request")
            self._by_method[method] = _Filter(function, timeout)
            self.changed()
            return function

        return decorate

    def before(self, method: str, answers: Handler) -> Handler:
        """Make the handler that asks the filter of `method`, if there is one, and goes on as it says.

        Args:
            method: the method.
            answers: what answers the method here, or passes it on.

        """
        asked = self._by_method.get(method, self._by_method.get("*"))
        if asked is None:
            return answers

        async def handle(request: Request) -> Any:
            threads = self._relay.router.threads
            verdict = await decide("filter", asked.function, request, threads=threads, timeout=asked.timeout)
            if isinstance(verdict, Answer):
                return verdict.result
            if not isinstance(verdict, (Forward, type(None))):
                raise TypeError(f"a filter returns None, Forward or Answer, not {type(verdict).__name__}")
            if verdict is None:
                return await answers.run(request, threads)
            await self._relay.forward(request, verdict.upstream, verdict.params)
            return None

        return Handler(handle, is_async=True, interruptible=answers.interruptible)


__all__ = ["Answer", "Filters", "Forward", "Verdict"]
