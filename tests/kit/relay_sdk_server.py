"""A server on the official SDK: `echo` reports steps and answers, `hang` waits for its cancel; both say for whom."""

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("sdk", version="1", log_level="CRITICAL")


@server.tool()
async def echo(ctx: Context, message: str, steps: int = 0) -> str:
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, message)
    return f"Echo: {message}"


@server.tool()
async def hang(message: str) -> str:
    await anyio.sleep_forever()
    return message


if __name__ == "__main__":
    server.run("stdio")
