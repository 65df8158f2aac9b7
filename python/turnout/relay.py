"""The relay: many clients over few servers, frames passed on inside the native core.

Ids and progress tokens are translated both ways, cancels and deadlines carried on, losses answered. Python is
asked about openings, about methods that somebody registered for, and while a server is not there; a frame that
is only passed on never becomes a Python object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from turnout import _native, opening
from turnout.errors import Error, RequestError
from turnout.handlers import Handlers
from turnout.subscriptions import Subscriptions
from turnout.upstream import Place, Restart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.router import Router
    from turnout.transports.base import Target

Sharing: TypeAlias = Literal["shared", "per_client"]

METHOD_NOT_FOUND = -32601

_OPENINGS = ("initialize", "server/discover")
_SHARED_STATE = ("resources/subscribe", "resources/unsubscribe", "logging/setLevel")
"""What a legacy server keeps for its connection, which several clients share."""


@dataclass(frozen=True, eq=False)
class Upstream:
    """A server that clients are relayed to.

    Args:
        target: where it is: a target as `Router.connect` takes it, a function that makes one for each new
            connection, or a peer that is connected already (which is then neither opened nor restarted).
        name: what routes, errors and records call it; None for the target's own name.
        sharing: `"shared"` gives all clients one connection. It is opened without sampling, elicitation and
            roots, because nobody could say whom a request of the server's is meant for. `"per_client"` opens
            one for each client, with what that client offers, and passes the server's requests on to it.
        era: as for `Router.connect`, None for no opening; a property of this upstream, never taken from a client.
        timeout: seconds without an answer or progress after which a request is cancelled and answered with an
            error; None for never.
        max_timeout: likewise, whatever the progress.
        open_timeout: seconds for the opening.
        patience: seconds that a request waits for a connection that is being made, before it is refused.
        restart: how a lost connection is made again; None for not at all.

    """

    target: Target | Callable[[], Target] | Peer
    name: str | None = None
    sharing: Sharing = "shared"
    era: opening.Era | None = "auto"
    timeout: float | None = 60.0
    max_timeout: float | None = 3600.0
    open_timeout: float = 60.0
    patience: float = 30.0
    restart: Restart | None = Restart()  # noqa: RUF009

    @property
    def label(self) -> str:
        """What routes, errors and records call it."""
        return self.name or getattr(self.target, "name", None) or "upstream"


@dataclass(frozen=True)
class Route:
    """Where requests go; the most exact route wins.

    Args:
        upstream: the name of an upstream.
        method: the method; None for all that no other route claims.
        prefix: what the name of the tool or the prompt starts with; empty for the method as a whole.
        strip: whether the upstream sees the name without the prefix.

    """

    upstream: str
    method: str | None = None
    prefix: str = ""
    strip: bool = False


class Relay(_native.Relay):
    """Clients on one side, upstreams on the other; made by `Router.relay`.

    Attributes:
        on_request: decorator for a handler that answers a method here, for all clients. It may also let
            `forward` pass the request on.
        filter_incoming: decorator for a filter of what clients send, as `Router.filter_incoming`; it sees the
            messages of its method only, and one that raises fails its own request only.

    """

    def __new__(
        cls,
        _router: Router,
        upstreams: Sequence[Upstream],
        routes: Sequence[Route] = (),
        local: Iterable[str] = (),
    ) -> Self:
        """Declare a relay; `Router.relay` says what the arguments are."""
        known = [(upstream.label, upstream.timeout, upstream.max_timeout, True) for upstream in upstreams]
        return super().__new__(cls, known, *_declared(upstreams, routes, local))

    def __init__(
        self,
        router: Router,
        upstreams: Sequence[Upstream],
        _routes: Sequence[Route] = (),
        _local: Iterable[str] = (),
    ) -> None:
        self.router = router
        self.upstreams = list(upstreams)
        self.handlers = Handlers()
        self.on_request = self.handlers.on_request
        self.filter_incoming = self.handlers.filter_incoming
        self.clients: set[Peer] = set()
        self._subscriptions = Subscriptions()
        self._shared = [
            Place(self, position) if upstream.sharing == "shared" else None
            for position, upstream in enumerate(self.upstreams)
        ]
        self._own: dict[Peer, list[Place | None]] = {}

    async def start(self) -> None:
        """Connect to every shared upstream now, instead of at the first request.

        Raises:
            OSError: one could not be started or reached.
            OpeningFailed: one was reached but could not be opened.

        """
        for place in self._shared:
            if place is not None:
                await place.start()

    def attach(self, client: Peer) -> None:
        """Relay a client from now on; call it before the first byte of it is read, as `Router.serve` does."""
        client.set_rules(opening.LEGACY[0], "server")
        self.add_client(client)
        self.clients.add(client)
        self._own[client] = [
            Place(self, position, client) if upstream.sharing == "per_client" else None
            for position, upstream in enumerate(self.upstreams)
        ]
        handle = client.on_request
        handle("initialize")(self._initialize)
        handle("server/discover")(self._discover)
        if any(self._shared):
            handle("resources/subscribe")(self._subscribe)
            handle("resources/unsubscribe")(self._unsubscribe)
            handle("logging/setLevel")(_ignore)
        handle("*")(self._wait)
        for method, handler in self.handlers.requests.items():
            handle(method, stops=handler.stops)(handler.function)
        for method, filters in self.handlers.incoming.items():
            for chosen in filters:
                client.filter_incoming(method)(chosen)
        self.router.spawn(self._watch(client))

    async def forward(self, request: Request, upstream: str | None = None) -> bool:
        """Pass a request on that a handler was given; what the handler returns is then no answer any more.

        Args:
            request: the request, untouched.
            upstream: the name of the upstream; None for the one that the routes say.

        Returns:
            False where the request was over, or was refused because the upstream is not there.

        """
        position = self.position_of(request) if upstream is None else self._position(upstream)
        if position is None:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        try:
            peer = await self.place(position, request.peer).wait()
        except (OSError, Error):
            self.refuse(request, position)
            return False
        return self.pass_on(request, peer)

    def place(self, position: int, client: Peer) -> Place:
        """Where the connection stands that serves `client`."""
        place = self._shared[position] or self._own[client][position]
        assert place is not None  # noqa: S101
        return place

    async def close(self) -> None:
        """Let every client and every connection of an upstream go; bounded, and idempotent."""
        for place in [*self._shared, *(place for own in self._own.values() for place in own)]:
            if place is not None:
                await place.close()

    # ---- requests that Python answers ----

    async def _initialize(self, request: Request) -> dict[str, Any]:
        """Answer a legacy client from what the upstreams said at their own openings."""
        client, params = request.peer, request.params or {}
        offered = opening.Identity(
            (params.get("clientInfo") or {}).get("name") or self.router.identity.name,
            (params.get("clientInfo") or {}).get("version"),
            dict(params.get("capabilities") or {}),
        )
        peers = await self._opened(client, offered)
        first = peers[0]
        newest = opening.LEGACY[0] if first.revision == opening.MODERN else first.revision
        asked = params.get("protocolVersion")
        revision = asked if asked in opening.LEGACY and asked <= newest else newest
        taken = (opening.taken_as_tasks(peer.server_capabilities) for peer in peers)
        client.declare_tasks(ours=set().union(*taken))
        client.set_rules(revision, "server")
        return {"protocolVersion": revision, "serverInfo": self._info(peers), **_offer(peers)}

    async def _discover(self, request: Request) -> dict[str, Any]:
        client, params = request.peer, request.params or {}
        meta = params.get("_meta") or {}
        asked = meta.get(f"{opening.META}protocolVersion")
        if asked != opening.MODERN:
            supported = {"supported": [opening.MODERN], "requested": asked}
            raise RequestError(opening.UNSUPPORTED_VERSION, "Unsupported protocol version", supported)
        peers = await self._opened(client, self.router.identity)
        client.set_rules(opening.MODERN, "server")
        info = {f"{opening.META}serverInfo": self._info(peers)}
        return {"supportedVersions": [opening.MODERN], "_meta": info, **_offer(peers)}

    async def _opened(self, client: Peer, identity: opening.Identity) -> list[Peer]:
        peers = []
        for position in range(len(self.upstreams)):
            place = self.place(position, client)
            if place.client is not None:
                place.identity = identity
            try:
                peers.append(await place.wait())
            except (OSError, Error) as error:
                if len(self.upstreams) == 1:
                    data = {
                        "reason": "upstream_closed",
                        "sent": False,
                        "upstream": self.upstreams[position].label,
                    }
                    raise RequestError(-32603, f"the server could not be opened: {error}", data) from error
        if not peers:
            raise RequestError(
                -32603, "no server could be opened", {"reason": "upstream_closed", "sent": False}
            )
        return peers

    def _info(self, peers: list[Peer]) -> Mapping[str, Any]:
        return (peers[0].server_info if len(self.upstreams) == 1 else None) or self.router.identity.info

    async def _subscribe(self, request: Request) -> dict[str, Any] | None:
        return await self._subscribing(request, self._subscriptions.add)

    async def _unsubscribe(self, request: Request) -> dict[str, Any] | None:
        return await self._subscribing(request, self._subscriptions.remove)

    async def _subscribing(self, request: Request, act: Callable[..., Any]) -> dict[str, Any] | None:
        # The route of `resources/read` is that of the resource; subscribing to it goes the same way.
        position = self.position_for(request, "resources/read")
        if position is None:
            raise RequestError(METHOD_NOT_FOUND, "Method not found", {"method": request.method})
        if self._shared[position] is None:
            await self.forward(request, self.upstreams[position].label)
            return None
        peer = await self.place(position, request.peer).wait()
        await act(peer, request.peer, (request.params or {}).get("uri"))
        return {}

    async def _wait(self, request: Request) -> None:
        """Take a request that came while its upstream was not there."""
        await self.forward(request)

    # ---- comings and goings ----

    def opened(self, peer: Peer, place: Place) -> None:
        """Take note of a new connection of an upstream; its place calls this."""
        self.add_upstream(peer, place.position, place.client)
        if place.client is None:
            self._subscriptions.follow(peer)

    async def _watch(self, client: Peer) -> None:
        await client.wait_lost()
        self.leave(client)
        self.clients.discard(client)
        places = self._own.pop(client)
        for place in places:
            if place is not None:
                await place.close()
        await self._subscriptions.forget(client)

    def _position(self, name: str) -> int:
        for position, upstream in enumerate(self.upstreams):
            if upstream.label == name:
                return position
        raise ValueError(f"there is no upstream named {name!r}")


def _declared(
    upstreams: Sequence[Upstream], routes: Sequence[Route], local: Iterable[str]
) -> tuple[list[tuple[str, str, bool, int | str]], int | str]:
    """Routes as the native relay takes them, and where everything else goes."""
    positions: dict[str, int] = {}
    for position, upstream in enumerate(upstreams):
        if positions.setdefault(upstream.label, position) != position:
            raise ValueError(f"two upstreams are named {upstream.label!r}; give them names")
    if not upstreams:
        raise ValueError("a relay needs at least one upstream")
    for route in routes:
        if route.upstream not in positions:
            raise ValueError(f"there is no upstream named {route.upstream!r}; known: {', '.join(positions)}")
    rest = [route for route in routes if route.method is None]
    if len(rest) > 1 or any(route.prefix for route in rest):
        raise ValueError("one route at most takes what no other claims, and it has no prefix")
    fallback: int | str = 0 if len(upstreams) == 1 else "nowhere"
    if rest:
        fallback = positions[rest[0].upstream]
    declared: list[tuple[str, str, bool, int | str]] = [
        (route.method, route.prefix, route.strip, positions[route.upstream])
        for route in routes
        if route.method is not None
    ]
    here = [*_OPENINGS, *local]
    if any(upstream.sharing == "shared" for upstream in upstreams):
        here += _SHARED_STATE
    claimed = {method for method, prefix, *_ in declared if not prefix}
    declared += [(method, "", False, "host") for method in dict.fromkeys(here) if method not in claimed]
    return declared, fallback


def _offer(peers: list[Peer]) -> dict[str, Any]:
    """What several servers offer together."""
    capabilities: dict[str, Any] = {}
    for peer in peers:
        for name, value in peer.server_capabilities.items():
            before = capabilities.get(name)
            capabilities[name] = (
                {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
            )
    instructions = "\n\n".join(peer.instructions for peer in peers if peer.instructions)
    return {"capabilities": capabilities, **({"instructions": instructions} if instructions else {})}


async def _ignore(request: Request) -> dict[str, Any]:  # noqa: ARG001
    """Agree to a log level: a shared server's log belongs to no client, so none of it is passed on."""
    return {}


__all__ = ["Relay", "Restart", "Route", "Sharing", "Upstream"]
