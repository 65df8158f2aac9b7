"""Budget for deliveries that cannot be refused on the wire: notifications, late or invalid responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout._native import LateResponse, Notification

if TYPE_CHECKING:
    from turnout.handlers import Event
    from turnout.peer import Peer


class Budget:
    """Bounds the deliveries held on one connection: `max_inbound` in number, `max_inbound_bytes` in size.

    Args:
        peer: the connection; its limits hold.

    Attributes:
        dropped: deliveries dropped because the budget was used up.
        dropped_in_a_row: deliveries dropped since the last one that was accepted.

    """

    def __init__(self, peer: Peer) -> None:
        self.max_count, self.max_bytes = (
            peer.router.limit("max_inbound"),
            peer.router.limit("max_inbound_bytes"),
        )
        self.dropped = self.dropped_in_a_row = 0
        self._count = self._bytes = 0

    def __str__(self) -> str:
        return f"max_inbound ({self.max_count}) or max_inbound_bytes ({self.max_bytes})"

    def try_acquire(self, what: Notification | Event) -> bool:
        """Reserve the size of one delivery; False, and counted as dropped, where the budget is used up."""
        size = _size(what)
        if self._count >= self.max_count or self._bytes + size > self.max_bytes:
            self.dropped += 1
            self.dropped_in_a_row += 1
            return False
        self.dropped_in_a_row = 0
        self._count += 1
        self._bytes += size
        return True

    def release(self, what: Notification | Event) -> None:
        """Release what `try_acquire` reserved for this delivery."""
        self._count -= 1
        self._bytes -= _size(what)


def _size(what: Notification | Event) -> int:
    if isinstance(what, Notification):
        return len(what.raw_params or b"")
    return len(what.raw) if isinstance(what, LateResponse) else 0


__all__ = ["Budget"]
