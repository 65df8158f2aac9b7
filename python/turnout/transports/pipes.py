"""Descriptors read and written without the loop's own pipe transports.

asyncio's read pipe allocates a new bytes object for every read, and both loops refuse what a server
meets on its own standard streams: a regular file, `/dev/null`. Here a read goes straight into the
link's buffer, and a write is tried at once, on every kind of descriptor and on either loop.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from turnout.transports.unread import UnreadBytes, is_read

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import asyncio

    from turnout.transports.channel import Link

READ_BUDGET = 256 * 1024
"""Bytes taken from one descriptor in one turn of the loop, so that one peer cannot starve the others."""

HIGH_WATER = 64 * 1024
"""Bytes that wait in a writer before the link is asked to pause."""

LOW_WATER = 16 * 1024
"""Bytes left in a paused writer when the link is told to resume."""

PIPE_BYTES = 256 * 1024
"""Wished-for size of the pipe that brings a child's output. More gains little, and the pages of all
pipes count against one allowance per user, past which the kernel shrinks every new pipe to a page."""

Ended: TypeAlias = Callable[[Exception | None], None]


def widen(fd: int) -> None:
    """Ask for a pipe of `PIPE_BYTES`, where the system has such a wish; refusal changes nothing."""
    command: int | None = getattr(fcntl, "F_SETPIPE_SZ", None)
    if command is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, command, PIPE_BYTES)


class PipeReader:
    """Reads one non-blocking descriptor into a link until it ends.

    Args:
        loop: the loop whose callbacks do the reading.
        fd: stays the caller's to close, after `stop`.
        link: gets every byte.
        ended: called once, at end of file (None) or with the error that ended the reading.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, link: Link, ended: Ended) -> None:
        self._loop = loop
        self._fd = fd
        self._link = link
        self._ended = ended
        self._reading = False
        self._polled = True
        self._paused = False

    def start(self) -> None:
        """Begin to read."""
        self._reading = True
        try:
            self._loop.add_reader(self._fd, self._ready)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise
            # Regular files and /dev/null cannot be polled: they are always ready.
            self._polled = False
            self._loop.call_soon(self._ready)

    def pause(self) -> None:
        """Read nothing until `resume`; idempotent. What cannot be polled is read on."""
        if self._reading and self._polled:
            self.stop()
            self._paused = True

    def resume(self) -> None:
        """Read on, unless it was stopped meanwhile; idempotent."""
        if self._paused:
            self._paused = False
            self.start()

    def stop(self) -> None:
        """Read no more; idempotent."""
        self._paused = False
        if self._reading:
            self._reading = False
            if self._polled:
                self._loop.remove_reader(self._fd)

    def _ready(self) -> None:
        read, fd, received = self._link.input.read, self._fd, self._link.received
        budget = READ_BUDGET
        # `received` may run code that stops this reader, and then the descriptor may be gone.
        while self._reading and budget > 0:
            try:
                count = read(fd)
                if count > 0:
                    received(count)
                    budget -= count
            except Exception as error:  # noqa: BLE001
                # Also a link that fails: what it made of the bytes is unknown, so no more may follow.
                self._end(error)
                return
            if count == 0:
                self._end(None)
            elif count < 0:
                break
        if self._reading and not self._polled:
            self._loop.call_soon(self._ready)

    def _end(self, error: Exception | None) -> None:
        self.stop()
        self._ended(error)


class PipeWriter:
    """Writes to one non-blocking descriptor, which it owns and closes.

    Args:
        loop: the loop whose callbacks write what did not fit at once.
        fd: closed by `finish` or `abort`.
        link: paused and resumed as the bytes that wait pass the two marks.
        broken: called once with the error that made further writing useless.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        link: Link,
        broken: Callable[[OSError], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._link = link
        self._broken = broken
        self._waiting = bytearray()
        self._paused = False
        self._finishing = False
        self._unread = UnreadBytes(fd)
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done when the descriptor is closed."""

    def write(self, data: bytes | memoryview) -> None:
        """Write at once what the descriptor takes, and the rest when it has room."""
        if self._finishing or self._fd < 0:
            return
        if self._waiting:
            self._waiting += data
        else:
            taken = self._try(data)
            if taken < 0:
                return
            if taken < len(data):
                self._waiting += memoryview(data)[taken:]
                self._loop.add_writer(self._fd, self._ready)
        if len(self._waiting) > HIGH_WATER and not self._paused:
            self._paused = True
            self._link.pause_writing()

    def unread(self) -> int | None:
        """Bytes that the reader at the other end has not read; None where the system cannot tell."""
        if self._fd < 0:
            return 0
        unread = self._unread.count()
        return None if unread is None else unread + len(self._waiting)

    def is_read(self) -> bool:
        """Whether anybody may still read at the other end."""
        return self._fd >= 0 and is_read(self._fd)

    def finish(self) -> None:
        """Close the descriptor as soon as everything has been written; idempotent."""
        self._finishing = True
        if not self._waiting:
            self.abort()

    def abort(self) -> None:
        """Close the descriptor now and drop what waits; idempotent."""
        if self._fd < 0:
            return
        if self._waiting:
            self._loop.remove_writer(self._fd)
            self._waiting.clear()
        os.close(self._fd)
        self._fd = -1
        if not self.closed.done():
            self.closed.set_result(None)

    def _try(self, data: bytes | bytearray | memoryview) -> int:
        """Write once: the bytes taken, or -1 when the channel broke."""
        try:
            return os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self.abort()
            # A break is told in its own turn: `write` is called by a link in the midst of its flush.
            self._loop.call_soon(self._broken, error)
            return -1

    def _ready(self) -> None:
        taken = self._try(self._waiting)
        if taken < 0:
            return
        del self._waiting[:taken]
        if not self._waiting:
            self._loop.remove_writer(self._fd)
            if self._finishing:
                self.abort()
                return
        if self._paused and len(self._waiting) <= LOW_WATER:
            self._paused = False
            self._link.resume_writing()
