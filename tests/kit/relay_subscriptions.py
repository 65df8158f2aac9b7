"""Servers that tell of changes, and clients that listen, on the two sides of a relay."""

from __future__ import annotations

import asyncio

import turnout

MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"


class Watch:
    """What the servers are asked for, and what they tell, in either era; legacy ones agree when they `may`."""

    def __init__(self, world, refuse=(), may=None):
        self.log = []
        self.listens = []
        self.changed = asyncio.Event()
        for method in ("resources/subscribe", "resources/unsubscribe"):

            @world.servers.on_request(method)
            async def take(request):
                if request.params["uri"] in refuse:
                    raise turnout.RequestError(-32002, "no such resource")
                self.note((request.method.split("/")[1], request.params["uri"]))
                if may is not None and request.method == "resources/subscribe":
                    await may.wait()
                return {}

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            [(what, value)] = request.params["notifications"].items()
            what = what if value is True else value[0]
            agreed = {} if what in refuse else request.params["notifications"]
            request.notify(ACKNOWLEDGED, {"notifications": agreed})
            self.listens.append((what, request))
            self.note(("listen", what))
            try:
                await request.wait_cancelled()
            finally:
                self.listens.remove((what, request))
                self.note(("ended", what))

    def note(self, entry):
        self.log.append(entry)
        self.changed.set()

    async def until(self, *log):
        """Wait until this is what happened."""
        while sorted(self.log) != sorted(log):
            self.changed.clear()
            await self.changed.wait()

    def tell(self, what, method, params=None):
        """Tell everyone who listens to `what`."""
        for listened, request in self.listens:
            if listened == what:
                request.notify(method, params)


def hears(client):
    """A queue of what a client is told."""
    heard = asyncio.Queue()
    for method in (TOOLS, UPDATED, ACKNOWLEDGED):
        client.on_notification(method)(heard.put_nowait)
    return heard


async def listens(client, heard, **wanted):
    """Open a listen; gives the call and what was agreed to."""
    call = client.send("subscriptions/listen", {"notifications": wanted})
    first = await heard.get()
    assert (first.method, first.call) == (ACKNOWLEDGED, call), "SUB-02"
    return call, first.params["notifications"]
