"""Finds the differences between two things seen, and holds them against those that are expected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ABSENT = "(absent)"

# What stands in the place of a result: one difference, however much the result had in it.
_ENDS = ("error", "refused", "broken")


@dataclass(frozen=True)
class Place:
    """Where something was seen."""

    client: str
    server: str
    way: str


@dataclass(frozen=True)
class Difference:
    """One value that a client sees otherwise through the relay.

    Args:
        place: which client, before which server, by which way.
        path: the case, and where in it.
        direct: the value without the relay, as JSON, or `ABSENT`.
        relayed: likewise, through it.

    """

    place: Place
    path: str
    direct: str
    relayed: str


@dataclass(frozen=True)
class Expected:
    """Differences that are meant, or that are not ours to mend.

    It is stale if one of the places it names does not show it.

    Args:
        path: the case and where in it, as patterns of `fnmatch` in which brackets stand for themselves.
        relayed: what is seen through the relay, as such patterns over JSON.
        reason: why.
        clients: patterns of clients.
        servers: patterns of servers.
        ways: patterns of ways.

    """

    path: tuple[str, ...]
    relayed: tuple[str, ...]
    reason: str
    clients: tuple[str, ...] = ("*",)
    servers: tuple[str, ...] = ("*",)
    ways: tuple[str, ...] = ("*",)

    def covers(self, difference: Difference) -> bool:
        """Whether this is the difference that is meant."""
        return (
            self.names(difference.place)
            and _fits(difference.path, self.path)
            and _fits(difference.relayed, self.relayed)
        )

    def names(self, place: Place) -> bool:
        """Whether the place is one of those named."""
        return (
            _fits(place.client, self.clients)
            and _fits(place.server, self.servers)
            and _fits(place.way, self.ways)
        )


def _fits(text: str, patterns: tuple[str, ...]) -> bool:
    # Paths and JSON are full of brackets.
    return any(fnmatchcase(text, one.replace("[", "[[]")) for one in patterns)


def differences(place: Place, direct: Any, relayed: Any, path: str = "") -> Iterator[Difference]:
    """What differs, value by value."""
    if direct == relayed:
        return
    if isinstance(direct, dict) and isinstance(relayed, dict) and not _ended(direct, relayed):
        for key in sorted(direct.keys() | relayed.keys()):
            inner = f"{path}.{key}" if path else key
            yield from differences(place, direct.get(key, ABSENT), relayed.get(key, ABSENT), inner)
    elif isinstance(direct, list) and isinstance(relayed, list) and len(direct) == len(relayed):
        for index, (one, other) in enumerate(zip(direct, relayed, strict=True)):
            yield from differences(place, one, other, f"{path}[{index}]")
    else:
        yield Difference(place, path, _json(direct), _json(relayed))


def _ended(direct: dict[str, Any], relayed: dict[str, Any]) -> bool:
    return any((end in direct) != (end in relayed) for end in _ENDS)


def _json(value: Any) -> str:
    return ABSENT if value == ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)


@dataclass
class Verdict:
    """What came of a run.

    Args:
        explained: each difference with the expectation that covers it.
        unexplained: those that none covers.
        stale: expectations with the places that do not show them.

    """

    explained: list[tuple[Difference, Expected]]
    unexplained: list[Difference]
    stale: list[tuple[Expected, list[Place]]]


def judge(found: Iterable[Difference], expected: Iterable[Expected], places: Iterable[Place]) -> Verdict:
    """Hold what was found against what is expected, at the places that were looked at."""
    expected, places = tuple(expected), tuple(places)
    verdict = Verdict([], [], [])
    shown: set[tuple[int, Place]] = set()
    for difference in found:
        for number, one in enumerate(expected):
            if one.covers(difference):
                verdict.explained.append((difference, one))
                shown.add((number, difference.place))
                break
        else:
            verdict.unexplained.append(difference)
    for number, one in enumerate(expected):
        missing = [place for place in places if one.names(place) and (number, place) not in shown]
        if missing:
            verdict.stale.append((one, missing))
    return verdict


def places(clients: Iterable[str], servers: Iterable[str], ways: Iterable[str]) -> list[Place]:
    """All of them."""
    return [Place(*one) for one in product(clients, servers, ways)]
