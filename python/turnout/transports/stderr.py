"""What a child process writes to its standard error: untrusted bytes made into lines for people.

A server's stderr is nobody's protocol. It may hold a terminal's escape sequences, half a megabyte
without a newline, a million empty lines, or bytes that are no text, and it must neither stall the server nor the
loop, nor fill our memory.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import TYPE_CHECKING

from turnout.escape import escaped_bytes
from turnout.raised import report_exception

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

READ_BYTES = 64 * 1024
"""Bytes taken in one turn of the loop."""

LINES_A_TURN = 128
"""Lines handed over in one turn of the loop; meanwhile nothing more is read."""

LAST_WORDS_BYTES = 1024 * 1024
"""Bytes still taken once the process is gone: more than its pipe can hold."""

LAST_LINES = 5
"""Lines that are kept for those who ask why a server is gone."""

LOGGER = logging.getLogger("turnout.stdio.stderr")


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
        self._read = bytearray()
        self._partial = bytearray()
        self._dropped = 0
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)
        self._reading = False
        self._scheduled = False
        self._listen()

    @property
    def last(self) -> tuple[str, ...]:
        """The last lines, those that wait to be handed over included, escaped and cut to what an error shows."""
        waiting = bytes(self._partial + self._read).splitlines()[-LAST_LINES:]
        return tuple(escaped_bytes(line) for line in [*self._last, *waiting][-LAST_LINES:])

    def close(self) -> None:
        """Take what was written so far, and close the descriptor; idempotent.

        Of what is left as many lines are handed over at once as in any turn, and the rest in those that follow.
        """
        taken = 0
        while self._fd >= 0 and taken < LAST_WORDS_BYTES:
            count = self._take()
            if count <= 0:
                break
            taken += count
        self._end()

    def _ready(self) -> None:
        if self._take() == 0:
            self._end()
        else:
            self._hand_over()

    def _go_on(self) -> None:
        self._scheduled = False
        self._hand_over()

    def _take(self) -> int:
        """Take one chunk: its length, 0 at the end, -1 when nothing is there."""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return -1
        except OSError:
            return 0
        self._read += chunk
        return len(chunk)

    def _hand_over(self) -> None:
        """Hand over as many lines as belong in one turn; the rest wait, and what is not read yet in the pipe."""
        if self._scheduled:
            return
        start = 0
        for _ in range(LINES_A_TURN):
            newline = self._read.find(b"\n", start)
            if newline < 0:
                self._keep(self._read[start:])
                start = len(self._read)
                break
            self._keep(self._read[start:newline])
            start = newline + 1
            self._emit()
        del self._read[:start]
        # A loop may call a reader in the turn in which it was added: after lines, that is for the next turn.
        was_deaf = start > 0 and not self._reading and self._fd >= 0
        if self._read or was_deaf:
            self._scheduled = True
            self._deafen()
            self._loop.call_soon(self._go_on)
        elif self._fd >= 0:
            self._listen()
        elif self._partial:
            self._emit()

    def _keep(self, part: bytearray) -> None:
        room = self._most - len(self._partial)
        self._partial += part[:room]
        self._dropped += max(0, len(part) - room)

    def _emit(self) -> None:
        line = bytes(self._partial).removesuffix(b"\r")
        self._last.append(line)
        text = escaped_bytes(line, None)
        if self._dropped:
            text += f" [and {self._dropped} bytes more]"
        self._partial.clear()
        self._dropped = 0
        try:
            self._sink(text)
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            report_exception(self._loop, error, self._sink)

    def _listen(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._ready)

    def _deafen(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _end(self) -> None:
        if self._fd < 0:
            return
        self._deafen()
        os.close(self._fd)
        self._fd = -1
        self._hand_over()
