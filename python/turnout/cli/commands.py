"""The commands, and what becomes of what they raise."""

from __future__ import annotations

import os
import sys
import traceback

import click

import turnout
from turnout.cli.call import call
from turnout.cli.exits import Exit
from turnout.cli.gateway import gateway
from turnout.cli.records import records
from turnout.cli.top import top
from turnout.escape import escaped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(turnout.__version__, message="turnout %(version)s")
def commands() -> None:
    """The in-flight layer for MCP: send, cancel, follow the progress."""


commands.add_command(call)
commands.add_command(gateway)
commands.add_command(records)
commands.add_command(top)


def run() -> int:
    """Run the command line and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal of few characters gets the others escaped.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = commands.main(prog_name="turnout", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = Exit.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "turnout"
        click.echo(f"turnout: {escaped(error.format_message())} (try: {path} --help)", err=True)
        code = Exit.USAGE
    except click.Abort:
        code = Exit.CANCELLED
    except Exception as error:  # noqa: BLE001 - a person gets one line; who looks for the fault asks for more
        if "TURNOUT_TRACEBACK" in os.environ:
            traceback.print_exc()
        click.echo(
            f"turnout: {type(error).__name__}: {escaped(str(error), 1000)}"
            " (this is a fault of turnout's; TURNOUT_TRACEBACK=1 shows where)",
            err=True,
        )
        code = Exit.OTHER
    return int(code or 0)
