"""Requests that wait in Python for an upstream that is not there, bounded like those that wait for one that is full."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from turnout.relay.refusal import check

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

    @contextlib.contextmanager
    def during(self, request: Request, place: Place) -> Iterator[None]:
        """Count a request in for as long as the block takes, unless its upstream is there.

        Raises:
            RequestError: too much of its client's waits already.

        """
        if place.is_there:
            yield
            return
        client, size = request.peer, len(request.raw_params or b"")
        count, total = self._by_client.get(client, (0, 0))
        label = place.upstream.label
        check(self._router, "max_queued_requests", count + 1, label, sent=False)
        check(self._router, "max_queued_bytes", total + size, label, sent=False)
        self._by_client[client] = (count + 1, total + size)
        try:
            yield
        finally:
            count, total = self._by_client.pop(client)
            if count > 1:
                self._by_client[client] = (count - 1, total - size)


__all__ = ["Waits"]
