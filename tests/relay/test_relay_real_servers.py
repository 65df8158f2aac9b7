"""A relay before servers that nobody here wrote: 64 clients on one, which is killed and stopped in the middle.

The official Python SDK's server needs `mcp`; `@modelcontextprotocol/server-everything` needs Node.js, and its
command on the PATH, in `SERVER_EVERYTHING`, or where `make demo` installs it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

import turnout
from child_process import reaped
from loops import both_loops
from relay_world import World

HERE = Path(__file__).parents[1] / "kit"
CLIENTS = 64
CALLS = 5
COMMAND = "mcp-server-everything"


def everything():
    """The command of server-everything, or None."""
    installed = HERE.parents[1].glob(f".demo/server-everything-*/node_modules/.bin/{COMMAND}")
    found = os.environ.get("SERVER_EVERYTHING") or shutil.which(COMMAND) or next(map(str, installed), None)
    return [found] if found and shutil.which("node") else None


def sdk():
    """The command of a server on the official SDK, or None."""
    return [sys.executable, str(HERE / "relay_sdk_server.py")] if importlib.util.find_spec("mcp") else None


class Spawned:
    """A target that starts a server and remembers its process."""

    kind = "stdio"
    name = "real"

    def __init__(self, command):
        self._command = command
        self.pids = []

    async def open(self, link):
        transport = await turnout.stdio(*self._command, stderr=lambda line: None).open(link)
        self.pids.append(transport.pid)
        return transport


class Crowd:
    """Clients of one relay over a Unix socket, and their calls."""

    def __init__(self, clients):
        self.clients = clients
        self.sent = {}
        self._serial = 0

    def echo(self):
        """Each client asks to hear its own words back."""
        for _ in range(CALLS):
            self._ask("echo", lambda who, _: {"message": who})

    def wait(self, tool, arguments):
        """Each client asks for something that does not end in time."""
        self._ask(tool, lambda who, _: {"message": who, **arguments})

    async def follow(self, tool, arguments):
        """Each client asks for work of as many steps as nobody beside it does, and is told of its own."""
        seen = [[] for _ in self.clients]
        self._ask(tool, lambda who, number: {"message": who, "steps": number % 7 + 1, **arguments}, seen)
        sent, self.sent = self.sent, {}
        for number, one in enumerate(sent.values()):
            assert (await one)["content"]
            steps = number % 7 + 1
            assert [(update.progress, update.total) for update in seen[number]] == [
                (step, steps) for step in range(1, steps + 1)
            ]

    def _ask(self, tool, arguments, seen=None):
        for number, client in enumerate(self.clients):
            self._serial += 1
            who = f"<{number}-{self._serial}>"
            params = {"name": tool, "arguments": arguments(who, number)}
            follow = seen[number].append if seen else None
            self.sent[who] = client.send("tools/call", params, on_progress=follow)

    async def settle(self):
        """Everything that was sent has its one end: how many ended how. Nobody got another's words."""
        ends = Counter()
        answers = await asyncio.gather(*self.sent.values(), return_exceptions=True)
        for who, answer in zip(self.sent, answers, strict=True):
            if isinstance(answer, turnout.RemoteError):
                assert answer.data["upstream"] == "real"
                ends[answer.data["reason"]] += 1
            else:
                assert answer["content"][0]["text"] == f"Echo: {who}"
                ends["answered"] += 1
        self.sent.clear()
        for client in self.clients:
            counts = client.counters()
            assert (counts["unmatched_responses"], counts["late_responses"]) == (0, 0), "nothing came twice"
        return ends


@pytest.mark.parametrize(
    ("command", "work", "stuck"),
    [
        pytest.param(
            sdk(),
            ("echo", {}),
            ("hang", {}),
            id="official-sdk",
            marks=pytest.mark.skipif(
                sdk() is None, reason="the official SDK is not installed: pip install mcp"
            ),
        ),
        pytest.param(
            everything(),
            ("trigger-long-running-operation", {"duration": 0.5}),
            ("trigger-long-running-operation", {"duration": 600, "steps": 2}),
            id="server-everything",
            marks=pytest.mark.skipif(
                everything() is None, reason=f"{COMMAND} is not there: npm install -g, or run make demo once"
            ),
        ),
    ],
)
@both_loops
async def test_64_clients_on_one_real_server_that_is_killed_and_stopped(command, work, stuck, tmp_path):
    target = Spawned(command)
    async with World() as world:
        restart = turnout.RestartPolicy(initial_delay=0.01, reset_after=0.0)
        world.build(turnout.Upstream(target, name="real", timeout=None, restart=restart))
        path = str(tmp_path / "relay.sock")
        await world.gateway.serve(turnout.listen_unix(path), world.relay.attach)
        clients = [await world.clients.connect(turnout.unix(path), era="legacy") for _ in range(CLIENTS)]
        crowd = Crowd(clients)
        total = CLIENTS * CALLS

        # Undisturbed.
        await crowd.follow(*work)
        crowd.echo()
        assert await crowd.settle() == {"answered": total}

        # Killed in the middle: some were answered, the others are told once.
        crowd.echo()
        crowd.wait(*stuck)
        await next(iter(crowd.sent.values()))
        assert not all(sent.done() for sent in list(crowd.sent.values())[:total])
        os.kill(target.pids[0], signal.SIGKILL)
        ends = await crowd.settle()
        assert ends["answered"] + ends["upstream_closed"] == total + CLIENTS
        assert ends["upstream_closed"] >= CLIENTS
        await reaped(target.pids[0])

        # The next one serves; one was started, whoever asked.
        await crowd.follow(*work)
        crowd.echo()
        assert await crowd.settle() == {"answered": total}
        assert len(target.pids) == 2

        # Stopped: whoever gives up is let go; the others have their answers once it goes on.
        os.kill(target.pids[1], signal.SIGSTOP)
        crowd.echo()
        given_up = [(who, crowd.sent[who]) for who in list(crowd.sent)[::3]]
        for who, sent in given_up:
            assert sent.cancel("no patience")
            del crowd.sent[who]
        await asyncio.sleep(0)
        os.kill(target.pids[1], signal.SIGCONT)
        assert await crowd.settle() == {"answered": total - len(given_up)}
        for _, sent in given_up:
            with pytest.raises(turnout.CallCancelled):
                await sent
        await world.quiet()
    await reaped(target.pids[1])
