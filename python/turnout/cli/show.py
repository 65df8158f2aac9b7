"""What a person sees of a call: its progress, its result, and its record as a table and a sentence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.highlighter import JSONHighlighter
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from turnout import json
from turnout.escape import escaped
from turnout.indented import indented

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from typing_extensions import Self

    import turnout

# Escaped in JSON these mean the same; raw they move a terminal's cursor or turn its text around.
_UNSAFE = re.compile(r"[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

OUTCOME_STYLES = {"result": "green", "error": "red", "cancelled": "yellow", "declined": "yellow"}
"""Everything else, a timeout or a loss, is red."""


class ProgressBar:
    """The server's progress as a bar on a terminal, or as a line per update elsewhere.

    Args:
        console: where to.
        title: shown until the server says something.

    """

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._title = title
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=None, amount="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, update: turnout.Progress) -> None:
        """Show an update."""
        message = escaped(update.message) if update.message else ""
        of = "" if update.total is None else f"/{update.total:g}"
        amount = f"{update.progress:g}{of}"
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=update.progress,
                total=update.total,
                description=message or self._title,
                amount=amount,
            )
            return
        line = f"progress {amount} {message}".rstrip()
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def result_text(result: Any, *, compact: bool) -> str:
    """A result as JSON that does nothing to a terminal."""
    text = json.dumps(result).decode() if compact else indented(result)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def encodable(text: str, encoding: str) -> str:
    """JSON in the characters of an encoding: where it lacks one, all but ASCII is escaped."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(each if each.isascii() else ascii_json(each) for each in text)
    return text


def ascii_json(character: str) -> str:
    """Spell one character as JSON does: by UTF-16 units, two of them where it takes two."""
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def highlighted(text: str) -> Text:
    """JSON for a terminal, coloured and otherwise as it is: nothing reads it and writes it anew."""
    shown = JSONHighlighter()(text)
    shown.no_wrap, shown.overflow = True, None
    return shown


def sentence(record: turnout.Record) -> str:
    """What happened, in one sentence."""
    took = "" if record.duration is None else f" after {record.duration:.2f} s"
    what = {
        None: "Still in flight",
        "result": f"Answered with a result{took}",
        "error": f"Answered with an error{took}",
        "cancelled": f"Cancelled by the {record.cancelled_by}{took}",
        "declined": f"Finished without an answer{took}",
        "idle_timeout": f"Timed out{took}, with too long a silence",
        "max_timeout": f"Timed out{took}, the most it was given",
        "peer_closed": f"Lost{took}: the server closed the connection",
        "peer_exited": f"Lost{took}: the server exited{_exit_code(record.exit_code)}",
        "peer_silent": f"Lost{took}: the server left our pings without an answer",
        "evicted": f"Lost{took}: the connection held more than all others, and all together too much",
        "closed": f"Given up{took}: the connection was closed on our side",
    }.get(record.outcome, f"Ended as {record.outcome}{took}")
    return "".join((what, _reason(record), _progress(record), _told(record), _late(record), "."))


def record_table(record: turnout.Record) -> RenderableType:
    """One record: the sentence, and the fields that say something."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _fields(record):
        table.add_row(name, Text(value))
    return Group(Text(sentence(record), style=outcome_style(record)), table)


def records_table(title: str, groups: Iterable[tuple[str, list[tuple[str, turnout.Record]]]]) -> Table:
    """Several records, a row and a sentence each.

    Args:
        title: of the table.
        groups: a heading each, with what was done and its record.

    """
    table = Table(title=title, title_justify="left")
    for column in ("what was done", "outcome", "what the record tells"):
        table.add_column(column, overflow="fold")
    for heading, rows in groups:
        table.add_section()
        table.add_row(Text(heading, style="bold"))
        for what, record in rows:
            outcome = Text(str(record.outcome), style=outcome_style(record))
            table.add_row(Text(f"  {what}"), outcome, Text(sentence(record)))
    return table


def outcome_style(record: turnout.Record) -> str:
    """The colour of an outcome."""
    return OUTCOME_STYLES.get(record.outcome or "", "red")


def _fields(record: turnout.Record) -> Iterable[tuple[str, str]]:
    start = record.created

    def since(moment: float | None) -> str:
        return "never" if moment is None else f"+{moment - start:.3f} s"

    yield "request", f"{escaped(str(record.id))} {escaped(record.method)}, {record.direction}"
    yield "peer", f"{escaped(record.peer)} ({record.transport})"
    yield "written", since(record.written)
    if record.progress is not None:
        counts = f"{record.progress_accepted} accepted, {record.progress_dropped} dropped"
        moments = f"first {since(record.first_progress)}, last {since(record.last_progress)}"
        yield "progress", f"{_of(record.progress)}; {counts}; {moments}"
    yield "ended", f"{since(record.ended)} as {record.outcome}"
    if record.cancel_requested is not None:
        written = "written to the server" if record.cancel_written else "not written to the server"
        yield "cancel", f"{since(record.cancel_requested)} by the {record.cancelled_by}, {written}"
    if record.cancel_reason is not None:
        yield "reason", escaped(record.cancel_reason)
    if record.late_response is not None:
        yield "late answer", f"{since(record.late_at)}, {_article(record.late_response)}"
    if record.late_progress:
        yield "late progress", str(record.late_progress)
    if record.exit_code is not None:
        yield "exit code", str(record.exit_code)


def _of(update: turnout.Progress) -> str:
    of = "" if update.total is None else f" of {update.total:g}"
    message = f", {escaped(update.message, 60)}" if update.message else ""
    return f"{update.progress:g}{of}{message}"


def _exit_code(code: int | None) -> str:
    if code is None:
        return ""
    return f" by signal {-code}" if code < 0 else f" with code {code}"


def _reason(record: turnout.Record) -> str:
    if record.outcome != "cancelled" or not record.cancel_reason:
        return ""
    return f" ({escaped(record.cancel_reason, 80)})"


def _progress(record: turnout.Record) -> str:
    if record.progress is None or record.outcome == "result":
        return ""
    return f", at {_of(record.progress)}"


def _told(record: turnout.Record) -> str:
    if record.cancel_requested is None or record.direction != "outbound":
        return ""
    return "; the server was told" if record.cancel_written else "; the server was not told"


def _late(record: turnout.Record) -> str:
    if record.late_response is not None and record.late_at is not None and record.ended is not None:
        return f"; {_article(record.late_response)} came {record.late_at - record.ended:.2f} s late"
    if record.late_progress:
        return f"; late progress came {_times(record.late_progress)}"
    return ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
