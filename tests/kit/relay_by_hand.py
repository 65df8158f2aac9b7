"""A relay whose clients and servers are played by hand: every line that it reads is a test's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import turnout
import wire
from transport_link import FakeLink


class End(FakeLink):
    """The far end of one connection of the relay.

    Attributes:
        messages: what it has read and not yet taken.

    """

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def say(self, *frames: bytes) -> None:
        """Write frames, as one write."""
        self.transport.write(b"".join(frames))

    async def hears(self, count: int = 1) -> list[dict[str, Any]]:
        """Take the next messages, once so many are there."""
        await self.until(lambda: len(self.lines) >= self._taken + count)
        taken = [json.loads(line) for line in self.lines[self._taken : self._taken + count]]
        self._taken += count
        return taken

    async def hears_one(self) -> dict[str, Any]:
        """Take the next message."""
        [message] = await self.hears()
        return message

    @property
    def unread(self) -> list[str]:
        """Lines that came and were not taken."""
        return self.lines[self._taken :]

    async def leave(self) -> None:
        """End the channel."""
        await self.transport.close()


class Played:
    """A gateway with one relay.

    Attributes:
        gateway: its router.
        relay: the relay.
        servers: the far ends of the upstreams' connections, in the order in which they were opened.

    """

    def __init__(self) -> None:
        self.gateway = turnout.Router(name="gateway")
        self.relay: turnout.Relay
        self.servers: list[End] = []
        self._opened = asyncio.Event()

    def upstream(self, name: str = "one", **options: Any) -> turnout.Upstream:
        """An upstream whose connections a test plays; no opening, unless `era` says so."""
        return turnout.Upstream(Target(self), name=name, **{"era": None, **options})

    def build(self, *upstreams: turnout.Upstream, **options: Any) -> turnout.Relay:
        self.relay = self.gateway.relay(*(upstreams or [self.upstream()]), **options)
        return self.relay

    async def client(self) -> End:
        """A new client."""
        near, far = turnout.memory(name="client")
        self.relay.attach(await self.gateway.connect(far, era=None))
        return await _open(near)

    def opens(self, server: End) -> None:
        """Take note of a new connection to a server."""
        self.servers.append(server)
        self._opened.set()

    async def server(self, index: int) -> End:
        """The connection to a server that was opened at that place, once it is."""
        while len(self.servers) <= index:
            self._opened.clear()
            await self._opened.wait()
        return self.servers[index]

    async def settle(self, client: End, server: End) -> None:
        """Everything said before has been carried over: a request and its answer came after it."""
        client.say(wire.request("settle", "settle"))
        asked = await server.hears_one()
        assert asked["method"] == "settle", f"nobody waited for {asked}"
        server.say(wire.result(asked["id"]))
        answer = await client.hears_one()
        assert answer == {"jsonrpc": "2.0", "id": "settle", "result": {}}, f"nobody waited for {answer}"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.close()


class Target:
    """A target that opens a new connection each time, the other end of which a test plays."""

    kind = name = "memory"

    def __init__(self, world: Played) -> None:
        self._world = world

    async def open(self, link: Any) -> Any:
        near, far = turnout.memory(name="server")
        self._world.opens(await _open(far))
        return await near.open(link)


async def _open(target: turnout.transports.MemoryTarget) -> End:
    end = End()
    end.transport = await target.open(end)
    return end
