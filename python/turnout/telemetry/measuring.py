"""Takes what a router tells of its requests apart into measurements, and keeps their sums.

What is kept for each set of labels is a few numbers, so that whoever shows them costs nothing until they are asked for.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

from turnout._native import LateProgress, LateResponse, Refused, Unmatched
from turnout.telemetry.labels import NETWORK_TRANSPORTS, Labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from turnout._native import Record
    from turnout.peer import Peer
    from turnout.relay import Relay
    from turnout.router import Router

Pairs: TypeAlias = "tuple[tuple[str, str], ...]"
"""Names and values of labels."""

LATE = {
    LateResponse: "response",
    LateProgress: "progress",
    Unmatched: "unmatched",
    Refused: "refused",
}

SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
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

MAX_CACHED = 4096
"""Kinds of requests whose labels are remembered; a peer may name a new tool each time."""


class Durations:
    """The durations of one set of labels.

    Attributes:
        name: of the metric.
        labels: the labels.
        counts: how many are in each bucket, those beyond the last bound at the end.
        total: their sum, in seconds.

    """

    __slots__ = ("counts", "labels", "name", "total")

    def __init__(self, name: str, labels: Pairs) -> None:
        self.name = name
        self.labels = labels
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0


class Measuring:
    """Measures a router's requests until it is closed.

    Args:
        router: the router.
        relays: those whose queues are measured.
        max_labels: as for `turnout.telemetry.prometheus`.
        heard: called with each duration, and what it was added to; None for nothing.

    Attributes:
        durations: by name and labels.
        counts: likewise.

    """

    def __init__(
        self,
        router: Router,
        relays: Sequence[Relay],
        max_labels: int,
        heard: Callable[[Durations, float], object] | None = None,
    ) -> None:
        self._router = router
        self._relays = relays
        self._labels = Labels(max_labels)
        self._heard = heard
        self._closed = False
        self.durations: dict[tuple[str, Pairs], Durations] = {}
        self.counts: dict[tuple[str, Pairs], int] = {}
        self._kinds: dict[tuple[str | None, ...], Durations] = {}
        self._outcomes: dict[tuple[str | None, ...], tuple[str, Pairs]] = {}
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

    # ---- what happens ----

    def _finished(self, record: Record) -> None:
        self._measure(record)
        ended = (record.outcome, record.cancelled_by, record.principal)
        known = self._outcomes.get(ended)
        if known is None:
            known = self._outcome(record, ended)
        self.counts[known] = self.counts.get(known, 0) + 1
        for leg in record.legs:
            if leg.ended is not None:
                self._measure(leg)

    def _measure(self, record: Record) -> None:
        """What one request, or one leg, took."""
        kind = (record.direction, record.method, record.target, record.transport, record.outcome)
        durations = self._kinds.get(kind)
        if durations is None:
            durations = self._kind(record, kind)
        self._add(durations, record.duration or 0.0)
        if record.last_progress is not None or record.cancel_requested is not None:
            self._measure_more(record)

    def _measure_more(self, record: Record) -> None:
        """What few requests have."""
        updates = record.progress_accepted
        first, last = record.first_progress, record.last_progress
        if updates > 1 and first is not None and last is not None:
            self._add(self._durations("turnout.progress.gap", ()), (last - first) / (updates - 1))
        if record.progress_dropped:
            self._count("turnout.progress.dropped", record.progress_dropped, ())
        requested = record.cancel_requested
        if requested is not None and record.cancel_written:
            # This is called behind the write.
            labels = (("cancelled_by", record.cancelled_by or ""),)
            self._add(self._durations("turnout.cancel.latency", labels), time.time() - requested)

    def _event(self, event: LateResponse | LateProgress | Unmatched | Refused) -> None:
        if self._closed:
            return
        self._count("turnout.late", 1, (("kind", LATE[type(event)]),))
        if isinstance(event, LateResponse):
            requested, late = event.record.cancel_requested, event.record.late_at
            if requested is not None and late is not None:
                self._add(self._durations("turnout.cancel.settle", ()), late - requested)

    def _lost(self, peer: Peer) -> None:
        side = "server" if peer.came_to_us else "client"
        transport = NETWORK_TRANSPORTS.get(peer.transport, peer.transport)
        durations = self._durations(f"mcp.{side}.session.duration", (("network.transport", transport),))
        self._add(durations, time.monotonic() - peer.since)

    # ---- what is kept of it ----

    def _kind(self, record: Record, kind: tuple[str | None, ...]) -> Durations:
        side = "server" if record.direction == "inbound" else "client"
        durations = self._durations(f"mcp.{side}.operation.duration", self._labels.of_operation(record))
        if len(self._kinds) >= MAX_CACHED:
            self._kinds.clear()
        self._kinds[kind] = durations
        return durations

    def _outcome(self, record: Record, ended: tuple[str | None, ...]) -> tuple[str, Pairs]:
        labels = zip(("outcome", "cancelled_by", "principal"), self._labels.of_outcome(record), strict=True)
        if len(self._outcomes) >= MAX_CACHED:
            self._outcomes.clear()
        self._outcomes[ended] = known = ("turnout.outcomes", tuple(labels))
        return known

    def _durations(self, name: str, labels: Pairs) -> Durations:
        known = self.durations.get((name, labels))
        if known is None:
            known = self.durations[name, labels] = Durations(name, labels)
        return known

    def _add(self, durations: Durations, seconds: float) -> None:
        # Clocks may differ by a little.
        seconds = max(seconds, 0.0)
        durations.counts[bisect_left(SECONDS, seconds)] += 1
        durations.total += seconds
        if self._heard is not None:
            self._heard(durations, seconds)

    def _count(self, name: str, more: int, labels: Pairs) -> None:
        self.counts[name, labels] = self.counts.get((name, labels), 0) + more


__all__ = ["COUNTERS", "GAUGES", "HISTOGRAMS", "SECONDS", "Durations", "Measuring", "Pairs"]
