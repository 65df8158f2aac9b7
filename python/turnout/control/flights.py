"""What is in flight at a router, looked at again and again: rows, what changed in them, and what is over."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from turnout._native import LiveFlights
from turnout.control.rows import Row, mark_asking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnout._native import Record
    from turnout.router import Router

    Redact = Callable[[dict[str, Any]], Mapping[str, Any] | None]

MAX_ROWS = 2_000
"""Requests that are told one by one, the oldest; of more there is their number. A snapshot of so many takes 50 ms."""

MAX_OVER = 10_000
"""Requests that are over of which viewers are told, and whose records are found by their handles."""

SETTLING_SECONDS = 3.0
"""Seconds that a cancelled request stays to be seen: its handler stops meanwhile, or its late answer comes."""


class Flights:
    """The rows of a router.

    Args:
        router: whose connections are looked at.
        most: rows at once.

    Attributes:
        generation: how many times it was looked.
        total: what is in flight, rows or not.
        waiting: rows that wait for an upstream.

    """

    def __init__(self, router: Router, most: int = MAX_ROWS) -> None:
        self._router = router
        self._most = most
        self._native = LiveFlights(os.urandom(32))
        self._rows: dict[Record, Row] = {}
        self._over: OrderedDict[str, tuple[int, Row]] = OrderedDict()
        self._forgotten = 0
        self.generation = 0
        self.total = 0
        self.waiting = 0

    @property
    def rows(self) -> list[Row]:
        """All of them, the oldest first."""
        return list(self._rows.values())

    def look(self) -> None:
        """Look what is in flight now."""
        self.generation += 1
        self.total = 0
        rows, live = self._rows, set()
        for peer in self._router.peers:
            connection = peer.connection
            for record, size in self._native.of(connection):
                self.total += 1
                if record in rows:
                    live.add(record)
                elif len(rows) < self._most:
                    rows[record] = Row(self._native.handle(connection, record), record, size)
                    live.add(record)
        now = asyncio.get_running_loop().time()
        for record in [record for record in rows if record not in live]:
            self._end(record, now)
        for row in rows.values():
            row.look()
        mark_asking(self.rows)
        self.waiting = 0
        for row in rows.values():
            if row.has_changed():
                row.changed = self.generation
            if row.ended is None and row.is_waiting:
                self.waiting += 1

    def _end(self, record: Record, now: float) -> None:
        row = self._rows[record]
        if row.ended is None:
            row.ended = now
        if row.is_settling and now - row.ended < SETTLING_SECONDS:
            return
        del self._rows[record]
        self._over[row.handle] = (self.generation, row)
        while len(self._over) > MAX_OVER:
            _, (self._forgotten, _) = self._over.popitem(last=False)

    def changed_since(self, generation: int) -> tuple[list[Row], list[Row]] | None:
        """The rows that changed since a look, and those that are over; None where that is not known any more."""
        if generation < self._forgotten:
            return None
        changed = [row for row in self._rows.values() if row.changed > generation]
        over: list[Row] = []
        for at, row in reversed(self._over.values()):
            if at <= generation:
                break
            over.append(row)
        return changed, over

    def find(self, handle: str) -> Record | None:
        """The record of a row, also of one that is over; None where there is none, or not any more."""
        for record, row in self._rows.items():
            if row.handle == handle:
                return record
        known = self._over.get(handle)
        return None if known is None else known[1].record

    def cancel(self, handle: str, reason: str | None) -> bool:
        """End the request that a handle names; False where it is over.

        Raises:
            KeyError: there was none of that name.

        """
        if not handle.isascii():
            raise KeyError(handle)
        return self._native.cancel(handle, reason)

    def forget(self) -> None:
        """Keep no rows while nobody looks; handles stay good."""
        self._rows.clear()
        self._over.clear()
        self._forgotten = self.generation


__all__ = ["MAX_ROWS", "Flights"]
