"""A gateway as a process of its own: its configuration, its log, and what is left of it in the process table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    import turnout

SERVER = pathlib.Path(__file__).with_name("gateway_server.py")
COMMAND = [sys.executable, "-m", "turnout", "gateway"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
LIMIT = 60


def server(*arguments: str, **more: Any) -> dict[str, Any]:
    """The kit's server, as configurations have servers; `turnout=` is turnout's own section."""
    return {"command": sys.executable, "args": [str(SERVER), *arguments], **more}


def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `turnout gateway` to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environ},
        timeout=LIMIT,
        check=False,
    )


def processes(mark: str) -> list[int]:
    """The processes, dead ones aside, whose environment has the text."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


class GatewayChild:
    """A gateway that runs.

    Args:
        directory: where its configuration stands.
        servers: by their names, as configurations have them; each gets a variable by which its processes are found.
        options: turnout's own section.
        arguments: of the command line.
        environ: variables beside our own.

    """

    def __init__(
        self,
        directory: pathlib.Path,
        servers: dict[str, Any],
        *arguments: str,
        environ: dict[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        **options: Any,
    ) -> None:
        self.path = directory / "mcp.json"
        self.mark = f"turnout-test-{uuid.uuid4().hex}"
        self.socket = str(directory / "s")
        self.seen: list[str] = []
        self._arguments = arguments
        self._environ = environ or {}
        self._stdin = stdin
        self.write(servers, **options)

    def write(self, servers: dict[str, Any], **options: Any) -> None:
        """Put another configuration in the place of the one before."""
        marked = {
            name: {**given, "env": {**given.get("env", {}), "MARK": f"{self.mark}.{name}."}}
            if "command" in given
            else given
            for name, given in servers.items()
        }
        own = {"listen": ["unix:s", "http://127.0.0.1:0"], **options}
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps({"mcpServers": marked, "turnout": own}))
        aside.replace(self.path)

    @property
    def port(self) -> int:
        """Where it serves HTTP."""
        return int(self.url.rpartition(":")[2].removesuffix("/mcp"))

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [*COMMAND, str(self.path), *self._arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What it is started in."""
        return {**ENVIRONMENT, **self._environ}

    def left(self, name: str = "") -> list[int]:
        """The processes that there are of its servers, or of one of them."""
        return processes(f"{self.mark}.{name}." if name else self.mark)

    async def until(self, text: str) -> str:
        """Wait for a line of its log; gives the line."""
        stderr = self.process.stderr
        assert stderr is not None
        while line := await asyncio.to_thread(stderr.readline):
            self.seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came: {self.seen}")

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and wait for its end; gives the exit code."""
        self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        _, rest = await asyncio.to_thread(self.process.communicate)
        self.seen += rest.splitlines(keepends=True)
        return self.process.returncode

    async def __aenter__(self) -> Self:
        await self.start()
        self.find_url(await self.until("ready: "))
        return self

    def find_url(self, line: str) -> None:
        """Take note of where it serves HTTP, as a line of its log says."""
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", line)
        self.url = found[0] if found else ""

    async def start(self) -> None:
        """Start it, and wait for nothing."""
        self.process = subprocess.Popen(
            self.command,
            stdin=self._stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    async def __aexit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            await self.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


class Held:
    """A request that a server holds until it is released."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / "fifo"
        os.mkfifo(self.path)

    async def begin(self, peer: turnout.Peer, name: str = "hold") -> None:
        """Send it, and wait until the server has it."""
        self.started = asyncio.Event()
        self.call = peer.send(
            "tools/call",
            {"name": name, "arguments": {"fifo": str(self.path)}},
            on_progress=lambda _: self.started.set(),
        )
        await asyncio.wait_for(self.started.wait(), 30)

    async def release(self) -> str:
        """Let it go on; gives what it answers."""
        with await asyncio.to_thread(open, self.path, "w") as fifo:
            fifo.write("released")
        return (await self.call)["content"][0]["text"]
