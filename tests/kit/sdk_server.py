"""A server of the official SDK's with something of everything; as a program, it speaks over stdio.

`python sdk_server.py stock` uses the SDK's own transport, `python sdk_server.py` turnout's.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from typing import Annotated

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context  # noqa: TC002 - looked at when tools are registered
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import SamplingMessage, TextContent
from pydantic import BaseModel

# What handlers did, for tests in the same process.
log: list[str] = []


class Name(BaseModel):
    name: str


def ask_name() -> Elicit[Name]:
    return Elicit("Your name?", Name)


def make() -> MCPServer:
    server = MCPServer("everything")

    @server.tool()
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def count(to: int, ctx: Context) -> str:
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")
        return "counted"

    @server.tool()
    async def tick(ctx: Context) -> str:
        for step in itertools.count(1):
            await ctx.report_progress(step)
            await asyncio.sleep(0.01)
        return "never"

    @server.tool()
    async def wait(ctx: Context) -> str:
        log.append("waits")
        try:
            await ctx.report_progress(1, None, "waits")
            await anyio.sleep_forever()
        finally:
            # An anyio scope cancels again and again, but what it shields it leaves alone.
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            log.append("stopped")
        return "never"

    @server.tool()
    async def sample(text: str, ctx: Context) -> str:
        message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
        answer = await ctx.session.create_message([message], max_tokens=5)
        return getattr(answer.content, "text", "?")

    @server.tool()
    async def roots(ctx: Context) -> str:
        return ",".join(str(root.uri) for root in (await ctx.session.list_roots()).roots)

    @server.tool()
    async def greet(name: Annotated[Name, Resolve(ask_name)]) -> str:
        return f"Hello {name.name}"

    @server.tool()
    async def shout(ctx: Context) -> str:
        await ctx.session.send_tool_list_changed()
        await ctx.info("before the result")
        return "shouted"

    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    @server.tool()
    async def fail() -> str:
        raise ValueError("as asked")

    @server.tool()
    async def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    @server.tool()
    async def big() -> dict[str, int]:
        return {"number": 1 << 70}

    return server


if __name__ == "__main__":
    if sys.argv[1:] == ["stock"]:
        make().run()
    else:
        import turnout.mcp

        asyncio.run(turnout.mcp.serve_stdio(make()))
