"""Accepting connections: a few in each turn of the loop, and none for a while when descriptors run out.

The loops' own servers accept as many as the backlog holds before anything else runs. When no descriptor is left,
asyncio's tries each of them again, with a line in the log each; libuv's turns them away.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import TYPE_CHECKING

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Sequence

LOGGER = logging.getLogger("turnout.sockets")

ACCEPTS_A_TURN = 16
"""Connections accepted from one socket in one turn of the loop, so that a burst of them does not hold up the peers."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds until accepting is tried again after it failed; doubled with each failure."""

LOG_INTERVAL = 60.0
"""Seconds in which the log says but once that accepting failed."""

DESCRIPTOR_RESERVE = 64
"""Descriptors that no accepted connection may use: for servers to start, files, and what the loop needs."""

GONE = frozenset({
    errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.EOPNOTSUPP, errno.ENETUNREACH, errno.ETIMEDOUT,
})  # fmt: skip
"""What accept(2) says of a connection that ended in the backlog: the next one is another matter."""


def most_descriptors() -> int:
    """The number below which the descriptors of accepted connections stay.

    The system gives out the lowest free number, so that one at this limit tells how many are in use in the whole
    process, whoever uses them.
    """
    if sys.platform == "win32":
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return limit - min(DESCRIPTOR_RESERVE, limit // 4)


class Acceptor:
    """Accepts connections from listening sockets until it is closed.

    Args:
        loop: the loop whose callbacks accept.
        sockets: sockets that listen, not blocking; they are closed with the acceptor.
        name: what the log calls the place where they listen.
        accepted: called with each connection, in a callback of the loop; the connection is its to close.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        name: str,
        accepted: Callable[[socket.socket], object],
    ) -> None:
        self._loop = loop
        self._sockets = tuple(sockets)
        self._name = name
        self._accepted = accepted
        self._accepting = False
        self._pause = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._logged: float | None = None

    def start(self) -> None:
        """Accept from now on."""
        if not self._accepting:
            self._accepting = True
            for listening in self._sockets:
                self._loop.add_reader(listening.fileno(), self._ready, listening)

    def stop(self) -> None:
        """Accept no more; who comes waits in the backlog."""
        self._forget_timer()
        if self._accepting:
            self._accepting = False
            for listening in self._sockets:
                self._loop.remove_reader(listening.fileno())

    def descriptor_freed(self) -> None:
        """Try again, if accepting failed: a descriptor of ours is about to be closed."""
        if self._timer is not None:
            self._forget_timer()
            # The loop closes it at the end of the callback that told us.
            self._timer = self._loop.call_later(0, self._retry)

    def close(self) -> None:
        """Accept no more, and close the sockets; idempotent."""
        self.stop()
        for listening in self._sockets:
            listening.close()
        self._sockets = ()

    def _ready(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            # What `accepted` runs may close this acceptor.
            if not self._accepting:
                return
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                self._pause = 0.0
                return
            except OSError as error:
                if error.errno in GONE:
                    continue
                self._wait(error)
                return
            connection.setblocking(False)
            self._accepted(connection)

    def _wait(self, error: OSError) -> None:
        """Leave who comes in the backlog for a while: nothing would come of trying at once."""
        self.stop()
        now = self._loop.time()
        if self._logged is None or now - self._logged >= LOG_INTERVAL:
            self._logged = now
            reason = os.strerror(error.errno) if error.errno is not None else str(error)
            LOGGER.warning("%s accepts nobody for a while, since accepting failed: %s", self._name, reason)
        self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
        self._timer = self._loop.call_later(self._pause, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self.start()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


__all__ = ["Acceptor", "most_descriptors"]
