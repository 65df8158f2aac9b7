"""The command line: `turnout call`."""

from __future__ import annotations

import click

from turnout.cli.call import call

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="turnout", message="turnout %(version)s")
def main() -> None:
    """The in-flight layer for MCP: send, cancel, follow the progress."""


main.add_command(call)
