"""A gateway in front of real servers, several real clients at once, and a person who looks; `make demo` runs it.

The servers are those of the official Python SDK, of FastMCP and (where npm is) the reference server in TypeScript; the
clients are the official SDK's, FastMCP's and turnout's, over HTTP and a Unix socket. Each scene says whether it went as
it has to, and where one did not, the exit code is 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

import turnout
from turnout.control.client import ControlClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from typing_extensions import Self

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".demo"
EVERYTHING = "@modelcontextprotocol/server-everything"
EVERYTHING_VERSION = "2026.8.31"
NPM_TIMEOUT = 300
SECONDS = 60
"""After which a scene that hangs has failed."""


def processes() -> Iterator[tuple[int, int, str]]:
    """All processes: number, parent, command."""
    if not Path("/proc/self/stat").exists():
        told = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        for pid, parent, *command in (line.split(None, 2) for line in told.splitlines()):
            yield int(pid), int(parent), "".join(command)
        return
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal():
                # The name of a process, in parentheses, may have spaces.
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(entry.name), int(parent), command.decode(errors="replace")


class Gateway:
    """`turnout gateway` as a process of its own.

    Args:
        folder: where its configuration and its sockets are.
        servers: by name, as configurations have them.
    """

    def __init__(self, folder: Path, servers: dict[str, Any]) -> None:
        self.path = folder / "mcp.json"
        self.socket = str(folder / "clients.sock")
        self.control = str(folder / "control.sock")
        self.records = folder / "records.jsonl"
        self.url = ""
        self.lines: list[str] = []
        self._process: asyncio.subprocess.Process
        self._line = asyncio.Condition()
        self.write(servers)

    def write(self, servers: dict[str, Any]) -> None:
        """Put another configuration in the place of the one before, in one step."""
        listen = ["http://127.0.0.1:0/mcp", f"unix:{self.socket}"]
        own = {"listen": listen, "control": self.control, "records": str(self.records)}
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps({"mcpServers": servers, "turnout": own}, indent=2))
        aside.replace(self.path)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "turnout", "gateway", str(self.path)), stderr=subprocess.PIPE
        )
        self._reading = asyncio.ensure_future(self._read())
        ready = await self.until("ready: ")
        self.url = next(word.rstrip(",") for word in ready.split() if word.startswith("http://"))
        return self

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._line:
                self.lines.append(line.decode().rstrip())
                self._line.notify_all()
        async with self._line:
            self._line.notify_all()

    async def until(self, text: str, after: int = 0) -> str:
        """Wait for a line of its log; gives the line.

        Raises:
            RuntimeError: it ended without.
        """

        def found() -> str | None:
            return next((line for line in self.lines[after:] if text in line), None)

        async with self._line:
            await self._line.wait_for(lambda: found() is not None or self._process.returncode is not None)
        line = found()
        if line is None:
            raise RuntimeError("the gateway ended: " + " / ".join(self.lines[-3:]))
        return line

    async def reload(self, servers: dict[str, Any]) -> str:
        """Have it go over to other servers; gives what it says of that."""
        after = len(self.lines)
        self.write(servers)
        self._process.send_signal(signal.SIGHUP)
        return await self.until("reloaded: ", after)

    def server(self, words: str) -> int:
        """The process of the server whose command has these words.

        Raises:
            LookupError: there is none.
        """
        for pid, parent, command in processes():
            if words in command and parent == self._process.pid:
                return pid
        raise LookupError(f"no child of the gateway runs {words}")

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        await self._process.wait()
        await self._reading

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.returncode


# ---- clients of four kinds: each calls a tool, and tells of its progress ----


class Caller:
    """A client that calls tools.

    Args:
        name: for people.
        call: calls one.
    """

    def __init__(self, name: str, call: Callable[..., Awaitable[str]]) -> None:
        self.name = name
        self._call = call
        self.updates = 0

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; gives its text."""
        self.updates = 0

        async def report(*_: object) -> None:
            self.updates += 1

        return await self._call(tool, arguments, report)


@contextlib.asynccontextmanager
async def official(url: str) -> AsyncIterator[Caller]:
    """The official SDK's client, over HTTP."""
    import mcp

    async with mcp.Client(url) as client:

        async def call(tool: str, arguments: dict[str, Any], report: Any) -> str:
            result = await client.call_tool(tool, arguments, progress_callback=report)
            return result.content[0].text

        yield Caller("official SDK, HTTP", call)


@contextlib.asynccontextmanager
async def fastmcp(url: str) -> AsyncIterator[Caller]:
    """FastMCP's client, over HTTP."""
    import fastmcp

    async with fastmcp.Client(url) as client:

        async def call(tool: str, arguments: dict[str, Any], report: Any) -> str:
            result = await client.call_tool(tool, arguments, progress_handler=report)
            return result.content[0].text

        yield Caller("FastMCP, HTTP", call)


@contextlib.asynccontextmanager
async def own(name: str, target: Any) -> AsyncIterator[Caller]:
    """Turnout's own."""
    async with turnout.Router() as router:
        peer = await router.connect(target)

        async def call(tool: str, arguments: dict[str, Any], report: Any) -> str:
            made = peer.send("tools/call", {"name": tool, "arguments": arguments})
            async for update in made.progress():
                await report(update)
            return (await made)["content"][0]["text"]

        yield Caller(name, call)


class Demo:
    """The scenes, one after the other."""

    def __init__(self, console: Console, gateway: Gateway, servers: dict[str, Any], picture: Path) -> None:
        self.console = console
        self.gateway = gateway
        self.servers = servers
        self.picture = picture
        self.failures = 0
        self.callers: list[Caller] = []

    def say(self, good: bool, what: str) -> None:
        """Tell how a scene went."""
        self.failures += not good
        word = "[green]as it should[/green]" if good else "[red]not as it should[/red]"
        self.console.print(word, end=": ")
        self.console.print(what, markup=False, highlight=False, soft_wrap=True)

    async def play(self) -> None:
        """All scenes."""
        async with contextlib.AsyncExitStack() as clients:
            places = [own("turnout, Unix socket", turnout.unix(self.gateway.socket))]
            places += [own("turnout, HTTP", turnout.http(self.gateway.url)), official(self.gateway.url)]
            if importlib.util.find_spec("fastmcp") is not None:
                places.append(fastmcp(self.gateway.url))
            self.callers = [await clients.enter_async_context(place) for place in places]
            for title, scene in (
                (f"{len(self.callers)} clients at once, with progress", self.at_once),
                ("a cancel from turnout top", self.cancel),
                ("kill -9 of a server", self.kill),
                ("another configuration, and nothing in flight is lost", self.reload),
            ):
                self.console.rule(title, align="left")
                await asyncio.wait_for(scene(), SECONDS)

    async def at_once(self) -> None:
        """Every client calls every server at the same time."""
        tools = [("crunch_crunch", {"steps": 4, "seconds": 0.1}, "crunched 4 steps")]
        if "fast" in self.servers:
            tools.append(("fast_dig", {"metres": 4}, "dug 4 metres"))
        if "everything" in self.servers:
            arguments = {"duration": 0.5, "steps": 4}
            tools.append(
                ("everything_trigger-long-running-operation", arguments, "Long running operation completed")
            )

        async def work(caller: Caller) -> None:
            for tool, arguments, expected in tools:
                text = await caller.call(tool, **arguments)
                good = text.startswith(expected) and caller.updates >= 3
                self.say(
                    good, f"{caller.name}: {tool} with {caller.updates} updates: {text.splitlines()[0][:60]}"
                )

        await asyncio.gather(*map(work, self.callers))

    async def in_flight(self, count: int) -> None:
        """Wait until so much is in flight, and has told of progress."""
        viewer = ControlClient(self.gateway.control)
        while True:
            rows = (await viewer.get("/turnout/flights"))["rows"]
            if sum(row["progress"] is not None for row in rows) >= count:
                return
            await asyncio.sleep(0.05)

    async def cancel(self) -> None:
        """One of several calls is ended by a person, with a key."""
        caller, *others = self.callers
        doomed = asyncio.ensure_future(caller.call("crunch_crunch", steps=200, seconds=0.1))
        spared = [asyncio.ensure_future(each.call("crunch_crunch", steps=30, seconds=0.1)) for each in others]
        await self.in_flight(len(self.callers))
        told = await self.press_c()
        try:
            text = await doomed
        except turnout.RemoteError as error:
            text = f"its client is told: {error}"
        self.say("cancelled" in text, f"{told}; {text}")
        results = await asyncio.gather(*spared)
        self.say(
            results == ["crunched 30 steps"] * len(others), f"the other {len(others)} have their results"
        )

    async def press_c(self) -> str:
        """Press the keys in `turnout top`, and take a picture; where textual is not installed, ask the socket."""
        if importlib.util.find_spec("textual") is None:
            viewer = ControlClient(self.gateway.control)
            rows = (await viewer.get("/turnout/flights"))["rows"]
            oldest = min(rows, key=lambda row: row["created"])
            await viewer.post("/turnout/cancel", {"handle": oldest["handle"], "reason": "nobody needs it"})
            return "1 cancelled (without turnout top, which needs textual)"
        from turnout.top.app import Top

        app = Top([self.gateway.control])
        async with app.run_test(size=(150, 14)) as keys:
            while len(app.flights.lines) < len(self.callers):
                await asyncio.sleep(0.05)
            await keys.pause(0.3)
            self.picture.write_text(app.export_screenshot(title="turnout top"))
            await keys.press("home", "c", *"nobody", "space", *"needs", "space", *"it", "enter")
            while not app.note:
                await asyncio.sleep(0.05)
            return app.note

    async def kill(self) -> None:
        """A server is killed in the middle of two calls; the next call finds another one."""
        one, other = self.callers[:2]
        doomed = [
            asyncio.ensure_future(each.call("crunch_crunch", steps=200, seconds=0.1)) for each in (one, other)
        ]
        await self.in_flight(2)
        os.kill(self.gateway.server("crunch_server.py"), signal.SIGKILL)
        ends = await asyncio.gather(*doomed, return_exceptions=True)
        told = [end.data for end in ends if isinstance(end, turnout.RemoteError)]
        good = [data["reason"] for data in told] == ["upstream_closed"] * 2
        self.say(good, f"both callers are told at once: {told[0] if told else ends}")
        text = await one.call("crunch_crunch", steps=1, seconds=0.1)
        self.say(text == "crunched 1 steps", f"the next call starts it again: {text}")

    async def reload(self) -> None:
        """A server comes, while a call to another one goes on."""
        caller = self.callers[0]
        going = asyncio.ensure_future(caller.call("crunch_crunch", steps=15, seconds=0.1))
        await self.in_flight(1)
        told = await self.gateway.reload({**self.servers, "late": python("server.py")})
        self.say("+late" in told, told.partition("info ")[2])
        text = await caller.call("late_count", to=2)
        self.say(text == "counted to 2", f"the new server answers: {text}")
        text = await going
        self.say(text == "crunched 15 steps", f"and what was in flight goes on: {text}")


def python(name: str) -> dict[str, Any]:
    """A server of this folder's."""
    return {"command": sys.executable, "args": [str(HERE / name)]}


def servers_here(console: Console) -> dict[str, Any]:
    """The servers that this machine can run."""
    servers = {"crunch": python("crunch_server.py")}
    if importlib.util.find_spec("fastmcp") is not None:
        servers["fast"] = python("fast_server.py")
    command = install_everything(console)
    if command is not None:
        servers["everything"] = {"command": command, "args": ["stdio"]}
    return servers


def install_everything(console: Console) -> str | None:
    """Install the TypeScript server into a folder that git ignores: its command, None where it cannot be."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        console.print("There is no npm on this machine: the server in TypeScript is left out.")
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


def show_records(path: Path) -> None:
    """The records of a gateway as a table."""
    command = [sys.executable, "-m", "turnout", "records", str(path), "--method", "tools/call"]
    subprocess.run(command, check=True)


async def main() -> int:
    """Play all scenes."""
    console = Console()
    if not console.is_terminal:
        console.width = 110
    if importlib.util.find_spec("mcp") is None:
        console.print("The official Python SDK is not installed here: pip install 'mcp>=2,<3'", markup=False)
        return 1
    servers = servers_here(console)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    picture = CACHE / "top.svg"
    # The path of a Unix socket has to be short.
    with tempfile.TemporaryDirectory(prefix="demo") as folder:
        gateway = Gateway(Path(folder), servers)
        async with gateway:
            console.print(
                f"turnout gateway mcp.json: {', '.join(servers)} behind {gateway.url}", markup=False
            )
            demo = Demo(console, gateway, servers, picture)
            await demo.play()
        demo.say(gateway.exit_code == 0, f"the gateway ends with {gateway.exit_code}: {gateway.lines[-1]}")
        console.rule("the records", align="left")
        await asyncio.to_thread(show_records, gateway.records)
    if picture.exists():
        console.print(f"The picture of turnout top: {picture.name} in {CACHE.name}/")
    if demo.failures:
        console.print(f"[red]{demo.failures} not as they should be[/red]")
    return 1 if demo.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
