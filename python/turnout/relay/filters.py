"""Filters of a relay: policy in Python for single methods, asked once a request; nothing else comes by here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from turnout.errors import RequestError
from turnout.handlers import H, Handler, for_a_thread, is_async
from turnout.raised import EXITS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnout._native import Request
    from turnout.relay.relay import Relay

INTERNAL_ERROR = -32603


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
        result: anything orjson encodes, or bytes that are JSON.

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
            method: the method.
            timeout: seconds to decide; None for any time.

        Raises:
            ValueError: the method has a filter already.

        """

        def take(function: H) -> H:
            if method in self._by_method:
                raise ValueError(f"{method} has a filter already; one filter decides about a request")
            self._by_method[method] = _Filter(function, timeout)
            self.changed()
            return function

        return take

    def before(self, method: str, answers: Handler | None) -> Callable[[Request], Awaitable[Any]]:
        """Make the handler that asks the filter of `method`, and goes on as it says.

        Args:
            method: the method.
            answers: what answers the method here; None where it is passed on.

        """
        asked = self._by_method[method]

        async def handle(request: Request) -> Any:
            verdict = await self._decide(asked, request)
            if isinstance(verdict, Answer):
                return verdict.result
            if not isinstance(verdict, (Forward, type(None))):
                raise TypeError(f"a filter returns None, Forward or Answer, not {type(verdict).__name__}")
            if answers is not None and verdict is None:
                return await self._run(answers, request)
            onward = verdict or Forward()
            await self._relay.forward(request, onward.upstream, onward.params)
            return None

        return handle

    async def _run(self, handler: Handler, request: Request) -> Any:
        if handler.is_async:
            return await handler.function(request)
        loop = asyncio.get_running_loop()
        work = for_a_thread(handler.function)
        return await loop.run_in_executor(self._relay.router.threads, work, request)

    async def _decide(self, asked: _Filter, request: Request) -> Verdict:
        loop = asyncio.get_running_loop()
        deciding: asyncio.Future[Verdict]
        if is_async(asked.function):
            deciding = loop.create_task(asked.function(request))
        else:
            work = for_a_thread(asked.function)
            deciding = loop.run_in_executor(self._relay.router.threads, work, request)
        deciding.add_done_callback(_take_note)
        try:
            decided, _ = await asyncio.wait((deciding,), timeout=asked.timeout)
        finally:
            deciding.cancel()
        if not decided:
            raise RequestError(
                INTERNAL_ERROR, "a filter did not decide in time", {"reason": "filter_timeout", "sent": False}
            )
        if deciding.cancelled():
            raise RequestError(INTERNAL_ERROR, "the filter was cancelled")
        try:
            return deciding.result()
        except EXITS:
            # It ends the loop already, out of the filter's own task.
            raise RequestError(INTERNAL_ERROR, "the server is stopping") from None


def _take_note(deciding: asyncio.Future[Any]) -> None:
    """Take what came too late; nobody waits for it any more."""
    if not deciding.cancelled():
        deciding.exception()


__all__ = ["Answer", "Filters", "Forward", "Verdict"]
