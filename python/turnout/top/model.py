"""What is known of all gateways that are looked at: their rows and figures, filtered and in an order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from turnout.escape import escaped

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN_MESSAGE = 60
"""Characters of a progress message, a target or a name that one row shows."""


@dataclass
class Seen:
    """One gateway, as its viewer was told of it.

    Attributes:
        place: where it is asked.
        name: what it calls itself.
        rows: what is in flight, by handle.
        figures: the last that came; empty before.
        rates: ends a second by outcome, between the last two figures.
        ahead: seconds that its clock is ahead of ours.
        error: why nothing is told at present; None where something is.

    """

    place: str
    name: str = ""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    ahead: float = 0.0
    error: str | None = None
    _figures_at: float = 0.0

    def apply(self, event: str, data: dict[str, Any]) -> None:
        """Take an event of its stream; what is not as it should be is left out."""
        now = _number(data.get("now")) or time.time()
        self.ahead = now - time.time()
        self.error = None
        if event == "snapshot":
            self.rows.clear()
            self.name = str(data.get("name", ""))
        for row in _objects(data.get("rows")):
            if isinstance(row.get("handle"), str):
                self.rows[row["handle"]] = row
        for over in _objects(data.get("over")):
            self.rows.pop(str(over.get("handle")), None)
        figures = data.get("figures")
        if isinstance(figures, dict):
            self._take_figures(figures, now)

    def _take_figures(self, figures: dict[str, Any], now: float) -> None:
        before, passed = self.figures, now - self._figures_at
        if before and passed > 0:
            counts, earlier = _counts(figures), _counts(before)
            self.rates = {
                name: max(0, count - earlier.get(name, 0)) / passed for name, count in counts.items()
            }
        self.figures, self._figures_at = figures, now

    def lost(self, why: str) -> None:
        """Take note that it tells nothing at present: what was in flight is not known any more."""
        self.rows.clear()
        self.figures, self.rates, self.error = {}, {}, why


@dataclass(frozen=True)
class Line:
    """One row of one gateway."""

    seen: Seen
    row: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """What no other line has: the gateway, and the handle."""
        return self.seen.place, self.row["handle"]

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return max(0.0, time.time() + self.seen.ahead - (_number(self.row.get("created")) or 0.0))

    @property
    def state(self) -> str:
        """What it is at."""
        return self.text("state")

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1; None where nobody knows."""
        progress = self.row.get("progress")
        if not isinstance(progress, dict):
            return None
        done, total = _number(progress.get("progress")), _number(progress.get("total"))
        return None if done is None or not total or total < 0 else min(1.0, max(0.0, done / total))

    @property
    def progress_text(self) -> str:
        """The number of the last progress and its message, fit for a terminal."""
        progress = self.row.get("progress")
        if not isinstance(progress, dict):
            return ""
        done, message = _number(progress.get("progress")), progress.get("message")
        number = "" if done is None or self.fraction is not None else f"{done:g} "
        return number + escaped("" if message is None else str(message), SHOWN_MESSAGE)

    @property
    def what(self) -> str:
        """The method and what it is about."""
        method, target = self.text("method"), self.text("target")
        return f"{method} {target}" if target else method

    @property
    def bytes(self) -> float:
        """Bytes of the request."""
        return _number(self.row.get("bytes")) or 0

    def text(self, name: str) -> str:
        """A field, fit for a terminal; empty for none."""
        value = self.row.get(name)
        return "" if value is None else escaped(str(value), SHOWN_MESSAGE)


ORDERS: dict[str, Callable[[Line], Any]] = {
    "age": lambda line: -line.age,
    "client": lambda line: (line.text("client"), -line.age),
    "upstream": lambda line: (line.text("upstream"), -line.age),
    "what": lambda line: (line.what, -line.age),
    "state": lambda line: (line.state, -line.age),
    "bytes": lambda line: -line.bytes,
}
"""The orders that there are; the first is the usual one."""


class Model:
    """All gateways.

    Args:
        places: where they are asked.

    Attributes:
        order: of the lines, one of `ORDERS`.
        wanted: what a line has to have in one of its texts, whatever its case; empty for everything.

    """

    def __init__(self, places: list[str]) -> None:
        self.gateways = {place: Seen(place) for place in places}
        self.order = next(iter(ORDERS))
        self.wanted = ""

    def lines(self) -> list[Line]:
        """The lines that are wanted, in order."""
        found = [Line(seen, row) for seen in self.gateways.values() for row in seen.rows.values()]
        wanted = self.wanted.casefold()
        if wanted:
            found = [line for line in found if wanted in _searched(line)]
        return sorted(found, key=ORDERS[self.order])

    def next_order(self) -> str:
        """Take the next order."""
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        return self.order

    def of_client(self, line: Line) -> list[Line]:
        """Everything that a line's client has in flight at its gateway."""
        client = line.row.get("client")
        rows = line.seen.rows.values()
        return [Line(line.seen, row) for row in rows if row.get("client") == client]

    @property
    def summary(self) -> str:
        """The figures of all gateways, in one line."""
        told = [seen for seen in self.gateways.values() if seen.figures]
        rates: dict[str, float] = {}
        for seen in told:
            for name, rate in seen.rates.items():
                rates[name] = rates.get(name, 0.0) + rate
        ends = " ".join(f"{name} {rate:.1f}/s" for name, rate in rates.items() if rate > 0) or "nothing ends"
        parts = [
            f"{_total(told, 'in_flight')} in flight, {_total(told, 'waiting')} queued",
            ends,
            f"cancels settle in {_settled(told, 'p50')} (p50), {_settled(told, 'p99')} (p99)",
            f"{_total(told, 'late')} late",
        ]
        return " | ".join(parts)

    @property
    def troubles(self) -> list[str]:
        """The gateways that tell nothing, and why."""
        return [seen.error for seen in self.gateways.values() if seen.error is not None]


def _searched(line: Line) -> str:
    names = ("client", "principal", "upstream", "method", "target", "state", "id", "label")
    return "\n".join([*map(line.text, names), line.progress_text, escaped(line.seen.name)]).casefold()


def _total(told: list[Seen], name: str) -> int:
    return int(sum(_number(seen.figures.get(name)) or 0 for seen in told))


def _settled(told: list[Seen], name: str) -> str:
    """The greatest that a gateway tells: percentiles of several have no sum."""
    found = [
        value
        for seen in told
        if isinstance(settled := seen.figures.get("settled"), dict)
        and (value := _number(settled.get(name))) is not None
    ]
    return seconds(max(found)) if found else "-"


def seconds(value: float) -> str:
    """A duration, in a few characters."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(value: float) -> str:
    """A number of bytes, in a few characters."""
    for unit in ("B", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _counts(figures: dict[str, Any]) -> dict[str, float]:
    outcomes = figures.get("outcomes")
    if not isinstance(outcomes, dict):
        return {}
    return {escaped(str(name), 20): _number(count) or 0 for name, count in outcomes.items()}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


__all__ = ["ORDERS", "Line", "Model", "Seen", "seconds", "size"]
