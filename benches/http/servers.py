"""Whoever serves over HTTP: `python -m benches.http.servers NAME LOOP [UPSTREAM]` prints its port.

Each line of its stdin is answered by one of JSON: the times, in nanoseconds of the monotonic clock, at which it saw
what `wait` waited for end. It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from benches import loops
from benches.http import floors, traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOST: list[int] = []
"""When each client that waited was seen to be gone."""
BACKLOG = 4096


def listening() -> socket.socket:
    """A port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def say(port: int) -> None:
    """Tell the port; from here on, tell what was lost to whoever asks."""
    print(port, flush=True)

    def tell() -> None:
        for _ in sys.stdin:
            print(json.dumps(LOST), flush=True)
            LOST.clear()

    threading.Thread(target=tell, daemon=True).start()


async def for_ever() -> None:
    """Until the process is ended."""
    await asyncio.Event().wait()


async def raw(_: str) -> None:
    """Serve the floor."""
    listener = listening()
    await asyncio.get_running_loop().create_server(lambda: floors.Echo(LOST), sock=listener, backlog=BACKLOG)
    say(listener.getsockname()[1])
    await for_ever()


async def hand(_: str) -> None:
    """Serve what a task for each request costs anybody."""
    listener = listening()
    await asyncio.get_running_loop().create_server(lambda: floors.Hand(LOST), sock=listener, backlog=BACKLOG)
    say(listener.getsockname()[1])
    await for_ever()


async def pipe(upstream: str) -> None:
    """Serve the floor of relays, before an upstream that answers in HTTP."""
    listener = listening()
    await asyncio.get_running_loop().create_server(
        lambda: floors.Pipe(upstream), sock=listener, backlog=BACKLOG
    )
    say(listener.getsockname()[1])
    await for_ever()


async def far(path: str) -> None:
    """Be the upstream of the floor of relays."""
    await asyncio.get_running_loop().create_unix_server(Far, path, backlog=BACKLOG)
    say(0)
    await for_ever()


class Far(floors.Echo):
    """Answers what is piped to it."""

    def __init__(self) -> None:
        super().__init__([])

    def data_received(self, data: bytes) -> None:
        if data == b"gone":
            LOST.append(time.monotonic_ns())
            self._transport.close()
        else:
            super().data_received(data)


async def with_uvicorn(app: Any) -> None:
    """Serve an ASGI application as fast as uvicorn does."""
    import uvicorn

    listener = listening()
    config = uvicorn.Config(app, http="httptools", access_log=False, log_level="critical", backlog=BACKLOG)
    serving = asyncio.ensure_future(uvicorn.Server(config).serve(sockets=[listener]))
    say(listener.getsockname()[1])
    await serving


async def uvicorn(_: str) -> None:
    """Serve the floor of whoever is an ASGI application: the body is read and dropped."""
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(traffic.ANSWER))]
    events = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]

    async def app(
        scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            return
        while (await receive())["more_body"]:
            pass
        tool = dict(scope["headers"])[b"mcp-name"]
        if tool == b"echo":
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": traffic.ANSWER})
            return
        await send({"type": "http.response.start", "status": 200, "headers": events})
        for step in range(1, (traffic.STEPS if tool == b"steps" else 1) + 1):
            await send({"type": "http.response.body", "body": traffic.event(step), "more_body": True})
        if tool == b"wait":
            while (await receive())["type"] != "http.disconnect":
                pass
            LOST.append(time.monotonic_ns())
            return
        await send({"type": "http.response.body", "body": traffic.LAST_EVENT})

    await with_uvicorn(app)


async def turnout(_: str) -> None:
    """Serve a router."""
    import turnout as t

    result = {"content": [{"type": "text", "text": traffic.TEXT}]}

    async def call(request: t.Request) -> Any:
        name = request.params["name"]
        if name == "echo":
            return result
        for step in range(1, (traffic.STEPS if name == "steps" else 1) + 1):
            request.progress(step, traffic.STEPS, traffic.MESSAGE)
        if name == "wait":
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda _: LOST.append(time.monotonic_ns()))
            await future
        return result

    async with t.Router() as router:
        t.serve_handshake(router, name="server", version="1")
        router.on_request("tools/call")(call)
        listener = t.listen_http("127.0.0.1", 0, limits={"max_client_streams": 20_000})
        await router.serve(listener)
        say(listener.port)
        await for_ever()


async def asgi(_: str) -> None:
    """Serve a router within uvicorn."""
    import turnout as t

    result = {"content": [{"type": "text", "text": traffic.TEXT}]}

    async def call(request: t.Request) -> Any:
        name = request.params["name"]
        if name != "echo":
            for step in range(1, (traffic.STEPS if name == "steps" else 1) + 1):
                request.progress(step, traffic.STEPS, traffic.MESSAGE)
        return result

    async with t.Router() as router:
        t.serve_handshake(router, name="server", version="1")
        router.on_request("tools/call")(call)
        await with_uvicorn(t.asgi(router, limits={"max_client_streams": 20_000}))


async def relay(upstream: str) -> None:
    """Serve a relay before a child process."""
    import turnout as t

    async with t.Router() as router:
        served = router.relay(t.stdio(sys.executable, "-m", "benches.http.upstream", upstream))
        await served.start()
        listener = t.listen_http("127.0.0.1", 0, limits={"max_client_streams": 20_000})
        await router.serve(listener, served.attach)
        say(listener.port)
        await for_ever()


async def mcp(_: str) -> None:
    """Serve the official SDK."""
    from mcp.server import MCPServer

    server = MCPServer("server")

    @server.tool()
    async def echo(text: str) -> str:
        return traffic.TEXT

    await with_uvicorn(server.streamable_http_app(json_response=True, stateless_http=True))


async def fastmcp(_: str) -> None:
    """Serve FastMCP."""
    from fastmcp import FastMCP

    server: Any = FastMCP("server")

    @server.tool
    async def echo(text: str) -> str:
        return traffic.TEXT

    await with_uvicorn(server.http_app(json_response=True, stateless_http=True))


async def fastmcp_proxy(upstream: str) -> None:
    """Serve FastMCP's proxy before a child process."""
    from fastmcp.client import Client
    from fastmcp.client.transports import StdioTransport
    from fastmcp.server import create_proxy

    async with Client(StdioTransport(sys.executable, ["-m", "benches.http.upstream", upstream])) as client:
        server = create_proxy(client)
        await with_uvicorn(server.http_app(json_response=True, stateless_http=True))


SERVERS: dict[str, Callable[[str], Awaitable[None]]] = {
    "raw": raw,
    "hand": hand,
    "pipe": pipe,
    "far": far,
    "uvicorn": uvicorn,
    "turnout": turnout,
    "asgi": asgi,
    "relay": relay,
    "mcp": mcp,
    "fastmcp": fastmcp,
    "fastmcp-proxy": fastmcp_proxy,
}


async def serve(name: str, upstream: str) -> None:
    """Be the server of that name."""
    await SERVERS[name](upstream)


if __name__ == "__main__":
    name, loop, *rest = sys.argv[1:]
    loops.run(serve(name, *(rest or [""])), loop)
