"""The relay: attaches clients, connects upstreams, and answers the requests that Python handles."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from turnout import _native, json
from turnout.errors import METHOD_NOT_FOUND, Error, RequestError
from turnout.escape import escaped
from turnout.handlers import Handler, Handlers, Hooks, members_of
from turnout.protocol import handshake
from turnout.relay.admission import PendingAdmission
from turnout.relay.clients import Client
from turnout.relay.drain import DrainTracker
from turnout.relay.errors import unknown_subject, unknown_task, upstream_errors
from turnout.relay.features.handshake import RelayHandshake, client_implementation
from turnout.relay.features.listen_bridge import ListenBridge
from turnout.relay.features.log_levels import LogLevels
from turnout.relay.features.merged_lists import MergedLists
from turnout.relay.features.subscriptions import LegacySubscriber, Resource, Subscriptions, lists_of
from turnout.relay.features.task_lists import TaskLists
from turnout.relay.filters import Filters
from turnout.relay.mrtr.replay import REQUIRED_CAPABILITY
from turnout.relay.mrtr.suspend import Suspensions
from turnout.relay.policy import Policies
from turnout.relay.principals import Principals
from turnout.relay.routing.routes import RoutePlans
from turnout.relay.upstreams.affinity import Affinity

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable, Iterable, Sequence

    from turnout._native import Request
    from turnout.handlers import RequestHandler
    from turnout.peer import Peer
    from turnout.relay.routing.routes import Route, RoutePlan
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.relay.upstreams.upstream import Upstream
    from turnout.router import Router

log = logging.getLogger("turnout")


class Relay(Hooks):
    """Clients on one side, upstreams on the other; made by `Router.relay`.

    Attributes:
        core: the native relay: who is attached, what is in flight, and whose it is.
        policy: decorator for what decides which tools, prompts or resources a client may use, and is shown; see
            `turnout.relay.policy.Policies.register`.
        filter: decorator for what decides about the requests of a method before they go on; see
            `turnout.relay.filters.Filters.register`.

    """

    def __init__(
        self,
        router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route],
        local: Iterable[str],
        max_in_flight: int,
    ) -> None:
        known = [(upstream.name, upstream.timeout, upstream.max_timeout, True) for upstream in upstreams]
        self.core = _native.Relay(known, max_in_flight, secrets.token_bytes(32))
        self.router = router
        self.upstreams = list(upstreams)
        self._plans = RoutePlans(upstreams, routes, local)
        self._handshake = RelayHandshake(self)
        self._merged_lists = MergedLists(self)
        self.handlers = Handlers()
        self._filters = Filters(self)
        self.filter = self._filters.register
        self._policies = Policies(self)
        self.policy = self._policies.register
        self.handlers.changed = self._filters.changed = self._policies.changed = self._apply_handlers
        self.clients: dict[Peer, Client] = {}
        self.subscriptions = Subscriptions(self)
        self._listen_bridge = ListenBridge(self, self.subscriptions)
        self._log_levels = LogLevels(self)
        self._task_lists = TaskLists(self)
        self._principals = Principals(self)
        self._suspensions = Suspensions(self)
        self._pending_admission = PendingAdmission(router)
        self.drain_tracker = DrainTracker()
        self.is_closing = False
        # The methods in which the host has a say.
        self._watched: set[str] = set()
        self._affinities = [Affinity(self, position) for position in range(len(self.upstreams))]
        self._session_of: weakref.WeakKeyDictionary[Peer, UpstreamSession] = weakref.WeakKeyDictionary()

    @property
    def in_flight(self) -> int:
        """Requests that were passed on and have not ended, whoever asked."""
        return self.core.in_flight

    def counters(self) -> dict[str, int]:
        """What the relay counts."""
        return self.core.counters()

    async def start(self) -> None:
        """Connect to every shared or pooled upstream now, instead of at the first request.

        Raises:
            OSError: one could not be started or reached.
            HandshakeFailed: one was reached but could not be opened.

        """
        # All are tried before any of them is told of, so that the rest is there where the host goes on without it.
        starts = [session.connect() for affinity in self._affinities for session in affinity.eager()]
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def attach(self, client: Peer, *, principal: Hashable | None = None) -> None:
        """Relay a client from now on; call it before the first byte of it is read, as `Router.serve` does.

        Args:
            client: the client.
            principal: who it is to routes that name a principal, and to upstreams that are shared per principal; its
                tasks and request states at servers that others share belong to it, on any of its connections. None
                for a client that no route names, that shares with nobody, and whose tasks are lost with its connection.

        """
        client.set_rules(handshake.LEGACY[0], "server", era="open")
        plan = self._plans.plan_for(principal)
        sessions = [self._affinities[position].assign(client, principal) for position in plan.positions]
        self.clients[client] = Client(client, plan, sessions)
        self.core.add_client(client.connection, plan.routes, sessions, self._principals.enter(principal))
        self._apply_handlers_to(self.clients[client])
        self.router.spawn(self._watch(client, principal))

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
        position = self.core.position_of(request, params) if upstream is None else self._position(upstream)
        if position is None:
            if request.method.startswith("tasks/"):
                raise unknown_task()
            raise unknown_subject(request, request.params if params is None else params, self.router)
        session = self.session(position, request.peer)
        if session.peer is None and request.peer.revision == handshake.MODERN:
            session.prepare_for(client_implementation(request, self), handshake.MODERN)
        limit = self._pending_admission.exceeds(request, session)
        if limit is not None:
            self.core.refuse(request, position, limit)
            return False
        with self._pending_admission.during(request, session):
            try:
                waited = await session.wait()
            except (OSError, Error):
                self.core.refuse(request, position)
                return False
        # Another one may have taken its place meanwhile.
        peer = session.peer or waited
        if self._policies.lists(request.method):
            # What is passed on natively comes back natively: nobody would look at what it shows.
            listed = await self._merged_lists.pass_on(request, peer, params)
            return request.respond(await self._policies.shown(request, listed))
        if self._suspensions.claims(request, peer):
            await self._suspensions.resume(request)
            return True
        return self.core.pass_on(request, peer.connection, params)

    def plan_of(self, client: Peer) -> RoutePlan:
        """Where the requests of a client go."""
        return self.clients[client].plan

    def is_everybodys(self, client: Peer, method: str, positions: Iterable[int]) -> bool:
        """Whether every other client would be answered the same by these upstreams, as far as the relay knows.

        Args:
            client: the client.
            method: the method of its request.
            positions: where the upstreams stand that answer it.

        """
        if not self.plan_of(client).is_everybodys or not self._watched.isdisjoint((method, "*")):
            return False
        return not any(self.session(position, client).is_exclusive for position in positions)

    def sessions_of(self, client: Peer) -> list[UpstreamSession]:
        """Where the upstreams stand that a client's routes lead to."""
        return list(self.clients[client].sessions.values())

    def session(self, position: int, client: Peer) -> UpstreamSession:
        """Where the connection stands that serves `client`.

        Raises:
            ValueError: no route leads the client there.

        """
        session = self.clients[client].sessions.get(position)
        if session is None:
            raise ValueError(f"no route leads this client to {self.upstreams[position].name}")
        return session

    def is_assigned(self, client: Peer, session: UpstreamSession) -> bool:
        """Whether a client is served at a place."""
        return client in self.clients and self.clients[client].sessions.get(session.position) is session

    def session_of(self, upstream: Peer) -> UpstreamSession:
        """Where a connection of an upstream stands."""
        return self._session_of[upstream]

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
        await self._affinities[self._position(upstream)].replace(drain)

    async def close(self, *, drain: float = 0.0) -> None:
        """Take no new requests, end those in flight, close the upstreams' connections; bounded, and idempotent.

        Args:
            drain: seconds in which requests in flight may still end by themselves. New ones are refused
                meanwhile (`draining`, nothing was sent); what is left then is cancelled upstream, and answered. A
                merged list is in flight, and so is a request for which a client is asked, or is to come back.

        """
        self.is_closing = True
        self.core.close_admission()
        if drain > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty(), drain)
        self.drain_tracker.stop()
        sessions = [session for affinity in self._affinities for session in affinity]
        for session in sessions:
            if session.peer is not None and session.peer.is_open:
                self.core.cancel_rest(session.peer.connection)
        await asyncio.gather(*(session.close() for session in sessions))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.drain_tracker.wait_empty(), self.router.close_timeout)

    async def _empty(self) -> None:
        ended = self.router.records.follow(capacity=1)
        try:
            while self.in_flight or self.drain_tracker:
                await self.drain_tracker.wait_empty()
                while self.in_flight:
                    await ended.__anext__()
        finally:
            ended.close()

    # ---- requests that Python answers ----

    def _apply_handlers(self) -> None:
        """Ask for the requests that somebody here wants to see, and tell every client who handles what."""
        self._watched = {*self._filters.methods, *self._policies.methods, *self.handlers.requests}
        self.core.watch(list(self._watched))
        for client in self.clients.values():
            self._apply_handlers_to(client)

    def _apply_handlers_to(self, client: Client) -> None:
        client.handlers.requests = self._answers(client.plan)
        client.handlers.incoming = self.handlers.incoming
        client.handlers.outgoing = self.handlers.outgoing
        client.handlers.observers = self.handlers.observers
        client.handlers.listeners = self.handlers.listeners
        client.handlers.changed()

    def _answers(self, plan: RoutePlan) -> dict[str, Handler]:
        """What answers which method here, with the policy and the filter that decide about it."""
        answers: dict[str, RequestHandler] = {
            "initialize": self._handshake.initialize,
            "server/discover": self._handshake.discover,
            "subscriptions/listen": self._listen_bridge.answer,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._log_levels.answer,
            "tasks/list": self._task_lists.answer,
            "completion/complete": self._merged_lists.complete,
        }
        answers.update((kind.list, self._merged_lists.answer) for kind in plan.kinds)
        handlers = {
            method: Handler(function, is_async=True, interruptible=True)
            for method, function in answers.items()
            if method in plan.handled_locally
        }
        handlers["*"] = Handler(self._wait, is_async=True, interruptible=True)
        handlers.update(self.handlers.requests)
        decided = {*handlers, *self._filters.methods, *self._policies.methods}
        return {
            method: self._policies.around(
                method, self._filters.before(method, handlers.get(method, handlers["*"]))
            )
            for method in decided
        }

    async def _subscribe(self, request: Request) -> dict[str, Any] | None:
        session, name = self._resource_of(request)
        with upstream_errors(session.upstream.name):
            peer = await session.wait()
            if session.is_dedicated and peer.revision != handshake.MODERN:
                await self.forward(request, session.upstream.name, _naming(request, name))
                return None
            called = members_of(request.params).get("uri")
            await self.subscriptions.add(
                session, peer, Resource(name), LegacySubscriber(request.peer), called
            )
        return {}

    async def _unsubscribe(self, request: Request) -> dict[str, Any] | None:
        session, name = self._resource_of(request)
        if session.is_dedicated:
            with upstream_errors(session.upstream.name):
                peer = await session.wait()
            if peer.revision != handshake.MODERN:
                await self.forward(request, session.upstream.name, _naming(request, name))
                return None
        self.subscriptions.remove(session, Resource(name), LegacySubscriber(request.peer))
        return {}

    def _resource_of(self, request: Request) -> tuple[UpstreamSession, str]:
        """Where the resource of a request stands, and what it is called there."""
        uri = members_of(request.params).get("uri")
        resolved = self.plan_of(request.peer).resolve("resources/read", uri)
        if resolved is None:
            raise unknown_subject(request, request.params, self.router)
        position, name = resolved
        return self.session(position, request.peer), name

    async def _wait(self, request: Request) -> None:
        """Take a request that came while its upstream was not there."""
        await self.forward(request)

    async def _ask_client(self, request: Request) -> Any:
        """Take what a private legacy server asks of a client that is modern, or has not opened its connection yet."""
        session = self.session_of(request.peer)
        client = self.clients.get(session.client) if session.client is not None else None
        if client is None:
            raise RequestError(
                METHOD_NOT_FOUND, "Method not found: the client is gone", {"method": request.method}
            )
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.accepts_requests.wait(), session.upstream.open_timeout)
        if client.peer.revision != handshake.MODERN:
            self.core.pass_on(request, client.peer.connection)
            return None
        if request.method not in REQUIRED_CAPABILITY:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        return await self._suspensions.ask(request)

    # ---- comings and goings ----

    def opened(self, peer: Peer, session: UpstreamSession) -> None:
        """Take note of a new connection of an upstream; its place calls this."""
        self._session_of[peer] = session
        self.core.add_upstream(peer.connection, session)
        self.subscriptions.opened(peer, session)
        self._log_levels.opened(peer, session)
        if session.client is not None and peer.revision != handshake.MODERN:
            for method in ("*", *REQUIRED_CAPABILITY):
                peer.on_request(method)(self._ask_client)
        self._merged_lists.opened(session)
        for client in self.clients.values():
            if client.is_session and self.is_assigned(client.peer, session):
                self._follow_lists(client.peer, session, peer)

    def begin_session(self, client: Peer) -> None:
        """Take note that a legacy client was told what its upstreams offer."""
        self.clients[client].is_session = True
        for session in self.sessions_of(client):
            if session.peer is not None and session.peer.is_open:
                self._follow_lists(client, session, session.peer)

    def _follow_lists(self, client: Peer, session: UpstreamSession, peer: Peer) -> None:
        """Let a legacy client hear of the lists of a modern upstream; a legacy one tells of them unasked."""
        if peer.revision == handshake.MODERN:
            for method in lists_of(peer.server_capabilities):
                self.attempt(self.subscriptions.add(session, peer, method, LegacySubscriber(client)))

    def attempt(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what may fail without harm to anyone."""

        async def run() -> None:
            try:
                await work
            except (OSError, Error) as error:
                log.debug("the relay goes on without: %s", escaped(str(error)))

        self.router.spawn(run())

    def notify_list_changed(self, client: Peer, method: str) -> None:
        """Tell a client that a list of the relay's own making is another one, as its era has it."""
        if client.revision == handshake.MODERN:
            self._listen_bridge.notify_list_changed(client, method)
        else:
            with contextlib.suppress(Error):
                client.notify(method)

    async def _watch(self, client: Peer, principal: Hashable | None) -> None:
        await client.wait_lost()
        self.core.leave(client.connection)
        self._principals.leave(principal)
        self._merged_lists.forget(client)
        self.subscriptions.forget(LegacySubscriber(client))
        self._log_levels.forget(client)
        self._suspensions.forget(client)
        del self.clients[client]
        for affinity in self._affinities:
            await affinity.release(client)

    def _position(self, name: str) -> int:
        for position, upstream in enumerate(self.upstreams):
            if upstream.name == name:
                return position
        raise ValueError(f"there is no upstream named {name!r}")


def _naming(request: Request, uri: str) -> bytes:
    """The params of a request about a resource, under the URI that its server has for it."""
    return json.with_member(request.raw_params or b"{}", "uri", json.dumps(uri))


__all__ = ["Relay"]
