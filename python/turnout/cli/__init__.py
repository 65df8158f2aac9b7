"""The command line: `turnout call`."""

from __future__ import annotations

import sys

import click

import turnout
from turnout.cli.call import call
from turnout.cli.exits import Exit

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(turnout.__version__, message="turnout %(version)s")
def commands() -> None:
    """The in-flight layer for MCP: send, cancel, follow the progress."""


commands.add_command(call)


def main() -> None:
    """Run the command line; what is wrong with it is said in one line."""
    try:
        code = commands.main(prog_name="turnout", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = Exit.USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "turnout"
        click.echo(f"turnout: {error.format_message()} (try: {path} --help)", err=True)
        code = Exit.USAGE
    except click.Abort:
        code = Exit.CANCELLED
    sys.exit(code)
