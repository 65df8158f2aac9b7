"""A server and a client of the official SDK's with everything typed, whatever they stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.lowlevel import Server

from benches.contender import Ends, Served
from benches.payloads import ECHO, HANG, RESULT, STEPS

if TYPE_CHECKING:
    import contextlib

    from mcp import Client
    from mcp.server.context import ServerRequestContext

ANSWER = types.CallToolResult.model_validate(RESULT)


def server(served: Served) -> Server[Any]:
    """A server whose tools are named after the methods of the payloads."""

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name == STEPS:
            count = (params.arguments or {})["count"]
            for step in range(count):
                await context.session.report_progress(step, count)
        elif params.name == HANG:
            await served.hang()
        return ANSWER

    async def list_tools(
        _context: ServerRequestContext[Any, Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        schema = {"type": "object"}
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema=schema) for name in (ECHO, STEPS, HANG)]
        )

    return Server("bench", on_call_tool=call_tool, on_list_tools=list_tools)


class TypedEnds(Ends):
    """What is asked by `Client.call_tool`."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        super().__init__()
        self.stack = stack

    async def use(self, client: Client) -> None:
        """Open the client."""
        self.client = await self.stack.enter_async_context(client)
        self.request = self.client.call_tool

    async def follow(self, count: int) -> int:
        seen = 0

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            nonlocal seen
            seen += 1

        await self.client.call_tool(STEPS, {"count": count}, progress_callback=on_progress)
        return seen

    async def close(self) -> None:
        await self.stack.aclose()
