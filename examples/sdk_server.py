"""A server of the official SDK's on turnout: `turnout call count to=5 -- python examples/sdk_server.py`."""

import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context

import turnout.mcp

server = MCPServer("counter")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and say so; a cancel stops it at the next await."""
    for number in range(1, to + 1):
        await asyncio.sleep(0.1)
        await ctx.report_progress(number, to, f"counted to {number}")
    return f"counted to {to}"


if __name__ == "__main__":
    # In place of server.run().
    asyncio.run(turnout.mcp.serve_stdio(server))
