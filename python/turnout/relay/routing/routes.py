"""Routes, declared as data: which requests of which clients go to which upstream; checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from turnout._native import Routes
from turnout.relay.routing.naming import COMPLETE, COMPLETED, KINDS, ListKind, NameTable
from turnout.relay.upstreams.upstream import ONE_PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from turnout.relay.routing.naming import NamedRoute
    from turnout.relay.routing.tools import Tools
    from turnout.relay.upstreams.upstream import Upstream

Declared = tuple[str, str, bool, "int | str", "Tools | None"]
"""A method, and a `NamedRoute`, or one that leads `"nowhere"`."""

CALL = "tools/call"

_ALWAYS_LOCAL = (
    "initialize",
    "server/discover",
    "subscriptions/listen",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "tasks/list",
)
"""Methods that the relay answers: the eras differ in them, and a legacy server keeps their state per connection."""


@dataclass(frozen=True)
class Route:
    """Sends requests to an upstream; the most exact route wins.

    Lists follow names: where the names of one kind (tools, prompts, resources) lead to several upstreams, and no
    route claims the method that lists them, `tools/list` and its like are merged by the relay. A list shows every
    item under each name that leads to it, and leaves out what no name leads to.

    Args:
        upstream: the name of an upstream.
        method: the method; None for all that no other route claims.
        prefix: what the name of the tool or the prompt, or the URI of the resource, starts with; empty for the
            method as a whole.
        strip: whether the upstream sees the name without the prefix; merged lists then show it with the prefix.
        principal: the principal of the clients that it is for, as `Relay.attach` was told; None for all clients. A
            route for one principal takes the place of the one for all that claims the same.
        tools: which tools it takes, where it is for `tools/call` or for all methods: the others are unknown, also to
            `tools/list`. None for all of them.

    """

    upstream: str
    method: str | None = None
    prefix: str = ""
    strip: bool = False
    principal: Hashable | None = None
    tools: Tools | None = None


class RoutePlan:
    """Routes the requests of the clients of one principal, or of all clients.

    Args:
        routes: the routes that hold for them.
        positions: the upstreams by their names.
        local: the methods that handlers answer.
        fallback: the position of the upstream that takes what no route claims; `"nowhere"` for none.
        is_everybodys: whether no other client of the relay has another plan.

    Attributes:
        routes: the routes as the native relay takes them.
        handled_locally: the methods that the relay answers, or its handlers.
        kinds: what several upstreams list, and the relay merges.
        names: where the names of each kind lead, by the method that uses them.
        positions: the upstreams that requests may go to.
        is_everybodys: whether no other client of the relay has another plan.

    Raises:
        ValueError: two routes claim the same requests.

    """

    def __init__(
        self,
        routes: Sequence[Route],
        positions: dict[str, int],
        local: Sequence[str],
        fallback: int | str,
        *,
        is_everybodys: bool,
    ) -> None:
        declared: list[Declared] = []
        rest: Tools | None = None
        is_said = False
        for route in routes:
            if route.method is None:
                fallback, rest, is_said = positions[route.upstream], route.tools, True
            else:
                position = positions[route.upstream]
                declared.append((route.method, route.prefix, route.strip, position, route.tools))
        claimed = {method for method, prefix, *_ in declared if not prefix}
        if rest is not None and isinstance(fallback, int) and CALL not in claimed:
            if CALL in local:
                raise ValueError(
                    f"a handler answers {CALL}, so the tools of a route for all methods have no say"
                )
            declared.append((CALL, "", False, fallback, rest))
            claimed.add(CALL)
        elif not is_said and CALL not in {*claimed, *local} and any(route[-1] for route in declared):
            # Where some routes say which tools they take, the only upstream gets no others by being the only one.
            declared.append((CALL, "", False, "nowhere", None))
            claimed.add(CALL)
        self.names = {kind.use: _names(declared, local, kind.use, fallback) for kind in KINDS}
        self.kinds: list[ListKind] = []
        local_methods = [*_ALWAYS_LOCAL, *local]
        for kind in KINDS:
            table = self.names[kind.use]
            if kind.list in claimed or kind.list in local_methods or table.is_nowhere:
                continue
            if table.only is None:
                self.kinds.append(kind)
            elif table.only != fallback:
                declared.append((kind.list, "", False, table.only, None))
        local_methods += [kind.list for kind in self.kinds]
        if any(
            self.names[use].only != fallback and not self.names[use].is_nowhere for use in COMPLETED.values()
        ):
            local_methods.append(COMPLETE)
        self.handled_locally = frozenset(local_methods) - claimed
        self.is_everybodys = is_everybodys
        known = {position for _, _, _, position, _ in declared if isinstance(position, int)}
        self.positions = sorted(known | ({fallback} if isinstance(fallback, int) else set()))
        whole = {method: position for method, prefix, _, position, _ in declared if not prefix}
        self._lists = {
            kind.list: "host" if kind.list in self.handled_locally else whole.get(kind.list, fallback)
            for kind in KINDS
        }
        native = [
            (method, prefix, strips, position, None if tools is None else tools.native)
            for method, prefix, strips, position, tools in declared
        ]
        answered = [(method, "", False, "host", None) for method in sorted(self.handled_locally)]
        self.routes = Routes([*native, *answered], fallback, is_everybodys)

    def resolve(self, use: str, name: Any) -> tuple[int, str] | None:
        """Which upstream a name leads to where `use` uses it, and what that one calls it; None where no route says."""
        return self.names[use].resolve(name) if isinstance(name, str) else None

    def merged_upstreams(self, kind: ListKind) -> list[int]:
        """The upstreams whose lists of one kind are merged."""
        return self.names[kind.use].positions(self.positions)

    def sources(self, kind: ListKind) -> list[NamedRoute]:
        """Where the items of a list come from."""
        if kind in self.kinds:
            return self.names[kind.use].sources(self.positions)
        goal = self._lists[kind.list]
        return [("", False, goal, None)] if isinstance(goal, int) else []

    def merges(self, method: str) -> bool:
        """Whether a notification announces a change of a merged list."""
        return any(kind.changed == method for kind in self.kinds)

    def advertise_list_changes(self, capabilities: dict[str, Any]) -> None:
        """Advertise `listChanged` for merged lists: they change when an upstream is lost or connected."""
        for kind in self.kinds:
            if isinstance(capabilities.get(kind.capability), dict):
                capabilities[kind.capability] = {**capabilities[kind.capability], "listChanged": True}


class RoutePlans:
    """The plans of a relay's clients: one for everybody, and one for each principal that a route names.

    Args:
        upstreams: the upstreams by their positions; see `check_upstreams`.
        routes: the routes.
        local: the methods that handlers answer.

    Raises:
        ValueError: there is something wrong with the routes; the message says what, and where.

    """

    def __init__(
        self, upstreams: Mapping[int, Upstream], routes: Sequence[Route], local: Iterable[str]
    ) -> None:
        local = tuple(local)
        positions = {upstream.name: position for position, upstream in upstreams.items()}
        _check_routes(routes, positions, upstreams)
        if len(upstreams) > 1 and not routes and not local:
            raise ValueError(
                f"several upstreams ({', '.join(positions)}) need routes, or nothing leads to them"
            )
        by_principal: dict[Hashable, list[Route]] = {None: []}
        for route in routes:
            by_principal.setdefault(route.principal, []).append(route)
        fallback = next(iter(upstreams)) if len(upstreams) == 1 and len(by_principal) == 1 else "nowhere"
        everybodys = by_principal[None]
        self._plans: dict[Hashable, RoutePlan] = {}
        for principal, own in by_principal.items():
            claimed = {(route.method, route.prefix) for route in own}
            others = everybodys if principal is not None else []
            others = [route for route in others if (route.method, route.prefix) not in claimed]
            self._plans[principal] = RoutePlan(
                [*own, *others], positions, local, fallback, is_everybodys=len(by_principal) == 1
            )
        if len(by_principal) == 1:
            # Handlers may send requests wherever there is an upstream.
            self._plans[None].positions = list(positions.values())

    def plan_for(self, principal: Hashable | None) -> RoutePlan:
        """The plan of the clients of a principal; None for those without one."""
        return self._plans.get(principal) or self._plans[None]


def check_upstreams(upstreams: Sequence[Upstream]) -> None:
    """Check what upstreams are declared together.

    Raises:
        ValueError: there are none, or two of them cannot be told apart.

    """
    if not upstreams:
        raise ValueError("a relay needs at least one upstream")
    names: set[str] = set()
    connections: dict[int, str] = {}
    for upstream in upstreams:
        upstream_name = upstream.name
        if upstream_name in names:
            raise ValueError(f"two upstreams are named {upstream_name!r}; give them names")
        names.add(upstream_name)
        if upstream.is_connected:
            # It is one, whatever it is called.
            other = connections.setdefault(id(upstream.target), upstream_name)
            if other != upstream_name:
                raise ValueError(f"{other} and {upstream_name} are the same connection; route to one of them")
            if upstream.sharing != "shared":
                raise ValueError(
                    f"{upstream_name} is one connection and can only be shared; give a function that makes more"
                )


def _names(declared: list[Declared], local: Sequence[str], use: str, fallback: int | str) -> NameTable:
    """Where names lead by the routes of the method `use`."""
    mine = [route[1:] for route in declared if route[0] == use]
    otherwise = ("host" if use in local else fallback, None)
    whole, takes = next(((position, takes) for prefix, _, position, takes in mine if not prefix), otherwise)
    named = [
        (prefix, strips, position, takes)
        for prefix, strips, position, takes in mine
        if prefix and isinstance(position, int)
    ]
    return NameTable(named, whole, takes)


def _check_routes(
    routes: Sequence[Route], positions: dict[str, int], upstreams: Mapping[int, Upstream]
) -> None:
    listed = {kind.list: kind.use for kind in KINDS}
    for route in routes:
        if route.upstream not in positions:
            raise ValueError(f"there is no upstream named {route.upstream!r}; known: {', '.join(positions)}")
        if route.prefix and route.method in listed:
            raise ValueError(
                f"{route.method} has no name to route by; route {listed[route.method]}, the list follows"
            )
        if route.method == "tasks/list" and upstreams[positions[route.upstream]].sharing not in ONE_PRINCIPAL:
            raise ValueError(
                f"{route.upstream} would list the tasks of all its clients; leave out the route for tasks/list, and "
                "the relay lists each client's own"
            )
        if route.tools is not None and route.method not in (None, CALL):
            raise ValueError(
                f"a route for {route.method} takes no tools: only one for {CALL}, or for all methods"
            )
        if route.strip and not route.prefix:
            raise ValueError(f"a route to {route.upstream} strips a prefix, but has none")
    rest = [route for route in routes if route.method is None]
    if len({route.principal for route in rest}) < len(rest) or any(route.prefix for route in rest):
        raise ValueError("one route at most takes what no other claims, and it has no prefix")


__all__ = ["Route", "RoutePlan", "RoutePlans", "check_upstreams"]
