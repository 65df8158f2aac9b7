"""Four ways a call can end, on real servers that nobody here wrote; `make demo` runs it.

One call runs to its end with progress, one is cancelled half-way, one times out and one loses its server,
each through the machinery of `turnout call`. The records are shown at the end, and where one is not what it
has to be, the exit code is 1.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import turnout
from turnout.cli.arguments import request
from turnout.cli.session import Ended, Job, perform
from turnout.cli.show import ProgressBar, records_table, sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.transports.channel import Link, Transport

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".demo"
EVERYTHING = "@modelcontextprotocol/server-everything"
EVERYTHING_VERSION = "2026.8.31"
NPM_TIMEOUT = 300


class Server:
    """A server to be started, whose process can be killed: a target like any other.

    Args:
        command: starts it.
        name: for people.
    """

    kind = "stdio"

    def __init__(self, *command: str, name: str) -> None:
        self.name = name
        self.lines: deque[str] = deque(maxlen=20)
        self._target = turnout.stdio(*command, name=name, stderr=self.lines.append)
        self._pid = 0

    async def open(self, link: Link) -> Transport:
        """Start it."""
        transport = await self._target.open(link)
        self._pid = transport.pid
        return transport

    def kill(self) -> None:
        """End its process as a crash would."""
        os.kill(self._pid, signal.SIGKILL)


@dataclass(frozen=True)
class Scene:
    """One call, and what has to come of it.

    Args:
        title: what is done.
        arguments: METHOD and PARAMS as for `turnout call`.
        outcome: what the record has to say.
        half_way: done once half of the progress has come; None does nothing.
        timeout: seconds without progress; None for no limit.
        max_timeout: seconds in all; None for no limit.
        evidence: what else has to hold of the record.
    """

    title: str
    arguments: str
    outcome: str
    half_way: Callable[[turnout.Call, Server], object] | None = None
    timeout: float | None = 10.0
    max_timeout: float | None = 30.0
    evidence: Callable[[turnout.Record], bool] = lambda _: True


class Looking:
    """Draws the progress of a scene, and does what is to be done half-way, once."""

    def __init__(self, scene: Scene, server: Server, bar: ProgressBar) -> None:
        self._scene = scene
        self._server = server
        self._bar = bar
        self._done = False

    def started(self, call: turnout.Call) -> None:
        """Nothing is to be done at the start."""

    def refused(self, event: turnout.Refused) -> None:
        """Nothing is to be done; these servers write messages only."""

    def progressed(self, call: turnout.Call, update: turnout.Progress) -> None:
        """Draw; half-way, act."""
        self._bar.update(update)
        if not self._done and update.total and update.progress * 2 >= update.total:
            self._done = True
            if self._scene.half_way is not None:
                self._scene.half_way(call, self._server)


def cancel(call: turnout.Call, _: Server) -> None:
    """Cancel, as a user does."""
    call.cancel("the user pressed stop")


def kill(_: turnout.Call, server: Server) -> None:
    """Kill the server in the middle of its work."""
    server.kill()


def official_sdk() -> tuple[Server, list[Scene]]:
    """The official Python SDK, with the small server of `crunch_server.py`."""
    server = Server(sys.executable, str(HERE / "crunch_server.py"), name="official Python SDK")
    return server, [
        Scene("runs to its end", "crunch steps=6 seconds=0.25", "result", evidence=has_progress(6)),
        Scene(
            "cancelled half-way", "crunch steps=10 seconds=0.25", "cancelled", cancel, evidence=was_cancelled
        ),
        Scene("falls silent", "hang", "idle_timeout", timeout=1.0, evidence=cancel_was_written),
        Scene("crashes", "crash after=3 steps=6 seconds=0.25", "peer_exited", evidence=exited(70)),
    ]


def everything(command: str) -> tuple[Server, list[Scene]]:
    """The reference server in TypeScript, with its long-running operation."""
    server = Server(command, name="server-everything")
    tool = "trigger-long-running-operation"
    return server, [
        Scene("runs to its end", f"{tool} duration=1.5 steps=6", "result", evidence=has_progress(6)),
        Scene(
            "cancelled half-way", f"{tool} duration=3 steps=12", "cancelled", cancel, evidence=was_cancelled
        ),
        Scene(
            "takes too long",
            f"{tool} duration=4 steps=16",
            "max_timeout",
            max_timeout=1.5,
            evidence=cancel_was_written,
        ),
        Scene("is killed half-way", f"{tool} duration=3 steps=12", "peer_exited", kill, evidence=exited(-9)),
    ]


def has_progress(count: int) -> Callable[[turnout.Record], bool]:
    """So many updates came."""
    return lambda record: record.progress_accepted == count


def exited(code: int) -> Callable[[turnout.Record], bool]:
    """There was progress, and the exit code is in the record."""
    return lambda record: bool(record.exit_code == code and record.progress_accepted)


def was_cancelled(record: turnout.Record) -> bool:
    """There was progress, the caller cancelled, and the server was told."""
    return bool(record.progress_accepted and record.cancelled_by == "caller" and record.cancel_written)


def cancel_was_written(record: turnout.Record) -> bool:
    """The timeout was told to the server."""
    return bool(record.cancelled_by == "timeout" and record.cancel_written)


async def play(console: Console, server: Server, scene: Scene) -> tuple[Ended, bool]:
    """Perform one scene: how it ended, and whether as it has to."""
    console.print(f"[bold]{scene.title}[/bold]: [dim]turnout call {scene.arguments}[/dim]", soft_wrap=True)
    method, params = request(*split(scene.arguments))
    job = Job(server, method, params, timeout=scene.timeout, max_timeout=scene.max_timeout, late=0.5)
    bar = ProgressBar(console, scene.title)
    with bar:
        ended = await perform(job, Looking(scene, server, bar))
    record = ended.record
    good = record is not None and record.outcome == scene.outcome and scene.evidence(record)
    console.print("[green]as it should[/green]" if good else "[red]not as it should[/red]", end=": ")
    console.print(
        str(ended.error) if record is None else sentence(record),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for line in () if good else server.lines:
        console.print(f"  {server.name}: {line}", style="dim", markup=False, highlight=False)
    server.lines.clear()
    return ended, good


def split(arguments: str) -> tuple[str, list[str]]:
    """METHOD and PARAMS."""
    method, *params = shlex.split(arguments)
    return method, params


def install_everything(console: Console) -> str | None:
    """Install the TypeScript server into a folder that git ignores: its command, None where it cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        console.print("There is no npm on this machine: only the official Python SDK is shown.")
        return None
    folder = CACHE / f"server-everything-{EVERYTHING_VERSION}"
    command = folder / "node_modules" / ".bin" / "mcp-server-everything"
    if not command.exists():
        console.print(f"Installing {EVERYTHING} {EVERYTHING_VERSION} into {CACHE.name}/ ...")
        folder.mkdir(parents=True, exist_ok=True)
        (CACHE / ".gitignore").write_text("*\n")
        install = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(
                [*install, f"{EVERYTHING}@{EVERYTHING_VERSION}"],
                check=True,
                timeout=NPM_TIMEOUT,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            console.print(f"npm could not install {EVERYTHING}: {lines[0]}", markup=False)
            return None
    return str(command)


async def main() -> int:
    """Play every scene on every server there is."""
    console = Console()
    if not console.is_terminal:
        console.width = 110
    if importlib.util.find_spec("mcp") is None:
        console.print("The official Python SDK is not installed here: pip install 'mcp>=2,<3'", markup=False)
        return 1
    casts = [official_sdk()]
    command = install_everything(console)
    if command is not None:
        casts.append(everything(command))
    groups = []
    failures = 0
    for server, scenes in casts:
        console.rule(server.name, align="left")
        rows = []
        for scene in scenes:
            ended, good = await play(console, server, scene)
            failures += not good
            if ended.record is not None:
                rows.append((scene.title, ended.record))
        groups.append((server.name, rows))
    console.print()
    console.print(records_table("The records", groups))
    if failures:
        console.print(f"[red]{failures} not as they should be[/red]")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
