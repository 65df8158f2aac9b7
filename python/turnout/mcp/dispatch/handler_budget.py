"""The budget of handlers at work, over the SDK's streams."""

from __future__ import annotations


class HandlerBudget:
    """Bounds the handlers at work, of requests and of notifications: their answers may wait for the transport.

    Args:
        most: the limit `max_inbound`.

    """

    def __init__(self, most: int) -> None:
        self.dropped = self.dropped_in_a_row = 0
        self.count = 0
        self._most = most

    def __str__(self) -> str:
        return f"max_inbound ({self._most})"

    @property
    def is_used_up(self) -> bool:
        """Whether no other handler may be started."""
        return self.count >= self._most

    def try_acquire(self, what: object) -> bool:  # noqa: ARG002 - all count the same
        """Count one more; False, and counted as dropped, where that is one too many."""
        if self.is_used_up:
            self.dropped += 1
            self.dropped_in_a_row += 1
            return False
        self.dropped_in_a_row = 0
        self.count += 1
        return True

    def release(self, what: object) -> None:  # noqa: ARG002
        """Count one less."""
        self.count -= 1


__all__ = ["HandlerBudget"]
