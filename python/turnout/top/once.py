"""What is in flight now, as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnout.top.model import Model, seconds, size

FILE_WIDTH = 200
"""Columns of what goes to no terminal."""


def print_table(told: list[dict[str, Any]]) -> None:
    """Print what gateways told, as `turnout.top.sources.once` gives it."""
    model = Model([each["place"] for each in told])
    for each in told:
        if "error" not in each:
            model.gateways[each["place"]].apply("snapshot", each)
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("age", "state", "principal", "client", "upstream", "request", "done", "message", "bytes"):
        table.add_column(column, overflow="fold")
    for line in model.lines():
        done = "" if line.fraction is None else f"{line.fraction:.0%}"
        texts = [
            seconds(line.age),
            line.state,
            *map(line.text, ("principal", "client", "upstream")),
            line.what,
        ]
        texts += [done, line.progress_text, size(line.bytes) if line.bytes else ""]
        table.add_row(*map(Text, texts))
    console.print(table)
    console.print(Text(model.summary))


__all__ = ["print_table"]
