"""What a client does and sees, case by case, for the clients in Python.

A client gives each verb as a coroutine function whose result is a JSON object; what is wrong raises `Refused`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import uuid
from typing import Any, Protocol

SECONDS = 20
SHORT = 0.5
"""Seconds after which the client of the case `timeout` gives up."""


class Refused(Exception):
    """An answer that is an error, or a wait that the client gave up."""

    def __init__(self, code: Any, message: str) -> None:
        super().__init__(message)
        self.seen = {"error": code, "message": message}


class Client(Protocol):
    """What the cases need of a client."""

    version: str | None
    capabilities: dict[str, Any]
    server: dict[str, Any] | None
    instructions: str | None
    action: str
    """How the client answers an elicitation: `"accept"` or `"decline"`."""

    asked: list[Any]
    """What the server asked of the client, as it came."""

    heard: asyncio.Queue[Any]
    """Notifications that came, by what they are of."""

    async def page(self, kind: str) -> dict[str, Any]: ...
    async def call(
        self, name: str, arguments: dict[str, Any], progress: Any = None, timeout: Any = None
    ) -> Any: ...
    async def prompt(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]: ...
    async def read(self, uri: str) -> dict[str, Any]: ...
    def listen(self, uri: str) -> Any: ...


async def seen(verb: Any) -> Any:
    """The result of a verb, or the error in its place."""
    try:
        return await verb
    except Refused as refused:
        return refused.seen


def by_name(page: dict[str, Any], kind: str, key: str) -> dict[str, Any]:
    """A list with its items by name, so that a comparison names them."""
    if kind in page:
        page[kind] = {item.pop(key): item for item in page[kind]}
    return page


async def opening(client: Client, _: Any) -> Any:
    return {
        "version": client.version,
        "server": client.server,
        "capabilities": client.capabilities,
        "instructions": bool(client.instructions),
    }


async def tools(client: Client, plan: dict[str, Any]) -> Any:
    return {
        "list": by_name(await seen(client.page("tools")), "tools", "name"),
        "call": await seen(client.call(*plan["call"])),
        "fail": await seen(client.call(*plan["fail"])),
        "invalid": await seen(client.call(*plan["invalid"])),
        "unknown": await seen(client.call("no-such-tool", {})),
    }


async def progress(client: Client, plan: dict[str, Any]) -> Any:
    updates: list[Any] = []
    result = await seen(client.call(*plan["call"], progress=updates.append))
    return {"updates": updates[: plan["sure"]], "result": result}


async def bulk(client: Client, plan: dict[str, Any]) -> Any:
    texts = [f"{number} é\u2028\U0001f600" for number in range(plan["calls"])]
    results = await asyncio.gather(*(client.call("echo", {"text": text}) for text in texts))
    sizes = [len(text_of(await client.call("big", {"bytes": size})).encode()) for size in plan["sizes"]]
    return {"echoed": [text_of(result) for result in results] == texts, "sizes": sizes}


async def abort(client: Client, plan: dict[str, Any]) -> Any:
    tag, name, arguments = tagged(plan["call"])
    running = asyncio.Event()
    call = asyncio.ensure_future(client.call(name, arguments, progress=lambda _: running.set()))
    await running.wait()
    call.cancel()
    try:
        ended: Any = await call
    except asyncio.CancelledError:
        ended = "cancelled"
    except Refused as refused:
        ended = refused.seen
    return {"ended": ended, **await afterwards(client, plan, tag)}


async def timeout(client: Client, plan: dict[str, Any]) -> Any:
    tag, name, arguments = tagged(plan["call"])
    ended = await seen(client.call(name, arguments, timeout=SHORT))
    return {"ended": ended, **await afterwards(client, plan, tag)}


def tagged(call: list[Any]) -> tuple[str, str, dict[str, Any]]:
    """A call with a word of its own, under which the server says what became of it."""
    tag = uuid.uuid4().hex
    name, arguments = call
    return tag, name, {key: tag if value == "TAG" else value for key, value in arguments.items()}


async def afterwards(client: Client, plan: dict[str, Any], tag: str) -> dict[str, Any]:
    """What became of the handler, where the server can say it, and whether the connection still serves."""
    found: dict[str, Any] = {}
    if "state" in plan:
        until = time.monotonic() + 5
        while (handler := text_of(await client.call(plan["state"], {"tag": tag}))) != "stopped":
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.05)
        found["handler"] = handler
    found["next"] = text_of(await client.call(*plan["next"]))
    return found


def text_of(result: dict[str, Any]) -> Any:
    return result["content"][0]["text"]


async def elicitation(client: Client, plan: dict[str, Any]) -> Any:
    found = {}
    for client.action in ("accept", "decline"):
        found[client.action] = await sampling(client, plan)
    return found


async def sampling(client: Client, plan: dict[str, Any]) -> Any:
    """What the server asked, and what it made of the answer."""
    client.asked.clear()
    result = await seen(client.call(*plan["call"]))
    return {"asked": list(client.asked), "result": result}


async def listen(client: Client, plan: dict[str, Any]) -> Any:
    while not client.heard.empty():
        client.heard.get_nowait()
    wanted, heard = set(plan["hears"]), set()
    found: dict[str, Any] = {}
    try:
        async with client.listen(plan["uri"]) as honored:
            found["honored"] = honored
            found["result"] = await seen(client.call(*plan["call"]))
            with contextlib.suppress(asyncio.TimeoutError):
                while not wanted <= heard:
                    heard.add(await asyncio.wait_for(client.heard.get(), 3))
            if plan.get("again"):
                await seen(client.call(*plan["call"]))
    except Refused as refused:
        found["refused"] = refused.seen
    return {**found, "heard": sorted(heard & wanted)}


async def prompts(client: Client, plan: dict[str, Any]) -> Any:
    return {
        "list": by_name(await seen(client.page("prompts")), "prompts", "name"),
        "get": await seen(client.prompt(*plan["get"])),
        "invalid": await seen(client.prompt(plan["get"][0], {})),
        "unknown": await seen(client.prompt("no-such-prompt", {})),
    }


async def resources(client: Client, plan: dict[str, Any]) -> Any:
    return {
        "list": by_name(await seen(client.page("resources")), "resources", "uri"),
        "templates": by_name(
            await seen(client.page("resourceTemplates")), "resourceTemplates", "uriTemplate"
        ),
        "read": [await seen(client.read(uri)) for uri in plan["read"]],
        "unknown": await seen(client.read("mem://no-such")),
    }


CASES = {
    "opening": opening,
    "tools": tools,
    "progress": progress,
    "bulk": bulk,
    "abort": abort,
    "timeout": timeout,
    "elicitation": elicitation,
    "sampling": sampling,
    "listen": listen,
    "prompts": prompts,
    "resources": resources,
}


def say(case: str, found: Any) -> None:
    print(json.dumps({"case": case, "seen": found}, sort_keys=True), flush=True)


async def run(client: Client, plans: dict[str, Any]) -> None:
    """Run the cases that there are plans for, a line of JSON each."""
    for case, plan in plans.items():
        try:
            found = await asyncio.wait_for(CASES[case](client, plan), SECONDS)
        except Exception as broken:
            text = " ".join(str(broken).split())
            found = {"broken": f"{type(broken).__name__}: {text}"[:300]}
        say(case, found)


def is_url(command: list[str]) -> bool:
    """Whether the server is asked over HTTP, and not started."""
    return command[0].startswith("http:")


def arguments() -> tuple[str, dict[str, Any], list[str]]:
    """The command line: MODE PLANS COMMAND... or MODE PLANS URL."""
    mode, plans, *command = sys.argv[1:]
    return mode, json.loads(plans), command
