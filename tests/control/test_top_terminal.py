"""`turnout top` in a real terminal, which tmux is, with hostile text on its way there."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import uuid

import pytest

import turnout
from control_world import Watched
from gateway_child import ENVIRONMENT, LIMIT
from loops import both_loops

TMUX = shutil.which("tmux")

pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


# What pytest-xdist says of its own terminal is not true of this one.
PLAIN = {name: value for name, value in ENVIRONMENT.items() if name not in {"COLUMNS", "LINES"}}
PLAIN.update(TERM="xterm-256color", LC_ALL="C.UTF-8")


class Terminal:
    """A terminal in which a command runs."""

    def __init__(self):
        self._name = f"turnout-{uuid.uuid4().hex}"

    async def tmux(self, *arguments):
        """Ask tmux, in a server of its own."""
        done = await asyncio.to_thread(
            subprocess.run,
            [TMUX, "-L", self._name, "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env=PLAIN,
        )
        return done.stdout

    async def start(self, *command):
        await self.tmux("new-session", "-d", "-x", "160", "-y", "20", *command)

    async def screen(self):
        return await self.tmux("capture-pane", "-p")

    async def until(self, condition):
        while not condition(shown := await self.screen()):
            await asyncio.sleep(0.02)
        return shown

    async def press(self, *keys):
        await self.tmux("send-keys", *keys)

    async def end(self):
        await self.tmux("kill-server")


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[5;5Hover there\r\x9b31m"


@both_loops
async def test_s9_a_person_cancels_in_a_real_terminal_and_no_peer_writes_on_it(tmp_path):
    terminal = Terminal()
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client(principal="ada")
        made = await world.busy(client, steps=1, who=HOSTILE)
        try:
            await terminal.start(sys.executable, "-m", "turnout", "top", world.path)
            shown = await terminal.until(lambda text: "tools/call echo" in text and "1 in flight" in text)
            lines = shown.splitlines()
            assert lines[0].split()[:3] == ["age", "state", "principal"]
            assert "\\x1b]0;owned\\x07\\x1b[2J\\x1b[5;5Hover" in lines[1]
            assert all("over there" not in line for line in lines[2:])
            title = await terminal.tmux("display-message", "-p", "#{pane_title}")
            assert "owned" not in title
            await terminal.press("c")
            await terminal.until(lambda text: "reason" in text)
            await terminal.press("enough", "Enter")
            await terminal.until(lambda text: "1 cancelled" in text)
            with pytest.raises(turnout.RemoteError):
                await made
            [record] = world.gateway.records.query(direction="inbound", method="tools/call")
            assert (record.cancelled_by, record.cancel_reason) == ("operator", "enough")
            await terminal.press("q")
            # The session ends with its only command.
            while await terminal.tmux("list-sessions"):
                await asyncio.sleep(0.02)
        finally:
            await terminal.end()
