"""The processes of a gateway's servers: what marks them, and the reaper that outlives the gateway to end them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from turnout.gateway import reaper

if TYPE_CHECKING:
    from turnout.gateway.configuration import Server

PATIENCE = reaper.ASKED + reaper.FORCED + 1
"""Seconds that the reaper has at the end."""


@dataclass
class Marks:
    """Gives each server a mark: while it runs always the same, so that what is declared the same stays equal.

    Attributes:
        gateway: what all of them begin with.

    """

    gateway: str
    _known: dict[tuple[str, Server], str] = field(default_factory=dict)
    _made: int = 0

    def of(self, name: str, server: Server) -> str:
        """The mark of a server."""
        if (name, server) not in self._known:
            self._made += 1
            self._known[name, server] = f"{self.gateway}.{self._made}"
        return self._known[name, server]

    def retire(self, mark: str) -> None:
        """Give a mark to nobody any more: the server's like, if it comes again, is told apart from what it left."""
        self._known = {known: each for known, each in self._known.items() if each != mark}


class Processes:
    """Starts the reaper, and sweeps what servers left behind that are gone.

    Attributes:
        marks: the marks of the servers.

    """

    def __init__(self) -> None:
        self.marks = Marks(secrets.token_hex(16))
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
            [sys.executable, "-I", "-S", script, self.marks.gateway],
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
        reaper.sweep(self.marks.gateway, asked=0)

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


__all__ = ["Marks", "Processes"]
