"""Places where a program listens: a TCP port, a Unix socket, or a socket that somebody else bound."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from turnout.transports.sockets import address_name, path_name

if TYPE_CHECKING:
    import asyncio

BACKLOG = 4096
"""Connections that may wait to be accepted; the system has a bound of its own (Linux: net.core.somaxconn)."""

NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding says of an address that the host name has and this machine has not."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of addresses that this machine alone reaches."""


class Place(Protocol):
    """Where a program listens."""

    @property
    def name(self) -> str:
        """The address, for people."""
        ...

    @property
    def port(self) -> int:
        """The port; the system's choice is known once it is bound. 0 where there is none."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether it is an address that pages of this machine's browsers reach, and other machines do not."""
        ...

    async def bind(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """Give sockets that listen.

        Raises:
            OSError: the address is in use or not ours.

        """
        ...

    def release(self) -> None:
        """Leave nothing behind; the sockets are closed."""
        ...


class TcpPlace:
    """A port at every address of a host.

    Args:
        host: a name or an address.
        port: 0 lets the system choose.

    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self.port = port
        self.is_local = host in LOOPBACK

    @property
    def name(self) -> str:
        """The host and the port."""
        return address_name(self._host, self.port)

    async def bind(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """Give sockets that listen, all on the port that the system chose for the first."""
        found = await loop.getaddrinfo(
            self._host or None, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        port = self.port
        missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        with contextlib.ExitStack() as undo:
            for family, _, _, _, address in dict.fromkeys(found):
                # Whatever the system chose for the first address holds for all of them.
                here = (address[0], port, *address[2:])
                try:
                    listening = undo.enter_context(socket.create_server(here, family=family, backlog=BACKLOG))
                except OSError as error:
                    if error.errno not in NO_ADDRESS:
                        raise
                    missing = error
                    continue
                sockets.append(listening)
                listening.setblocking(False)
                port = listening.getsockname()[1]
            if not sockets:
                raise missing
            undo.pop_all()
        self.port = port
        return sockets

    def release(self) -> None:
        """Leave nothing behind."""


class UnixPlace:
    """A Unix socket.

    One that is left over at its path by a process that is gone is replaced; one that somebody listens on, or anything
    that is no socket, is not.

    Args:
        path: of the socket; it may start with a NUL for Linux's abstract names.
        mode: its permissions.

    """

    port = 0
    is_local = False

    def __init__(self, path: str, mode: int) -> None:
        self.name = path_name(path)
        self._path = path
        self._file = None if path.startswith("\0") else Path(path)
        self._mode = mode
        self._bound: tuple[int, int] | None = None
        """The device and the number of the file that was bound; None before."""

    async def bind(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        """Give a socket that listens."""
        if self._is_there():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                try:
                    await loop.sock_connect(probe, self._path)
                except ConnectionRefusedError:
                    self._remove()
                else:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            self._bind(listening)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        return [listening]

    def _is_there(self) -> bool:
        if self._file is None or not self._file.exists():
            return False
        if not self._file.is_socket():
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        return True

    def _bind(self, listening: socket.socket) -> None:
        """Bind and restrict; it listens only after that, so that nobody connects in between."""
        listening.bind(self._path)
        if self._file is not None:
            self._file.chmod(self._mode)
            self._bound = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        """Which file is there; None for none."""
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _remove(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def release(self) -> None:
        """Remove the socket, unless another one stands there by now."""
        if self._bound is not None and self._identity() == self._bound:
            self._remove()
        self._bound = None


class BoundPlace:
    """A socket that somebody else bound, as a supervisor hands it over.

    Args:
        bound: the socket.

    """

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        address = bound.getsockname()
        is_tcp = isinstance(address, tuple)
        self.name = address_name(address[0], address[1]) if is_tcp else path_name(os.fsdecode(address))
        self.port = int(address[1]) if is_tcp else 0
        self.is_local = is_tcp and address[0] in LOOPBACK

    async def bind(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:  # noqa: ARG002
        """Give the socket, which listens."""
        self._socket.setblocking(False)
        self._socket.listen(BACKLOG)
        return [self._socket]

    def release(self) -> None:
        """Leave what somebody else made to them."""


__all__ = ["LOOPBACK", "BoundPlace", "Place", "TcpPlace", "UnixPlace"]
