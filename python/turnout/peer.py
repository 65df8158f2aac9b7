"""One peer: what is sent to it, what is registered for it, and how its connection is closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from turnout._native import Connection
from turnout.delivery import Delivery
from turnout.handlers import Hooks
from turnout.link import PeerLink
from turnout.protocol import handshake
from turnout.records import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import EllipsisType

    from typing_extensions import Self

    from turnout._native import Call, Progress, Request, RetainedRequest
    from turnout.router import Router
    from turnout.scope import Scope

InputNeeded: TypeAlias = (
    "Callable[[Request, Peer, bytes, bytes | None, RetainedRequest], Coroutine[Any, Any, None]]"
)
"""Asks a client for the input that a server needs. Called with the request, the server's connection, its result, the
`requestState` in that, and the retained request."""


class Peer(Hooks):
    """The other end of one connection; made by `Router.connect` and `Router.serve`.

    Attributes:
        router: the router that made it.
        connection: the native connection: its tables, its frames, its rules.
        link: what the transport sees of the peer.
        delivery: what comes in, and the registrations for this peer alone.
        server_info: what the server says it is; None before the handshake, and for clients.
        server_capabilities: what the server offers; empty before the handshake, and for clients.
        instructions: how the server says that it is used; None for nothing.
        on_input_needed: asks this client for the input that a server needs; None where it cannot be asked.
        error: what broke the channel; None for an orderly end, or none yet.
        exit_code: how its process ended, negative for a signal; None where there is none or that is not known.
        noise: the first line that it wrote where messages belong and that is none, escaped and cut; None for none.
        came_to_us: whether it is a client that came to us, instead of a server that we went to.
        since: when its connection was made, by `time.monotonic`.
        dropped_notifications: how many times an async observer or listener was not called, because
            `max_inbound` of them were at work, or `max_inbound_bytes` of what they were told of.

    """

    _delivery_class: type[Delivery] = Delivery
    _link_class: type[PeerLink] = PeerLink

    def __init__(self, router: Router, name: str, transport: str) -> None:
        self.router = router
        self.loop = asyncio.get_running_loop()
        self.server_info: dict[str, Any] | None = None
        self.server_capabilities: dict[str, Any] = {}
        self.instructions: str | None = None
        self.on_input_needed: InputNeeded | None = None
        self.error: BaseException | None = None
        self.exit_code: int | None = None
        self.noise: str | None = None
        self.dropped_notifications = 0
        self.came_to_us = False
        self.since = time.monotonic()
        self.delivery = self._delivery_class(self)
        self.handlers = self.delivery.handlers
        self.handlers.require_handshake = partial(handshake.require_handshake, self)
        self.connection = Connection(
            name,
            transport,
            clock=router.clock,
            ledger=router.ledger,
            limits=router.limits,
            host=self.delivery,
        )
        self.link = self._link_class(self)
        # The native methods themselves, without a frame of Python's in between: both are called for every message.
        vars(self).update(send=self.connection.send, notify=self.connection.notify)
        self._closing: asyncio.Task[None] | None = None
        router.options.apply(self.connection)
        self.connection.set_timeouts(router.timeout, router.max_timeout)
        router.records.attach(self.connection)
        self.delivery.apply_handlers()

    # ---- requests and notifications ----

    def send(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | EllipsisType | None = ...,
        max_timeout: float | EllipsisType | None = ...,
        progress: bool = True,
        on_progress: Callable[[Progress], object] | None = None,
        scope: Scope | None = None,
        request_id: int | str | None = None,
        notify_peer: bool = True,
        label: str | None = None,
        during: Request | None = None,
    ) -> Call:
        """Send a request: a plain function that registers and encodes it; the loop's turn writes it.

        Args:
            method: the method.
            params: what `turnout.json` writes as an object or an array, bytes that are JSON, or None.
            timeout: seconds without an answer or progress after which the call ends; None for never, left
                out for the connection's default (TMO-03, TMO-08).
            max_timeout: seconds after which it ends whatever the progress, likewise (TMO-09).
            progress: whether to ask for progress; the token is the request id, unless `params["_meta"]` has
                one of its own (PRG-01, PRG-04).
            on_progress: called with every update; None for nothing.
            scope: a `Scope` that the call joins; None for none.
            request_id: an id of the caller's own; None for the next number that no such id looks like.
            notify_peer: whether the peer is told of a cancel or a timeout (CAN-01); False for requests that the
                protocol does not let anyone cancel.
            label: the caller's own text about it, such as the id of an agent's step, for its record: it is not sent;
                what is longer than `max_text_bytes` is cut. None for none.
            during: the peer's request that it belongs to: over HTTP it goes on the stream of that. None for none.

        Raises:
            ConnectionClosed: the connection is over.
            LimitExceeded: `max_outbound` or `max_output_bytes` is reached.
            NotAllowed: the revision in force forbids it, or the token is in use.
            EncodeError: `params` cannot be written.
            TypeError: they are no object and no array, `request_id` is neither int nor str, or `label` is no str.
            ValueError: a request with this id is in flight, or `during` came from another peer.

        """
        return self.connection.send(
            method,
            params,
            timeout=timeout,
            max_timeout=max_timeout,
            progress=progress,
            on_progress=on_progress,
            scope=scope,
            request_id=request_id,
            notify_peer=notify_peer,
            label=label,
            during=during,
        )

    def notify(self, method: str, params: object = None, *, during: Request | None = None) -> None:
        """Send a notification: a plain function, as `send`.

        Cancels and progress are not sent so: `Call.cancel` and `Request.progress` know what is in flight.

        Args:
            method: the method.
            params: what `turnout.json` writes as an object or an array, bytes that are JSON, or None.
            during: the peer's request that it belongs to, as for `send`; None for none.

        Raises:
            ConnectionClosed: the connection is over.
            LimitExceeded: `max_output_bytes` is reached.
            NotAllowed: the revision in force forbids it.
            EncodeError: `params` cannot be written.
            TypeError: they are no object and no array.

        """
        self.connection.notify(method, params, during=during)

    # ---- the rules of the protocol ----

    @property
    def revision(self) -> str:
        """The revision in force; the newest legacy one until it is known."""
        return self.connection.revision

    def set_rules(
        self,
        revision: str,
        role: Literal["either", "client", "server"] = "either",
        *,
        request_meta: Mapping[str, Any] | None = None,
        opened: bool | None = True,
        era: Literal["host", "open", "settled"] = "host",
    ) -> None:
        """Set the negotiated revision and our role in it.

        Args:
            revision: one of the five dates.
            role: our part; `"either"` lets pass what only one may do.
            request_meta: members for the `_meta` of every request; None for none.
            opened: False while the handshake of a legacy revision goes on: nothing but `ping` is asked before
                `notifications/initialized` came, or before this is called again (PNG-13, PNG-14). True, unless said
                otherwise; None leaves it as the peer's `initialize` and `notifications/initialized` made it.
            era: who says under which era the peer's requests are. `"host"`: whoever calls this, and what requests
                say of it is not looked at. `"open"`: the peer, by its first request with the envelope of 2026-07-28,
                or by `initialize`. `"settled"`: the peer did. Requests that do not fit are refused: -32022 for a
                version that is not supported, -32602 for an envelope that is not there or not complete.

        Raises:
            ValueError: an unknown revision, role or era.

        """
        self.connection.set_rules(revision, role, request_meta=request_meta, opened=opened, era=era)

    # ---- what it is, and what it holds ----

    @property
    def name(self) -> str:
        """What records call it."""
        return self.connection.name

    @property
    def transport(self) -> str:
        """How it is connected: `"stdio"`, `"unix"`, `"tcp"` or `"memory"`."""
        return self.connection.transport

    @property
    def principal(self) -> Any:
        """On whose behalf a client asks that came over HTTP, as `authenticate` said; None where nobody said."""
        return getattr(self.link.transport, "principal", None)

    @property
    def is_open(self) -> bool:
        """True until the channel ended or was closed."""
        return not self.connection.is_over

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests in flight: ours, the peer's."""
        return self.connection.in_flight

    def entries(self) -> dict[str, int]:
        """Entries in every table that a request can leave behind: all 0 when nothing is in flight (X-08)."""
        return self.connection.entries()

    def counters(self) -> dict[str, int]:
        """What this connection counts, beside outcomes."""
        return self.connection.counters()

    @property
    def memory(self) -> int:
        """Bytes held by tables and buffers."""
        return self.connection.memory

    @property
    def held_bytes(self) -> int:
        """Bytes that count for this connection in `memory_usage()`, to 4 KiB."""
        return self.connection.held_bytes

    @property
    def missed_pings(self) -> int:
        """How many of our pings in a row it left without an answer: 0 for a connection that lives (PNG-03)."""
        keepalive = self.link.keepalive
        return 0 if keepalive is None else keepalive.missed

    @property
    def last_stderr(self) -> tuple[str, ...]:
        """The last lines of its process's standard error, escaped and cut; none where they are not ours to read."""
        lines: tuple[str, ...] = getattr(self.link.transport, "last_stderr", ())
        return lines

    # ---- the end ----

    async def wait_lost(self) -> None:
        """Wait until the channel is over, whoever ended it."""
        await self.link.wait_lost()

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is in flight any more, either way.

        Args:
            seconds: how long at most; 0 does not wait.

        """
        connection = self.connection
        connection.release_answers()
        if seconds <= 0:
            return
        ended = asyncio.Event()

        async def idle() -> None:
            while any(connection.in_flight) and not connection.is_over:
                ended.clear()
                await ended.wait()

        finished = self.router.records.on_finished(lambda: in_loop(self.loop, ended.set))
        with finished, contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(idle(), seconds)
        connection.release_answers()

    async def close(self, *, drain: float = 0.0) -> None:
        """Close the connection: bounded, whatever the peer and the handlers do (X-09).

        Args:
            drain: seconds in which requests in flight, ours and the peer's, may still end by themselves.

        """
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(drain))
            self.router.hold_task(self._closing)
        await asyncio.shield(self._closing)

    async def _close(self, drain: float) -> None:
        await self.drain(drain)
        connection = self.connection
        if not connection.is_over:
            connection.flush()
        running = connection.handler_tasks()
        connection.end("closed")
        # Ending writes frames of its own: listens are answered.
        connection.flush()
        if running:
            await asyncio.wait(running, timeout=self.router.close_timeout)
        await self.link.close()

    def abort(self) -> None:
        """Close at once, without writing anything."""
        self.link.break_off("closed")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        ours, theirs = self.in_flight
        state = "open" if self.is_open else "over"
        return f"<Peer {self.name!r} {state}, {ours} out and {theirs} in flight>"


__all__ = ["InputNeeded", "Peer"]
