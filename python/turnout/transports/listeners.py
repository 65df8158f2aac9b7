"""Unix and TCP sockets on which peers arrive."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.arguments import require_port
from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.transports.accepting import Acceptor
from turnout.transports.sockets import (
    CLOSE_TIMEOUT,
    StreamTransport,
    address_name,
    close_seconds,
    naming,
    path_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.transports.channel import Accept, Link

LOGGER = logging.getLogger("turnout.sockets")

BACKLOG = 4096
"""Connections that may wait to be accepted; the system has a bound of its own (Linux: net.core.somaxconn)."""

NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding says of an address that the host name has and this machine has not."""


def listen_unix(
    path: str | os.PathLike[str], *, mode: int = 0o600, close_timeout: float = CLOSE_TIMEOUT
) -> UnixListener:
    """A Unix socket on which peers arrive.

    A socket left over at `path` by a process that is gone is replaced; one that somebody listens on,
    or anything that is no socket, is not. The socket is removed at close.

    Args:
        path: of the socket.
        mode: its permissions; the default lets our own user in and nobody else.
        close_timeout: seconds for a peer to take what was written, at the close of its connection.

    Raises:
        ValueError: the timeout is negative.

    """
    return UnixListener(os.fspath(path), mode, close_seconds(close_timeout))


def listen_tcp(host: str, port: int, *, close_timeout: float = CLOSE_TIMEOUT) -> TcpListener:
    """A TCP port on which peers arrive: whoever can reach it is served.

    Args:
        host: the address to bind; `"127.0.0.1"` keeps it on this machine.
        port: 0 lets the system choose; `TcpListener.port` tells after `start`.
        close_timeout: seconds for a peer to take what was written, at the close of its connection.

    Raises:
        TypeError: the port is no integer.
        ValueError: the port is out of range, or the timeout negative.

    """
    require_port(port, least=0)
    return TcpListener(host, port, close_seconds(close_timeout))


class StreamListener:
    """What both kinds of listener share."""

    def __init__(self, kind: str, name: str, close_timeout: float) -> None:
        self.kind = kind
        self.name = name
        self._close_timeout = close_timeout
        self._acceptor: Acceptor | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._refuses = False
        """Whether the last one who came was refused."""

    async def start(self, accept: Accept) -> None:
        """Listen, and hand each connection to `accept`.

        Raises:
            OSError: the address is in use or not ours.
            RuntimeError: it listens already.

        """
        if self._acceptor is not None:
            raise RuntimeError(f"{self.name} listens already")
        loop = asyncio.get_running_loop()

        def attach(transport: StreamTransport) -> Link:
            try:
                link = accept(transport, self._remote_name(transport))
            except EXITS:
                raise
            except BaseException as error:
                # Whoever comes again and again fills no log: of those in a row the first is worth a warning.
                level = logging.DEBUG if self._refuses else logging.WARNING
                LOGGER.log(level, "a connection was refused: %s", escaped(str(error)))
                self._refuses = True
                raise
            self._refuses = False
            return link

        def accepted(connection: socket.socket) -> None:
            task = loop.create_task(self._connect(loop, connection, attach))
            self._attaching.add(task)
            task.add_done_callback(self._attaching.discard)

        with naming(self.name):
            sockets = await self._listen(loop)
        self._acceptor = Acceptor(loop, sockets, self.name, accepted)
        self._acceptor.start()

    async def close(self) -> None:
        """Accept no more."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()

    async def _connect(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        attach: Callable[[StreamTransport], Link],
    ) -> None:
        """Make a channel of an accepted connection."""
        transport = StreamTransport(loop, self.kind, self._close_timeout, attach, self._descriptor_freed)
        try:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: transport, connection)
        except OSError as error:
            LOGGER.debug("%s: a connection ended as it was accepted: %s", self.name, escaped(str(error)))
            connection.close()

    def _descriptor_freed(self) -> None:
        if self._acceptor is not None:
            self._acceptor.descriptor_freed()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        raise NotImplementedError

    def _remote_name(self, transport: StreamTransport) -> str:
        raise NotImplementedError


class UnixListener(StreamListener):
    """A Unix socket that listens from `start` to `close`; made by `listen_unix`."""

    def __init__(self, path: str, mode: int, close_timeout: float) -> None:
        super().__init__("unix", path_name(path), close_timeout)
        self._path = path
        self._file = None if path.startswith("\0") else Path(path)
        self._mode = mode
        self._count = 0

    async def close(self) -> None:
        """Accept no more, and remove the socket."""
        listened = self._acceptor is not None
        await super().close()
        if listened:
            self._remove()

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
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

    def _remove(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _remote_name(self, transport: StreamTransport) -> str:  # noqa: ARG002
        # Clients have no address of their own here.
        self._count += 1
        return f"{self.name}#{self._count}"


class TcpListener(StreamListener):
    """A TCP port that listens from `start` to `close`; made by `listen_tcp`."""

    def __init__(self, host: str, port: int, close_timeout: float) -> None:
        super().__init__("tcp", address_name(host, port), close_timeout)
        self._host = host
        self.port = port
        """The port; where 0 was asked for, the one that the system chose, once `start` returned."""

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        sockets, self.port = await bind_tcp(loop, self._host, self.port)
        self.name = address_name(self._host, self.port)
        return sockets

    def _remote_name(self, transport: StreamTransport) -> str:
        address = transport.address
        return address_name(str(address[0]), address[1]) if address else self.name


async def bind_tcp(loop: asyncio.AbstractEventLoop, host: str, port: int) -> tuple[list[socket.socket], int]:
    """Listen on every address of a host; gives the sockets, and the port that the system chose for all of them."""
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
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
    return sockets, port
