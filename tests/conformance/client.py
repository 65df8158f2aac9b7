"""A client on turnout, as the official conformance suite starts it for each of its scenarios: `client.py URL`.

The suite says by the environment which scenario it is, at which revision, and what it gives for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import turnout
import turnout.mcp
from turnout.handlers import members_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scenario = Callable[[turnout.Peer], Awaitable[None]]

SCENARIO = os.environ["MCP_CONFORMANCE_SCENARIO"]
REVISION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
CONTEXT: dict[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))

CAPABILITIES = {"elicitation": {"form": {}}, "sampling": {}, "roots": {"listChanged": False}}

DECEIVED = (
    "auth/resource-mismatch",
    "auth/iss-supported-missing",
    "auth/iss-wrong-issuer",
    "auth/iss-unexpected",
    "auth/iss-normalized",
    "auth/metadata-issuer-mismatch",
    "auth/scope-retry-limit",
)
"""Scenarios in which a client is to give up."""


async def listed(peer: turnout.Peer, kind: str) -> list[dict[str, Any]]:
    """The first page of a list."""
    return members_of(await peer.send(f"{kind}/list", {}))[kind]


async def call(
    peer: turnout.Peer,
    name: str,
    arguments: dict[str, Any],
    between: Callable[[], Awaitable[Any]] | None = None,
) -> dict[str, Any]:
    """Call a tool, as often as it takes: each time with the input that the server asked for (MRTR)."""
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    while True:
        result = members_of(await peer.send("tools/call", params))
        if result.get("resultType") != "input_required":
            return result
        if between is not None:
            await between()
        asked = members_of(result.get("inputRequests"))
        given = {key: answer(members_of(request.get("params"))) for key, request in asked.items()}
        params = {"name": name, "arguments": arguments, "inputResponses": given}
        if "requestState" in result:
            params["requestState"] = result["requestState"]


def answer(params: dict[str, Any]) -> dict[str, Any]:
    """Accept what a server elicits: with its defaults, and with yes where it has none."""
    properties = members_of(members_of(params.get("requestedSchema")).get("properties"))
    content = {
        name: schema.get("default", True)
        for name, schema in properties.items()
        if "default" in schema or schema.get("type") == "boolean"
    }
    return {"action": "accept", "content": content}


async def use(peer: turnout.Peer) -> None:
    """Call the tools that are there."""
    for tool in await listed(peer, "tools"):
        given = {"a": 2, "b": 3} if "a" in tool["inputSchema"].get("properties", {}) else {}
        await call(peer, tool["name"], given)


async def list_tools(peer: turnout.Peer) -> None:
    await listed(peer, "tools")


async def use_everything(peer: turnout.Peer) -> None:
    await use(peer)
    for resource in await listed(peer, "resources"):
        await peer.send("resources/read", {"uri": resource["uri"]})
    for prompt in await listed(peer, "prompts"):
        await peer.send("prompts/get", {"name": prompt["name"]})


async def call_as_told(peer: turnout.Peer) -> None:
    await listed(peer, "tools")
    for one in CONTEXT["toolCalls"]:
        await call(peer, one["name"], one["arguments"])


async def echo_schema(peer: turnout.Peer) -> None:
    tools = {tool["name"]: tool for tool in await listed(peer, "tools")}
    await call(peer, "json_schema_echo", {"schema": tools["json_schema_2020_12_tool"]["inputSchema"]})


async def answer_in_rounds(peer: turnout.Peer) -> None:
    await listed(peer, "tools")
    await call(peer, "test_mrtr_echo_state", {}, lambda: call(peer, "test_mrtr_unrelated", {}))
    await call(peer, "test_mrtr_no_state", {})
    await call(peer, "test_mrtr_no_result_type", {})


async def use_late(peer: turnout.Peer) -> None:
    """Wait until the server knows our stream: it answers on whichever one opens after the call, be it another one's."""
    await asyncio.sleep(5)
    await use(peer)


async def use_twice(peer: turnout.Peer) -> None:
    """Between the two, the server has found itself another authorization server."""
    await listed(peer, "tools")
    await call(peer, "test-tool", {})


SCENARIOS: tuple[tuple[str, Scenario], ...] = (
    ("request-metadata", list_tools),
    ("json-schema-ref-no-deref", list_tools),
    ("json-schema-2020-12-preservation", echo_schema),
    ("http-standard-headers", use_everything),
    ("sse-retry", use_late),
    ("http-custom-headers", call_as_told),
    ("sep-2322-client-request-state", answer_in_rounds),
    ("auth/client-credentials-*", list_tools),
    ("auth/pre-registration", list_tools),
    ("auth/*", use_twice),
    ("*", use),
)


async def main() -> None:
    url = sys.argv[1]
    auth = None
    if SCENARIO.startswith("auth/"):
        # The SDK takes seconds to import, and scenarios run all at once.
        from oauth import provider

        auth = turnout.mcp.oauth(provider(SCENARIO, url, CONTEXT), url)
    act = next(act for pattern, act in SCENARIOS if fnmatchcase(SCENARIO, pattern))
    async with turnout.Router(name="turnout", version="1", capabilities=CAPABILITIES) as router:

        @router.on_request("elicitation/create")
        async def elicit(request: turnout.Request) -> dict[str, Any]:
            return answer(members_of(request.params))

        era = "modern" if REVISION >= "2026-07-28" else "legacy"
        peer = await router.connect(turnout.http(url, auth=auth), era=era)
        await act(peer)


def run() -> None:
    """Say last how it ended, and whether that is what the scenario is about."""
    try:
        asyncio.run(main())
    except turnout.Error as error:
        gave_up = f"gave up: {error}"
    else:
        gave_up = ""
    is_right = bool(gave_up) == (SCENARIO in DECEIVED)
    print(f"{'as it should' if is_right else 'not as it should'}: {gave_up or 'done'}")
    sys.exit(not is_right)


if __name__ == "__main__":
    run()
