# ruff: noqa: SLF001 - the two ends are halves of one object
"""Two ends in one process, linked with each other: for tests, and for a server that lives with its host."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnout.transports.channel import Link

HIGH_WATER = 64 * 1024
"""Bytes that may wait for the other end to open before the link is asked to pause."""


def memory(*, name: str = "memory") -> tuple[MemoryTarget, MemoryTarget]:
    """Two targets linked with each other: what one writes is fed to the other, once per loop turn.

    Both are opened in the same event loop, in any order; what is written before the other end opens
    waits for it. Closing one is the end of file of the other, after everything written.

    Args:
        name: how records and logs call both ends.

    """
    left, right = MemoryTarget(name), MemoryTarget(name)
    left._end, right._end = MemoryTransport(), MemoryTransport()
    left._end._other, right._end._other = right._end, left._end
    return left, right


class MemoryTarget:
    """One end of a pair, to be opened once; made by `memory`."""

    kind = "memory"

    def __init__(self, name: str) -> None:
        self.name = name
        self._end: MemoryTransport

    async def open(self, link: Link) -> MemoryTransport:
        """Open this end.

        Raises:
            RuntimeError: it was opened before, or the other end belongs to another loop.

        """
        self._end._open(link, asyncio.get_running_loop())
        return self._end


class MemoryTransport:
    """One open end of a pair; made by `MemoryTarget.open`."""

    kind = "memory"
    delays_answers = False

    def __init__(self) -> None:
        self._other: MemoryTransport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._outbox: list[bytes] = []
        self._waiting = 0
        self._scheduled = False
        self._paused = False
        self._closed = False
        self._break: ConnectionResetError | None = None
        self._lost: asyncio.Future[None]

    def write(self, data: bytes) -> None:
        """Hand over to the other end in the next turn of the loop."""
        if self._closed or self._other._closed:
            return
        self._outbox.append(data)
        self._waiting += len(data)
        if self._other._link is not None:
            self._schedule()
        elif self._waiting > HIGH_WATER and not self._paused and self._link is not None:
            self._paused = True
            self._link.pause_writing()

    async def close(self) -> None:
        """Write no more; the other end hears of it after everything written."""
        self._closed = True
        self._schedule()
        await asyncio.shield(self._lost)

    def abort(self) -> None:
        """Drop what waits, and break the other end."""
        if not self._lost.done():
            self._closed = True
            self._outbox.clear()
            self._break = ConnectionResetError("the other end was aborted")
            self._schedule()

    def _open(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        other = self._other
        if self._loop is not None:
            raise RuntimeError("this end of the pair was opened before")
        if other._loop is not None and other._loop is not loop:
            raise RuntimeError("both ends of a pair live in one event loop")
        self._loop, self._link = loop, link
        self._lost = loop.create_future()
        if other._loop is not None and (other._outbox or other._closed):
            other._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        self._hand_over()
        # Feeding may have made either end write or close; what it wrote has its own turn.
        if not self._closed:
            return
        if self._other._loop is None:
            # Nobody listens yet: what was written waits for the other end, we do not.
            self._end(None)
        elif not self._outbox:
            if self._break is None:
                self._other._hand_over()
            self._part()

    def _hand_over(self) -> None:
        link = self._other._link
        if link is None or not self._outbox:
            return
        data = b"".join(self._outbox)
        self._outbox.clear()
        self._waiting = 0
        link.feed(data)
        if self._paused and self._link is not None:
            self._paused = False
            self._link.resume_writing()

    def _part(self) -> None:
        """Tell both ends, each once, that it is over."""
        self._end(None)
        other = self._other
        if other._loop is not None:
            other._end(self._break)

    def _end(self, error: Exception | None) -> None:
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            self._lost.set_result(None)
            link.lost(error)
