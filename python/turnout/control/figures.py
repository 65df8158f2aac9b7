"""Figures for people who look: how many ended how, how soon cancels settle, what came late."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from turnout._native import Record
    from turnout.control.flights import Flights
    from turnout.records import Records, RecordStream

MAX_CANCELS = 1000
"""Cancels of which the figures are made, the newest."""

CAPACITY = 4096
"""Records that wait between two looks; of more the oldest are not counted."""


class Figures:
    """The figures of a router while somebody looks.

    Args:
        records: its finished records.

    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stream: RecordStream | None = None
        self._cancels: deque[Record] = deque(maxlen=MAX_CANCELS)

    def start(self) -> None:
        """Follow what ends from now on."""
        if self._stream is None:
            self._stream = self._records.follow(CAPACITY)

    def stop(self) -> None:
        """Follow nothing, while nobody looks."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def look(self) -> None:
        """Take what has ended since."""
        if self._stream is not None:
            for record in self._stream.taken():
                if record.cancelled_by is not None:
                    self._cancels.append(record)

    def as_dict(self, flights: Flights) -> dict[str, Any]:
        """The figures as they stand.

        `settled` has seconds from a cancel to the end of its handler, or to the late answer that came of it.
        """
        took = sorted(found for found in map(settled, self._cancels) if found is not None)
        late = sum(1 for record in self._cancels if was_late(record))
        return {
            "in_flight": flights.total,
            "shown": len(flights.rows),
            "waiting": flights.waiting,
            "outcomes": self._records.counts,
            "cancels": len(self._cancels),
            "late": late,
            "settled": {"p50": percentile(took, 50), "p99": percentile(took, 99), "count": len(took)},
        }


def settled(record: Record) -> float | None:
    """Seconds from the cancel of a request to the end of its handler or its late answer; None for neither."""
    if record.cleanup_duration is not None:
        return record.cleanup_duration
    asked = record.cancel_requested
    ends = [leg.late_at for leg in (record, *record.legs) if leg.late_at is not None]
    return None if asked is None or not ends else max(0.0, max(ends) - asked)


def was_late(record: Record) -> bool:
    """Whether an answer came after its cancel."""
    return any(each.late_response is not None for each in (record, *record.legs))


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Of numbers in order, the least that so many percent of them do not exceed; None of none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


__all__ = ["Figures", "percentile"]
