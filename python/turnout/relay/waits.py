"""Requests that wait in Python for an upstream that is not there, bounded like those that wait for one that is full."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.router import Router


class Waits:
    """What of each client's waits.

    Args:
        router: whose limits hold.

    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._by_client: dict[Peer, tuple[int, int]] = {}

    def exceeds(self, request: Request, place: Place) -> str | None:
        """The name of the limit that one more request would exceed, if its upstream is not there."""
        if place.is_there:
            return None
        count, total = self._by_client.get(request.peer, (0, 0))
        wanted = {"max_queued_requests": count + 1, "max_queued_bytes": total + _size(request)}
        return next((limit for limit, value in wanted.items() if value > self._router.limit(limit)), None)

    @contextlib.contextmanager
    def during(self, request: Request, place: Place) -> Iterator[None]:
        """Count a request in for as long as the block takes, unless its upstream is there."""
        if place.is_there:
            yield
            return
        client, size = request.peer, _size(request)
        count, total = self._by_client.get(client, (0, 0))
        self._by_client[client] = (count + 1, total + size)
        try:
            yield
        finally:
            count, total = self._by_client.pop(client)
            if count > 1:
                self._by_client[client] = (count - 1, total - size)


def _size(request: Request) -> int:
    return len(request.raw_params or b"")


__all__ = ["Waits"]
