"""A server over HTTP whose handlers are the test's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import turnout
from http_client import Client
from turnout.protocol.handshake import HandshakeResponder, Implementation
from turnout.transports.http.listener import HttpListener, listen_http

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from turnout import Request


class Server:
    """A router that listens, and what its tools were told."""

    def __init__(self, router: turnout.Router, listener: HttpListener) -> None:
        self.router = router
        self.listener = listener
        self.began = asyncio.Event()
        self.cancelled: list[str] = []
        self.was_cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        """A new connection to it."""
        self.clients.append(await Client.connect(self.listener.port))
        return self.clients[-1]

    async def call(self, request: Request) -> dict[str, Any]:
        """Run the tool `request` names."""
        name, arguments = request.params["name"], request.params.get("arguments", {})
        if name == "steps":
            for step in range(1, arguments["steps"] + 1):
                request.progress(step, arguments["steps"])
                await asyncio.sleep(0)
        elif name == "wait":
            self.began.set()
            request.progress(1)
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                self.was_cancelled.set()
                raise
        elif name == "ask":
            answer = await request.send("roots/list")
            return {"content": [], "structuredContent": answer}
        return {"content": [{"type": "text", "text": arguments.get("text", name)}]}


@contextlib.asynccontextmanager
async def serving(*, of_router: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Server]:
    """Serve on a port of this machine, with options of the router's and of the endpoint's."""
    async with turnout.Router(**(of_router or {})) as router:
        HandshakeResponder(router, Implementation("server", "1", {"tools": {}}))
        server = Server(router, listen_http("127.0.0.1", 0, **options))
        router.on_request("tools/call")(server.call)
        await router.serve(server.listener)
        try:
            yield server
        finally:
            for client in server.clients:
                client.close()
