"""A small MCP server on FastMCP, for the demo: `python fast_server.py`."""

from __future__ import annotations

import asyncio

from fastmcp import Context, FastMCP

server = FastMCP("fast", version="1.0.0")


@server.tool
async def dig(ctx: Context, metres: int = 5, seconds: float = 0.1) -> str:
    """Dig, and report every metre."""
    for metre in range(1, metres + 1):
        await asyncio.sleep(seconds)
        await ctx.report_progress(metre, metres, f"{metre} m down")
    return f"dug {metres} metres"


if __name__ == "__main__":
    server.run(show_banner=False)
