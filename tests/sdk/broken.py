"""Dispatchers with one fault each, made of any dispatcher by bending what passes through its streams.

The SDK's tests must fail on every one of them; a suite that does not notice these proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    Make = Callable[..., Any]
    Bend = Callable[[Any], "list[Any]"]


class Bent:
    """A stream, either way, each of whose items becomes those that `bend(item)` gives."""

    def __init__(self, inner: Any, bend: Bend) -> None:
        self.inner = inner
        self.bend = bend
        self.waiting: list[Any] = []

    @property
    def last_context(self) -> Any:
        return getattr(self.inner, "last_context", None)

    async def send(self, item: Any) -> None:
        for bent in self.bend(item):
            await self.inner.send(bent)

    async def receive(self) -> Any:
        while not self.waiting:
            self.waiting = self.bend(await self.inner.receive())
        return self.waiting.pop(0)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.inner.__aexit__(*error)


def _says(item: Any, method: str) -> bool:
    return (
        isinstance(item, SessionMessage)
        and isinstance(item.message, JSONRPCNotification)
        and item.message.method == method
    )


def _same(item: Any) -> list[Any]:
    return [item]


def _losing(method: str) -> Bend:
    return lambda item: [] if _says(item, method) else [item]


def intact(base: Make) -> Make:
    """No fault, the same bent streams: what fails on this one fails for the wrong reason."""
    return lambda read, write, **options: base(Bent(read, _same), Bent(write, _same), **options)


def never_cancels(base: Make) -> Make:
    """Neither tells the peer of a cancel, nor takes one."""
    lose = _losing("notifications/cancelled")
    return lambda read, write, **options: base(Bent(read, lose), Bent(write, lose), **options)


def drops_progress(base: Make) -> Make:
    """Loses progress that the peer reports."""
    lose = _losing("notifications/progress")
    return lambda read, write, **options: base(Bent(read, lose), write, **options)


def answers_after_cancel(base: Make) -> Make:
    """Answers a request although the peer cancelled it."""

    def make(read: Any, write: Any, **options: Any) -> Any:
        cancelled: list[Any] = []

        def note(item: Any) -> list[Any]:
            if _says(item, "notifications/cancelled"):
                cancelled.append(item.message.params["requestId"])
            return [item]

        class Answering(Bent):
            async def receive(self) -> Any:
                item = await super().receive()
                while cancelled:
                    answer = JSONRPCResponse(jsonrpc="2.0", id=cancelled.pop(), result={})
                    await write.send(SessionMessage(answer))
                return item

        return base(Answering(read, note), write, **options)

    return make


def crosses_ids(base: Make) -> Make:
    """Gives the answer of each request to the request before it, wherever two are in flight."""

    def make(read: Any, write: Any, **options: Any) -> Any:
        open_ids: list[Any] = []

        def sent(item: Any) -> list[Any]:
            if isinstance(item.message, JSONRPCRequest):
                open_ids.append(item.message.id)
            return [item]

        def crossed(item: Any) -> list[Any]:
            message = getattr(item, "message", None)
            if isinstance(message, JSONRPCResponse) and message.id in open_ids:
                others = [id for id in open_ids if id != message.id]
                taken = others[-1] if others else message.id
                open_ids.remove(taken)
                answer = message.model_copy(update={"id": taken})
                return [SessionMessage(answer, item.metadata)]
            return [item]

        return base(Bent(read, crossed), Bent(write, sent), **options)

    return make
