"""What is in flight under the SDK's streams, whose messages are objects and never frames.

The native tables read and write frames. Until they offer the same without any, this is a plain table in Python:
it decides who gets what, and keeps no records.
"""

from __future__ import annotations

import math
from typing import Any


class Flights:
    """What is in flight on one connection whose messages somebody else carries."""

    __slots__ = ("_given", "_inbound", "_outbound", "_progress")

    def __init__(self, name: str = "peer", transport: str = "streams") -> None:
        self._given = 0
        self._outbound: dict[int | str, Any] = {}
        self._inbound: dict[int | str, Any] = {}
        self._progress: dict[int | str, float] = {}

    def open(self, method: str, slot: object, request_id: int | str | None = None) -> int | str:
        """Register a request of ours."""
        if request_id is None:
            self._given += 1
            while self._given in self._outbound:
                self._given += 1
            request_id = self._given
        elif request_id in self._outbound:
            raise ValueError(f"request id {request_id!r} is already in flight")
        self._outbound[request_id] = slot
        return request_id

    def claim(self, request_id: int | str, is_error: bool) -> Any:
        """Take the answer of the peer: the slot of the request that it ends, or None."""
        self._progress.pop(request_id, None)
        return self._outbound.pop(request_id, None)

    def advance(
        self,
        token: int | str,
        progress: float,
        total: float | None,
        message: str | None,
        grows: bool,
        any_number: bool,
    ) -> Any:
        """Take progress: the slot of its request, or None where nothing may come of it."""
        slot = self._outbound.get(token)
        if slot is None or (not any_number and not math.isfinite(progress)):
            return None
        if grows and progress <= self._progress.get(token, -math.inf):
            return None
        self._progress[token] = progress
        return slot

    def outbound(self) -> dict[int | str, Any]:
        """Requests of ours, by id."""
        return dict(self._outbound)

    def inbound(self) -> dict[int | str, Any]:
        """Requests of the peer, by id."""
        return dict(self._inbound)

    def abandon(self, request_id: int | str, by: str, reason: str | None) -> bool:
        """End a request of ours from our side; False where it was over."""
        self._progress.pop(request_id, None)
        return self._outbound.pop(request_id, None) is not None

    def begin(self, request_id: int | str, method: str, token: int | str | None, slot: object) -> None:
        """Register a request of the peer."""
        self._inbound[request_id] = slot

    def handling(self, request_id: int | str) -> Any:
        """The slot of a request that we handle, or None."""
        return self._inbound.get(request_id)

    def cancel(self, request_id: int | str, reason: str | None) -> Any:
        """Take a cancel of the peer: the slot of the request, or None."""
        return self._inbound.get(request_id)

    def finish(self, request_id: int | str, slot: object, how: str) -> bool:
        """End a request of the peer; False where another one has its id."""
        if self._inbound.get(request_id) is not slot:
            return False
        del self._inbound[request_id]
        return True

    def end(self, outcome: str) -> list[Any]:
        """End everything of ours."""
        slots = list(self._outbound.values())
        self._outbound.clear()
        self._progress.clear()
        return slots
