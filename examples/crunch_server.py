"""A small MCP server on the official Python SDK, for the demo and the examples: `python crunch_server.py`.

Its tools behave as servers do: one reports progress, one crashes, one does not listen to a cancel, one
hangs without a word, one fails.
"""

from __future__ import annotations

import os
import sys

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotations
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("crunch", version="1.0.0", log_level="WARNING")

STAGES = ("reading the ledger", "sorting", "summing up", "checking", "writing the report")


def stage(step: int, steps: int) -> str:
    """What is being done at a step."""
    return STAGES[(step - 1) * len(STAGES) // steps]


@server.tool()
async def crunch(ctx: Context, steps: int = 5, seconds: float = 0.3) -> str:
    """Work for some steps of some seconds each, and report every one of them."""
    for step in range(1, steps + 1):
        await anyio.sleep(seconds)
        await ctx.report_progress(step, steps, stage(step, steps))
    return f"crunched {steps} steps"


@server.tool()
async def crash(ctx: Context, after: int = 2, steps: int = 5, seconds: float = 0.3) -> str:
    """Like crunch, but the whole server dies in the middle, with exit code 70."""
    for step in range(1, after + 1):
        await anyio.sleep(seconds)
        await ctx.report_progress(step, steps, stage(step, steps))
    # Its last words come late enough for the progress to have been written.
    await anyio.sleep(seconds)
    print("crunch_server: out of steam", file=sys.stderr, flush=True)
    os._exit(70)


@server.tool()
async def stubborn(ctx: Context, steps: int = 5, seconds: float = 0.3) -> str:
    """Like crunch, but finish the work whatever the client wants."""
    with anyio.CancelScope(shield=True):
        for step in range(1, steps + 1):
            await anyio.sleep(seconds)
            await ctx.report_progress(step, steps, stage(step, steps))
    return f"crunched {steps} steps, as begun"


@server.tool()
async def hang() -> str:
    """Never answer and never report."""
    await anyio.sleep_forever()
    return "unreachable"


@server.tool()
async def fail(reason: str = "nothing to crunch") -> str:
    """Fail: the result says `isError`."""
    raise ToolError(reason)


@server.tool()
async def echo(text: str) -> str:
    """Say it again."""
    return text


if __name__ == "__main__":
    server.run("stdio")
