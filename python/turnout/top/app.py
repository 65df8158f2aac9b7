"""The program in the terminal: the list, the figures below it, and what its keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.app import App
from textual.binding import Binding
from textual.widgets import Footer, Input, Static

from turnout.control.client import ControlError
from turnout.top.dialogs import AskReason, ShowRecord
from turnout.top.flight_list import FlightList
from turnout.top.model import Model
from turnout.top.sources import Sources

if TYPE_CHECKING:
    from typing import ClassVar

    from textual.app import ComposeResult

    from turnout.top.model import Line

INTERVAL = 0.1
"""Seconds between two drawings, at least."""


class Top(App[None]):
    """What is in flight behind these gateways.

    Args:
        places: where they are asked.
        token: what those over HTTP are sent; None for none.

    """

    TITLE = "turnout top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: 1; background: $panel; }
    #troubles { height: auto; max-height: 3; color: $error; }
    #filter { display: none; height: 3; }
    #filter.shown { display: block; }
    FlightList { height: 1fr; }
    """
    BINDINGS: ClassVar[list[Binding]] = [  # type: ignore[assignment]
        Binding("c", "cancel", "cancel"),
        Binding("C", "cancel_client", "cancel the client's"),
        Binding("slash", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("p", "pause", "pause"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, places: list[str], token: str | None = None) -> None:
        super().__init__()
        self.model = Model(places)
        self.sources = Sources(self.model, token, self._note)
        self.is_paused = False
        self.note = ""
        self._is_stale = True
        self.flights = FlightList()
        self.filter = Input(
            placeholder="what a line has to have; Enter keeps it, Escape drops it", id="filter"
        )
        self.summary = Static(id="summary")
        self.troubles = Static(id="troubles")

    def compose(self) -> ComposeResult:
        """Make its parts."""
        yield self.flights
        yield self.filter
        yield self.summary
        yield self.troubles
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow, and to draw."""
        self.flights.focus()
        self.run_worker(self.sources.follow(), exclusive=True, group="follow")
        self.set_interval(INTERVAL, self._draw)

    def _note(self) -> None:
        self._is_stale = True

    def _draw(self) -> None:
        """Show what is known; ages go on by themselves."""
        if self.is_paused or not self.flights.is_attached:
            return
        if self._is_stale:
            self._is_stale = False
            self.flights.show(self.model.lines())
        else:
            self.flights.refresh()
        self._draw_summary()

    def _draw_summary(self) -> None:
        words = [self.model.summary, f"by {self.model.order}"]
        words += [f"with {self.model.wanted!r}"] if self.model.wanted else []
        words += ["PAUSED"] if self.is_paused else []
        words += [self.note] if self.note else []
        self.summary.update(Text(" | ".join(words)))
        self.troubles.update(Text("\n".join(self.model.troubles)))
        self.troubles.display = bool(self.model.troubles)

    # ---- keys ----

    def action_cancel(self) -> None:
        """Cancel the chosen request."""
        line = self.flights.chosen
        if line is not None:
            self._cancel([line], f"{line.what} of {line.text('client') or 'our own'}")

    def action_cancel_client(self) -> None:
        """Cancel everything that the client of the chosen request has in flight."""
        line = self.flights.chosen
        if line is not None:
            lines = self.model.of_client(line)
            self._cancel(lines, f"all {len(lines)} requests of {line.text('client') or 'our own'}")

    @work
    async def _cancel(self, lines: list[Line], about: str) -> None:
        reason = await self.push_screen_wait(AskReason(about))
        if reason is not None:
            self.note = await self.sources.cancel(lines, reason)
            self._draw_summary()

    @work
    async def on_flight_list_opened(self, event: FlightList.Opened) -> None:
        """Show the record of a request."""
        try:
            record = await self.sources.record(event.line)
        except ControlError as error:
            self.note = str(error)
            self._draw_summary()
            return
        await self.push_screen_wait(ShowRecord(record))

    def action_filter(self) -> None:
        """Ask what lines have to have."""
        self.filter.add_class("shown")
        self.filter.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is written."""
        if event.input is self.filter:
            self.model.wanted = event.value
            self.flights.show(self.model.lines())
            self._draw_summary()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter."""
        if event.input is self.filter:
            self._leave_filter()

    def key_escape(self) -> None:
        """Drop the filter."""
        self.filter.value = ""
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.filter.remove_class("shown")
        self.flights.focus()

    def action_sort(self) -> None:
        """Take the next order."""
        self.model.next_order()
        self.flights.show(self.model.lines())
        self._draw_summary()

    def action_pause(self) -> None:
        """Stop drawing, or go on; what is followed is followed meanwhile."""
        self.is_paused = not self.is_paused
        self._is_stale = True
        self._draw_summary()


__all__ = ["Top"]
