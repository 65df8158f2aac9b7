"""The relay itself: its clients, its upstreams, and what of its requests Python answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from typing import TYPE_CHECKING, Any

from turnout import _native, opening
from turnout.errors import Error, RequestError
from turnout.handlers import Handler, Handlers, members_of
from turnout.relay.catalogue import Catalogue, together
from turnout.relay.filters import Filters
from turnout.relay.levels import Levels
from turnout.relay.listens import Listens
from turnout.relay.parking import Parking
from turnout.relay.places import Places
from turnout.relay.rounds import Rounds, meta_of
from turnout.relay.routes import declare
from turnout.relay.subscriptions import Session, Subscriptions, lists_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from turnout._native import Request
    from turnout.handlers import RequestHandler
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.relay.routes import Route
    from turnout.relay.upstream import Upstream
    from turnout.router import Router

log = logging.getLogger("turnout")

METHOD_NOT_FOUND = -32601


class Relay(_native.Relay):
    """Clients on one side, upstreams on the other; made by `Router.relay`.

    Attributes:
        on_request: decorator for a handler that answers a method here, for all clients. It may also let
            `forward` pass the request on.
        filter: decorator for what decides about the requests of a method before they go on; see
            `turnout.relay.filters.Filters.register`.
        filter_incoming: decorator for a filter of the frames of a method, notifications too, before anything else
            sees them, as `Router.filter_incoming`.

    """

    def __new__(
        cls,
        _router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route] = (),
        local: Iterable[str] = (),
        max_in_flight: int = 1 << 20,
    ) -> Self:
        """Declare a relay; `Router.relay` says what the arguments are."""
        known = [(upstream.label, upstream.timeout, upstream.max_timeout, True) for upstream in upstreams]
        plan = declare(upstreams, routes, local)
        return super().__new__(cls, known, plan.routes, plan.fallback, max_in_flight)

    def __init__(
        self,
        router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route] = (),
        local: Iterable[str] = (),
        _max_in_flight: int = 1 << 20,
    ) -> None:
        self.router = router
        self.upstreams = list(upstreams)
        plan = declare(upstreams, routes, local)
        self._here = frozenset(plan.here)
        self._catalogue = Catalogue(self, plan.merged, plan.names)
        self.handlers = Handlers()
        self.on_request = self.handlers.on_request
        self.filter_incoming = self.handlers.filter_incoming
        self._filters = Filters(self)
        self.filter = self._filters.register
        self.handlers.changed = self._filters.changed = self._apply_handlers
        self.clients: set[Peer] = set()
        self.subscriptions = Subscriptions(self)
        self._listens = Listens(self, self.subscriptions)
        self._levels = Levels(self)
        self._parking = Parking(self)
        self._sessions: set[Peer] = set()
        self._places = [Places(self, position) for position in range(len(self.upstreams))]
        self._held: dict[Peer, list[Place]] = {}
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
            identity: who it is to upstreams that are shared per identity; None for one that shares with nobody.

        """
        client.set_rules(opening.LEGACY[0], "server")
        self._held[client] = [places.give(client, identity) for places in self._places]
        self.add_client(client, self._held[client])
        self.clients.add(client)
        self._apply_handlers_to(client)
        self.router.spawn(self._watch(client))

    async def forward(self, request: Request, upstream: str | None = None, params: Any = None) -> bool:
        """Pass a request on that a handler was given; what the handler returns is then no answer any more.

        Args:
            request: the request, not answered.
            upstream: the name of the upstream; None for the one that the routes say.
            params: what it goes on with instead of its own params, as for `Connection.send`; None for its own,
                byte for byte.

        Returns:
            False where the request was over, or was refused because the upstream is not there.

        """
        if self._parking.knows(request):
            await self._parking.resume(request)
            return True
        position = self.position_of(request, params) if upstream is None else self._position(upstream)
        if position is None:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        place = self.place(position, request.peer)
        if place.client is not None and place.peer is None and (said := self._identity_of(request)):
            place.identity = said
        try:
            peer = await place.wait()
        except (OSError, Error):
            self.refuse(request, position)
            return False
        if self._parking.takes(request, peer):
            await self._parking.resume(request)
            return True
        return self.pass_on(request, peer, params)

    def place(self, position: int, client: Peer) -> Place:
        """Where the connection stands that serves `client`."""
        return self._held[client][position]

    def place_of(self, upstream: Peer) -> Place:
        """Where a connection of an upstream stands."""
        return self._place_of[upstream]

    async def close(self, *, drain: float = 0.0) -> None:
        """Take no new requests, end those in flight, close the upstreams' connections; bounded, and idempotent.

        Args:
            drain: seconds in which requests in flight may still end by themselves. New ones are refused
                meanwhile (`draining`, nothing was sent); what is left then is cancelled upstream, and answered.

        """
        self.close_admission()
        if drain > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty(), drain)
        places = [place for places in self._places for place in places]
        for place in places:
            if place.peer is not None and place.peer.is_open:
                self.cancel_rest(place.peer)
        await asyncio.gather(*(place.close() for place in places))

    async def _empty(self) -> None:
        ended = self.router.records.follow(capacity=1)
        try:
            while self.in_flight:
                await ended.__anext__()
        finally:
            ended.close()

    # ---- requests that Python answers ----

    def _apply_handlers(self) -> None:
        """Ask for the requests that somebody here wants to see, and tell every client who handles what."""
        self.watch([*self._filters.methods, *(method for method in self.handlers.requests if method != "*")])
        for client in self.clients:
            self._apply_handlers_to(client)

    def _apply_handlers_to(self, client: Peer) -> None:
        client.handlers.requests.update(self._answers())
        client.handlers.incoming = {method: list(chosen) for method, chosen in self.handlers.incoming.items()}
        client.handlers.changed()

    def _answers(self) -> dict[str, Handler]:
        """What answers which method here, filters before it."""
        answers: dict[str, RequestHandler] = {
            "initialize": self._initialize,
            "server/discover": self._discover,
            "subscriptions/listen": self._listens.answer,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._levels.answer,
            "completion/complete": self._catalogue.complete,
        }
        answers.update((kind.list, self._catalogue.answer) for kind in self._catalogue.kinds)
        handlers = {
            method: Handler(function, is_async=True, stops=True)
            for method, function in answers.items()
            if method in self._here
        }
        handlers["*"] = Handler(self._wait, is_async=True, stops=True)
        handlers.update(self.handlers.requests)
        for method in self._filters.methods:
            before = self._filters.before(method, handlers.get(method))
            handlers[method] = Handler(before, is_async=True, stops=True)
        return handlers

    async def _initialize(self, request: Request) -> dict[str, Any]:
        """Answer a legacy client from what the upstreams said at their own openings."""
        client, params = request.peer, members_of(request.params)
        offered = opening.Identity(
            members_of(params.get("clientInfo")).get("name") or self.router.identity.name,
            members_of(params.get("clientInfo")).get("version"),
            dict(members_of(params.get("capabilities"))),
        )
        peers = await self._opened(client, offered)
        first = peers[0]
        newest = opening.LEGACY[0] if first.revision == opening.MODERN else first.revision
        asked = params.get("protocolVersion")
        revision = asked if asked in opening.LEGACY and asked <= newest else newest
        taken = (opening.taken_as_tasks(peer.server_capabilities) for peer in peers)
        client.declare_tasks(ours=set().union(*taken))
        client.set_rules(revision, "server")
        meta = meta_of(offered)
        if meta is not None and client.rounds is None:
            client.rounds = Rounds(self, offered.capabilities)
            self.ask_client_as(client, meta)
        self._sessions.add(client)
        for peer in peers:
            self._follow_lists(client, self.place_of(peer), peer)
        return {"protocolVersion": revision, "serverInfo": self._info(peers), **self._offer(peers)}

    async def _discover(self, request: Request) -> dict[str, Any]:
        client, params = request.peer, members_of(request.params)
        meta = members_of(params.get("_meta"))
        asked = meta.get(f"{opening.META}protocolVersion")
        if asked != opening.MODERN:
            supported = {"supported": [opening.MODERN], "requested": asked}
            raise RequestError(opening.UNSUPPORTED_VERSION, "Unsupported protocol version", supported)
        peers = await self._opened(client, self._identity_of(request) or self.router.identity)
        client.set_rules(opening.MODERN, "server")
        info = {f"{opening.META}serverInfo": self._info(peers)}
        offer = self._offer(peers)
        # Tasks of 2025-11-25 are no tasks of the extension: a modern client is not offered them (TSX-61).
        offer["capabilities"] = {k: v for k, v in offer["capabilities"].items() if k != "tasks"}
        return {"supportedVersions": [opening.MODERN], "_meta": info, **offer}

    def _identity_of(self, request: Request) -> opening.Identity | None:
        """Who a modern client says that it is, with each request; None for a legacy one."""
        meta = members_of(members_of(request.params).get("_meta"))
        if meta.get(f"{opening.META}protocolVersion") != opening.MODERN:
            return None
        info = members_of(meta.get(f"{opening.META}clientInfo"))
        return opening.Identity(
            info.get("name") or self.router.identity.name,
            info.get("version"),
            dict(members_of(meta.get(f"{opening.META}clientCapabilities"))),
        )

    def _offer(self, peers: list[Peer]) -> dict[str, Any]:
        offered = together(peers)
        self._catalogue.offer(offered["capabilities"])
        return offered

    async def _opened(self, client: Peer, identity: opening.Identity) -> list[Peer]:
        """The connections that serve a client: all of them, or of several those that are there in time."""
        places = [self.place(position, client) for position in range(len(self.upstreams))]
        for place in places:
            if place.client is not None:
                place.identity = identity
        waits = [place.wait() if len(places) == 1 else place.wait_briefly() for place in places]
        opened = await asyncio.gather(*waits, return_exceptions=True)
        peers = [peer for peer in opened if isinstance(peer, _native.Connection)]
        if not peers:
            for error in opened:
                if isinstance(error, BaseException) and not isinstance(error, (OSError, Error)):
                    raise error
            labels = ", ".join(upstream.label for upstream in self.upstreams)
            data = {"reason": "upstream_closed", "sent": False, "upstream": labels}
            raise RequestError(-32603, "the server could not be started, reached or opened", data)
        return peers

    def _info(self, peers: list[Peer]) -> Mapping[str, Any]:
        return (peers[0].server_info if len(self.upstreams) == 1 else None) or self.router.identity.info

    async def _subscribe(self, request: Request) -> dict[str, Any] | None:
        place, name = self._resource_of(request)
        peer = await place.wait()
        if place.is_private and peer.revision != opening.MODERN:
            await self.forward(request, place.upstream.label, {**members_of(request.params), "uri": name})
            return None
        called = members_of(request.params).get("uri")
        await self.subscriptions.add(place, peer, name, Session(request.peer), called)
        return {}

    async def _unsubscribe(self, request: Request) -> dict[str, Any] | None:
        place, name = self._resource_of(request)
        if place.is_private and (await place.wait()).revision != opening.MODERN:
            await self.forward(request, place.upstream.label, {**members_of(request.params), "uri": name})
            return None
        self.subscriptions.remove(place, name, Session(request.peer))
        return {}

    def _resource_of(self, request: Request) -> tuple[Place, str]:
        """Where the resource of a request stands, and what it is called there."""
        leads = self.leads(members_of(request.params).get("uri"))
        if leads is None:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        position, name = leads
        return self.place(position, request.peer), name

    async def _wait(self, request: Request) -> None:
        """Take a request that came while its upstream was not there."""
        await self.forward(request)

    # ---- comings and goings ----

    def opened(self, peer: Peer, place: Place) -> None:
        """Take note of a new connection of an upstream; its place calls this."""
        self._place_of[peer] = place
        self.add_upstream(peer, place)
        self.subscriptions.opened(peer, place)
        self._levels.opened(peer, place)
        if place.client is not None and peer.revision != opening.MODERN:
            self._parking.opened(peer)
        self._catalogue.opened(place)
        for client in self._sessions:
            if self.place(place.position, client) is place:
                self._follow_lists(client, place, peer)

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
                log.debug("the relay goes on without: %s", error)

        self.router.spawn(run())

    def merges(self, method: str) -> bool:
        """Whether a notification tells of a list that is merged here."""
        return any(kind.changed == method for kind in self._catalogue.kinds)

    def leads(self, uri: Any) -> tuple[int, str] | None:
        """Which upstream has a resource, and what it is called there; None where no route says."""
        return self._catalogue.leads("resources/read", uri)

    def tell(self, client: Peer, method: str) -> None:
        """Tell a client that a list of the relay's own making is another one, as its era has it."""
        if client.revision == opening.MODERN:
            self._listens.tell(client, method)
        else:
            with contextlib.suppress(Error):
                client.notify(method)

    async def _watch(self, client: Peer) -> None:
        await client.wait_lost()
        self.leave(client)
        self.clients.discard(client)
        self._sessions.discard(client)
        self._catalogue.forget(client)
        self.subscriptions.forget(Session(client))
        self._levels.forget(client)
        self._parking.forget(client)
        for places in self._places:
            await places.leave(client)
        del self._held[client]

    def _position(self, name: str) -> int:
        for position, upstream in enumerate(self.upstreams):
            if upstream.label == name:
                return position
        raise ValueError(f"there is no upstream named {name!r}")


__all__ = ["Relay"]
