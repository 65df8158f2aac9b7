"""One socket to a server, as asyncio has it."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Protocol, cast

from turnout._native import HttpClientSocket

if TYPE_CHECKING:
    from turnout._native import HttpPool

CLOSED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)
"""What the system says of a socket whose other end is closed."""


class Owner(Protocol):
    """Whoever has the sockets to a server."""

    pool: HttpPool
    sockets: set[ClientSocket]
    is_paused: bool


class ClientSocket(asyncio.Protocol):
    """One socket to a server.

    Args:
        owner: whoever has it.

    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport
        self._native: HttpClientSocket | None = None
        self._seen: tuple[str, int] = ("idle", 0)
        self._since = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = cast("asyncio.Transport", transport)
        native = HttpClientSocket(
            self._owner.pool, self._transport.write, self._transport.abort, self._is_gone
        )
        self._native = native
        # Called for every read: nothing of Python's is between the transport and the pool.
        vars(self)["data_received"] = native.feed
        self._owner.sockets.add(self)
        if self._owner.is_paused:
            # A loop may begin to read when this returns.
            asyncio.get_running_loop().call_soon(self._pause_too)
        native.opened()

    def _pause_too(self) -> None:
        if self._owner.is_paused:
            self.pause(True)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._native is not None:
            self._native.feed(data)

    def eof_received(self) -> bool:
        """A server that sends no more is gone, behind what it sent."""
        if self._native is not None:
            self._native.end_input()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is closed."""
        self._transport.close()
        self._owner.sockets.discard(self)
        native, self._native = self._native, None
        # It has this socket, unseen by the collector: nothing may lead back to it.
        vars(self).pop("data_received", None)
        if native is not None:
            native.lost()

    def _is_gone(self) -> bool:
        """Whether the server's end is there already, which the loop has not read yet."""
        connected = self._transport.get_extra_info("socket")
        if connected is None or connected.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(connected.fileno(), CLOSED)
        return bool(poll.poll(0))

    def pause(self, paused: bool) -> None:
        """Read nothing, or again."""
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    def look(self, now: float, limits: dict[str, int]) -> None:
        """Act on what takes too long."""
        if self._native is None:
            return
        seen = (self._native.phase, self._native.requests)
        if seen != self._seen:
            self._seen, self._since = seen, now
            return
        limit = "max_idle_ms" if seen[0] == "idle" else "max_post_ms"
        if (seen[0] == "idle" or self._native.is_posting) and (now - self._since) * 1000 >= limits[limit]:
            self._native.close()


__all__ = ["ClientSocket"]
