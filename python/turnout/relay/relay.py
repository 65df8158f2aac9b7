"""The relay itself: who comes and goes, and which of the requests Python answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from turnout import _native, json, opening
from turnout.errors import Error, RequestError
from turnout.escape import escaped
from turnout.handlers import Handler, Handlers, members_of
from turnout.relay.catalogue import Catalogue
from turnout.relay.client import Client
from turnout.relay.filters import Filters
from turnout.relay.levels import Levels
from turnout.relay.listens import Listens
from turnout.relay.openings import Openings, said_in
from turnout.relay.parking import Parking
from turnout.relay.places import Places
from turnout.relay.policy import Policies
from turnout.relay.principals import Principals
from turnout.relay.refusal import reaching, unknown, unknown_task
from turnout.relay.rounds import NEEDED
from turnout.relay.routes import Plans
from turnout.relay.subscriptions import Resource, Session, Subscriptions, lists_of
from turnout.relay.task_lists import TaskLists
from turnout.relay.underway import Underway
from turnout.relay.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable, Iterable, Sequence

    from typing_extensions import Self

    from turnout._native import Request
    from turnout.handlers import RequestHandler
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.relay.routes import Plan, Route
    from turnout.relay.upstream import Upstream
    from turnout.router import Router

log = logging.getLogger("turnout")

METHOD_NOT_FOUND = -32601


class Relay(_native.Relay):
    """Clients on one side, upstreams on the other; made by `Router.relay`.

    Attributes:
        on_request: decorator for a handler that answers a method here, for all clients: `"*"` for every method that
            no other handler of the relay answers. It may also let `forward` pass the request on.
        policy: decorator for what decides which tools, prompts or resources a client may use, and is shown; see
            `turnout.relay.policy.Policies.register`.
        filter: decorator for what decides about the requests of a method before they go on; see
            `turnout.relay.filters.Filters.register`.
        filter_incoming: decorator for a filter of the frames of a method, notifications too, before anything else
            sees them, as `Router.filter_incoming`.

    """

    def __new__(
        cls,
        _router: Router,
        upstreams: Sequence[Upstream],
        _routes: Sequence[Route],
        _local: Iterable[str],
        max_in_flight: int,
    ) -> Self:
        """Declare a relay; `Router.relay` says what the arguments are."""
        known = [(upstream.label, upstream.timeout, upstream.max_timeout, True) for upstream in upstreams]
        return super().__new__(cls, known, max_in_flight, secrets.token_bytes(32))

    def __init__(
        self,
        router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route],
        local: Iterable[str],
        _max_in_flight: int,
    ) -> None:
        self.router = router
        self.upstreams = list(upstreams)
        self._plans = Plans(upstreams, routes, local)
        self._openings = Openings(self)
        self._catalogue = Catalogue(self)
        self.handlers = Handlers()
        self.on_request = self.handlers.on_request
        self.filter_incoming = self.handlers.filter_incoming
        self._filters = Filters(self)
        self.filter = self._filters.register
        self._policies = Policies(self)
        self.policy = self._policies.register
        self.handlers.changed = self._filters.changed = self._policies.changed = self._apply_handlers
        self.clients: dict[Peer, Client] = {}
        self.subscriptions = Subscriptions(self)
        self._listens = Listens(self, self.subscriptions)
        self._levels = Levels(self)
        self._task_lists = TaskLists(self)
        self._principals = Principals(self)
        self._parking = Parking(self)
        self._waits = Waits(router)
        self.underway = Underway()
        self.is_closing = False
        # The methods in which the host has a say.
        self._watched: set[str] = set()
        self._places = [Places(self, position) for position in range(len(self.upstreams))]
        self._place_of: weakref.WeakKeyDictionary[Peer, Place] = weakref.WeakKeyDictionary()

    async def start(self) -> None:
        """Connect to every shared or pooled upstream now, instead of at the first request.

        Raises:
            OSError: one could not be started or reached.
            OpeningFailed: one was reached but could not be opened.

        """
        # All are tried before any of them is told of, so that the rest is there where the host goes on without it.
        starts = [place.start() for places in self._places for place in places.standing()]
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    def attach(self, client: Peer, *, identity: Hashable | None = None) -> None:
        """Relay a client from now on; call it before the first byte of it is read, as `Router.serve` does.

        Args:
            client: the client.
            identity: who it is to routes that name an identity, and to upstreams that are shared per identity; its
                tasks and request states at servers that others share belong to it, on any of its connections. None
                for a client that no route names, that shares with nobody, and whose tasks are lost with its connection.

        """
        client.set_rules(opening.LEGACY[0], "server", era="open")
        plan = self._plans.of(identity)
        places = [self._places[position].give(client, identity) for position in plan.positions]
        self.clients[client] = Client(client, plan, places)
        self.add_client(client, plan.routes, places, self._principals.enter(identity))
        self._apply_handlers_to(self.clients[client])
        self.router.spawn(self._watch(client, identity))

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
        if self._parking.knows(request):
            await self._parking.resume(request)
            return True
        position = self.position_of(request, params) if upstream is None else self._position(upstream)
        if position is None:
            if request.method.startswith("tasks/"):
                raise unknown_task()
            raise unknown(request, request.params if params is None else params, self.router)
        place = self.place(position, request.peer)
        if place.peer is None and request.peer.revision == opening.MODERN:
            place.serve(said_in(request, self), opening.MODERN)
        limit = self._waits.exceeds(request, place)
        if limit is not None:
            self.refuse(request, position, limit)
            return False
        with self._waits.during(request, place):
            try:
                waited = await place.wait()
            except (OSError, Error):
                self.refuse(request, position)
                return False
        # Another one may have taken its place meanwhile.
        peer = place.peer or waited
        if self._policies.lists(request.method):
            # What is passed on natively comes back natively: nobody would look at what it shows.
            listed = await self._catalogue.pass_on(request, peer, params)
            return request.respond(await self._policies.shown(request, listed))
        if self._parking.takes(request, peer):
            await self._parking.resume(request)
            return True
        return self.pass_on(request, peer, params)

    def plan_of(self, client: Peer) -> Plan:
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
        return not any(self.place(position, client).is_exclusive for position in positions)

    def places_of(self, client: Peer) -> list[Place]:
        """Where the upstreams stand that a client's routes lead to."""
        return list(self.clients[client].places.values())

    def place(self, position: int, client: Peer) -> Place:
        """Where the connection stands that serves `client`.

        Raises:
            ValueError: no route leads the client there.

        """
        place = self.clients[client].places.get(position)
        if place is None:
            raise ValueError(f"no route leads this client to {self.upstreams[position].label}")
        return place

    def holds(self, client: Peer, place: Place) -> bool:
        """Whether a client is served at a place."""
        return client in self.clients and self.clients[client].places.get(place.position) is place

    def place_of(self, upstream: Peer) -> Place:
        """Where a connection of an upstream stands."""
        return self._place_of[upstream]

    async def renew(self, upstream: str, *, drain: float = 30.0) -> None:
        """Replace the connections of an upstream by new ones: what is new goes there, what is in flight may finish.

        Args:
            upstream: the name of the upstream.
            drain: seconds in which requests in flight may still end by themselves; what is left then is cancelled,
                and answered.

        Raises:
            ValueError: there is no such upstream, or it was given as a connection.
            OSError: a new connection could not be started or reached; the one that stands is left alone.
            OpeningFailed: it was reached but could not be opened, likewise.

        """
        await self._places[self._position(upstream)].renew(drain)

    async def close(self, *, drain: float = 0.0) -> None:
        """Take no new requests, end those in flight, close the upstreams' connections; bounded, and idempotent.

        Args:
            drain: seconds in which requests in flight may still end by themselves. New ones are refused
                meanwhile (`draining`, nothing was sent); what is left then is cancelled upstream, and answered. A
                merged list is in flight, and so is a request for which a client is asked, or is to come back.

        """
        self.is_closing = True
        self.close_admission()
        if drain > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty(), drain)
        self.underway.stop()
        places = [place for places in self._places for place in places]
        for place in places:
            if place.peer is not None and place.peer.is_open:
                self.cancel_rest(place.peer)
        await asyncio.gather(*(place.close() for place in places))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.underway.wait_over(), self.router.close_timeout)

    async def _empty(self) -> None:
        ended = self.router.records.follow(capacity=1)
        try:
            while self.in_flight or self.underway:
                await self.underway.wait_over()
                while self.in_flight:
                    await ended.__anext__()
        finally:
            ended.close()

    # ---- requests that Python answers ----

    def _apply_handlers(self) -> None:
        """Ask for the requests that somebody here wants to see, and tell every client who handles what."""
        self._watched = {*self._filters.methods, *self._policies.methods, *self.handlers.requests}
        self.watch(list(self._watched))
        for client in self.clients.values():
            self._apply_handlers_to(client)

    def _apply_handlers_to(self, client: Client) -> None:
        client.handlers.requests = self._answers(client.plan)
        client.handlers.incoming = self.handlers.incoming
        client.handlers.changed()

    def _answers(self, plan: Plan) -> dict[str, Handler]:
        """What answers which method here, with the policy and the filter that decide about it."""
        answers: dict[str, RequestHandler] = {
            "initialize": self._openings.initialize,
            "server/discover": self._openings.discover,
            "subscriptions/listen": self._listens.answer,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._levels.answer,
            "tasks/list": self._task_lists.answer,
            "completion/complete": self._catalogue.complete,
        }
        answers.update((kind.list, self._catalogue.answer) for kind in plan.kinds)
        handlers = {
            method: Handler(function, is_async=True, stops=True)
            for method, function in answers.items()
            if method in plan.here
        }
        handlers["*"] = Handler(self._wait, is_async=True, stops=True)
        handlers.update(self.handlers.requests)
        decided = {*handlers, *self._filters.methods, *self._policies.methods}
        return {
            method: self._policies.around(
                method, self._filters.before(method, handlers.get(method, handlers["*"]))
            )
            for method in decided
        }

    async def _subscribe(self, request: Request) -> dict[str, Any] | None:
        place, name = self._resource_of(request)
        with reaching(place.upstream.label):
            peer = await place.wait()
            if place.is_private and peer.revision != opening.MODERN:
                await self.forward(request, place.upstream.label, _naming(request, name))
                return None
            called = members_of(request.params).get("uri")
            await self.subscriptions.add(place, peer, Resource(name), Session(request.peer), called)
        return {}

    async def _unsubscribe(self, request: Request) -> dict[str, Any] | None:
        place, name = self._resource_of(request)
        if place.is_private:
            with reaching(place.upstream.label):
                peer = await place.wait()
            if peer.revision != opening.MODERN:
                await self.forward(request, place.upstream.label, _naming(request, name))
                return None
        self.subscriptions.remove(place, Resource(name), Session(request.peer))
        return {}

    def _resource_of(self, request: Request) -> tuple[Place, str]:
        """Where the resource of a request stands, and what it is called there."""
        uri = members_of(request.params).get("uri")
        leads = self.plan_of(request.peer).leads("resources/read", uri)
        if leads is None:
            raise unknown(request, request.params, self.router)
        position, name = leads
        return self.place(position, request.peer), name

    async def _wait(self, request: Request) -> None:
        """Take a request that came while its upstream was not there."""
        await self.forward(request)

    async def _ask_client(self, request: Request) -> Any:
        """Take what a private legacy server asks of a client that is modern, or has not opened its connection yet."""
        place = self.place_of(request.peer)
        client = self.clients.get(place.client) if place.client is not None else None
        if client is None:
            raise RequestError(
                METHOD_NOT_FOUND, "Method not found: the client is gone", {"method": request.method}
            )
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.may_be_asked.wait(), place.upstream.open_timeout)
        if client.peer.revision != opening.MODERN:
            self.pass_on(request, client.peer)
            return None
        if request.method not in NEEDED:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        return await self._parking.ask(request)

    # ---- comings and goings ----

    def opened(self, peer: Peer, place: Place) -> None:
        """Take note of a new connection of an upstream; its place calls this."""
        self._place_of[peer] = place
        self.add_upstream(peer, place)
        self.subscriptions.opened(peer, place)
        self._levels.opened(peer, place)
        if place.client is not None and peer.revision != opening.MODERN:
            for method in ("*", *NEEDED):
                peer.on_request(method)(self._ask_client)
        self._catalogue.opened(place)
        for client in self.clients.values():
            if client.is_session and self.holds(client.peer, place):
                self._follow_lists(client.peer, place, peer)

    def begin_session(self, client: Peer) -> None:
        """Take note that a legacy client was told what its upstreams offer."""
        self.clients[client].is_session = True
        for place in self.places_of(client):
            if place.peer is not None and place.peer.is_open:
                self._follow_lists(client, place, place.peer)

    def _follow_lists(self, client: Peer, place: Place, peer: Peer) -> None:
        """Let a legacy client hear of the lists of a modern upstream; a legacy one tells of them unasked."""
        if peer.revision == opening.MODERN:
            for method in lists_of(peer.server_capabilities):
                self.attempt(self.subscriptions.add(place, peer, method, Session(client)))

    def attempt(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what may fail without harm to anyone."""

        async def run() -> None:
            try:
                await work
            except (OSError, Error) as error:
                log.debug("the relay goes on without: %s", escaped(str(error)))

        self.router.spawn(run())

    def tell(self, client: Peer, method: str) -> None:
        """Tell a client that a list of the relay's own making is another one, as its era has it."""
        if client.revision == opening.MODERN:
            self._listens.tell(client, method)
        else:
            with contextlib.suppress(Error):
                client.notify(method)

    async def _watch(self, client: Peer, identity: Hashable | None) -> None:
        await client.wait_lost()
        self.leave(client)
        self._principals.leave(identity)
        self._catalogue.forget(client)
        self.subscriptions.forget(Session(client))
        self._levels.forget(client)
        self._parking.forget(client)
        del self.clients[client]
        for places in self._places:
            await places.leave(client)

    def _position(self, name: str) -> int:
        for position, upstream in enumerate(self.upstreams):
            if upstream.label == name:
                return position
        raise ValueError(f"there is no upstream named {name!r}")


def _naming(request: Request, uri: str) -> bytes:
    """The params of a request about a resource, under the URI that its server has for it."""
    return json.with_member(request.raw_params or b"{}", "uri", json.dumps(uri))


__all__ = ["Relay"]
