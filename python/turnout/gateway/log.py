"""The gateway's log: one line an event on stderr, with no payload and no secret."""

from __future__ import annotations

import logging
import sys
import time

from turnout.escape import escaped

log = logging.getLogger("turnout.gateway")

MAX_LINE = 2000
"""Characters of the longest line."""


class Lines(logging.Formatter):
    """One line for each event: time (UTC), level, what happened."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += f" ({record.exc_info[0].__name__})"
        return f"{when}.{int(record.msecs):03}Z {record.levelname.lower()} {escaped(text, MAX_LINE)}"


def start_log(*, verbose: bool) -> None:
    """Write the events of turnout's to stderr.

    Args:
        verbose: whether cancels, and what servers write to their standard error, are told, too.

    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger("turnout")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(logging.INFO)
    quiet = logging.INFO if verbose else logging.WARNING
    for name in ("turnout.stdio", "turnout.cancel"):
        logging.getLogger(name).setLevel(quiet)
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.handlers[:] = [handler]
    asyncio_log.propagate = False


__all__ = ["log", "start_log"]
