"""The official Python SDK's client: `official.py auto|legacy PLANS COMMAND...`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import cases
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client import session
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from typing_extensions import Self

# The SDK takes a server that answers its first question late for one of the old revisions. This is about what
# is said, not about how soon on a busy machine.
session.DISCOVER_TIMEOUT_SECONDS = 60.0

LISTS = {
    "tools": "list_tools",
    "prompts": "list_prompts",
    "resources": "list_resources",
    "resourceTemplates": "list_resource_templates",
}


def plain(model: Any) -> dict[str, Any]:
    """A result as it is on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


async def told(verb: Any) -> dict[str, Any]:
    try:
        return plain(await verb)
    except MCPError as error:
        raise cases.Refused(error.error.code, error.error.message) from None
    except ValidationError as error:
        wrong = error.errors()[0]
        raise cases.Refused("invalid", f"{error.title} {wrong['loc']}: {wrong['msg']}") from None


def hear(message: Any, heard: asyncio.Queue[Any]) -> None:
    """Note what a notification is of."""
    if isinstance(message, types.ToolListChangedNotification):
        heard.put_nowait("tools")
    elif isinstance(message, types.ResourceUpdatedNotification):
        heard.put_nowait(str(message.params.uri))


class Official:
    """What the cases need, on the SDK's client."""

    def __init__(self, mode: str, command: list[str]) -> None:
        self.action = "accept"
        self.asked: list[Any] = []
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.client = Client(
            command[0]
            if cases.is_url(command)
            else StdioServerParameters(command=command[0], args=command[1:]),
            mode=mode,
            elicitation_callback=self._elicit,
            sampling_callback=self._sample,
            message_handler=self._hear,
            cache=None,
        )

    async def _elicit(self, _context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(
            {"message": params.message, "fields": sorted(params.requested_schema["properties"])}
        )
        accepted = self.action == "accept"
        return types.ElicitResult(action=self.action, content={"name": "Ada"} if accepted else None)

    async def _sample(self, _context: Any, params: Any) -> types.CreateMessageResult:
        self.asked.append({"message": params.messages[0].content.text, "maxTokens": params.max_tokens})
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

        callback = follow if progress else None
        return await told(
            self.client.call_tool(name, arguments, progress_callback=callback, read_timeout_seconds=timeout)
        )

    async def prompt(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return await told(self.client.get_prompt(name, arguments))

    async def read(self, uri: str) -> dict[str, Any]:
        return await told(self.client.read_resource(uri))

    @contextlib.asynccontextmanager
    async def listen(self, uri: str) -> Any:
        if self.version not in MODERN_PROTOCOL_VERSIONS:
            yield await cases.seen(told(self.client.session.subscribe_resource(uri)))
            return
        try:
            async with self.client.listen(
                tools_list_changed=True, resource_subscriptions=[uri]
            ) as subscription:
                yield plain(subscription.honored)
        except MCPError as error:
            raise cases.Refused(error.error.code, error.error.message) from None


async def main() -> None:
    mode, plans, command = cases.arguments()
    async with Official(mode, command) as client:
        await cases.run(client, plans)


if __name__ == "__main__":
    asyncio.run(main())
