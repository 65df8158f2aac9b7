"""Room for what a peer sends and nobody can refuse: notifications, and what came late or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout._native import LateResponse, Notification

if TYPE_CHECKING:
    from turnout.handlers import Event
    from turnout.peer import Peer


class Room:
    """Room on one connection for `max_inbound` of them, with `max_inbound_bytes` in all.

    Args:
        peer: whose connection it is.

    Attributes:
        dropped: how many found no room.
        in_a_row: likewise, since the last one that did.

    """

    def __init__(self, peer: Peer) -> None:
        self.most, self.most_bytes = peer.limit("max_inbound"), peer.limit("max_inbound_bytes")
        self.dropped = self.in_a_row = 0
        self._held = self._bytes = 0

    def __str__(self) -> str:
        return f"max_inbound ({self.most}) or max_inbound_bytes ({self.most_bytes})"

    def take(self, what: Notification | Event) -> bool:
        """Make room for one more, or count it as dropped."""
        size = _size(what)
        if self._held >= self.most or self._bytes + size > self.most_bytes:
            self.dropped += 1
            self.in_a_row += 1
            return False
        self.in_a_row = 0
        self._held += 1
        self._bytes += size
        return True

    def give(self, what: Notification | Event) -> None:
        """Give the room back that one of them took."""
        self._held -= 1
        self._bytes -= _size(what)


def _size(what: Notification | Event) -> int:
    if isinstance(what, Notification):
        return len(what.raw_params or b"")
    return len(what.raw) if isinstance(what, LateResponse) else 0


__all__ = ["Room"]
