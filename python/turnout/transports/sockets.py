"""Byte streams over Unix and TCP sockets: one shell for both, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, cast

from turnout.arguments import require_port, require_seconds
from turnout.escape import escaped
from turnout.raised import EXITS, report_exception
from turnout.transports.accepting import Acceptor
from turnout.transports.by_value import ByValue
from turnout.transports.unread import UnreadBytes, is_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turnout._native import Input
    from turnout.transports.channel import Accept, Link

LOGGER = logging.getLogger("turnout.sockets")

CLOSE_TIMEOUT = 2.0
"""Seconds for the other end to take what was written before the connection is aborted."""

BACKLOG = 4096
"""Connections that may wait to be accepted; the system has a bound of its own (Linux: net.core.somaxconn)."""

NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding says of an address that the host name has and this machine has not."""


def unix(path: str | os.PathLike[str], *, close_timeout: float = CLOSE_TIMEOUT) -> UnixTarget:
    """A peer that listens on a Unix socket; one frame a line in both directions.

    Args:
        path: of the socket; it may start with a NUL for Linux's abstract names.
        close_timeout: seconds for the peer to take what was written, at close.

    Raises:
        ValueError: the timeout is negative.

    """
    return UnixTarget(os.fspath(path), _seconds(close_timeout))


def tcp(host: str, port: int, *, close_timeout: float = CLOSE_TIMEOUT) -> TcpTarget:
    """A peer that listens on a TCP port; one frame a line in both directions, nothing encrypted.

    Args:
        host: a name or address.
        port: 1 to 65535.
        close_timeout: seconds for the peer to take what was written, at close.

    Raises:
        TypeError: the port is no integer.
        ValueError: the port is out of range, or the timeout negative.

    """
    require_port(port, least=1)
    return TcpTarget(host, port, _seconds(close_timeout))


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
    return UnixListener(os.fspath(path), mode, _seconds(close_timeout))


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
    return TcpListener(host, port, _seconds(close_timeout))


class UnixTarget(ByValue):
    """A Unix socket not yet connected to; made by `unix`."""

    kind = "unix"

    def __init__(self, path: str, close_timeout: float) -> None:
        self._path = path
        self._close_timeout = close_timeout
        self.name = _path_name(path)

    async def open(self, link: Link) -> StreamTransport:
        """Connect.

        Raises:
            FileNotFoundError: nothing is at the path.
            ConnectionRefusedError: nobody listens there.
            OSError: any other reason.

        """
        loop = asyncio.get_running_loop()
        transport = StreamTransport(loop, self.kind, self._close_timeout, lambda _: link)
        with _naming(self.name):
            await loop.create_unix_connection(lambda: transport, self._path)
        return transport


class TcpTarget(ByValue):
    """A TCP port not yet connected to; made by `tcp`."""

    kind = "tcp"

    def __init__(self, host: str, port: int, close_timeout: float) -> None:
        self._host = host
        self._port = port
        self._close_timeout = close_timeout
        self.name = _address_name(host, port)

    async def open(self, link: Link) -> StreamTransport:
        """Connect.

        Raises:
            ConnectionRefusedError: nobody listens there.
            socket.gaierror: the name is unknown.
            OSError: any other reason.

        """
        loop = asyncio.get_running_loop()
        transport = StreamTransport(loop, self.kind, self._close_timeout, lambda _: link)
        with _naming(self.name):
            await loop.create_connection(lambda: transport, self._host, self._port)
        return transport


class StreamTransport(asyncio.BufferedProtocol):
    """The channel over one connected socket, received straight into the link's input.

    Args:
        loop: the loop that runs it.
        kind: `"unix"` or `"tcp"`.
        close_timeout: seconds for `close` to flush.
        attach: gives the link once the socket stands; what it raises refuses the connection.
        closed: called when the socket is about to be closed; None for nothing.

    """

    takes_views = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: str,
        close_timeout: float,
        attach: Callable[[StreamTransport], Link],
        closed: Callable[[], None] | None = None,
    ) -> None:
        self.kind = kind
        self._loop = loop
        self._close_timeout = close_timeout
        self._attach = attach
        self._closed = closed
        self._link: Link | None = None
        self._input: Input
        self._socket: asyncio.Transport | None = None
        self._unread: UnreadBytes | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._eof = False
        self._gone: asyncio.Future[None] = loop.create_future()

    # Called by the peer.

    def write(self, data: bytes | memoryview) -> None:
        """Write to the socket."""
        if self._socket is not None and self._close_timer is None:
            self._socket.write(data)

    def unread(self) -> int | None:
        """Bytes that the other end has not read; None where the system cannot tell."""
        if self._socket is None or self._unread is None:
            return None
        unread = self._unread.count()
        return None if unread is None else unread + self._socket.get_write_buffer_size()

    def pause_reading(self) -> None:
        """Read nothing from the socket until `resume_reading`."""
        if self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()

    async def close(self) -> None:
        """Write what is left and an end of file, and read to the other end's."""
        if self._part() and self._socket is not None:
            if self._eof:
                self._socket.close()
            else:
                # Closing outright, with bytes unread, would reset the connection, and a reset takes what we
                # wrote last (a cancel, it may be) from the other end's hands.
                with contextlib.suppress(OSError):
                    self._socket.write_eof()
        await asyncio.shield(self._gone)

    def abort(self) -> None:
        """Drop what is left and close the socket."""
        if self._socket is not None:
            self._socket.abort()

    @property
    def address(self) -> tuple[object, ...] | None:
        """The other end's address, where it has one."""
        address = self._socket.get_extra_info("peername") if self._socket is not None else None
        return address if isinstance(address, tuple) else None

    @property
    def descriptor(self) -> int:
        """The number of the socket's descriptor; -1 where there is none any more."""
        used = self._socket.get_extra_info("socket") if self._socket is not None else None
        return -1 if used is None else int(used.fileno())

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._socket = cast("asyncio.Transport", transport)
        if self.kind == "unix":
            self._unread = UnreadBytes(self._socket.get_extra_info("socket").fileno())
        try:
            self._link = self._attach(self)
            self._input = self._link.input
        except EXITS as error:
            self._socket.abort()
            report_exception(self._loop, error, self._attach)
        except BaseException:  # noqa: BLE001 - whatever the application raised; the listener said so
            self._socket.abort()

    def get_buffer(self, sizehint: int) -> Input:  # noqa: ARG002
        """Where the next bytes go."""
        return self._input

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._link is not None:
            self._link.received(nbytes)

    def eof_received(self) -> bool:
        """The other end writes no more; unless it is closed altogether, it may read answers yet."""
        self._eof = True
        link, descriptor = self._link, self.descriptor
        if link is not None and self._close_timer is None and descriptor >= 0 and is_read(descriptor):
            link.eof_received()
            return True
        self._report_lost(None)
        self._part()
        if self._socket is not None:
            self._socket.close()
        return False

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        if self._link is not None:
            self._link.pause_writing()

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        if self._link is not None:
            self._link.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._report_lost(exc)
        if not self._gone.done():
            self._gone.set_result(None)
        if self._closed is not None:
            self._closed()

    def _part(self) -> bool:
        """Begin to end, within the bound; False when that has begun before."""
        if self._socket is None or self._close_timer is not None or self._gone.done():
            return False
        self._close_timer = self._loop.call_later(self._close_timeout, self._socket.abort)
        return True

    def _report_lost(self, error: Exception | None) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.lost(error)


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

        with _naming(self.name):
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
        super().__init__("unix", _path_name(path), close_timeout)
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
        super().__init__("tcp", _address_name(host, port), close_timeout)
        self._host = host
        self.port = port
        """The port; where 0 was asked for, the one that the system chose, once `start` returned."""

    async def _listen(self, loop: asyncio.AbstractEventLoop) -> list[socket.socket]:
        sockets, self.port = await bind_tcp(loop, self._host, self.port)
        self.name = _address_name(self._host, self.port)
        return sockets

    def _remote_name(self, transport: StreamTransport) -> str:
        address = transport.address
        return _address_name(str(address[0]), address[1]) if address else self.name


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


def _seconds(timeout: float) -> float:
    require_seconds("close_timeout", timeout)
    return timeout


def _path_name(path: str) -> str:
    return "@" + path[1:] if path.startswith("\0") else path


def _address_name(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _naming(address: str) -> Iterator[None]:
    """Let errors of the system say which address they are about: neither loop always does."""
    try:
        yield
    except socket.gaierror:
        raise
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{address}: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), address) from error
