"""The list of what is in flight: only the lines that are on the screen are drawn, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from turnout.top.model import seconds, size

if TYPE_CHECKING:
    from typing import ClassVar

    from textual import events

    from turnout.top.model import Line

COLUMNS = (
    ("age", 8),
    ("state", 10),
    ("principal", 12),
    ("client", 18),
    ("upstream", 14),
    ("method and target", 30),
    ("progress", 12),
    ("message", 30),
    ("bytes", 9),
)
"""What a line has, and how wide; the message takes what is left of the screen."""

BAR = 10
"""Characters of a full bar."""

STATES = {
    "running": Style(color="green"),
    "asking": Style(color="yellow"),
    "cancelling": Style(color="red"),
    "late": Style(color="magenta", bold=True),
}

HEAD = Style(bold=True, reverse=True)
CHOSEN = Style(reverse=True)
PLAIN = Style()
DONE = Style(color="cyan")


class FlightList(Widget, can_focus=True):
    """The lines, of which one is chosen; the choice stays with its request where others come and go."""

    BINDINGS: ClassVar[list[Binding]] = [  # type: ignore[assignment]
        Binding("up", "choose(-1)", "up", show=False),
        Binding("down", "choose(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("home", "choose(-1000000000)", "first", show=False),
        Binding("end", "choose(1000000000)", "last", show=False),
        Binding("enter", "open", "record"),
    ]

    class Opened(Message):
        """A line is to be looked at more closely."""

        def __init__(self, line: Line) -> None:
            super().__init__()
            self.line = line

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = []
        self._key: tuple[str, str] | None = None
        self._at = self._top = 0

    @property
    def lines(self) -> list[Line]:
        """What it shows."""
        return self._lines

    @property
    def chosen(self) -> Line | None:
        """The line that is chosen; None where there is none."""
        return self._lines[self._at] if self._lines else None

    def show(self, lines: list[Line]) -> None:
        """Show these lines from now on."""
        self._lines = lines
        if self._key is not None:
            found = next((at for at, line in enumerate(lines) if line.key == self._key), None)
            if found is not None:
                self._at = found
        self._at = max(0, min(self._at, len(lines) - 1))
        self._key = lines[self._at].key if lines else None
        self.refresh()

    def action_choose(self, by: int) -> None:
        """Choose another line, so many further down."""
        if self._lines:
            self._at = max(0, min(self._at + by, len(self._lines) - 1))
            self._key = self._lines[self._at].key
            self.refresh()

    def action_page(self, by: int) -> None:
        """Choose another line, so many pages further down."""
        self.action_choose(by * self._page)

    def action_open(self) -> None:
        """Look at the chosen line more closely."""
        if self.chosen is not None:
            self.post_message(self.Opened(self.chosen))

    def on_click(self, event: events.Click) -> None:
        """Choose the line that was clicked."""
        at = event.y - 1 + self._first
        if event.y > 0 and at < len(self._lines):
            self.action_choose(at - self._at)

    def on_mouse_scroll_down(self) -> None:
        """Choose a line further down."""
        self.action_choose(1)

    def on_mouse_scroll_up(self) -> None:
        """Choose a line further up."""
        self.action_choose(-1)

    @property
    def _page(self) -> int:
        """Lines below the head."""
        return max(1, self.size.height - 1)

    @property
    def _first(self) -> int:
        """The first line below the head: the one of before, as long as the chosen one can be seen."""
        last = max(0, len(self._lines) - self._page)
        self._top = min(max(self._top, self._at - self._page + 1, 0), self._at, last)
        return self._top

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen; the head is the first."""
        width = self.size.width
        if y == 0:
            segments = [Segment(set_cell_size(name, cells), HEAD) for (name, _), cells in self._widths(width)]
            return Strip(_spaced(segments, HEAD)).adjust_cell_length(width, HEAD)
        at = y - 1 + self._first
        if at >= len(self._lines):
            return Strip.blank(width)
        line, base = self._lines[at], CHOSEN if at == self._at else PLAIN
        segments = [
            Segment(set_cell_size(text, cells), style if base is PLAIN else base)
            for (text, style), (_, cells) in zip(_cells(line), self._widths(width), strict=True)
        ]
        return Strip(_spaced(segments, base)).adjust_cell_length(width, base)

    def _widths(self, width: int) -> list[tuple[tuple[str, int], int]]:
        rest = width - sum(cells for _, cells in COLUMNS) - len(COLUMNS) + 1
        return [
            ((name, cells), max(10, cells + rest) if name == "message" else cells) for name, cells in COLUMNS
        ]


def _spaced(segments: list[Segment], style: Style) -> list[Segment]:
    gap = Segment(" ", style)
    return [each for segment in segments for each in (segment, gap)][:-1]


def _cells(line: Line) -> list[tuple[str, Style]]:
    """The texts of a line; each of a peer's is escaped where the model gives it."""
    state = line.state
    asked = "queued" if state == "running" and line.row.get("waiting") else state
    fraction = line.fraction
    bar = "" if fraction is None else "#" * round(fraction * BAR)
    return [
        (seconds(line.age), PLAIN),
        (asked, STATES.get(state, PLAIN)),
        (line.text("principal"), PLAIN),
        (line.text("client"), PLAIN),
        (line.text("upstream"), PLAIN),
        (line.what, PLAIN),
        ("" if fraction is None else f"{bar:.<{BAR}}", DONE),
        (line.progress_text, PLAIN),
        (size(line.bytes) if line.bytes else "", PLAIN),
    ]


__all__ = ["COLUMNS", "FlightList"]
