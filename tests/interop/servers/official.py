"""The matrix's tools, prompts and resources on the official Python SDK's server: `official.py [legacy] [http]`.

By `legacy` it speaks the revisions up to 2025-11-25 only, by `http` it prints the URL where it serves, and otherwise it
serves over stdio.
"""

import sys
from typing import Annotated

import anyio
from mcp.server import MCPServer, NotificationOptions
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp.server.runner import serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CreateMessageResult, SamplingMessage, SubscribeRequestParams, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel
from serving import serve

NOTE = "mem://note"
PAUSE = 0.2
"""Seconds after an update: many a client loses one that shares a read with the answer."""

server = MCPServer("official", version="1", instructions="For the matrix.", log_level="CRITICAL")
states: dict[str, str] = {}


class Name(BaseModel):
    name: str


@server.tool()
async def echo(text: str) -> str:
    return text


@server.tool()
async def fail() -> str:
    raise ValueError("as asked")


@server.tool()
async def steps(ctx: Context, count: int) -> str:
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"step {step}")
        await anyio.sleep(PAUSE)
    return "done"


@server.tool()
async def wait(ctx: Context, tag: str) -> str:
    states[tag] = "running"
    try:
        await ctx.report_progress(1, None, "running")
        await anyio.sleep_forever()
    finally:
        states[tag] = "stopped"
    return "never"


@server.tool()
async def state(tag: str) -> str:
    return states.get(tag, "unknown")


def ask_name() -> Elicit[Name]:
    return Elicit("Your name?", Name)


@server.tool()
async def greet(name: Annotated[Name, Resolve(ask_name)]) -> str:
    return f"Hello {name.name}"


def ask_model() -> Sample:
    message = SamplingMessage(role="user", content=TextContent(type="text", text="Two and two?"))
    return Sample([message], max_tokens=5)


@server.tool()
async def sample(answer: Annotated[CreateMessageResult, Resolve(ask_model)]) -> str:
    return f"The model says {answer.content.text}"


@server.tool()
async def change(ctx: Context) -> str:
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        await ctx.notify_tools_changed()
        await ctx.notify_resource_updated(NOTE)
    else:
        await ctx.session.send_tool_list_changed()
        if NOTE in subscribed:
            await ctx.session.send_resource_updated(NOTE)
    return "changed"


@server.prompt()
def ask(topic: str) -> str:
    return f"What about {topic}?"


@server.resource(NOTE, mime_type="text/plain")
def note() -> str:
    return "a note"


@server.resource("mem://item/{key}", mime_type="text/plain")
def item(key: str) -> str:
    return f"item {key}"


# What clients of the revisions up to 2025-11-25 subscribe to: the SDK's high-level server has no handler for it.
subscribed: set[str] = set()


async def subscribe(_ctx: object, params: SubscribeRequestParams) -> dict[str, object]:
    subscribed.add(str(params.uri))
    return {}


server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)


async def run_legacy() -> None:
    old = server._lowlevel_server
    async with stdio_server() as (read, write), old.lifespan(old) as state:
        options = old.create_initialization_options(NotificationOptions(tools_changed=True))
        await serve_loop(old, read, write, lifespan_state=state, init_options=options)


def forget_new_revisions() -> None:
    """Have the SDK hand every request over HTTP to what serves the old revisions."""
    StreamableHTTPSessionManager._handle_request = StreamableHTTPSessionManager._handle_stateful_request


if __name__ == "__main__":
    legacy, http = "legacy" in sys.argv, "http" in sys.argv
    if http:
        if legacy:
            forget_new_revisions()
        anyio.run(serve, server.streamable_http_app())
    elif legacy:
        anyio.run(run_legacy)
    else:
        server.run("stdio")
