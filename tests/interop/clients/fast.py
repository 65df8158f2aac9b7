"""FastMCP's client: `fast.py auto|legacy PLANS COMMAND...`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import cases
import mcp_types as types
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from mcp.client.subscriptions import listen
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from official import hear, plain, told
from typing_extensions import Self

LISTS = {
    "tools": "list_tools_mcp",
    "prompts": "list_prompts_mcp",
    "resources": "list_resources_mcp",
    "resourceTemplates": "list_resource_templates_mcp",
}


class Fast:
    """What the cases need, on FastMCP's client."""

    def __init__(self, mode: str, command: list[str]) -> None:
        self.action = "accept"
        self.asked: list[Any] = []
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.client = Client(
            StreamableHttpTransport(command[0])
            if cases.is_url(command)
            else StdioTransport(command[0], command[1:], keep_alive=False),
            mode=mode,
            elicitation_handler=self._elicit,
            sampling_handler=self._sample,
            message_handler=self._hear,
        )

    async def _elicit(self, message: str, _type: Any, params: Any, _context: Any) -> ElicitResult[Any]:
        self.asked.append({"message": message, "fields": sorted(params.requested_schema["properties"])})
        accepted = self.action == "accept"
        return ElicitResult(action=self.action, content={"name": "Ada"} if accepted else None)

    async def _sample(self, messages: Any, params: Any, _context: Any) -> types.CreateMessageResult:
        self.asked.append({"message": messages[0].content.text, "maxTokens": params.max_tokens})
        content = types.TextContent(type="text", text="four")
        return types.CreateMessageResult(role="assistant", content=content, model="abacus")

    async def _hear(self, message: Any) -> None:
        hear(message, self.heard)

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        self.version = self.client.protocol_version
        self.capabilities = plain(self.client.server_capabilities)
        self.server = self.client.server_info and plain(self.client.server_info)
        self.instructions = self.client.instructions
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.__aexit__(*error)

    async def page(self, kind: str) -> dict[str, Any]:
        return await told(getattr(self.client, LISTS[kind])())

    async def call(
        self, name: str, arguments: dict[str, Any], progress: Any = None, timeout: Any = None
    ) -> dict[str, Any]:
        async def follow(value: float, total: float | None, message: str | None) -> None:
            progress([value, total, message])

        handler = follow if progress else None
        return await told(
            self.client.call_tool_mcp(name, arguments, progress_handler=handler, timeout=timeout)
        )

    async def prompt(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return await told(self.client.get_prompt_mcp(name, arguments))

    async def read(self, uri: str) -> dict[str, Any]:
        return await told(self.client.read_resource_mcp(uri))

    @contextlib.asynccontextmanager
    async def listen(self, uri: str) -> Any:
        # FastMCP has no verb for it; its session is the SDK's.
        session = self.client.session
        if self.version not in MODERN_PROTOCOL_VERSIONS:
            yield await cases.seen(told(session.subscribe_resource(uri)))
            return
        try:
            async with listen(session, tools_list_changed=True, resource_subscriptions=[uri]) as subscription:
                yield plain(subscription.honored)
        except MCPError as error:
            raise cases.Refused(error.error.code, error.error.message) from None


async def main() -> None:
    mode, plans, command = cases.arguments()
    async with Fast(mode, command) as client:
        await cases.run(client, plans)


if __name__ == "__main__":
    asyncio.run(main())
