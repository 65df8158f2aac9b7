"""Unix and TCP sockets on which peers arrive."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING

from turnout.arguments import require_port
from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.transports.accepting import Acceptor
from turnout.transports.places import TcpPlace, UnixPlace
from turnout.transports.sockets import (
    CLOSE_TIMEOUT,
    StreamTransport,
    address_name,
    close_seconds,
    naming,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.transports.channel import Accept, Link
    from turnout.transports.places import Place

LOGGER = logging.getLogger("turnout.sockets")


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

    def __init__(self, kind: str, place: Place, close_timeout: float) -> None:
        self.kind = kind
        self._place = place
        self._close_timeout = close_timeout
        self._acceptor: Acceptor | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._refuses = False
        """Whether the last one who came was refused."""

    @property
    def name(self) -> str:
        """Where it listens."""
        return self._place.name

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
            sockets = await self._place.bind(loop)
        self._acceptor = Acceptor(loop, sockets, self.name, accepted)
        self._acceptor.start()

    async def close(self) -> None:
        """Accept no more."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            self._place.release()

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

    def _remote_name(self, transport: StreamTransport) -> str:
        raise NotImplementedError


class UnixListener(StreamListener):
    """A Unix socket that listens from `start` to `close`; made by `listen_unix`."""

    def __init__(self, path: str, mode: int, close_timeout: float) -> None:
        super().__init__("unix", UnixPlace(path, mode), close_timeout)
        self._count = 0

    def _remote_name(self, transport: StreamTransport) -> str:  # noqa: ARG002
        # Clients have no address of their own here.
        self._count += 1
        return f"{self.name}#{self._count}"


class TcpListener(StreamListener):
    """A TCP port that listens from `start` to `close`; made by `listen_tcp`."""

    def __init__(self, host: str, port: int, close_timeout: float) -> None:
        super().__init__("tcp", TcpPlace(host, port), close_timeout)

    @property
    def port(self) -> int:
        """The port; where 0 was asked for, the one that the system chose, once `start` returned."""
        return self._place.port

    def _remote_name(self, transport: StreamTransport) -> str:
        address = transport.address
        return address_name(str(address[0]), address[1]) if address else self.name
