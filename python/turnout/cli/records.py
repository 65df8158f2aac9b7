"""`turnout records`: what a gateway wrote down of finished requests, as a table or as JSON lines."""

from __future__ import annotations

import datetime as dt
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnout import json
from turnout.cli.show import OUTCOME_STYLES, result_text
from turnout.errors import DecodeError
from turnout.escape import escaped
from turnout.gateway.record_file import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

FILE_WIDTH = 160
"""Columns of what goes to no terminal."""


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Give a moment in seconds since the epoch: so long ago, or a date with a time in ISO 8601.

    Raises:
        click.BadParameter: it is neither.

    """
    if value is None:
        return None
    ago = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", value, re.ASCII)
    if ago is not None:
        return time.time() - float(ago[1]) * UNITS[ago[2]]
    try:
        return dt.datetime.fromisoformat(value).astimezone().timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{value!r} is neither so long ago, such as 1h, nor a time such as 2026-11-28T12:00", ctx, param
        ) from error


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--outcome", help="How it ended: result, error, cancelled, ...")
@click.option("--method", help="The method.")
@click.option("--target", help="The tool, prompt or resource.")
@click.option("--principal", help="On whose behalf a client asked.")
@click.option("--peer", help="The client, or the server.")
@click.option(
    "--since",
    metavar="MOMENT",
    callback=moment,
    help="Ended since then: 90s, 15m, 1h, 2d ago, or a time in ISO 8601.",
)
@click.option("--until", metavar="MOMENT", callback=moment, help="Ended before then.")
@click.option(
    "--all", "every", is_flag=True, help="Also what the gateway asked servers, beside what clients asked."
)
@click.option("--json", "as_json", is_flag=True, help="The records as they are, one a line.")
@click.option(
    "--last", type=click.IntRange(min=1), default=1000, show_default=True, help="The newest so many."
)
def records(
    *,
    file: Path,
    since: float | None,
    until: float | None,
    every: bool,
    as_json: bool,
    last: int,
    **exact: str | None,
) -> None:
    """Show the records in FILE, and in the older files beside it, oldest first.

    \b
    Examples:
      turnout records gateway.jsonl --outcome cancelled --since 1h
      turnout records gateway.jsonl --target crunch --json
    """  # noqa: D301 - click wants the character itself
    wanted = {name: value for name, value in exact.items() if value is not None}
    if not every:
        wanted["direction"] = "inbound"

    def fits(record: dict[str, Any]) -> bool:
        ended = record.get("ended")
        is_within = (
            isinstance(ended, (int, float)) and (since or 0) <= ended and (until is None or ended < until)
        )
        return is_within and all(record.get(name) == value for name, value in wanted.items())

    found = Found(last)
    for path in files(file):
        found.read(path, fits)
    if as_json:
        for record in found.records:
            click.echo(result_text(record, compact=True))
    else:
        _print(found.records)
    if found.broken:
        click.echo(f"turnout: {found.broken} lines are no records", err=True)


class Found:
    """The newest of the records that were looked for.

    Args:
        last: how many at most.

    """

    def __init__(self, last: int) -> None:
        self._last = last
        self.records: list[dict[str, Any]] = []
        self.broken = 0

    def read(self, path: Path, fits: Any) -> None:
        """Take what fits of a file.

        Raises:
            click.UsageError: it cannot be read.

        """
        try:
            with path.open("rb") as lines:
                for line in lines:
                    record = _record(line)
                    if record is None:
                        self.broken += 1
                    elif fits(record):
                        self.records.append(record)
                        del self.records[: -self._last]
        except OSError as error:
            raise click.UsageError(f"{path}: {error.strerror or error}") from error


def files(path: Path) -> Iterator[Path]:
    """The files that records are in, the oldest first."""
    number = 0
    while numbered(path, number + 1).exists():
        number += 1
    yield from (numbered(path, each) for each in range(number, 0, -1))
    yield path


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except DecodeError:
        return None
    return record if isinstance(record, dict) and "outcome" in record else None


def _print(found: list[dict[str, Any]]) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("ended", "took", "outcome", "method", "target", "client", "principal", "reason"):
        table.add_column(column, overflow="fold")
    for record in found:
        table.add_row(*(Text(text, style=style) for text, style in _cells(record)))
    console.print(table)


def _cells(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    ended, took, outcome = record.get("ended"), record.get("duration"), record.get("outcome")
    when = dt.datetime.fromtimestamp(ended if isinstance(ended, (int, float)) else 0).astimezone()
    yield when.strftime("%Y-%m-%d %H:%M:%S"), "dim"
    yield f"{took:.3f} s" if isinstance(took, (int, float)) else "", ""
    by = f" by {record['cancelled_by']}" if record.get("cancelled_by") else ""
    yield escaped(f"{outcome}{by}"), OUTCOME_STYLES.get(str(outcome), "red")
    for name in ("method", "target", "peer", "principal", "cancel_reason"):
        value = record.get(name)
        yield "" if value is None else escaped(str(value), 80), ""
