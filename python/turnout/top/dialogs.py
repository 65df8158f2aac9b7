"""What the person is asked: a reason before anything is cancelled; and what is shown of one request."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from turnout.escape import escaped
from turnout.top.model import seconds

if TYPE_CHECKING:
    from typing import ClassVar

    from textual.app import ComposeResult

MAX_REASON = 1000

LEAVE = Binding("escape", "leave", "back")


class AskReason(ModalScreen[str | None]):
    """Asks why; gives the reason, or None where nothing is to be cancelled after all.

    Args:
        about: what is to be cancelled.

    """

    BINDINGS: ClassVar[list[Binding]] = [LEAVE]  # type: ignore[assignment]
    DEFAULT_CSS = """
    AskReason { align: center middle; }
    AskReason > Vertical { width: 70; height: auto; border: round $error; padding: 0 1; background: $surface; }
    """

    def __init__(self, about: str) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        """Make its parts."""
        with Vertical():
            yield Static(Text(f"cancel {self._about}"))
            yield Input(placeholder="reason (Enter cancels it, Escape does not)", max_length=MAX_REASON)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the reason."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Cancel nothing."""
        self.dismiss(None)


class ShowRecord(ModalScreen[None]):
    """Shows the record of one request, its legs as a time line.

    Args:
        record: as its gateway gives it; None where it has none any more.

    """

    BINDINGS: ClassVar[list[Binding]] = [LEAVE, Binding("enter", "leave", "back", show=False)]  # type: ignore[assignment]
    DEFAULT_CSS = """
    ShowRecord { align: center middle; }
    ShowRecord > VerticalScroll { width: 90%; height: 80%; border: round $primary; padding: 0 1; background: $surface; }
    """

    def __init__(self, record: dict[str, Any] | None) -> None:
        super().__init__()
        self._record = record

    def compose(self) -> ComposeResult:
        """Make its parts."""
        with VerticalScroll():
            yield Static(Text("\n".join(told(self._record))))

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


def told(record: dict[str, Any] | None) -> list[str]:
    """The lines that tell of a record, fit for a terminal."""
    if record is None:
        return ["its gateway has no record of it any more"]
    lines = [f"{name:18} {shown(name, value)}" for name, value in record.items() if _is_said(name, value)]
    lines += ["", "time line, seconds from its start"]
    return lines + time_line(record)


def _is_said(name: str, value: object) -> bool:
    return name != "legs" and value not in (None, False, "", 0)


TIMES = frozenset({
    "created", "written", "first_progress", "last_progress", "ended", "cancel_requested", "late_at",
})  # fmt: skip
"""The fields that are moments."""


def shown(name: str, value: object) -> str:
    """A field's value in one line."""
    if name in TIMES and isinstance(value, (int, float)):
        return dt.datetime.fromtimestamp(value).astimezone().strftime("%H:%M:%S.%f")[:-3]
    if name in {"duration", "cleanup_duration"} and isinstance(value, (int, float)):
        return seconds(value)
    if isinstance(value, dict):
        return ", ".join(f"{escaped(str(key), 40)} {escaped(str(each))}" for key, each in value.items())
    return escaped(str(value))


def time_line(record: dict[str, Any]) -> list[str]:
    """When what happened to a request and its legs, in the order of time."""
    start = record.get("created")
    legs = record.get("legs")
    sides = [("client", record), *(("to " + escaped(str(leg.get("peer")), 30), leg) for leg in legs or ())]
    moments = sorted(
        (value, side, name)
        for side, each in sides
        for name in TIMES
        if isinstance(value := each.get(name), (int, float))
    )
    if not isinstance(start, (int, float)):
        return []
    return [f"{value - start:12.3f}  {side:24} {name.replace('_', ' ')}" for value, side, name in moments]


__all__ = ["AskReason", "ShowRecord", "told"]
