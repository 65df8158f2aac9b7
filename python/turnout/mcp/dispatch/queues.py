"""Reads and writes the SDK's memory streams without an extra turn of the loop.

anyio's memory streams give the loop a turn before every send and receive. What can be done at once is done at
once here; and who has to wait takes a place in the stream's own queue (`QueueTicket`). Streams of any other kind, and
memory streams of an anyio that keeps its queues elsewhere, are awaited as they are.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from turnout.mcp._sdk import ContextReceiveStream, ContextSendStream

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

# So many messages are taken in one turn of the loop.
BATCH = 64

_NOTHING = object()


Received: TypeAlias = "tuple[contextvars.Context | None, SessionMessage | Exception]"


class QueueTicket:
    """A task's entry in the queue of a memory stream, with the methods that the stream calls on its entries.

    Args:
        loop: where the task waits.

    """

    __slots__ = ("item", "woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.woken: asyncio.Future[None] = loop.create_future()
        self.item: Any = _NOTHING

    def set(self) -> None:
        """Wake the task: its item was taken, one was left for it, or the stream ended."""
        if not self.woken.done():
            self.woken.set_result(None)

    @property
    def task_info(self) -> QueueTicket:
        """Who is asked whether the task still waits."""
        return self

    def has_pending_cancellation(self) -> bool:
        """Whether nobody would take an item that is left here."""
        return self.woken.done()


def _inner_of(stream: Any, context_kind: type, memory_kind: type) -> tuple[Any, bool]:
    """The stream in memory behind one of the SDK's, None where that is of another kind; and whether it has contexts."""
    with_context = type(stream) is context_kind
    inner = getattr(stream, "_inner", None) if with_context else stream
    return (inner if type(inner) is memory_kind else None), with_context


def _has_queues(stream: Any) -> bool:
    state = getattr(stream, "_state", None)
    return hasattr(stream, "_waiters") and all(
        isinstance(getattr(state, name, None), dict) for name in ("waiting_senders", "waiting_receivers")
    )


def _queue_of(inner: Any, name: str) -> Any:
    """The queue of those who wait at a stream in memory; None where it is of no shape known here."""
    return getattr(inner._state, name) if inner is not None and _has_queues(inner) else None  # noqa: SLF001


def _enter(stream: Any, queue: dict[Any, Any], ticket: QueueTicket, entry: object) -> None:
    if stream._waiters is None:  # noqa: SLF001
        stream._waiters = set()  # noqa: SLF001
    stream._waiters.add(ticket)  # noqa: SLF001
    queue[ticket] = entry


class Writer:
    """Writes messages: at once where the stream takes them, else in turn.

    Args:
        stream: any stream of the SDK's shape.

    """

    __slots__ = ("_inner", "_queue", "_stream", "_with_context")

    def __init__(self, stream: WriteStream[SessionMessage]) -> None:
        self._stream = stream
        self._inner, self._with_context = _inner_of(stream, ContextSendStream, MemoryObjectSendStream)
        self._queue = _queue_of(self._inner, "waiting_senders")

    async def send(self, item: SessionMessage) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: the other end is gone.
            anyio.ClosedResourceError: this end is.

        """
        if self._inner is None:
            await self._stream.send(item)
            return
        entry = (contextvars.copy_context(), item) if self._with_context else item
        try:
            self._inner.send_nowait(entry)
        except anyio.WouldBlock:
            if self._queue is None:
                await self._stream.send(item)
            else:
                await self._send_in_turn(entry)

    async def _send_in_turn(self, entry: object) -> None:
        inner = self._inner
        ticket = QueueTicket(asyncio.get_running_loop())
        _enter(inner, self._queue, ticket, entry)
        try:
            await ticket.woken
        finally:
            left = self._queue.pop(ticket, _NOTHING) is not _NOTHING
            withdrawn = inner._closed and ticket in inner._waiters  # noqa: SLF001
            inner._waiters.discard(ticket)  # noqa: SLF001
        if left:
            raise anyio.BrokenResourceError
        if withdrawn:
            raise anyio.ClosedResourceError


class Reader:
    """Reads messages, each with the context that its sender had.

    Args:
        stream: any stream of the SDK's shape.

    """

    __slots__ = ("_inner", "_queue", "_received", "_stream", "_with_context")

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream
        self._received = 0
        self._inner, self._with_context = _inner_of(stream, ContextReceiveStream, MemoryObjectReceiveStream)
        self._queue = _queue_of(self._inner, "waiting_receivers")

    def receive_nowait(self) -> Received | None:
        """Take the next message if it is there; None where `wait` has to.

        Raises:
            anyio.EndOfStream: there is none.
            anyio.ClosedResourceError: the transport closed the stream under us.

        """
        if self._queue is None or self._received >= BATCH:
            return None
        try:
            entry: Any = self._inner.receive_nowait()
        except anyio.WouldBlock:
            return None
        self._received += 1
        return entry if self._with_context else (None, entry)

    async def receive(self) -> Received:
        """Take the next message, behind a turn of the loop; raises as `take` does."""
        if self._queue is None:
            try:
                item = await self._stream.__anext__()
            except StopAsyncIteration:
                raise anyio.EndOfStream from None
            return getattr(self._stream, "last_context", None), item
        if self._received >= BATCH:
            await asyncio.sleep(0)
        else:
            entry = await self._receive_in_turn()
            if entry is not _NOTHING:
                self._received = 1
                return entry if self._with_context else (None, entry)
        self._received = 0
        return self.receive_nowait() or await self.receive()

    async def _receive_in_turn(self) -> Any:
        """Wait for an item; gives nothing where the stream ended instead."""
        ticket = QueueTicket(asyncio.get_running_loop())
        _enter(self._inner, self._queue, ticket, ticket)
        try:
            await ticket.woken
        finally:
            self._queue.pop(ticket, None)
            if self._inner._waiters is not None:  # noqa: SLF001
                self._inner._waiters.discard(ticket)  # noqa: SLF001
        return ticket.item
