"""Peers that listen on Unix and TCP sockets, and the byte stream to one of them, in either direction."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, cast

from turnout.arguments import require_port, require_seconds
from turnout.raised import EXITS, report_exception
from turnout.transports.by_value import ByValue
from turnout.transports.unread import UnreadBytes, is_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from turnout._native import Input
    from turnout.transports.channel import Link

CLOSE_TIMEOUT = 2.0
"""Seconds for the other end to take what was written before the connection is aborted."""


def unix(path: str | os.PathLike[str], *, close_timeout: float = CLOSE_TIMEOUT) -> UnixTarget:
    """A peer that listens on a Unix socket; one frame a line in both directions.

    Args:
        path: of the socket; it may start with a NUL for Linux's abstract names.
        close_timeout: seconds for the peer to take what was written, at close.

    Raises:
        ValueError: the timeout is negative.

    """
    return UnixTarget(os.fspath(path), close_seconds(close_timeout))


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
    return TcpTarget(host, port, close_seconds(close_timeout))


class UnixTarget(ByValue):
    """A Unix socket not yet connected to; made by `unix`."""

    kind = "unix"

    def __init__(self, path: str, close_timeout: float) -> None:
        self._path = path
        self._close_timeout = close_timeout
        self.name = path_name(path)

    async def open(self, link: Link) -> StreamTransport:
        """Connect.

        Raises:
            FileNotFoundError: nothing is at the path.
            ConnectionRefusedError: nobody listens there.
            OSError: any other reason.

        """
        loop = asyncio.get_running_loop()
        transport = StreamTransport(loop, self.kind, self._close_timeout, lambda _: link)
        with naming(self.name):
            await loop.create_unix_connection(lambda: transport, self._path)
        return transport


class TcpTarget(ByValue):
    """A TCP port not yet connected to; made by `tcp`."""

    kind = "tcp"

    def __init__(self, host: str, port: int, close_timeout: float) -> None:
        self._host = host
        self._port = port
        self._close_timeout = close_timeout
        self.name = address_name(host, port)

    async def open(self, link: Link) -> StreamTransport:
        """Connect.

        Raises:
            ConnectionRefusedError: nobody listens there.
            socket.gaierror: the name is unknown.
            OSError: any other reason.

        """
        loop = asyncio.get_running_loop()
        transport = StreamTransport(loop, self.kind, self._close_timeout, lambda _: link)
        with naming(self.name):
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


def close_seconds(timeout: float) -> float:
    """Require a timeout of a close, and give it."""
    require_seconds("close_timeout", timeout)
    return timeout


def path_name(path: str) -> str:
    """The name of a Unix socket, as people see it."""
    return "@" + path[1:] if path.startswith("\0") else path


def address_name(host: str, port: object) -> str:
    """The name of a TCP port, as people see it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def naming(address: str) -> Iterator[None]:
    """Let errors of the system say which address they are about: neither loop always does."""
    try:
        yield
    except socket.gaierror:
        raise
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{address}: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), address) from error
