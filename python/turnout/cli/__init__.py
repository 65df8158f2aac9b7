"""The command line: `turnout call`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; whatever goes wrong is told in one line."""
    code = 130
    try:
        # Imported here, so that Ctrl-C meanwhile is no traceback either.
        from turnout.cli.commands import run  # noqa: PLC0415

        code = run()
    except KeyboardInterrupt:
        print("turnout: stopped", file=sys.stderr)  # noqa: T201 - nothing else may be there yet
    sys.exit(code)


__all__ = ["main"]
