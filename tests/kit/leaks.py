"""What tests leave behind: every connection that one makes, and what is in flight on it when the test ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import turnout
from turnout.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_AT_REST = 256
"""Connections that are kept before those that are over and at rest are let go: some tests make thousands."""


class Made:
    """The connections and relays that a test made."""

    def __init__(self) -> None:
        self._made: list[Any] = []
        self._notes = False
        self._most = MOST_AT_REST

    def begin(self, *, notes: bool) -> None:
        """Forget all of them; and take note of others from now on, or not."""
        self._made.clear()
        self._notes = notes
        self._most = MOST_AT_REST

    def add(self, made: Any) -> None:
        """Take note of one."""
        if not self._notes:
            return
        self._made.append(made)
        if len(self._made) > self._most:
            self._made = [made for made in self._made if not _is_over(made) or _left_on(made)]
            self._most = MOST_AT_REST + 2 * len(self._made)

    def left(self) -> list[str]:
        """What is left on them, one line each."""
        return [f"{made!r}: {left}" for made in self._made for left in _left_by(made)]


made = Made()


def watch() -> None:
    """Take note of every connection and relay from now on."""
    _note(Peer)
    _note(turnout.Relay)
    turnout.Connection = _Connection
    try:
        from turnout.mcp.dispatch.over_streams import Dispatcher
    except ImportError:
        return
    _note(Dispatcher)


class _Connection(turnout.Connection):
    """One without a loop, which a test makes itself."""

    def __new__(cls, *arguments: Any, **options: Any) -> Any:
        self = super().__new__(cls, *arguments, **options)
        made.add(self)
        return self


_Connection.__name__ = "Connection"


def _note(kind: type) -> None:
    init = kind.__init__

    def noted(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        made.add(self)

    kind.__init__ = noted


def _is_over(made: Any) -> bool:
    return not made.is_open if isinstance(made, Peer) else bool(getattr(made, "is_over", False))


def _left_by(made: Any) -> Iterator[str]:
    if isinstance(made, _Connection):
        # Nobody has to end such a connection. What its end leaves, stays.
        made.end("closed")
    elif isinstance(made, Peer) and not _is_over(made):
        yield "it was not closed"
    yield from _left_on(made)


def _left_on(made: Any) -> list[str]:
    if isinstance(made, turnout.Relay):
        return [f"{made.in_flight} in flight"] if made.in_flight else []
    entries = {name: count for name, count in made.entries().items() if count}
    left = [f"{made.in_flight} in flight"] if made.in_flight != (0, 0) else []
    return [*left, *([f"entries {entries}"] if entries else [])]
