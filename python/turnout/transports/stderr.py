"""What a child process writes to its standard error: untrusted bytes made into lines for people.

A server's stderr is nobody's protocol. It may hold a terminal's escape sequences, half a megabyte
without a newline, or bytes that are no text, and it must neither stall the server nor fill our memory.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

from turnout.raised import tell

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READ_BYTES = 64 * 1024
"""Bytes taken in one turn of the loop."""

LAST_WORDS_BYTES = 1024 * 1024
"""Bytes still taken once the process is gone: more than its pipe can hold."""

LOGGER = logging.getLogger("turnout.stdio.stderr")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(line: bytes) -> str:
    """A line as text that does nothing to a terminal or a log: all but tabs and visible text escaped."""
    text = line.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class StderrLines:
    """Reads a descriptor and hands its lines to a callback until `close`.

    Args:
        loop: the loop whose callbacks do the reading.
        fd: the non-blocking read end; owned and closed here.
        sink: called with each line; one that raises is reported to the loop's exception handler.
        most: longest line kept, in bytes; what follows up to the newline is counted and dropped.

    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, sink: Callable[[str], object], most: int
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._sink = sink
        self._most = most
        self._partial = bytearray()
        self._dropped = 0
        loop.add_reader(fd, self._ready)

    def close(self) -> None:
        """Hand over what was written so far, then close the descriptor; idempotent."""
        taken = 0
        while self._fd >= 0 and taken < LAST_WORDS_BYTES:
            count = self._read()
            if count <= 0:
                break
            taken += count
        self._end()

    def _ready(self) -> None:
        if self._read() == 0:
            self._end()

    def _read(self) -> int:
        """Take one chunk: its length, 0 at the end, -1 when nothing is there."""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return -1
        except OSError:
            return 0
        first, newline, rest = chunk.partition(b"\n")
        self._keep(first)
        if newline:
            self._emit()
            *lines, last = rest.split(b"\n")
            for line in lines:
                self._keep(line)
                self._emit()
            self._keep(last)
        return len(chunk)

    def _keep(self, part: bytes) -> None:
        room = self._most - len(self._partial)
        self._partial += part[:room]
        self._dropped += max(0, len(part) - room)

    def _emit(self) -> None:
        line = printable(bytes(self._partial).removesuffix(b"\r"))
        if self._dropped:
            line += f" [and {self._dropped} bytes more]"
        self._partial.clear()
        self._dropped = 0
        try:
            self._sink(line)
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            tell(self._loop, error, self._sink)

    def _end(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._partial:
            self._emit()
