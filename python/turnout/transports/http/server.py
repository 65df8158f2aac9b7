"""Serves Streamable HTTP on sockets: an endpoint, its connections, and the sessions of its clients."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Protocol, cast

from turnout._native import Connection, HttpConnection, HttpEndpoint
from turnout.arguments import require_port
from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.transports.accepting import Acceptor
from turnout.transports.sockets import bind_tcp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from turnout.transports.channel import Accept, Link

LOGGER = logging.getLogger("turnout.http")

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that no other machine's page has."""

TICK = 1.0
"""Seconds between two looks at what waits."""

COMMENT_INTERVAL = 15.0
"""Seconds after which an answer that has nothing to say sends a comment, so that nobody on the way ends it."""

PHASE_LIMITS = {"idle": "max_connection_idle_ms", "head": "max_head_ms", "body": "max_body_ms"}
"""How long each phase of a connection may take."""


def listen_http(
    host: str,
    port: int,
    *,
    path: str = "/mcp",
    hosts: Iterable[str] | None = None,
    origins: Iterable[str] = (),
    legacy: bool = True,
    modern: bool = True,
    tls: ssl.SSLContext | None = None,
    limits: Mapping[str, int] | None = None,
) -> HttpListener:
    """A TCP port on which clients of Streamable HTTP arrive.

    Args:
        host: the address to bind; `"127.0.0.1"` keeps it on this machine.
        port: 0 lets the system choose; `HttpListener.port` tells after `start`.
        path: of the endpoint.
        hosts: the names that the server is asked by, without a port; None for those of this machine where it is bound
            to this machine only, and for any name elsewhere.
        origins: origins whose pages may ask, such as `"https://app.example.com"`.
        legacy: whether revisions up to 2025-11-25 are served, which have sessions.
        modern: whether 2026-07-28 is.
        tls: the certificates; None for none.
        limits: limits of HTTP's by name, as in `HTTP_LIMITS`; None for the defaults.

    Raises:
        TypeError: the port is no integer, or a limit is unknown.
        ValueError: the port or a limit is out of range, the path begins with no slash, or nothing is served.

    """
    require_port(port, least=0)
    if not path.startswith("/"):
        raise ValueError(f"path begins with a slash, unlike {path!r}")
    if not (legacy or modern):
        raise ValueError("an endpoint serves legacy revisions, the modern one, or both")
    if hosts is None and host in {*LOOPBACK, "::1"}:
        hosts = LOOPBACK
    names = None if hosts is None else list(hosts)
    return HttpListener(
        host, port, path, names, list(origins), legacy=legacy, modern=modern, tls=tls, limits=limits
    )


class HttpHost(Protocol):
    """Makes and ends the sessions of an endpoint; called in the loop's thread, with nothing locked."""

    def open_session(self, client: str, modern: bool) -> Connection | None:
        """Make the connection of a session, for a client at that address; None refuses its request."""
        ...

    def close_session(self, connection: Connection) -> None:
        """End a session, because its client says so."""
        ...


class HttpListener:
    """An endpoint that listens from `start` to `close`; made by `listen_http`."""

    kind = "http"

    def __init__(
        self,
        host: str,
        port: int,
        path: str,
        hosts: list[str] | None,
        origins: list[str],
        *,
        legacy: bool,
        modern: bool,
        tls: ssl.SSLContext | None,
        limits: Mapping[str, int] | None,
    ) -> None:
        self._host = host
        self.port = port
        self.path = path
        self._tls = tls
        self.endpoint = HttpEndpoint(
            self,
            path,
            os.urandom(32),
            hosts=hosts,
            origins=origins,
            legacy=legacy,
            modern=modern,
            limits=None if limits is None else dict(limits),
        )
        self._most = self.endpoint.limit("max_connections")
        self._accept: Accept | None = None
        self._acceptor: Acceptor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attaching: set[asyncio.Task[None]] = set()
        self._sessions: dict[Connection, HttpSession] = {}
        self._count = 0
        self.refused_connections = 0
        self._refuses = False
        self._open = 0
        self.connections: set[HttpSocket] = set()

    @property
    def name(self) -> str:
        """Its URL."""
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}{self.path}"

    async def start(self, accept: Accept) -> None:
        """Listen; each session, and each address with modern requests, is handed to `accept`.

        Raises:
            OSError: the address is in use or not ours.
            RuntimeError: it listens already.

        """
        if self._acceptor is not None:
            raise RuntimeError(f"{self.name} listens already")
        loop = asyncio.get_running_loop()
        sockets, self.port = await bind_tcp(loop, self._host, self.port)
        self._accept = accept

        def accepted(connection: socket.socket) -> None:
            if self._open >= self._most:
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
        self.endpoint.close()
        for connection in tuple(self.connections):
            connection.close_idle()

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(lambda: HttpSocket(self, loop), connection, ssl=self._tls)
        except OSError as error:
            LOGGER.debug("%s: a connection ended as it was accepted: %s", self.name, escaped(str(error)))
            connection.close()
            self._open -= 1

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint.set_time(int(time.time()))
        now = loop.time()
        for connection in tuple(self.connections):
            connection.look(now)
        for idle in self.endpoint.idle_sessions(int(now * 1000)):
            self.close_session(idle)
        closed = self._acceptor is None and not self.connections
        self._timer = None if closed else loop.call_later(TICK, self._tick, loop)

    # ---- called by the endpoint ----

    def open_session(self, client: str, modern: bool) -> Connection | None:
        """Make the peer of a session; None refuses its request."""
        assert self._accept is not None  # noqa: S101
        self._count += 1
        name = client if modern else f"{client}#{self._count}"
        session = HttpSession(self, shares_clients=modern)
        try:
            link = self._accept(session, name)
        except EXITS:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the application raised
            # Whoever comes again and again fills no log: of those in a row the first is worth a warning.
            level = logging.DEBUG if self._refuses else logging.WARNING
            LOGGER.log(level, "a client was refused: %s", escaped(str(error)))
            self._refuses = True
            return None
        self._refuses = False
        session.link = link
        connection = cast("Connection", link.connection)  # type: ignore[attr-defined]
        session.connection = connection
        self._sessions[connection] = session
        return connection

    def close_session(self, connection: Connection) -> None:
        """End a session, because its client says so."""
        session = self._sessions.get(connection)
        if session is not None:
            session.lost()

    def closed(self, connection: HttpSocket) -> None:
        """Forget a connection that is closed."""
        self.connections.discard(connection)
        self._open -= 1

    def forget(self, session: HttpSession) -> None:
        """Forget a session that is over."""
        if session.connection is not None:
            self.endpoint.forget(session.connection)
            self._sessions.pop(session.connection, None)


class HttpSession:
    """The channel of one session: its messages are on streams, which the endpoint writes.

    Args:
        listener: the endpoint.
        shares_clients: whether it is of several clients, who are not known from each other.

    """

    kind = "http"
    delays_answers = False

    def __init__(self, listener: HttpListener, *, shares_clients: bool) -> None:
        self.shares_clients = shares_clients
        self._listener = listener
        self.link: Link | None = None
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        """Nothing is written to the session itself."""

    def lost(self) -> None:
        """End the session."""
        link, self.link = self.link, None
        if link is not None:
            link.lost(None)
        self._listener.forget(self)

    async def close(self) -> None:
        """End the session; its streams have ended."""
        self.lost()

    def abort(self) -> None:
        """End the session."""
        asyncio.get_running_loop().call_soon(self.lost)


class HttpSocket(asyncio.Protocol):
    """One connection of HTTP's over a socket."""

    def __init__(self, listener: HttpListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._loop = loop
        self._transport: asyncio.Transport
        self._native: HttpConnection | None = None
        self._seen: tuple[str, int] = ("idle", 0)
        self._since = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket stands."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        client = str(address[0]) if isinstance(address, tuple) else ""
        native = HttpConnection(
            self._listener.endpoint,
            client,
            write=self._transport.write,
            close=self._transport.close,
            abort=self._transport.abort,
        )
        self._native = native
        # Called for every read: nothing of Python's is between the transport and the connection.
        vars(self)["data_received"] = native.feed
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._native is not None:
            self._native.feed(data)

    def eof_received(self) -> bool:
        """A client that writes no more is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The socket is closed."""
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
        phase, requests = self._native.phase, self._native.requests
        if (phase, requests) != self._seen:
            self._seen, self._since = (phase, requests), now
            return
        waited = now - self._since
        if phase == "answering":
            if waited >= COMMENT_INTERVAL:
                self._since = now
                self._native.keep_alive()
        elif phase in PHASE_LIMITS and waited * 1000 >= self._listener.endpoint.limit(PHASE_LIMITS[phase]):
            self._transport.abort()


__all__ = ["HttpHost", "HttpListener", "listen_http"]
