"""The servers that `count.py` counts with: one tool, `steps`, that reports progress in a row and returns.

    python server.py native|sdk|stock|relay [--unix PATH] [--at-once]

`native` is a handler of turnout's, `sdk` an MCPServer on `turnout.mcp.serve_stdio`, `stock` the same on the SDK's own
stdio transport, `relay` a relay before `native`. With `--unix` it listens there instead of serving its own stdio, and
with `--at-once` no answer waits for its progress to be read.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import turnout


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("native", "sdk", "stock", "relay"))
    parser.add_argument("--unix")
    parser.add_argument("--at-once", action="store_true")
    return parser.parse_args()


def make_router(options: argparse.Namespace) -> turnout.Router:
    return turnout.Router(**({"delay_answers": False} if options.at_once else {}))


async def serve(router: turnout.Router, path: str | None, accepted: Any = None) -> None:
    """Serve until the client is gone, or for ever."""
    if path is not None:
        await router.serve(turnout.listen_unix(path), accepted)
        await asyncio.Event().wait()
    client = await router.connect(turnout.own_stdio(), era=None)
    if accepted is not None:
        accepted(client)
    await client.wait_lost()


def schema() -> dict[str, Any]:
    return {"type": "object", "properties": {"updates": {"type": "integer"}}}


async def native(options: argparse.Namespace) -> None:
    async with make_router(options) as router:
        turnout.serve_handshake(router, name="steps")

        @router.on_request("tools/list")
        async def listed(_: turnout.Request) -> dict[str, Any]:
            tools = [{"name": "steps", "inputSchema": schema()}]
            return {"tools": tools, "ttlMs": 0, "cacheScope": "private"}

        @router.on_request("tools/call")
        async def call(request: turnout.Request) -> dict[str, Any]:
            updates = request.params["arguments"]["updates"]
            for update in range(1, updates + 1):
                request.progress(update, total=updates)
                await asyncio.sleep(0)
            return {"content": []}

        await serve(router, options.unix)


async def relayed(options: argparse.Namespace) -> None:
    async with make_router(options) as router:
        relay = router.relay(turnout.stdio(sys.executable, __file__, "native"))
        await relay.start()
        await serve(router, options.unix, relay.attach)


def sdk_server() -> Any:
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context

    server = MCPServer("steps", log_level="WARNING")

    async def steps(ctx: Context, updates: int) -> str:
        for update in range(1, updates + 1):
            await ctx.report_progress(update, updates)
        return ""

    # The SDK reads the annotations, which are strings here.
    steps.__annotations__ = {"ctx": Context, "updates": int, "return": str}
    server.tool()(steps)
    return server


async def main() -> None:
    options = parse()
    if options.kind == "native":
        await native(options)
    elif options.kind == "relay":
        await relayed(options)
    elif options.kind == "stock":
        await sdk_server().run_stdio_async()
    else:
        from turnout import mcp

        server, router = sdk_server(), make_router(options)
        async with router:
            if options.unix:
                await mcp.serve_unix(server, options.unix, router=router)
            else:
                await mcp.serve_stdio(server, router=router)


asyncio.run(main())
