"""The relay: attaches clients, connects upstreams, and passes on the requests that Python was asked about."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from turnout import _native
from turnout.arguments import require_seconds
from turnout.errors import Error, RequestError
from turnout.handlers import Handlers, Hooks
from turnout.protocol import handshake
from turnout.relay.admission import PendingAdmission
from turnout.relay.answers import Answers
from turnout.relay.clients import Assignment, Client, Clients
from turnout.relay.configuration import Configuration
from turnout.relay.drain import DrainTracker
from turnout.relay.errors import unknown_subject, unknown_task
from turnout.relay.features.changes import LISTEN
from turnout.relay.features.handshake import RelayHandshake, client_implementation
from turnout.relay.features.listen_bridge import ListenBridge
from turnout.relay.features.log_levels import LogLevels
from turnout.relay.features.merged_lists import MergedLists
from turnout.relay.features.resource_subscriptions import ResourceSubscriptions
from turnout.relay.features.subscribers import LegacySubscriber
from turnout.relay.features.subscriptions import Subscriptions
from turnout.relay.features.task_lists import TaskLists
from turnout.relay.mrtr.replay import InputReplay
from turnout.relay.mrtr.server_requests import ServerRequests
from turnout.relay.mrtr.suspend import Suspensions
from turnout.relay.policy import Policy
from turnout.relay.principals import Principals
from turnout.relay.routing.routes import check_upstreams
from turnout.relay.upstreams.registry import Upstreams
from turnout.relay.upstreams.session import SessionContext
from turnout.relay.upstreams.status import StatusListeners
from turnout.relay.upstreams.upstream import as_upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.relay.routing.routes import Route
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.relay.upstreams.status import UpstreamStatus
    from turnout.relay.upstreams.upstream import Upstream
    from turnout.router import Router
    from turnout.transports.channel import Target


class Relay(Hooks):
    """Clients on one side, upstreams on the other; made by `Router.relay`.

    Attributes:
        router: the router that made it.
        policy: which tools, prompts and resources clients may use (`@relay.policy.allow()`), and what becomes of
            requests (`@relay.policy.decide(method)`); see `turnout.relay.policy.Policy`.

    """

    def __init__(
        self,
        router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route],
        local: Iterable[str],
        max_in_flight: int,
        max_request_rate: int | None,
    ) -> None:
        self.router = router
        self.handlers = Handlers()
        check_upstreams(upstreams)
        self._core = core = _native.Relay(max_in_flight, secrets.token_bytes(32))
        core.set_request_rate(max_request_rate or 0)
        self._clients = clients = Clients()
        self._detached: weakref.WeakSet[Peer] = weakref.WeakSet()
        self._drain = drain = DrainTracker()
        self._pending_admission = PendingAdmission(router)
        self._principals = Principals(router, core)
        self._subscriptions = subscriptions = Subscriptions(router, clients)
        self._status = status = StatusListeners()
        context = SessionContext(router, core, self._opened, subscriptions.retired, status.tell, drain)
        self._upstreams = known_upstreams = Upstreams(upstreams, context)
        self._configuration = Configuration(
            router,
            core,
            clients,
            known_upstreams,
            routes,
            local,
            reassigned=self._reassigned,
            list_changed=self._notify_list_changed,
        )
        self._suspensions = Suspensions(router, core, known_upstreams, drain)
        self._server_requests = ServerRequests(core, clients, known_upstreams, self._suspensions)
        self.policy = Policy(router, clients, self.forward)
        self._permissions = permissions = self.policy.permissions
        self._listen_bridge = ListenBridge(router, clients, subscriptions, permissions, self._forward_to)
        self._log_levels = LogLevels(router, clients, self._forward_to)
        self._merged_lists = MergedLists(
            core,
            clients,
            known_upstreams,
            drain,
            self._forward_to,
            self._notify_list_changed,
            self._may_share,
        )
        self._answers = self._make_answers()
        self.handlers.changed = self.policy.changed = self._answers.apply

    def _make_answers(self) -> Answers:
        """What answers the requests that are not passed on natively."""
        core, clients, drain, subscriptions = self._core, self._clients, self._drain, self._subscriptions
        replay = partial(InputReplay, self.router, core, self._upstreams, drain)
        openings = RelayHandshake(self.router, core, clients, replay, subscriptions.begin_session)
        resources = ResourceSubscriptions(self.router, clients, subscriptions, self._forward_to)
        tasks = TaskLists(core, clients, drain, self._forward_to)
        own = {
            "initialize": openings.initialize,
            "server/discover": openings.discover,
            "subscriptions/listen": self._listen_bridge.answer,
            "resources/subscribe": resources.subscribe,
            "resources/unsubscribe": resources.unsubscribe,
            "logging/setLevel": self._log_levels.answer,
            "tasks/list": tasks.answer,
            "completion/complete": self._merged_lists.complete,
        }
        hooks = (self.handlers, self.policy)
        return Answers(core, clients, *hooks, own=own, lists=self._merged_lists.answer, rest=self._wait)

    @property
    def clients(self) -> tuple[Peer, ...]:
        """The clients that are attached."""
        return tuple(client.peer for client in self._clients)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The upstreams as declared."""
        return self._upstreams.declared

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes as declared."""
        return self._configuration.routes

    @property
    def status(self) -> tuple[UpstreamStatus, ...]:
        """How each connection to an upstream stands; one that is private to clients has one for each of these."""
        return tuple(session.status for affinity in self._upstreams for session in affinity)

    def on_status(self, function: Callable[[UpstreamStatus], object]) -> Callable[[UpstreamStatus], object]:
        """Call a function with each change of how a connection to an upstream stands, in the loop: a decorator.

        Raises:
            TypeError: it cannot be called.

        """
        if not callable(function):
            raise TypeError(f"on_status takes the listener itself: @relay.on_status, not {function!r}")
        self._status.add(function)
        return function

    @property
    def in_flight(self) -> int:
        """Requests that were passed on and have not ended, whoever asked."""
        return self._core.in_flight

    def trace(self, sample: float | None) -> None:
        """Give requests of clients, and what becomes of them, spans from now on; `turnout.telemetry` makes them.

        Args:
            sample: the share of traces that have spans, of those that begin here; None traces no request.

        """
        self._core.set_tracing(sample, secrets.randbits(64))

    @property
    def queued(self) -> int:
        """Requests that wait for an upstream which takes no more, or is not there."""
        sessions = (session.peer for session in self._upstreams.sessions)
        waiting = sum(peer.connection.queued for peer in sessions if peer is not None)
        return waiting + self._pending_admission.count

    def counters(self) -> dict[str, int]:
        """What the relay counts."""
        return {**self._core.counters(), **self._suspensions.counters()}

    async def start(self) -> None:
        """Connect to every shared or pooled upstream now, instead of at the first request.

        Raises:
            OSError: one could not be started or reached.
            HandshakeFailed: one was reached but could not be opened.

        """
        # All are tried before any of them is told of, so that the rest is there where the host goes on without it.
        starts = [session.connect() for affinity in self._upstreams for session in affinity.eager()]
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def attach(self, client: Peer, *, principal: Hashable | None = None) -> None:
        """Relay a client from now on; call it before the first byte of it is read, as `Router.serve` does.

        Args:
            client: the client.
            principal: who it is to routes that name a principal, and to upstreams that are shared per principal; its
                tasks and request states at servers that others share belong to it, on any of its connections. None
                for the client's own `principal`; one that has none is a client that no route names, that shares with
                nobody, and whose tasks are lost with its connection.

        Raises:
            RuntimeError: it is attached already, or was detached, which is for good.

        """
        if client in self._clients:
            raise RuntimeError(f"{client.name} is a client of this relay already")
        if client in self._detached:
            raise RuntimeError(
                f"{client.name} was detached from this relay, which is for good; "
                "to use the relay again, its client opens another connection"
            )
        if principal is None:
            principal = client.principal
        client.came_to_us = True
        client.set_rules(handshake.LEGACY[0], "server", era="open")
        assigned = self._configuration.assignment_for(client, principal)
        # The principal is the host's, and may raise when it is compared or written: then nothing is attached.
        entered = self._principals.enter(principal)
        known = Client(client, principal, assigned)
        self._clients.add(known)
        self._core.add_client(client.connection, assigned.plan.routes, known.sessions, entered)
        self._answers.apply_to(known)
        self.router.spawn(self._watch(known))

    async def detach(self, client: Peer, *, close: bool = True) -> None:
        """End a client's use of the relay at once, as when it may not use it any more.

        What it has in flight is cancelled at the upstreams and answered with an error (`data.reason` is `detached`);
        its listens end, and what servers ask of it is refused. Its subscriptions, suspended exchanges and private
        upstreams end as when its connection is lost, and the tasks of a client without a principal are forgotten. A
        detached connection cannot be attached again; its client uses the relay again by another connection.

        Args:
            client: the client.
            close: whether its connection is closed, too; False leaves it open, to handlers of its own and the router's.

        Raises:
            ValueError: it is no client of this relay, or not any more.

        """
        known = self._clients.get(client)
        if known is None:
            raise ValueError(f"{client.name} is no client of this relay")
        self._clients.remove(client)
        self._detached.add(client)
        client.on_input_needed = None
        client.delivery.relay_by(None)
        self._core.detach(client.connection)
        self._core.leave(client.connection)
        await asyncio.shield(self.router.spawn(self._release(known)))
        if close:
            await client.close()

    async def update(
        self,
        *,
        upstreams: Iterable[Upstream | Peer | Target] | None = None,
        routes: Iterable[Route] | None = None,
        drain: float = 30.0,
    ) -> None:
        """Put other upstreams and routes in the place of those now, while clients go on; nothing in flight is lost.

        An upstream that is declared as before keeps its connections; one that is declared otherwise is another one. The
        routes change at once for all clients: each request is decided by those before or by those now. Upstreams that
        are gone get no new requests, finish what they have, and end. Shared and pooled upstreams that are new are
        connected now. Clients are told which of their lists changed. Updates at the same time take their turns.

        Args:
            upstreams: all upstreams from now on, as for `Router.relay`; None for those now.
            routes: all routes from now on; None for those now.
            drain: seconds in which requests in flight to upstreams that are gone may still end by themselves; what is
                left then is cancelled, and answered. It returns when they have ended.

        Raises:
            ValueError: there is something wrong with the declaration; nothing has changed.
            RuntimeError: the relay is closed; nothing has changed.
            OSError: an upstream that is new could not be started or reached, or not in time. It is declared all the
                same, and tried again at the next request.
            HandshakeFailed: one was reached but could not be opened, likewise.

        """
        require_seconds("drain", drain)
        if self._drain.is_closing:
            raise RuntimeError("the relay is closed")
        declared = None if upstreams is None else [as_upstream(item) for item in upstreams]
        await self._configuration.change(declared, None if routes is None else tuple(routes), drain)

    async def forward(self, request: Request, upstream: str | None = None, params: Any = None) -> bool:
        """Pass a request on that a handler was given; what the handler returns is then no answer any more.

        Args:
            request: the request, not answered.
            upstream: the name of the upstream; None for the one that the routes say.
            params: what it goes on with instead of its own params, as for `Connection.send`; None for its own,
                byte for byte.

        Returns:
            False where the request was over, or was refused because the upstream is not there, or because too much of
            its client's waits for such.

        Raises:
            RequestError: no route says where to.
            ValueError: there is no such upstream, or none that the client's routes lead to.

        """
        if self._suspensions.is_return(request):
            await self._suspensions.resume(request)
            return True
        client = self._clients.get(request.peer)
        if client is None:
            return False
        position = (
            self._core.position_of(request, params)
            if upstream is None
            else self._upstreams.position(upstream)
        )
        if position is None:
            if request.method.startswith("tasks/"):
                raise unknown_task()
            raise unknown_subject(request, request.params if params is None else params, self.router)
        session = client.assignment.sessions.get(position)
        if session is None:
            raise ValueError(f"no route leads this client to {upstream}")
        return await self._forward_to(request, client.assignment, session, params)

    async def renew(self, upstream: str, *, drain: float = 30.0) -> None:
        """Replace the connections of an upstream by new ones: what is new goes there, what is in flight may finish.

        Args:
            upstream: the name of the upstream.
            drain: seconds in which requests in flight may still end by themselves; what is left then is cancelled,
                and answered.

        Raises:
            ValueError: there is no such upstream, or it was given as a connection.
            OSError: a new connection could not be started or reached; the one that stands is left alone.
            HandshakeFailed: it was reached but could not be opened, likewise.

        """
        await self._upstreams.affinity(self._upstreams.position(upstream)).replace(drain)

    async def close(self, *, drain: float = 0.0) -> None:
        """Take no new requests, end those in flight, close the upstreams' connections; bounded, and idempotent.

        Args:
            drain: seconds in which requests in flight may still end by themselves. New ones are refused
                meanwhile (`draining`, nothing was sent); what is left then is cancelled upstream, and answered. A
                merged list is in flight, and so is a request for which a client is asked, or is to come back.

        """
        self._drain.is_closing = True
        self._core.close_admission()
        if drain > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty(), drain)
        self._drain.stop()
        sessions = self._upstreams.sessions
        for session in sessions:
            if session.peer is not None and session.peer.is_open:
                self._core.cancel_rest(session.peer.connection)
        await asyncio.gather(*(session.close() for session in sessions))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain.wait_empty(), self.router.close_timeout)

    async def _empty(self) -> None:
        ended = self.router.records.follow(capacity=1)
        try:
            while self.in_flight or self._drain:
                await self._drain.wait_empty()
                while self.in_flight:
                    await ended.__anext__()
        finally:
            ended.close()

    # ---- for its parts ----

    async def _forward_to(
        self, request: Request, assigned: Assignment, session: UpstreamSession, params: Any = None
    ) -> bool:
        """Pass a request on to where it was decided that it goes; see `turnout.relay.forwarding.SessionForwarder`."""
        if session.peer is None and request.peer.revision == handshake.MODERN:
            session.prepare_for(client_implementation(request, self.router), handshake.MODERN)
        limit = self._pending_admission.exceeds(request, session)
        if limit is not None:
            self._core.refuse(request, session, limit)
            return False
        with self._pending_admission.during(request, session):
            try:
                waited = await session.wait()
            except RequestError:
                # Its principal has no credentials there, and is told why.
                raise
            except (OSError, Error):
                self._core.refuse(request, session)
                return False
        # Another one may have taken its place meanwhile.
        peer = session.peer or waited
        if self._permissions.decides_list(request.method):
            # What is passed on natively comes back natively: nobody would look at what it shows.
            listed = await self._merged_lists.pass_on(request, peer, params)
            return request.respond(await self._permissions.shown(request, listed))
        if request.method == LISTEN:
            params = await self._permissions.listened(request, params)
        if self._suspensions.claims(request, peer):
            await self._suspensions.resume(request)
            return True
        return self._core.pass_on(request, peer.connection, params, routes=assigned.plan.routes)

    async def _wait(self, request: Request) -> None:
        """Take a request that came while its upstream was not there."""
        await self.forward(request)

    def _may_share(self, method: str) -> bool:
        return self._answers.may_share(method)

    def _notify_list_changed(self, client: Peer, method: str) -> None:
        """Tell a client that a list of the relay's own making is another one, as its era has it."""
        if client.revision == handshake.MODERN:
            self._listen_bridge.notify_list_changed(client, method)
        else:
            with contextlib.suppress(Error):
                client.notify(method)

    def _opened(self, peer: Peer, session: UpstreamSession) -> None:
        """Take note of a new connection of an upstream."""
        self._upstreams.note(peer, session)
        self._core.add_upstream(peer.connection, session)
        self._subscriptions.opened(peer, session)
        self._log_levels.opened(peer, session)
        self._server_requests.opened(peer, session)
        self._merged_lists.opened(session)

    def _reassigned(self, client: Client, before: Assignment) -> None:
        """Take along what a client has, since its requests go elsewhere now."""
        self._answers.apply_to(client)
        self._merged_lists.reassigned(client)
        self._subscriptions.reassigned(client, before)
        self._listen_bridge.reassigned(client, before)
        self._log_levels.reassigned(client, before)
        if client.assignment.sessions != before.sessions:
            self._core.end_listens(client.peer.connection)

    async def _watch(self, client: Client) -> None:
        await client.peer.wait_lost()
        if self._clients.remove(client.peer) is not None:
            self._core.leave(client.peer.connection)
            await self._release(client)

    async def _release(self, client: Client) -> None:
        """Let go of what a client had that was lost, or detached."""
        peer = client.peer
        self._principals.leave(client.principal)
        self._merged_lists.forget(peer)
        self._subscriptions.forget(LegacySubscriber(peer))
        self._log_levels.forget(client)
        self._suspensions.forget(peer)
        for affinity in self._upstreams:
            await affinity.release(peer)


__all__ = ["Relay"]
