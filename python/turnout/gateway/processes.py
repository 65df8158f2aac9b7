"""The processes of a gateway's servers: what marks them, and the reaper that outlives the gateway to end them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
from pathlib import Path

from turnout.gateway import reaper

PATIENCE = reaper.ASKED + reaper.FORCED + 1
"""Seconds that the reaper has at the end."""


class Processes:
    """Starts the reaper, and sweeps what servers left behind that are gone.

    Attributes:
        mark: what the marks of all servers begin with.

    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the reaper, where the system lets it find processes.

        Raises:
            OSError: it cannot be started.

        """
        if not reaper.PROC.is_dir():
            return
        script = str(Path(reaper.__file__))
        self._reaper = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", script, self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )

    async def sweep(self, mark: str) -> int:
        """End what is left of one server; gives how many processes."""
        return await asyncio.to_thread(reaper.sweep, mark)

    def kill(self) -> None:
        """Kill every process of every server."""
        reaper.sweep(self.mark, asked=0)

    def close(self) -> None:
        """End what is left of all servers, and the reaper."""
        running, self._reaper = self._reaper, None
        if running is None or running.stdin is None:
            return
        with contextlib.suppress(OSError):
            running.stdin.close()
        try:
            running.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


__all__ = ["Processes"]
