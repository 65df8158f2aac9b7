"""The router: peers, their shared handlers, and the records of everything that was in flight."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, TypeVar, cast

from turnout._native import LIMITS, Clock, Connection, Ledger, memory_is_tight, memory_usage, report
from turnout.arguments import require_one_of, require_port, require_seconds
from turnout.errors import HandshakeFailed, LimitExceeded
from turnout.escape import escaped
from turnout.handlers import Handlers, Hooks
from turnout.machine_memory import NAME as MAX_TOTAL_BYTES
from turnout.machine_memory import bound
from turnout.peer import Peer
from turnout.protocol import handshake
from turnout.protocol.handshake import ERAS
from turnout.protocol.options import ProtocolOptions
from turnout.records import Records
from turnout.relay import Relay
from turnout.relay.upstreams.upstream import as_upstream
from turnout.threads import HandlerThreads
from turnout.transports.accepting import most_descriptors
from turnout.transports.channel import is_target
from turnout.transports.own_stdio import OwnStdioTarget
from turnout.transports.places import TcpPlace, UnixPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from typing_extensions import Self

    from turnout.control.service import Control
    from turnout.protocol.keepalive import Ping
    from turnout.relay import Route, Upstream
    from turnout.transports.channel import Link, Listener, Target, Transport
    from turnout.transports.places import Place

log = logging.getLogger("turnout")

WARN_INTERVAL = 60.0
"""Seconds in which the log warns but once that a router closed a connection."""

T = TypeVar("T")
P = TypeVar("P", bound=Peer)


class Accepting:
    """Takes in for a router what comes to a listener.

    Args:
        router: whose limits hold for the peers.
        take: makes the peer of a connection, and gives its link.

    """

    def __init__(self, router: Router, take: Callable[[Transport, str], Link]) -> None:
        self.limit = router.limit
        self._take = take

    def __call__(self, transport: Transport, name: str, /) -> Link:
        """Take a connection in."""
        return self._take(transport, name)


class Router(Hooks):
    """Connections to any number of peers, in one event loop.

    Args:
        timeout: seconds without an answer or progress after which a request ends; None for never. Each
            `send` can say otherwise (TMO-03, TMO-07).
        max_timeout: seconds after which it ends whatever the progress; None for never (TMO-09).
        close_timeout: seconds that handlers have to stop when a connection is closed (X-09), plain functions when the
            router is: one that goes on ends with the program.
        eof_timeout: seconds that requests of a peer that writes no more have to be answered, before they are cancelled
            (TRS-12): the end of our stdin, or of one direction of a socket.
        limits: limits by name, as in `turnout.LIMITS`; None for the defaults. `max_total_bytes` holds for all routers
            of the process: the last one that names it sets it.
        records: how many finished records are kept.
        name: our name, sent to peers in the handshake.
        version: our version, sent with it; None for turnout's.
        capabilities: what we offer as a client when a connection is opened; None for nothing.
        delay_answers: whether an answer of ours waits until its client has read the progress before it, 20 ms at most,
            and 5 ms where the system cannot tell what was read: over TCP, and everywhere but on Linux. Clients on the
            TypeScript SDK lose progress that they read together with its answer. False, and towards servers: it only
            has a write of its own.
        ping: when silent peers are pinged; None for never. `turnout.Ping()` for every 30 s (PNG-06).
        options: how all connections decide where the protocol's sources disagree; None for turnout's own decisions.
        clock: where time comes from; None for the machine's monotonic clock.

    Attributes:
        refused_peers: how many came to listeners beyond the limit `max_peers`, or while all connections of the process
            held three quarters of `max_total_bytes`, and were turned away.
        overdue_peers: how many were closed because they did not open the connection, or end a frame, in time.

    """

    def __init__(
        self,
        *,
        timeout: float | None = 60.0,
        max_timeout: float | None = 3600.0,
        close_timeout: float = 5.0,
        eof_timeout: float = 1.0,
        limits: Mapping[str, int] | None = None,
        records: int = 10_000,
        name: str = "turnout",
        version: str | None = None,
        capabilities: Mapping[str, Any] | None = None,
        delay_answers: bool = True,
        ping: Ping | None = None,
        options: ProtocolOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        require_seconds("timeout", timeout, above=True)
        require_seconds("max_timeout", max_timeout, above=True)
        require_seconds("close_timeout", close_timeout)
        require_seconds("eof_timeout", eof_timeout)
        if limits is not None:
            # A connection knows the names and the ranges, and refuses the rest.
            Connection(limits=dict(limits))
        bound.set((limits or {}).get(MAX_TOTAL_BYTES))
        self.timeout = timeout
        self.max_timeout = max_timeout
        self.close_timeout = close_timeout
        self.eof_timeout = eof_timeout
        self.limits = dict(limits) if limits is not None else None
        self.implementation = handshake.Implementation(name, version, dict(capabilities or {}))
        self.delay_answers = delay_answers
        self.ping = ping
        self.options = options or ProtocolOptions()
        self.clock = clock or Clock()
        self.ledger = Ledger(records)
        self.records = Records(self.ledger)
        self.handlers = Handlers()
        self.handlers.changed = self._apply_handlers
        self.refused_peers = 0
        self.overdue_peers = 0
        self._warned: float | None = None
        self._peers: set[Peer] = set()
        self._lost_listeners: list[Callable[[Peer], object]] = []
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._threads: HandlerThreads | None = None
        self._closed = False
        self._process = os.getpid()
        self._relays: list[Relay] = []
        self._controls: list[Control] = []

    @property
    def is_closed(self) -> bool:
        """True once it was closed."""
        return self._closed

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The connections that are open."""
        return tuple(self._peers)

    def limit(self, name: str) -> int:
        """The value of a limit: as it was given, or its default.

        Args:
            name: as in `turnout.LIMITS`.

        Raises:
            KeyError: no limit bears the name.

        """
        return (self.limits or {}).get(name, LIMITS[name])

    @property
    def threads(self) -> HandlerThreads:
        """Where handlers that are plain functions run."""
        if self._threads is None:
            self._threads = HandlerThreads()
        return self._threads

    async def connect(
        self,
        target: Target,
        *,
        era: handshake.Era | None = "auto",
        name: str | None = None,
        open_timeout: float = 60.0,
        probe_timeout: float = 10.0,
        implementation: handshake.Implementation | None = None,
        options: ProtocolOptions | None = None,
    ) -> Peer:
        """Connect to a peer and open it.

        Args:
            target: where it is: `stdio(...)`, `unix(...)`, `tcp(...)` or one end of `memory()`.
            era: `"legacy"` shakes hands by `initialize`, `"modern"` asks `server/discover`, `"auto"` finds
                out which (TRS-15 to TRS-17), and None leaves the connection as it is: no opening at all.
            name: what records call the peer; None for the target's own name.
            open_timeout: seconds for the opening.
            probe_timeout: seconds after which a peer that does not answer the probe counts as legacy.
            implementation: who we are to this peer; None for the router's own.
            options: how this connection decides where the protocol's sources disagree; None for the router's options.

        Raises:
            TypeError: the target is none.
            ValueError: the era is unknown, or a timeout negative.
            OSError: the peer could not be started or reached.
            HandshakeFailed: it was reached but could not be opened, or was lost meanwhile.

        """
        if not is_target(target):
            raise TypeError(
                f"connect takes a target such as turnout.stdio('python', 'server.py'), not {target!r}"
            )
        if era is not None:
            require_one_of("era", era, ERAS)
        require_seconds("open_timeout", open_timeout)
        require_seconds("probe_timeout", probe_timeout)
        peer = self.adopt(Peer, name or target.name, target.kind)
        if options is not None:
            options.apply(peer.connection)
        if isinstance(target, OwnStdioTarget):
            peer.came_to_us = True
            peer.set_rules(handshake.LEGACY[0], "server")
            self._require_handshake(peer)
        try:
            peer.link.use(await target.open(peer.link))
            if era is not None:
                await handshake.open_peer(
                    peer, implementation or self.implementation, era, open_timeout, probe_timeout
                )
        except HandshakeFailed as error:
            error.exit_code, error.noise, error.stderr = peer.exit_code, peer.noise, peer.last_stderr
            await peer.close()
            raise
        except BaseException:
            await peer.close()
            raise
        return peer

    async def serve(self, listener: Listener, accepted: Callable[[Peer], Any] | None = None) -> None:
        """Accept peers until the router is closed; requests go to the router's handlers.

        Args:
            listener: `listen_unix(...)` or `listen_tcp(...)`.
            accepted: called with each new peer before its first byte is read, and refuses it by raising; None for
                nothing.

        Raises:
            OSError: the address cannot be listened on.

        """

        def accept(transport: Transport, name: str) -> Link:
            peer = self.accept(Peer, transport, name)
            try:
                self._require_handshake(peer)
                peer.link.use(transport)
                if accepted is not None:
                    accepted(peer)
            except BaseException:
                # The transport reports no `lost` for a refused connection, so remove the peer here.
                peer.abort()
                raise
            return peer.link

        self._check()
        await listener.start(Accepting(self, accept))
        self._listeners.append(listener)

    def relay(
        self,
        *upstreams: Upstream | Peer | Target,
        routes: Iterable[Route] = (),
        local: Iterable[str] = (),
        max_in_flight: int = 1 << 20,
        max_request_rate: int | None = None,
    ) -> Relay:
        """Relay clients to upstreams: `await relay.start()`, then `relay.attach` for each client.

        Args:
            upstreams: what clients are relayed to; a target or a connected peer stands for a shared upstream.
            routes: which requests go to which upstream; with one upstream, everything goes there.
            local: methods that handlers registered by `relay.on_request` answer.
            max_in_flight: most requests of all clients in flight to all upstreams; those beyond it are refused.
                What holds for each client is in the router's limits, what holds for an upstream in `Upstream`.
            max_request_rate: most requests of one principal in a second, on all its connections and whatever they
                ask for, `ping` aside; those beyond are refused (`rate_limited`, nothing was sent), over HTTP with 429
                and `Retry-After`. A client without a principal counts by itself. None for any number.

        Raises:
            ValueError: `max_in_flight` or `max_request_rate` is less than 1, an upstream is unknown or named twice, or
                two routes claim the same requests.

        """
        self._check()
        known = [as_upstream(item) for item in upstreams]
        if max_request_rate is not None and max_request_rate < 1:
            raise ValueError(f"max_request_rate must be at least 1, not {max_request_rate}")
        relay = Relay(self, known, tuple(routes), tuple(local), max_in_flight, max_request_rate)
        self._relays.append(relay)
        return relay

    async def serve_control(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        token: str | None = None,
        name: str | None = None,
        redact: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
    ) -> Control:
        """Let people see what is in flight here, and stop it: by `turnout top`, or by any client of HTTP's.

        It is served until the router is closed, over a Unix socket that our own user alone reaches, or over a port.

        Args:
            path: of the Unix socket; None, where there is no host either, for one that `turnout top` finds by itself.
            host: an address to bind in the place of a socket; None for none. Browsers get a page there.
            port: 0 lets the system choose; `Control.port` tells. None without a host.
            token: what every request has to bear as a bearer token; needed with a host. None for none.
            name: what viewers call it; None for the router's own name.
            redact: called with each row and each record, as a dict, before it is told; what it gives is told in its
                place, and None, or an error of its own, hides it. None tells all: names, ids, progress, no payloads.

        Raises:
            TypeError: there is not one place, or a token is missing.
            ValueError: the token has characters that no token has, the port is out of range, or the path is an
                abstract name.
            OSError: the place cannot be listened on.

        """
        from turnout.control.places import own_socket  # noqa: PLC0415 - few serve it
        from turnout.control.service import Control  # noqa: PLC0415

        self._check()
        if (host is None) != (port is None) or (path is not None and host is not None):
            raise TypeError("serve_control takes a path, or a host and a port, or neither")
        if host is not None and not token:
            raise TypeError("serve_control over a port takes token=, since other users reach it")
        if path is not None and os.fspath(path).startswith("\0"):
            raise ValueError(
                "serve_control takes a path whose mode keeps others out; an abstract name has none"
            )
        place: Place
        if host is not None:
            require_port(port, least=0)
            place = TcpPlace(host, cast("int", port))
        else:
            place = UnixPlace(os.fspath(own_socket() if path is None else path), 0o600)
        name = name or self.implementation.name
        control = Control(self, place, name=name, token=token, redact=redact)
        await control.start()
        self._controls.append(control)
        return control

    async def close(self, *, drain: float = 0.0) -> None:
        """Close every connection; bounded, and idempotent.

        Args:
            drain: seconds in which requests in flight may still end by themselves.

        """
        self._closed = True
        listeners, self._listeners = self._listeners, []
        await asyncio.gather(*(listener.close() for listener in listeners))
        relays, self._relays = self._relays, []
        loop = asyncio.get_running_loop()
        until = loop.time() + drain
        await asyncio.gather(*(relay.close(drain=drain) for relay in relays))
        await asyncio.gather(*(peer.close(drain=until - loop.time()) for peer in self.peers))
        controls, self._controls = self._controls, []
        await asyncio.gather(*(control.close() for control in controls))
        self.records.close()
        if self._threads is not None:
            await self._threads.shut_down(self.close_timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- for peers ----

    def forget(self, peer: Peer) -> None:
        """Remove a peer whose connection is over."""
        if peer not in self._peers:
            return
        self._peers.discard(peer)
        for function in tuple(self._lost_listeners):
            try:
                function(peer)
            except BaseException as error:  # noqa: BLE001, PERF203 - as for the callbacks of records
                report(error, function)

    def on_lost(self, function: Callable[[Peer], object]) -> Callable[[], None]:
        """Call a function with each peer whose connection is over; gives what ends that."""
        self._lost_listeners.append(function)

        def leave() -> None:
            if function in self._lost_listeners:
                self._lost_listeners.remove(function)

        return leave

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a task, and keep a reference to it until it is done."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.hold_task(task)
        return task

    def hold_task(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task until it is done; loops hold tasks weakly."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def adopt(self, kind: type[P], name: str, transport: str) -> P:
        """Make a peer of this router's, of a class of its own."""
        self._check()
        peer = kind(self, name, transport)
        self._peers.add(peer)
        return peer

    def accept(self, kind: type[P], transport: Transport, name: str) -> P:
        """Make a peer of one that came to us.

        Raises:
            LimitExceeded: there are `max_peers` already, or as many descriptors in use as the process may have but for
                a reserve; or all connections of the process hold three quarters of `max_total_bytes`.

        """
        most, descriptors = self.limit("max_peers"), most_descriptors()
        if len(self._peers) >= most or getattr(transport, "descriptor", -1) >= descriptors:
            self.refused_peers += 1
            raise LimitExceeded("max_peers", min(most, descriptors))
        if memory_is_tight():
            self.refused_peers += 1
            raise LimitExceeded(MAX_TOTAL_BYTES, memory_usage()[MAX_TOTAL_BYTES])
        peer = self.adopt(kind, name, transport.kind)
        peer.came_to_us = True
        peer.set_rules(handshake.LEGACY[0], "server")
        peer.connection.expect_handshake()
        return peer

    def warn_of_end(self, peer: Peer, reason: str) -> None:
        """Log why a connection was closed: a warning once a minute, so that whoever comes again fills no log."""
        now = asyncio.get_running_loop().time()
        rarely = self._warned is None or now - self._warned >= WARN_INTERVAL
        if rarely:
            self._warned = now
        log.log(logging.WARNING if rarely else logging.DEBUG, "%s was closed: %s", escaped(peer.name), reason)

    def _require_handshake(self, peer: Peer) -> None:
        """Require a handshake of an accepted peer, if the router answers handshakes."""
        if "initialize" in self.handlers.requests:
            handshake.require_handshake(peer)

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "this router belongs to the process that made it; after os.fork, make a new one"
            )
        if self._closed:
            raise RuntimeError("the router is closed")

    def _apply_handlers(self) -> None:
        for peer in self._peers:
            peer.delivery.apply_handlers()
