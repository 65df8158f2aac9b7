"""A router whose control endpoint is served, with a server that works until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib

import turnout
from relay_world import World, call
from turnout.control.client import ControlClient


class Watched(World):
    """The world of the relay's tests, with a control endpoint at a socket in `directory`."""

    def __init__(self, directory, **options):
        super().__init__(**options)
        self.path = str(directory / "control.sock")

    async def serve(self, **options):
        self.build()
        await self.relay.start()
        self.control = await self.gateway.serve_control(self.path, **options)
        self.viewer = ControlClient(self.path)
        return self.viewer

    async def busy(self, client, **arguments):
        """A call that the server is at work on."""
        before = self.handled
        made = client.send("tools/call", call(wait=True, **arguments))
        await self.until(lambda: self.handled > before)
        return made

    async def rows(self):
        told = await self.viewer.get("/turnout/flights")
        return told["rows"]

    async def __aexit__(self, *exit_):
        await super().__aexit__(*exit_)


async def snapshot(events):
    """The first event of a stream."""
    name, data = await events.__anext__()
    assert name == "snapshot"
    return data


async def until(events, condition, rows=None):
    """Follow a stream until the rows, by handle, fit; gives them."""
    rows = {} if rows is None else rows
    while not condition(rows):
        name, data = await asyncio.wait_for(events.__anext__(), 30)
        if name == "snapshot":
            rows.clear()
        for row in data["rows"]:
            rows[row["handle"]] = row
        for over in data.get("over", ()):
            rows.pop(over["handle"], None)
    return rows


@contextlib.asynccontextmanager
async def exchange(path):
    """A socket to a control endpoint, for bytes of one's own."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()


__all__ = ["Watched", "call", "exchange", "snapshot", "turnout", "until"]
