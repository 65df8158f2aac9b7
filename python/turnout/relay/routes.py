"""Routes: where requests go, declared as data; what is wrong with a declaration is said before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from turnout import opening
from turnout.relay.catalogue import COMPLETE, COMPLETED, KINDS, names_of
from turnout.relay.upstream import Sharing
from turnout.transports.base import is_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from turnout.relay.catalogue import Names
    from turnout.relay.upstream import Upstream

_HERE = (
    "initialize",
    "server/discover",
    "subscriptions/listen",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
)
"""What the relay answers: the eras differ in it, and a legacy server keeps it for its connection, not its clients."""


@dataclass(frozen=True)
class Route:
    """Where requests go; the most exact route wins.

    Lists follow names: where the names of one kind (tools, prompts, resources) lead to several upstreams, and no
    route claims the method that lists them, `tools/list` and its like are merged by the relay. A list shows every
    item under each name that leads to it, and leaves out what no name leads to.

    Args:
        upstream: the name of an upstream.
        method: the method; None for all that no other route claims.
        prefix: what the name of the tool or the prompt, or the URI of the resource, starts with; empty for the
            method as a whole.
        strip: whether the upstream sees the name without the prefix; merged lists then show it with the prefix.

    """

    upstream: str
    method: str | None = None
    prefix: str = ""
    strip: bool = False


@dataclass(frozen=True)
class Plan:
    """What was declared, as the native relay takes it.

    Args:
        routes: method, prefix, whether it is stripped, and the position of the upstream or `"host"`.
        fallback: where everything else goes: a position, or `"nowhere"`.
        here: the methods that the relay answers, or its handlers.
        merged: those of them that list what several upstreams have.
        names: where the names of each kind lead, by the method that uses them.

    """

    routes: list[tuple[str, str, bool, int | str]]
    fallback: int | str
    here: list[str]
    merged: list[str]
    names: dict[str, Names]


def declare(upstreams: Sequence[Upstream], routes: Sequence[Route], local: Iterable[str]) -> Plan:
    """Check a declaration and make a plan of it.

    Raises:
        ValueError: there is something wrong with it; the message says what, and where.

    """
    local = tuple(local)
    positions = _positions(upstreams)
    _check_routes(routes, positions)
    if len(upstreams) > 1 and not routes and not local:
        raise ValueError(f"several upstreams ({', '.join(positions)}) need routes, or nothing leads to them")
    fallback: int | str = 0 if len(upstreams) == 1 else "nowhere"
    for route in routes:
        if route.method is None:
            fallback = positions[route.upstream]
    declared: list[tuple[str, str, bool, int | str]] = [
        (route.method, route.prefix, route.strip, positions[route.upstream])
        for route in routes
        if route.method is not None
    ]
    here = [*_HERE, *local]
    claimed = {method for method, prefix, *_ in declared if not prefix}
    merged: list[str] = []
    names = {kind.use: names_of(routes, positions, local, kind.use) for kind in KINDS}
    for kind in KINDS:
        leads = names[kind.use]
        if kind.list in claimed or kind.list in here or leads.is_nowhere:
            continue
        if leads.sole is None:
            merged.append(kind.list)
        elif leads.sole != fallback:
            declared.append((kind.list, "", False, leads.sole))
    here += merged
    if any(names[use].sole != fallback and not names[use].is_nowhere for use in COMPLETED.values()):
        here.append(COMPLETE)
    here = [method for method in dict.fromkeys(here) if method not in claimed]
    declared += [(method, "", False, "host") for method in here]
    return Plan(declared, fallback, here, merged, names)


def _positions(upstreams: Sequence[Upstream]) -> dict[str, int]:
    """The upstreams by their names."""
    if not upstreams:
        raise ValueError("a relay needs at least one upstream")
    positions: dict[str, int] = {}
    connections: dict[int, str] = {}
    for position, upstream in enumerate(upstreams):
        label = upstream.label
        if upstream.sharing not in get_args(Sharing):
            ways = ", ".join(get_args(Sharing))
            raise ValueError(f"{upstream.sharing!r} is no way to share {label}: {ways}")
        if positions.setdefault(label, position) != position:
            raise ValueError(f"two upstreams are named {label!r}; give them names")
        if upstream.era not in (None, *get_args(opening.Era)):
            raise ValueError(f"{upstream.era!r} is no era of {label}: auto, legacy, modern or None")
        if upstream.list_timeout <= 0 or upstream.patience <= 0 or upstream.open_timeout <= 0:
            raise ValueError(f"list_timeout, patience and open_timeout of {label} are seconds, more than 0")
        if not is_target(upstream.target) and not callable(upstream.target):
            # A connection that is there already: it is one, whatever it is called.
            other = connections.setdefault(id(upstream.target), label)
            if other != label:
                raise ValueError(f"{other} and {label} are the same connection; route to one of them")
            if upstream.sharing != "shared":
                raise ValueError(
                    f"{label} is one connection and can only be shared; give a function that makes more"
                )
    return positions


def _check_routes(routes: Sequence[Route], positions: dict[str, int]) -> None:
    listed = {kind.list: kind.use for kind in KINDS}
    for route in routes:
        if route.upstream not in positions:
            raise ValueError(f"there is no upstream named {route.upstream!r}; known: {', '.join(positions)}")
        if route.prefix and route.method in listed:
            raise ValueError(
                f"{route.method} has no name to route by; route {listed[route.method]}, the list follows"
            )
        if route.strip and not route.prefix:
            raise ValueError(f"a route to {route.upstream} strips a prefix, but has none")
    rest = [route for route in routes if route.method is None]
    if len(rest) > 1 or any(route.prefix for route in rest):
        raise ValueError("one route at most takes what no other claims, and it has no prefix")


__all__ = ["Plan", "Route", "declare"]
