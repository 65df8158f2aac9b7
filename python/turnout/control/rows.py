"""One row of what is in flight: what is told of a request while it runs, and shortly after a cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from turnout.records import plain

if TYPE_CHECKING:
    from turnout._native import Progress, Record

State = Literal["running", "asking", "cancelling", "late"]

ASKS = frozenset({"elicitation/create", "sampling/createMessage", "roots/list"})
"""What a server asks during a request of its client's."""


class Row:
    """A request in flight, as viewers are told of it.

    Args:
        handle: its name.
        record: its evidence.
        size: bytes of what came in; 0 for a request of ours.

    Attributes:
        leg: what it was last passed on as, when it was last looked at; None for nothing.
        changed: the look at which it last changed.
        ended: when it was seen to be over, on the loop's clock; None while it runs.

    """

    __slots__ = ("_seen", "asking", "changed", "ended", "handle", "leg", "record", "size")

    def __init__(self, handle: str, record: Record, size: int) -> None:
        self.handle = handle
        self.record = record
        self.size = size
        self.asking = False
        self.leg: Record | None = None
        self.changed = 0
        self.ended: float | None = None
        self._seen: object = None

    def look(self) -> None:
        """Look what it was passed on as by now."""
        legs = self.record.legs
        self.leg = legs[-1] if legs else None

    def has_changed(self) -> bool:
        """Whether anything that is told of it is new since this was last asked."""
        record, leg = self.record, self.leg
        followed = record if leg is None else leg
        seen = (
            self.asking,
            record.round,
            record.cancelled_by,
            record.outcome,
            record.cleanup,
            leg,
            followed.progress_accepted,
            followed.written,
            followed.outcome,
            followed.late_response,
        )
        if seen == self._seen:
            return False
        self._seen = seen
        return True

    @property
    def client(self) -> str:
        """Who asked; empty where we did."""
        return self.record.peer if self.record.direction == "inbound" else ""

    @property
    def upstream(self) -> str:
        """Who is asked; empty where that is nobody, or not decided."""
        if self.record.direction == "outbound":
            return self.record.peer
        return "" if self.leg is None else self.leg.peer

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for an upstream to take it: it was not written yet."""
        if self.record.direction == "outbound":
            return self.record.written is None
        leg = self.leg
        return leg is not None and leg.written is None and leg.outcome is None

    @property
    def state(self) -> State:
        """What it is at."""
        record, leg = self.record, self.leg
        if (record if leg is None else leg).late_response is not None:
            return "late"
        if record.cancelled_by is not None or self.ended is not None:
            return "cancelling"
        return "asking" if self.asking else "running"

    @property
    def is_settling(self) -> bool:
        """Whether something may still be heard of it: it ended by a cancel or a deadline, and not by an answer."""
        leg = self.leg
        how = self.record.outcome if leg is None else leg.outcome
        return self.record.cancelled_by is not None or how in {"cancelled", "idle_timeout", "max_timeout"}

    def as_dict(self) -> dict[str, Any]:
        """Its fields, made of plain values."""
        record, leg = self.record, self.leg
        progress: Progress | None = (record if leg is None else leg).progress
        return {
            "handle": self.handle,
            "id": spelled_id(record),
            "method": record.method,
            "target": record.target,
            "principal": record.principal,
            "label": record.label,
            "client": self.client,
            "upstream": self.upstream,
            "direction": record.direction,
            "transport": record.transport,
            "created": record.created,
            "state": self.state,
            "waiting": self.is_waiting,
            "round": record.round,
            "bytes": self.size,
            "outcome": record.outcome,
            "cancelled_by": record.cancelled_by,
            "cancel_reason": record.cancel_reason,
            "progress": None if progress is None else progress_dict(progress),
        }


def spelled_id(record: Record) -> int | str:
    """The id of a request as JSON has it."""
    known = record.id
    return known.decode("ascii", "backslashreplace") if isinstance(known, bytes) else known


def progress_dict(progress: Progress) -> dict[str, Any]:
    """An update, made of plain values."""
    told = {"progress": progress.progress, "total": progress.total, "message": progress.message}
    fields: dict[str, Any] = plain(told)
    return fields


def mark_asking(rows: list[Row]) -> None:
    """Find out which requests wait for their clients, whom a server asks something meanwhile.

    A question of a server's, or of ours, is a row of its own. It belongs to what its client asked of that server.
    """
    asked: set[tuple[str, str]] = set()
    for row in rows:
        if row.record.method in ASKS and row.ended is None:
            # Who is asked, and who asks: empty where we do.
            asked.add((row.upstream, row.client))
    for row in rows:
        row.asking = bool(asked) and _is_asking(row, asked)


def _is_asking(row: Row, asked: set[tuple[str, str]]) -> bool:
    if row.record.direction != "inbound" or row.record.method in ASKS:
        return False
    if (row.client, row.upstream) in asked:
        return True
    return (row.client, "") in asked and (row.leg is None or row.leg.outcome is not None)


__all__ = ["ASKS", "Row", "State", "mark_asking"]
