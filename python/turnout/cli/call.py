"""`turnout call`: one request to a real server, from the shell."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from turnout import errors
from turnout.cli.arguments import ArgumentsError, request
from turnout.cli.exits import Exit, exit_code
from turnout.cli.servers import configured, running
from turnout.cli.session import Ended, Job, perform
from turnout.cli.show import ProgressBar, encodable, highlighted, record_table, result_text
from turnout.escape import escaped, escaped_bytes
from turnout.records import spelled
from turnout.transports import stdio

if TYPE_CHECKING:
    from collections.abc import Callable

    import turnout
    from turnout.protocol.handshake import Era

LAST_LINES = 20
"""Lines of the server's stderr that are shown when the call fails."""

LONGEST_LINE = 1000
"""Characters of an error that are shown."""

FILE_WIDTH = 140
"""Columns of what goes to no terminal."""

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {code.meaning}" for code in Exit) + "."


class CallCommand(click.Command):
    """Keeps the server's command, everything after the first `--`, away from the parsing of options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before `--`."""
        head, command = args, []
        if "--" in args:
            at = args.index("--")
            head, command = args[:at], args[at + 1 :]
        ctx.meta["turnout.command"] = command
        return super().parse_args(ctx, head)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Say in the usage line what follows `--`."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGS]..."]


class Seconds(click.FloatRange):
    """A number of seconds, 0 or more."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is no number, which no comparison does."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return number


@click.command(cls=CallCommand, epilog=EPILOG)
@click.argument("method")
@click.argument("params", nargs=-1)
@click.option(
    "--progress/--no-progress", default=None, help="Show progress on stderr; by default on a terminal."
)
@click.option(
    "--timeout",
    type=Seconds(),
    default=60.0,
    show_default=True,
    help="Seconds for the server to open, and without progress, after which the call is given up; 0 waits for ever.",
)
@click.option(
    "--max-timeout",
    type=Seconds(),
    default=0.0,
    help="Seconds in all, progress or not; 0, the default, is no limit.",
)
@click.option(
    "--late",
    type=Seconds(),
    default=1.0,
    show_default=True,
    help="Seconds to wait for a late answer after a cancel or a timeout.",
)
@click.option(
    "--era",
    type=click.Choice(["auto", "legacy", "modern"]),
    default="auto",
    show_default=True,
    help="How to open the server: probe it, by handshake (up to 2025-11-25), or without (from 2026-07-28).",
)
@click.option("--config", type=click.Path(), help="A file of mcpServers that says how the server is reached.")
@click.option("--server", help="Which server of --config; where it has one only, that.")
@click.option(
    "--connect", metavar="URL", help="A server that runs: http:, https:, unix:PATH or tcp:HOST:PORT."
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    help="A header of each request to --connect URL; may be given several times. $NAME in it is the variable's value.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Compact JSON: the result on stdout, the record on stderr."
)
@click.option("--record", "with_record", is_flag=True, help="Print the record, too, when there is a result.")
@click.option("--verbose", "-v", is_flag=True, help="Show the server's stderr as it comes.")
@click.pass_context
def call(
    ctx: click.Context,
    *,
    method: str,
    params: tuple[str, ...],
    progress: bool | None,
    timeout: float,
    max_timeout: float,
    late: float,
    era: Era,
    config: str | None,
    server: str | None,
    connect: str | None,
    headers: tuple[str, ...],
    as_json: bool,
    with_record: bool,
    verbose: bool,
) -> None:
    """Start an MCP server, call it, show its progress, print the result.

    METHOD is a method such as tools/list, or, without a slash, the name of a tool. PARAMS are
    key=value pairs or one JSON object: the params of the method, or the arguments of the tool. A value
    is JSON if it parses as such, else text.

    COMMAND starts the server, which speaks MCP over its stdin and stdout; --config or --connect say otherwise how it is
    reached. Ctrl-C cancels the call
    and waits briefly for a late answer; a second one stops at once.

    \b
    Examples:
      turnout call tools/list -- python server.py
      turnout call crunch steps=5 -- python server.py
      turnout call resources/read '{"uri": "file:///etc/hosts"}' -- npx -y some-server
      turnout call crunch steps=5 --config mcp.json --server cruncher
      turnout call crunch steps=5 --connect http://127.0.0.1:8642/mcp
    """  # noqa: D301 - click wants the character itself
    command: list[str] = ctx.meta["turnout.command"]
    if (bool(command), config is not None, connect is not None).count(True) != 1:
        raise click.UsageError(
            "say after -- which command starts the server: turnout call METHOD -- COMMAND; "
            "or else give --config, or --connect"
        )
    if server is not None and config is None:
        raise click.UsageError("--server is one of --config")
    try:
        name, members = request(method, params)
    except ArgumentsError as error:
        raise click.UsageError(str(error)) from error
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    report = Report(console, as_json=as_json, with_record=with_record, verbose=verbose)
    if connect is not None:
        target = running(connect, headers)
    elif config is not None:
        target = configured(config, server, report.server_line)
    else:
        target = stdio(*command, stderr=report.server_line)
    shown = progress if progress is not None else console.is_terminal and not as_json
    watcher = Looking(ProgressBar(console, escaped(method, 40)) if shown else None, report.refused)
    job = Job(
        target=target,
        method=name,
        params=members,
        era=era,
        timeout=timeout or None,
        max_timeout=max_timeout or None,
        late=late,
        open_timeout=timeout or None,
    )
    ended = asyncio.run(interruptible(job, watcher))
    ctx.exit(report.finish(ended, watcher.interrupted))


class Looking:
    """Watches one call: draws its progress, and turns signals into its cancel.

    Args:
        bar: None draws nothing.
        refused: told of what the server writes that is no message.

    """

    def __init__(self, bar: ProgressBar | None, refused: Callable[[turnout.Refused], None]) -> None:
        self.bar = bar
        self.refused = refused
        self.interrupted: Exit | None = None
        self._call: turnout.Call | None = None
        self._task: asyncio.Task[Ended] | None = None

    def watch(self, task: asyncio.Task[Ended]) -> None:
        """Note the task that a second signal stops."""
        self._task = task

    def started(self, call: turnout.Call) -> None:
        """The request is registered."""
        self._call = call

    def progressed(self, call: turnout.Call, update: turnout.Progress) -> None:  # noqa: ARG002
        """The server reported."""
        if self.bar is not None:
            self.bar.update(update)

    def interrupt(self, reason: str, code: Exit) -> None:
        """Cancel the call; the second time, or before there is one, everything."""
        first, self.interrupted = self.interrupted is None, code
        if first and self._call is not None and self._call.cancel(reason):
            return
        if self._task is not None:
            self._task.cancel()


async def interruptible(job: Job, watcher: Looking) -> Ended:
    """Perform a job under the two signals that people and service managers send."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(perform(job, watcher))
    watcher.watch(task)
    signals = {
        signal.SIGINT: ("the user pressed Ctrl-C", Exit.CANCELLED),
        signal.SIGTERM: ("turnout was terminated", Exit.TERMINATED),
    }
    for number, meaning in signals.items():
        loop.add_signal_handler(number, watcher.interrupt, *meaning)
    try:
        if watcher.bar is None:
            return await task
        with watcher.bar:
            return await task
    except asyncio.CancelledError:
        return Ended()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class Report:
    """Prints what came of it: the result on stdout, everything else on stderr."""

    def __init__(self, console: Console, *, as_json: bool, with_record: bool, verbose: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._with_record = with_record
        self._verbose = verbose
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._refused = 0
        self._first_refused = ""

    def server_line(self, line: str) -> None:
        """Take a line of the server's stderr."""
        if self._verbose:
            self._say(line, style="dim")
        else:
            self._lines.append(line)

    def refused(self, event: turnout.Refused) -> None:
        """Take note of a line on the server's stdout that is no message."""
        noise = f": {escaped_bytes(event.noise, 80)}" if event.noise else ""
        what = f"{event.length} bytes, at byte {event.offset}: {event.message}{noise}"
        if self._verbose:
            self._say(f"turnout: the server wrote a line that is no message ({what})", style="yellow")
        self._first_refused = self._first_refused or what
        self._refused += 1

    def finish(self, ended: Ended, interrupted: Exit | None) -> Exit:
        """Print, and give the exit code."""
        code = exit_code(ended)
        if ended.error is None and ended.record is not None:
            # Also where the result was faster than the signal.
            try:
                self._print_result(ended.result)
            except OSError as error:
                self._output_lost(error)
                code = Exit.OTHER
            if self._with_record:
                self._print_record(ended)
            return code
        if code is Exit.LOST:
            for line in self._lines:
                self._say(line, style="dim")
        if self._refused and not self._verbose:
            count = "one line" if self._refused == 1 else f"{self._refused} lines"
            text = f"turnout: {count} on the server's stdout was no message; the first: {self._first_refused}"
            self._say(text, style="yellow")
        self._print_record(ended)
        return interrupted if interrupted is not None else code

    def _print_result(self, result: Any) -> None:
        text = result_text(result, compact=self._as_json)
        if sys.stdout.isatty() and not self._as_json:
            Console().print(highlighted(text), soft_wrap=True)
        else:
            print(encodable(text, sys.stdout.encoding), flush=True)  # noqa: T201 - click's echo loses characters

    def _output_lost(self, error: OSError) -> None:
        """Write no more to stdout, the flush at exit included; say why, unless whoever read it is gone."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            self._say(f"turnout: cannot write the output: {error.strerror or error}", style="red")

    def _print_record(self, ended: Ended) -> None:
        if self._as_json:
            record = None if ended.record is None else spelled(ended.record)
            click.echo(result_text({"error": _error(ended.error), "record": record}, compact=True), err=True)
            return
        if ended.error is not None:
            self._say(f"turnout: {describe(ended.error)}", style="red")
        if ended.record is not None:
            self._console.print(record_table(ended.record))
        elif ended.error is None:
            self._say("turnout: stopped before the call was over", style="red")

    def _say(self, text: str, style: str) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def describe(error: BaseException) -> str:
    """One line about an error."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"cannot start {error.filename}: {error.strerror}"
    elif isinstance(error, errors.HandshakeFailed):
        text = error.summary
    else:
        text = str(error) or type(error).__name__
    return escaped(text, LONGEST_LINE)


def _error(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    plain: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for name in ("code", "data"):
        if getattr(error, name, None) is not None:
            plain[name] = getattr(error, name)
    return plain
