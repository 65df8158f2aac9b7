"""Ends what servers leave behind, also when the gateway itself is killed: run as a script, by a process of its own.

    python reaper.py MARK

It waits for the end of its stdin, which the gateway alone holds open, and then ends every process whose environment
has the mark, or one that begins with it and a dot: whatever group or session it is in by then. It imports nothing of
turnout, so that it is small. Where there is no `/proc` it finds none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

VARIABLE = "TURNOUT_GATEWAY"
"""What has the mark."""

ASKED = 2.0
"""Seconds between SIGTERM and SIGKILL."""

FORCED = 5.0
"""Seconds in which what was killed goes."""

INTERVAL = 0.02
"""Seconds between two looks: nobody tells of the end of another's child."""

PROC = Path("/proc")


def marked(mark: str) -> list[int]:
    """The processes that have a mark, but for this one and those that only wait to be reaped."""
    whole, begin = f"{VARIABLE}={mark}".encode(), f"{VARIABLE}={mark}.".encode()
    found = []
    for entry in os.listdir(PROC) if PROC.is_dir() else ():
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (PROC / entry / "environ").read_bytes().split(b"\0")
            if any(each == whole or each.startswith(begin) for each in variables):
                found.append(int(entry))
    return found


def sweep(mark: str, asked: float = ASKED) -> int:
    """End the processes that have a mark: asked first, then forced; gives how many there were.

    Args:
        mark: of the gateway, or of one of its servers.
        asked: seconds between the two.

    """
    seen: set[int] = set()
    killed_at = time.monotonic() + asked
    while left := marked(mark):
        now = time.monotonic()
        if now > killed_at + FORCED:
            break
        for process in left:
            if now >= killed_at:
                _signal(process, signal.SIGKILL)
            elif process not in seen:
                _signal(process, signal.SIGTERM)
            seen.add(process)
        time.sleep(INTERVAL)
    return len(seen)


def _signal(process: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(process, number)


def main() -> None:
    """Wait for the end of the gateway, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    sweep(sys.argv[1])


if __name__ == "__main__":
    main()
