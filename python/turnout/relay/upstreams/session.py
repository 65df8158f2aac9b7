"""Sessions of an upstream: one connection at a time, reconnected with a back-off between attempts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from turnout import _native
from turnout.errors import Error, HandshakeFailed, PeerLost, RequestError
from turnout.escape import escaped
from turnout.protocol import handshake
from turnout.raised import EXITS
from turnout.records import in_loop
from turnout.relay.upstreams.status import UpstreamStatus, why_lost
from turnout.relay.upstreams.upstream import ONE_PRINCIPAL, RestartPolicy, asked_by
from turnout.transports.channel import is_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from turnout._native import Call
    from turnout.peer import Peer
    from turnout.relay.drain import DrainTracker
    from turnout.relay.upstreams.credentials import PrincipalCredentials
    from turnout.relay.upstreams.status import State
    from turnout.relay.upstreams.upstream import Upstream
    from turnout.router import Router

log = logging.getLogger("turnout")


@dataclass(frozen=True)
class SessionContext:
    """What the sessions of one relay work with.

    Args:
        router: connects, and gives its name and limits.
        core: the native relay.
        opened: is called with each new connection, and its session.
        retired: is called with each connection that another one took the place of.
        status: is called with each change of a status.
        drain: tracks what waits for a session, or is to go on there.
        home: the context in which connections are made, that of who made the relay: a client's would stay with what
            all of them share.

    """

    router: Router
    core: _native.Relay
    opened: Callable[[Peer, UpstreamSession], None]
    retired: Callable[[Peer], None]
    status: Callable[[UpstreamStatus], None]
    drain: DrainTracker
    home: contextvars.Context = field(default_factory=contextvars.copy_context)


class UpstreamSession(_native.UpstreamSlot):
    """Holds at most one connection to an upstream: dedicated to one client, or shared by several.

    Args:
        context: what it works with.
        upstream: as declared.
        position: the position of the upstream.
        client: the client that it is dedicated to; None for a shared one.
        load: what bounds the requests in flight to the upstream, over all its sessions; None for nothing.

    Attributes:
        status: how its connection stands.
        credentials: with which its server is asked; None where its target says that.

    """

    credentials: PrincipalCredentials | None = None

    def __new__(
        cls,
        _context: SessionContext,
        upstream: Upstream,
        position: int,
        client: Peer | None = None,
        load: _native.UpstreamLoad | None = None,
    ) -> Self:
        """Make the native part."""
        declared = (upstream.name, upstream.timeout, upstream.max_timeout, load)
        return super().__new__(cls, position, declared, client is not None, upstream.sharing in ONE_PRINCIPAL)

    def __init__(
        self,
        context: SessionContext,
        upstream: Upstream,
        _position: int,
        client: Peer | None = None,
        _load: _native.UpstreamLoad | None = None,
    ) -> None:
        self.client = client
        self.status = UpstreamStatus(upstream.name, "closed", None, client)
        self.upstream = upstream
        self._context = context
        ours = context.router.implementation
        self.implementation = handshake.Implementation(ours.name, ours.version) if client is None else ours
        self._client_revision: str | None = None
        self.peer: Peer | None = None
        self._connecting: asyncio.Task[Peer] | None = None
        self._delay = 0.0
        self._not_before = 0.0
        self._closed = False
        self.is_leaving = False
        """Whether no client is assigned to it any more."""

    def may_offer(self, capability: str) -> bool:
        """Whether its server has a capability, as far as it said so."""
        return (
            self.peer is None
            or not self.peer.server_capabilities
            or capability in self.peer.server_capabilities
        )

    @property
    def is_ready(self) -> bool:
        """Whether a connection is open now."""
        return self.peer is not None and self.peer.is_open

    def _stands(self, state: State, reason: str | None = None) -> None:
        """Take note of how the connection stands, and tell where that is new."""
        status = UpstreamStatus(self.upstream.name, state, reason, self.client)
        if status != self.status:
            self.status = status
            self._context.status(status)

    def prepare_for(self, implementation: handshake.Implementation, revision: str) -> None:
        """Set the implementation and revision of the next connection; no effect where all clients share it.

        Args:
            implementation: who the client says that it is, with what it offers.
            revision: the revision that it speaks.

        """
        if self.upstream.sharing == "per_client":
            self.implementation = implementation
        if self.upstream.sharing == "per_client" or not self.is_ready:
            self._client_revision = revision

    async def connect(self) -> Peer:
        """Connect if needed, in one attempt; after a failed attempt, wait for the back-off first.

        Raises:
            OSError: it could not be started or reached.
            HandshakeFailed: it was reached but could not be opened.

        """
        if self.peer is not None and self.peer.is_open:
            return self.peer
        return await self._connect_once()

    async def replace_connection(self, drain: float) -> None:
        """Replace the connection: open another for new requests, drain and close the old one.

        Args:
            drain: seconds in which requests in flight on the one before may still end by themselves.

        Raises:
            OSError: it could not be started or reached; the one that stands is left alone.
            HandshakeFailed: it was reached but could not be opened, likewise.

        """
        before = self.peer
        await self._connect_once()
        if before is not None and before is not self.peer:
            self._context.core.retire(before.connection)
            self._context.retired(before)
            await before.drain(drain)
            self._context.core.cancel_rest(before.connection)
            await before.close()

    async def wait(self, *, through_backoff: bool = True) -> Peer:
        """The connection; made if it is not there, waited for if somebody makes it.

        Args:
            through_backoff: False does not wait for an attempt that is put off because the last one failed.

        Raises:
            PeerLost: the next attempt is put off.
            OSError: it could not be made, or not in time.
            HandshakeFailed: it was reached but could not be opened.

        """
        if not through_backoff and not self.is_ready and self._not_before > asyncio.get_running_loop().time():
            raise PeerLost(f"{self.upstream.name} is not there; it is tried again later")
        try:
            with self._context.drain.using(self):
                return await asyncio.wait_for(self.connect(), self.upstream.connect_wait)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"{self.upstream.name} was not there within {self.upstream.connect_wait} s"
            ) from None

    async def wait_briefly(self) -> Peer:
        """As `wait`, but no longer than others should wait for this one upstream.

        Raises:
            OSError: as for `wait`, or it took longer than the upstream's `list_timeout`.

        """
        try:
            return await asyncio.wait_for(self.wait(through_backoff=False), self.upstream.list_timeout)
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"{self.upstream.name} was not there in time") from error

    def ask(self, peer: Peer, method: str, params: Any) -> Call:
        """Ask a connection of this session for something that no client's request is passed on for.

        Args:
            peer: the connection.
            method: the method.
            params: the params, as for `Peer.send`.

        Returns:
            the call, which ends when the upstream's timeouts say so.

        """
        upstream = self.upstream
        return peer.send(
            method, params, timeout=upstream.timeout, max_timeout=upstream.max_timeout, progress=False
        )

    async def retire(self, drain: float) -> None:
        """Close the connection for good when what goes on here has ended.

        Args:
            drain: seconds in which that may end by itself; the rest is cancelled, and answered.

        """
        if drain > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wait_unused(), drain)
        self._context.drain.stop_at(self)
        peer = self.peer
        if peer is not None:
            self._context.retired(peer)
            if peer.is_open:
                self._context.core.retire(peer.connection)
                self._context.core.cancel_rest(peer.connection)
            if self.upstream.is_connected:
                self._context.core.leave(peer.connection)
        await self.close()

    async def _wait_unused(self) -> None:
        """Wait until nothing is in flight here, waits for the connection, or is to go on at it."""
        drain, records = self._context.drain, self._context.router.records
        loop = asyncio.get_running_loop()
        with drain.changes() as changed, records.on_finished(lambda: in_loop(loop, changed.set)):
            while drain.is_used(self) or (self.peer is not None and any(self.peer.in_flight)):
                changed.clear()
                await changed.wait()

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self.peer is not None and not self.upstream.is_connected:
            await self.peer.close()
            # The relay finds the session by its connection; a reference here would keep both, and their client, alive.
            self.peer = None
        self._stands("closed")

    @property
    def _is_closing(self) -> bool:
        """Whether no more connections are made: the relay is closed, or its router is about to close it."""
        return self._closed or self._context.router.is_closed

    async def _connect_once(self) -> Peer:
        """Connect; concurrent callers wait for the same attempt."""
        if self._connecting is None:
            # A copy, since one context cannot be entered twice.
            home = self._context.home.copy()
            self._connecting = home.run(self._context.router.spawn, self._connect_after_backoff())
            self._connecting.add_done_callback(self._connect_done)
        connecting = self._connecting
        # Whoever waits may be cancelled, and then is; the attempt is by `close` only.
        await asyncio.wait((connecting,))
        if connecting.cancelled():
            raise PeerLost(f"{self.upstream.name} is closed")
        try:
            return connecting.result()
        except EXITS:
            # It ends the loop already, out of a task of its own: once, however many wait.
            raise PeerLost(f"{self.upstream.name} is not there, since the program ends") from None

    def _connect_done(self, starter: asyncio.Task[Peer]) -> None:
        self._connecting = None
        if not starter.cancelled():
            starter.exception()  # whoever waits has it

    async def _attempt(self) -> Peer:
        if self._is_closing:
            raise PeerLost(f"{self.upstream.name} is closed")
        target = self.upstream.target
        router = self._context.router
        if self.upstream.is_connected:
            peer: Peer = target  # type: ignore[assignment]
            if not peer.is_open:
                raise PeerLost(f"{self.upstream.name} is gone")
        else:
            made = target if is_target(target) else target()  # type: ignore[operator]
            if self.credentials is not None:
                made = asked_by(made, self.credentials)
            peer = await router.connect(
                made,
                era=self.upstream.era,
                name=self.upstream.name,
                open_timeout=self.upstream.open_timeout,
                implementation=self._implementation(),
                options=self.upstream.options,
            )
        self.peer = peer
        self._context.opened(peer, self)
        self._stands("open")
        router.spawn(self._watch(peer))
        return peer

    def _implementation(self) -> handshake.Implementation:
        """Who we are: to a server that speaks both eras, of the era of the client that the connection is private to."""
        if self.upstream.sharing not in ("per_client", "per_principal"):
            return self.implementation
        serves = self._client_revision or (handshake.MODERN if self.client is None else self.client.revision)
        return replace(self.implementation, revision=None if serves == handshake.MODERN else serves)

    async def _watch(self, peer: Peer) -> None:
        """Reconnect after a loss: at once if the connection had lasted `reset_after`, else with a growing delay."""
        loop = asyncio.get_running_loop()
        opened = loop.time()
        await peer.wait_lost()
        self._context.core.leave(peer.connection)
        if self.peer is peer and not self._closed:
            self._stands("closed", why_lost(peer))
        restart = self.upstream.restart
        if restart is None or self.upstream.is_connected or self.is_leaving or self.peer is not peer:
            return
        if loop.time() - opened >= restart.reset_after:
            self._delay = 0.0
        else:
            self._back_off()
        while not self._is_closing:
            try:
                await self.connect()
            except RequestError:  # noqa: PERF203
                # There are no credentials; the next request asks for them again.
                return
            except (OSError, Error):
                continue
            else:
                return

    async def _connect_after_backoff(self) -> Peer:
        if self.credentials is not None:
            # Whoever has none is told at once: that says nothing of the server.
            await self.credentials.get()
        pause = self._not_before - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)
        upstream_name = self.upstream.name
        if not self.is_ready and not self._is_closing:
            self._stands("opening")
        try:
            return await self._attempt()
        except EXITS as error:
            self._failed(error)
            raise
        except (OSError, Error) as error:
            self._failed(error)
            if not self._is_closing:
                log.warning(
                    "the upstream %s could not be opened: %s",
                    escaped(upstream_name),
                    escaped(str(error), 2000),
                )
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise ConnectionError(
                    f"the upstream {upstream_name} could not be started or reached: {error}"
                ) from error
            if isinstance(error, HandshakeFailed):
                raise HandshakeFailed(f"the upstream {upstream_name} could not be opened: {error}") from error
            raise

    def _failed(self, error: BaseException) -> None:
        """Take note of an attempt that failed; the connection that it was to take the place of may stand yet."""
        self._back_off()
        if not self.is_ready and not self._closed:
            self._stands("closed", str(error) or type(error).__name__)

    def _back_off(self) -> None:
        """Double the delay before the next attempt, up to `max_delay`."""
        restart = self.upstream.restart or RestartPolicy()
        self._delay = min(max(self._delay * 2, restart.initial_delay), restart.max_delay)
        self._not_before = asyncio.get_running_loop().time() + self._delay
