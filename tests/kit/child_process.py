"""Children that tests speak to over stdio, and whether a process is still there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sys
from typing import Any

from turnout.transports import stdio

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"


def python(code: str, **options: Any) -> Any:
    """A child that runs `code`, as a target."""
    return stdio(sys.executable, "-c", code, **options)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pid: int) -> bool:
    """Wait for the end of a process that need not be our child; the test's own timeout ends what does not come."""
    with contextlib.suppress(ProcessLookupError):
        await _exit_of(pid)
    return not alive(pid)


async def reaped(pid: int) -> None:
    """Wait until no process has that id any more, not even a dead one that its parent did not look at."""
    with contextlib.suppress(ProcessLookupError):
        await _exit_of(pid)
    while pathlib.Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0)


async def _exit_of(pid: int) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    handle = os.pidfd_open(pid)
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def descriptors() -> int:
    """How many files this process has open."""
    return len(list(pathlib.Path("/dev/fd").iterdir()))
