"""The SDK's streams, read and written without a turn of the loop where nobody has to wait."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared._context_streams import ContextReceiveStream, ContextSendStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage

# So many messages are taken in one turn of the loop.
BATCH = 64


class Writer:
    """Writes messages: at once where the stream takes them, else as the stream does.

    Args:
        stream: any stream of the SDK's shape.

    """

    __slots__ = ("_nowait", "_stream")

    def __init__(self, stream: WriteStream[SessionMessage]) -> None:
        self._stream = stream
        self._nowait: Callable[[SessionMessage], None] | None = None
        kind: object = type(stream)
        known: Any = stream
        if kind is MemoryObjectSendStream:
            self._nowait = known.send_nowait
        elif kind is ContextSendStream:
            send = known._inner.send_nowait  # noqa: SLF001
            self._nowait = lambda item: send((contextvars.copy_context(), item))

    async def send(self, item: SessionMessage) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: the other end is gone.
            anyio.ClosedResourceError: this end is.

        """
        if self._nowait is not None:
            try:
                self._nowait(item)
            except anyio.WouldBlock:
                pass
            else:
                return
        await self._stream.send(item)


class Reader:
    """Reads messages, each with the context that its sender had.

    Args:
        stream: any stream of the SDK's shape.

    """

    __slots__ = ("_nowait", "_stream", "_taken")

    def __init__(self, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._stream = stream
        self._taken = 0
        self._nowait: Callable[[], tuple[contextvars.Context | None, Any]] | None = None
        kind: object = type(stream)
        known: Any = stream
        if kind is MemoryObjectReceiveStream:
            receive = known.receive_nowait
            self._nowait = lambda: (None, receive())
        elif kind is ContextReceiveStream:
            self._nowait = known._inner.receive_nowait  # noqa: SLF001

    async def receive(self) -> tuple[contextvars.Context | None, SessionMessage | Exception]:
        """Take the next message.

        Raises:
            anyio.EndOfStream: there is none.
            anyio.ClosedResourceError: the transport closed the stream under us.

        """
        if self._nowait is not None and self._taken < BATCH:
            try:
                taken = self._nowait()
            except anyio.WouldBlock:
                pass
            else:
                self._taken += 1
                return taken
        self._taken = 0
        try:
            item = await self._stream.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None
        return getattr(self._stream, "last_context", None), item
