"""The matrix's tools, prompts and resources on FastMCP's server.

It serves over stdio, or by `fast.py http` at a URL that it prints.
"""

import sys

import anyio
import mcp_types as types
from fastmcp import Context, FastMCP
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel
from serving import serve

PAUSE = 0.2
"""Seconds after an update: many a client loses one that shares a read with the answer."""

server = FastMCP("fast", version="1", instructions="For the matrix.")
states: dict[str, str] = {}


class Name(BaseModel):
    name: str


def is_modern(ctx: Context) -> bool:
    return ctx.request_context.protocol_version in MODERN_PROTOCOL_VERSIONS


@server.tool
async def echo(text: str) -> str:
    return text


@server.tool
async def fail() -> str:
    raise ValueError("as asked")


@server.tool
async def steps(ctx: Context, count: int) -> str:
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"step {step}")
        await anyio.sleep(PAUSE)
    return "done"


@server.tool
async def wait(ctx: Context, tag: str) -> str:
    states[tag] = "running"
    try:
        await ctx.report_progress(1, None, "running")
        await anyio.sleep_forever()
    finally:
        states[tag] = "stopped"
    return "never"


@server.tool
async def state(tag: str) -> str:
    return states.get(tag, "unknown")


@server.tool(output_schema=None)
async def greet(ctx: Context):
    if not is_modern(ctx):
        answer = await ctx.elicit("Your name?", Name)
        return f"Hello {answer.data.name}" if answer.action == "accept" else answer.action
    answers = ctx.input_responses or {}
    if "name" not in answers:
        form = types.ElicitRequestFormParams(message="Your name?", requested_schema=Name.model_json_schema())
        return types.InputRequiredResult(input_requests={"name": types.ElicitRequest(params=form)})
    answer = answers["name"]
    return f"Hello {answer.content['name']}" if answer.action == "accept" else answer.action


@server.tool(output_schema=None)
async def sample(ctx: Context):
    question = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="Two and two?"))
    if not is_modern(ctx):
        answer = await ctx.session.create_message([question], max_tokens=5)
        return f"The model says {answer.content.text}"
    answers = ctx.input_responses or {}
    if "model" not in answers:
        params = types.CreateMessageRequestParams(messages=[question], max_tokens=5)
        return types.InputRequiredResult(input_requests={"model": types.CreateMessageRequest(params=params)})
    return f"The model says {answers['model'].content.text}"


@server.tool
async def change(ctx: Context) -> str:
    await ctx.send_notification(types.ToolListChangedNotification())
    return "changed"


@server.prompt
def ask(topic: str) -> str:
    return f"What about {topic}?"


@server.resource("mem://note", mime_type="text/plain")
def note() -> str:
    return "a note"


@server.resource("mem://item/{key}", mime_type="text/plain")
def item(key: str) -> str:
    return f"item {key}"


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        anyio.run(serve, server.http_app())
    else:
        server.run("stdio", show_banner=False, log_level="CRITICAL")
