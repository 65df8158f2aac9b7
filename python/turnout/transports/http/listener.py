"""Serves Streamable HTTP on sockets: a place where they come, and their connections."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, cast

from turnout._native import HttpConnection
from turnout.arguments import require_port
from turnout.escape import escaped
from turnout.transports.accepting import Acceptor, most_descriptors
from turnout.transports.http.endpoint import EndpointHost
from turnout.transports.places import BoundPlace, TcpPlace, UnixPlace

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from typing_extensions import Unpack

    from turnout.transports.channel import Accept
    from turnout.transports.http.options import HttpOptions
    from turnout.transports.places import Place

LOGGER = logging.getLogger("turnout.http")

TICK = 1.0
"""Seconds between two looks at what waits."""

HEAD_INTERVAL = 10.0
"""Seconds after which a request that has no answer gets a stream of events, so that nobody takes it for lost."""

COMMENT_INTERVAL = 15.0
"""Seconds after which an answer that has nothing to say sends a comment, so that nobody on the way ends it."""

UNREAD_MS = 30_000
"""Milliseconds in which a peer's machine has to take note of what is written: one that vanished is gone then."""

PHASE_LIMITS = {"idle": "max_connection_idle_ms", "head": "max_head_ms", "body": "max_body_ms"}
"""How long each phase of a connection may take."""


def listen_http(
    host: str | None = None,
    port: int | None = None,
    *,
    unix: str | os.PathLike[str] | None = None,
    mode: int = 0o600,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Unpack[HttpOptions],
) -> HttpListener:
    """A place where clients of Streamable HTTP arrive: a TCP port, a Unix socket, or a socket that somebody bound.

    Args:
        host: the address to bind; `"127.0.0.1"` keeps it on this machine. None with `unix` or `sock`.
        port: 0 lets the system choose; `HttpListener.port` tells after `start`. None likewise.
        unix: path of a Unix socket, as for `listen_unix`: for a proxy in front. None for none.
        mode: its permissions; the default lets our own user in and nobody else.
        sock: a socket that is bound, as a supervisor hands it over; it is closed with the listener. None for none.
        tls: the certificates; None for none.
        options: of the endpoint, as `HttpOptions` lists them.

    Raises:
        TypeError: there is not exactly one place, the port is no integer, or an option or a limit is unknown.
        ValueError: the port or a limit is out of range, the path begins with no slash, a proxy is no address, or
            nothing is served.

    """
    if (host is None) != (port is None) or (host, unix, sock).count(None) != 2:
        raise TypeError("listen_http takes a host and a port, or unix=, or sock=")
    place: Place
    if sock is not None:
        place = BoundPlace(sock)
    elif unix is not None:
        place = UnixPlace(os.fspath(unix), mode)
    else:
        require_port(port, least=0)
        place = TcpPlace(cast("str", host), cast("int", port))
    return HttpListener(place, tls=tls, **options)


class HttpListener:
    """An endpoint that listens from `start` to `close`; made by `listen_http`."""

    kind = "http"

    def __init__(self, place: Place, *, tls: ssl.SSLContext | None, **options: Unpack[HttpOptions]) -> None:
        self._place = place
        self._tls = tls
        self.host = EndpointHost(**options)
        self.path = self.host.path
        self.endpoint = self.host.endpoint
        self._most = self.endpoint.limit("max_connections")
        self._acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self.refused_connections = 0
        self._open = 0
        self.connections: set[HttpSocket] = set()

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self._place.is_local

    @property
    def has_tls(self) -> bool:
        """Whether it has certificates."""
        return self._tls is not None

    @property
    def port(self) -> int:
        """The port; where 0 was asked for, the one that the system chose, once `start` returned. 0 for none."""
        return self._place.port

    @property
    def name(self) -> str:
        """Its URL."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self._place.name}{self.path}"

    async def start(self, accept: Accept) -> None:
        """Listen; each session, and each address with modern requests, is handed to `accept`.

        Raises:
            OSError: the address is in use or not ours.
            RuntimeError: it listens already.

        """
        if self._acceptor is not None:
            raise RuntimeError(f"{self.name} listens already")
        loop = asyncio.get_running_loop()
        sockets = await self._place.bind(loop)
        self.host.start(accept)

        def accepted(connection: socket.socket) -> None:
            if self._open >= self._most or connection.fileno() >= most_descriptors():
                self.refused_connections += 1
                connection.close()
                return
            self._open += 1
            task = loop.create_task(self._connect(loop, connection))
            self._attaching.add(task)
            task.add_done_callback(self._attaching.discard)

        self._acceptor = Acceptor(loop, sockets, self.name, accepted)
        self._acceptor.start()
        self._tick(loop)

    async def close(self) -> None:
        """Accept no more; connections between two requests are closed."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.close()
            self._place.release()
        self.endpoint.close()
        for connection in tuple(self.connections):
            connection.close_idle()

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            if connection.family in (socket.AF_INET, socket.AF_INET6):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
            # Its handshake may take as long as a head.
            within = None if self._tls is None else self.endpoint.limit("max_head_ms") / 1000
            await loop.connect_accepted_socket(
                lambda: HttpSocket(self, loop), connection, ssl=self._tls, ssl_handshake_timeout=within
            )
        except OSError as error:
            LOGGER.debug("%s: a connection ended as it was accepted: %s", self.name, escaped(str(error)))
            connection.close()
            self._open -= 1

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self.connections):
            connection.look(now)
        self.host.look(now)
        closed = self._acceptor is None and not self.connections
        self._timer = None if closed else loop.call_later(TICK, self._tick, loop)

    def closed(self, connection: HttpSocket) -> None:
        """Forget a connection that is closed."""
        self.connections.discard(connection)
        self._open -= 1
        if self._acceptor is not None:
            self._acceptor.descriptor_freed()


class HttpSocket(asyncio.Protocol):
    """One connection of HTTP's over a socket."""

    __slots__ = (
        "_interval",
        "_listener",
        "_loop",
        "_native",
        "_read",
        "_read_at",
        "_seen",
        "_since",
        "_transport",
        "data_received",
    )
    data_received: Callable[[bytes], None]  # type: ignore[assignment] # of the native connection
    """Takes bytes that have come."""

    def __init__(self, listener: HttpListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._transport: asyncio.Transport
        self._native: HttpConnection | None = None
        self._seen: tuple[str, int] = ("idle", 0)
        self._since = self._read_at = loop.time()
        self._read, self._interval = 0, HEAD_INTERVAL

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        client = str(address[0]) if isinstance(address, tuple) else ""
        native = HttpConnection(
            self._listener.endpoint,
            client,
            is_local=self._listener.is_local,
            write=self._transport.write,
            close=self._transport.close,
            abort=self._transport.abort,
        )
        self._native = native
        # Called for every read: nothing of Python's is between the transport and the connection. uvloop has looked it
        # up by now, and does so again.
        self.data_received = native.feed
        transport.set_protocol(self)
        self._listener.connections.add(self)

    def eof_received(self) -> bool:
        """A client that writes no more is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is closed."""
        if self._listener.has_tls:
            # On 3.10 a transport of TLS complains of itself where nobody said so.
            self._transport.close()
        self._listener.closed(self)
        native, self._native = self._native, None
        if native is not None:
            native.lost()

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        if self._native is not None:
            self._native.set_full(True)

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        if self._native is not None:
            self._native.set_full(False)

    def close_idle(self) -> None:
        """Close it, if it is between two requests."""
        if self._native is not None and self._native.phase == "idle":
            self._transport.close()

    def look(self, now: float) -> None:
        """Act on what takes too long."""
        if self._native is None:
            return
        phase, requests, read = self._native.phase, self._native.requests, self._native.read_bytes
        if (phase, requests) != self._seen:
            self._seen, self._since = (phase, requests), now
            self._read, self._read_at, self._interval = read, now, HEAD_INTERVAL
            return
        if read != self._read:
            self._read, self._read_at = read, now
        waited = now - self._since
        if phase == "answering":
            if waited >= self._interval:
                self._since, self._interval = now, COMMENT_INTERVAL
                self._native.keep_alive()
            return
        if phase == "idle":
            self._native.shrink()
        if (phase in PHASE_LIMITS and self._is_over(waited, PHASE_LIMITS[phase])) or (
            phase == "body" and self._is_over(now - self._read_at, "max_body_pause_ms")
        ):
            self._transport.abort()

    def _is_over(self, waited: float, limit: str) -> bool:
        return waited * 1000 >= self._listener.endpoint.limit(limit)


__all__ = ["HttpListener", "listen_http"]
