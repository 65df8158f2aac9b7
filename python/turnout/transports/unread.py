"""What the reader of a descriptor has not read yet, as far as the system tells."""

from __future__ import annotations

import os
import select
import socket
import stat
import sys

if sys.platform != "win32":
    import fcntl
    import termios

_REQUEST_BYTES = 4


class UnreadBytes:
    """Tells how many of the bytes that were written to a descriptor wait to be read.

    Linux tells it of a pipe and of a Unix socket. Of a TCP socket it tells what has not arrived, which is something
    else; and what is neither (a terminal, a file) has no reader that could read two writes as one.

    Args:
        fd: a descriptor that is written to; it stays the caller's.

    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._request: int | None = None
        self._otherwise: int | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            self._request = _on_linux(termios.FIONREAD)
        elif not stat.S_ISSOCK(mode):
            self._otherwise = 0
        elif _family(fd) == socket.AF_UNIX:
            # What the waiting buffers take in memory: more than their bytes, and 0 only where all was read.
            self._request = _on_linux(termios.TIOCOUTQ)

    def count(self) -> int | None:
        """How many bytes at most; None where the system cannot tell."""
        if self._request is None:
            return self._otherwise
        try:
            told = fcntl.ioctl(self._fd, self._request, bytes(_REQUEST_BYTES))
        except OSError:
            return None
        return int.from_bytes(told, sys.byteorder)


def is_read(fd: int) -> bool:
    """Whether anybody may still read what is written to a descriptor: True where the system cannot tell."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    gone = select.POLLERR | select.POLLHUP | select.POLLNVAL
    return not any(events & gone for _, events in poll.poll(0))


def _on_linux(request: int) -> int | None:
    return request if sys.platform == "linux" else None


def _family(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as duplicate:
        return duplicate.family
