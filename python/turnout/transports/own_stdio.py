"""Our own standard input and output as the channel: being the server that somebody started.

A stray `print`, in our code or in a C library, would stand in the protocol as garbage (TRS-02). While
the channel is open it therefore uses private duplicates, descriptor 1 and `sys.stdout` lead to
standard error, and descriptor 0 to nothing, so that no child process or `input()` eats requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, TextIO

from turnout.transports.pipes import PipeReader, PipeWriter

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from turnout.transports.channel import Link

CLOSE_TIMEOUT = 2.0
"""Seconds for a client to take what was written before its pipe is closed regardless."""

_in_use = threading.Lock()


def own_stdio(*, close_timeout: float = CLOSE_TIMEOUT) -> OwnStdioTarget:
    """Our own stdin and stdout, to serve the client that started this process.

    Everything printed while it is open goes to standard error; both streams are as before once it is
    closed. The end of stdin ends the channel: what was asked before it gets `Router(eof_timeout=)` to be answered
    (stdio transport, "Shutdown"; TRS-12).

    Args:
        close_timeout: seconds for the client to take what was written, at close.

    Raises:
        ValueError: the timeout is negative.

    """
    if close_timeout < 0:
        raise ValueError("close_timeout is in seconds and not negative")
    return OwnStdioTarget(close_timeout)


class OwnStdioTarget:
    """Our standard streams, not yet taken; made by `own_stdio`."""

    kind = "stdio"
    name = "stdio client"

    def __init__(self, close_timeout: float) -> None:
        self._close_timeout = close_timeout

    async def open(self, link: Link) -> OwnStdioTransport:
        """Take the two streams.

        Raises:
            RuntimeError: something in this process already speaks over them.
            OSError: standard input or output is closed.

        """
        if not _in_use.acquire(blocking=False):
            raise RuntimeError("this process already speaks over its own stdin and stdout")
        try:
            streams = StandardStreams()
        except BaseException:
            _in_use.release()
            raise
        return OwnStdioTransport(asyncio.get_running_loop(), link, streams, self._close_timeout)


class StandardStreams:
    """Private ways to what descriptors 0 and 1 led to, and the way back."""

    def __init__(self) -> None:
        with contextlib.ExitStack() as undo:
            stdin = _duplicate(0, undo)
            stdout = _duplicate(1, undo)
            self.stdin = _non_blocking(stdin, undo)
            undo.callback(os.close, self.stdin)
            self.stdout = _non_blocking(stdout, undo)
            """Not closed by `restore`: its writer does."""
            _divert(0, os.O_RDONLY)
            try:
                os.dup2(2, 1)
            except OSError:
                _divert(1, os.O_WRONLY)
            self._replaced = _replace_stdout()
            self._undo = undo.pop_all()

    def restore(self) -> None:
        """Put both descriptors and `sys.stdout` back."""
        if self._replaced is not None:
            # What was printed meanwhile and still stands in the buffer is no protocol either.
            with contextlib.suppress(OSError, ValueError):
                self._replaced.flush()
            if sys.stdout is sys.stderr:
                sys.stdout = self._replaced
        self._undo.close()


class OwnStdioTransport:
    """The channel to the client that started us; made by `OwnStdioTarget.open`."""

    kind = "stdio"
    takes_views = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        streams: StandardStreams,
        close_timeout: float,
    ) -> None:
        self._loop = loop
        self._link = link
        self._streams = streams
        self._close_timeout = close_timeout
        self._lost_reported = False
        self._restored: asyncio.Future[None] = loop.create_future()
        self._close_timer: asyncio.TimerHandle | None = None
        self._writer = PipeWriter(loop, streams.stdout, link, self._ended)
        self._reader = PipeReader(loop, streams.stdin, link, self._stdin_ended)
        self._reader.start()
        self._writer.closed.add_done_callback(self._give_back)

    def write(self, data: bytes | memoryview) -> None:
        """Write to the client."""
        self._writer.write(data)

    def unread(self) -> int | None:
        """Bytes that the client has not read; None where the system cannot tell."""
        return self._writer.unread()

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._reader.pause()

    def resume_reading(self) -> None:
        """Read on."""
        self._reader.resume()

    async def close(self) -> None:
        """Write what is left, then give the streams back."""
        self._flush()
        await asyncio.shield(self._restored)

    def abort(self) -> None:
        """Drop what is left and give the streams back."""
        self._reader.stop()
        self._writer.abort()

    def _flush(self) -> None:
        if self._close_timer is None:
            self._close_timer = self._loop.call_later(self._close_timeout, self._writer.abort)
            self._writer.finish()

    def _stdin_ended(self, error: Exception | None) -> None:
        if error is None and self._close_timer is None and not self._lost_reported and self._writer.is_read():
            self._link.eof_received()
        else:
            self._ended(error)

    def _ended(self, error: Exception | None) -> None:
        # A client that is done asking may still read: what was written goes out.
        self._reader.stop()
        self._report_lost(error)
        self._flush()

    def _give_back(self, _: asyncio.Future[None]) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._reader.stop()
        self._streams.restore()
        _in_use.release()
        self._restored.set_result(None)
        self._report_lost(None)

    def _report_lost(self, error: Exception | None) -> None:
        if not self._lost_reported:
            self._lost_reported = True
            self._link.lost(error)


def _duplicate(fd: int, undo: contextlib.ExitStack) -> int:
    """A duplicate of a standard descriptor, and the undoing that puts it back."""
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    undo.callback(os.close, duplicate)
    undo.callback(os.dup2, duplicate, fd)
    return duplicate


def _non_blocking(fd: int, undo: contextlib.ExitStack) -> int:
    """A non-blocking descriptor of the same stream, and the undoing of what others would notice."""
    if os.isatty(fd):
        # The flag belongs to the open terminal, which our stderr and the shell share: open it anew.
        return os.open(os.ttyname(fd), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    undo.callback(os.set_blocking, fd, os.get_blocking(fd))
    duplicate = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.set_blocking(duplicate, False)
    return duplicate


def _divert(fd: int, flags: int) -> None:
    nothing = os.open(os.devnull, flags)
    os.dup2(nothing, fd)
    os.close(nothing)


def _replace_stdout() -> TextIO | None:
    """Let `sys.stdout` be standard error, if it writes to descriptor 1 and not to something set up."""
    stdout = sys.stdout
    try:
        ours = stdout is not None and stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return None
    if not ours:
        return None
    sys.stdout = sys.stderr
    return stdout
