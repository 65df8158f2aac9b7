"""Clients, a relay and servers in one loop, linked in memory."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import turnout
from transport_link import FakeLink

SERVER = str(Path(__file__).with_name("relay_server.py"))


class World:
    """A gateway with a relay between clients and servers; every server is a peer of `servers`."""

    def __init__(self, **options):
        self.gateway = turnout.Router(name="gateway", **options)
        self.servers = turnout.Router(name="server", timeout=None, max_timeout=None)
        self.clients = turnout.Router(name="client", capabilities={"sampling": {}})
        self.started = 0
        self.capabilities = []
        turnout.serve_handshake(
            self.servers, name="echo", version="1", capabilities={"tools": {"listChanged": True}}
        )
        self.relay = None

        @self.servers.on_request("tools/call")
        async def call(request):
            arguments = (request.params or {}).get("arguments") or {}
            for step in range(arguments.get("steps", 0)):
                request.progress(step + 1, total=arguments["steps"], message=arguments.get("who"))
                await asyncio.sleep(0)
            if arguments.get("wait"):
                await request.wait_cancelled()
            if arguments.get("ask"):
                return await request.peer.send("sampling/createMessage", {"who": arguments["who"]})
            return {"who": arguments.get("who"), "name": request.params.get("name")}

        @self.servers.rewrite_incoming("initialize")
        def see(_, params):
            self.capabilities.append(params["capabilities"])

    def target(self, prepare=None):
        """A new server, as a target; `prepare` is called with it before it reads anything."""
        self.started += 1
        near, far = turnout.memory(name="server")

        async def serve():
            peer = await self.servers.connect(far, era=None)
            if prepare is not None:
                prepare(peer)

        self.servers.spawn(serve())
        return near

    def once(self):
        """For an upstream's target: a new server, and none behind it."""
        if self.started:
            raise FileNotFoundError("there is no other server")
        return self.target()

    def server(self, name, prepare, **options):
        """An upstream of that name, whose peers are prepared."""
        return self.upstream(name=name, target=lambda: self.target(prepare), **options)

    def upstream(self, **options):
        options = {"era": "legacy", "name": "echo", **options}
        return turnout.Upstream(options.pop("target", self.target), **options)

    def build(self, *upstreams, **options):
        self.relay = self.gateway.relay(*(upstreams or [self.upstream()]), **options)
        return self.relay

    def upstream_peers(self):
        """The gateway's connections to servers."""
        return [peer for peer in self.gateway.peers if peer not in self.relay.clients]

    async def client(self, era="legacy", principal=None, **options):
        near, far = turnout.memory(name="client")
        self.relay.attach(await self.gateway.connect(far, era=None), principal=principal)
        return await self.clients.connect(near, era=era, **options)

    async def raw(self):
        """A client that writes and reads lines."""
        near, far = turnout.memory(name="raw")
        self.relay.attach(await self.gateway.connect(far, era=None))
        link = FakeLink()
        link.transport = await near.open(link)
        return link

    @property
    def handled(self):
        """Requests that the servers are at work on."""
        return sum(peer.in_flight[1] for peer in self.servers.peers)

    @property
    def carried(self):
        """Requests that left the gateway for its servers and are not answered."""
        return sum(peer.in_flight[0] for peer in self.gateway.peers if not peer.connection.pending_bytes)

    async def until(self, condition):
        """Let the loop turn until the condition holds; `run` ends a test in which it never does."""
        while not condition():
            await asyncio.sleep(0)

    async def quiet(self):
        """Nothing is in flight any more but the relay's own listens, and no table remembers anything."""

        def is_quiet(peer):
            held = self.relay._subscriptions.listens(peer)
            entries = peer.entries()
            return (
                peer.in_flight == (held, 0) and entries.pop("outbound") == held and not any(entries.values())
            )

        await self.until(lambda: all(map(is_quiet, self.gateway.peers)))
        assert self.relay.in_flight == 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        for router in (self.clients, self.gateway, self.servers):
            with contextlib.suppress(turnout.Error):
                await router.close()


def call(**arguments):
    """The params of a call of the servers' tool."""
    return {"name": "echo", "arguments": arguments}


def child(**options):
    """An upstream that is a process of its own."""
    options = {"name": "child", "era": "legacy", **options}
    return turnout.Upstream(lambda: turnout.stdio(sys.executable, SERVER), **options)


def ask(client, name, who, **arguments):
    """Send a call of a tool of such a process."""
    return client.send("tools/call", {"name": name, "arguments": {"who": who, **arguments}})


def logs(world):
    """Makes the servers take levels; gives what they were set to, as a queue."""
    levels = asyncio.Queue()

    @world.servers.on_request("initialize")
    async def initialize(request):
        request.peer.set_rules("2025-11-25", "server")
        return {"protocolVersion": "2025-11-25", "serverInfo": {"name": "x"}, "capabilities": {"logging": {}}}

    @world.servers.on_request("logging/setLevel")
    async def take(request):
        levels.put_nowait(request.params["level"])
        return {}

    return levels
