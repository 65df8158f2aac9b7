"""Bounds the requests queued while an upstream is disconnected (`max_queued_requests`, `max_queued_bytes`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router


class PendingAdmission:
    """Counts the queued requests and their bytes, per client.

    Args:
        router: its limits apply.

    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._by_client: dict[Peer, tuple[int, int]] = {}

    @property
    def count(self) -> int:
        """How many requests are queued."""
        return sum(count for count, _ in self._by_client.values())

    def exceeds(self, request: Request, session: UpstreamSession) -> str | None:
        """The limit that one more request would exceed; None if there is none, or the upstream is connected."""
        if session.is_ready:
            return None
        count, total = self._by_client.get(request.peer, (0, 0))
        wanted = {"max_queued_requests": count + 1, "max_queued_bytes": total + _size(request)}
        return next((limit for limit, value in wanted.items() if value > self._router.limit(limit)), None)

    @contextlib.contextmanager
    def during(self, request: Request, session: UpstreamSession) -> Iterator[None]:
        """Count a request as queued while the block runs, unless its upstream is connected."""
        if session.is_ready:
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


__all__ = ["PendingAdmission"]
