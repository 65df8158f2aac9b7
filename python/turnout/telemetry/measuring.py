"""Takes what a router tells of its requests apart into measurements, for whatever keeps them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from turnout._native import LateProgress, LateResponse, Refused, Unmatched
from turnout.telemetry.labels import NETWORK_TRANSPORTS, Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from turnout._native import Record
    from turnout.peer import Peer
    from turnout.relay import Relay
    from turnout.router import Router

Pairs = tuple[tuple[str, str], ...]
"""Names and values of labels."""

LATE = {
    LateResponse: "response",
    LateProgress: "progress",
    Unmatched: "unmatched",
    Refused: "refused",
}

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
"""Bounds of the buckets of durations: those of the conventions, and shorter ones, since a relay is no model."""

HISTOGRAMS = {
    "mcp.client.operation.duration": "Seconds from a request that went out to its end",
    "mcp.server.operation.duration": "Seconds from a request that came in to its end",
    "mcp.client.session.duration": "Seconds that a connection to a server was open",
    "mcp.server.session.duration": "Seconds that a connection of a client was open",
    "turnout.cancel.latency": "Seconds from the cause of a cancel to its frame, written",
    "turnout.cancel.settle": "Seconds from a cancel to an answer that still came",
    "turnout.progress.gap": "Mean seconds between two progress updates of a request",
}

COUNTERS = {
    "turnout.outcomes": "Requests that ended",
    "turnout.late": "Messages that came after their request had ended, or belong to none",
    "turnout.progress.dropped": "Progress updates that were dropped: no numbers, or not growing",
}

GAUGES = {
    "turnout.in_flight": "Requests in flight",
    "turnout.queue": "Requests that wait for an upstream that takes no more, or is not there",
}


class Instruments(Protocol):
    """Keeps measurements."""

    def record(self, name: str, seconds: float, labels: Pairs) -> None:
        """Take a duration."""

    def count(self, name: str, more: int, labels: Pairs) -> None:
        """Count some more."""


class Measuring:
    """Measures a router's requests until it is closed.

    Args:
        router: the router.
        relays: those whose queues are measured.
        instruments: keeps the measurements.
        max_labels: as for `turnout.telemetry.prometheus`.

    """

    def __init__(
        self, router: Router, relays: Sequence[Relay], instruments: Instruments, max_labels: int
    ) -> None:
        self._router = router
        self._relays = relays
        self._instruments = instruments
        self._labels = Labels(max_labels)
        self._closed = False
        self._listening = router.records.listen(self._finished)
        self._leave = router.on_lost(self._lost)
        router.on_event(self._event)

    def close(self) -> None:
        """Measure no more."""
        self._closed = True
        self._listening.close()
        self._leave()

    def gauges(self) -> Iterator[tuple[str, int, Pairs]]:
        """What is in flight and what waits, now."""
        ours = theirs = 0
        for peer in self._router.peers:
            sent, came = peer.in_flight
            ours, theirs = ours + sent, theirs + came
        yield "turnout.in_flight", ours, (("direction", "outbound"),)
        yield "turnout.in_flight", theirs, (("direction", "inbound"),)
        yield "turnout.queue", sum(relay.queued for relay in self._relays), ()

    def _finished(self, record: Record) -> None:
        self._measure(record)
        outcome, cancelled_by, principal = self._labels.of_outcome(record)
        labels = (("outcome", outcome), ("cancelled_by", cancelled_by), ("principal", principal))
        self._instruments.count("turnout.outcomes", 1, labels)
        for leg in record.legs:
            if leg.ended is not None:
                self._measure(leg)

    def _measure(self, record: Record) -> None:
        """What one request, or one leg, took."""
        keep = self._instruments
        side = "server" if record.direction == "inbound" else "client"
        keep.record(
            f"mcp.{side}.operation.duration", record.duration or 0.0, self._labels.of_operation(record)
        )
        updates = record.progress_accepted
        first, last = record.first_progress, record.last_progress
        if updates > 1 and first is not None and last is not None:
            keep.record("turnout.progress.gap", (last - first) / (updates - 1), ())
        if record.progress_dropped:
            keep.count("turnout.progress.dropped", record.progress_dropped, ())
        requested = record.cancel_requested
        if requested is not None and record.cancel_written:
            # This is called behind the write.
            labels = (("cancelled_by", record.cancelled_by or ""),)
            keep.record("turnout.cancel.latency", max(time.time() - requested, 0.0), labels)

    def _event(self, event: LateResponse | LateProgress | Unmatched | Refused) -> None:
        if self._closed:
            return
        self._instruments.count("turnout.late", 1, (("kind", LATE[type(event)]),))
        if isinstance(event, LateResponse):
            requested, late = event.record.cancel_requested, event.record.late_at
            if requested is not None and late is not None:
                self._instruments.record("turnout.cancel.settle", max(late - requested, 0.0), ())

    def _lost(self, peer: Peer) -> None:
        side = "server" if peer.came_to_us else "client"
        transport = NETWORK_TRANSPORTS.get(peer.transport, peer.transport)
        labels = (("network.transport", transport),)
        self._instruments.record(f"mcp.{side}.session.duration", time.monotonic() - peer.since, labels)


__all__ = ["COUNTERS", "GAUGES", "HISTOGRAMS", "SECONDS", "Instruments", "Measuring", "Pairs"]
