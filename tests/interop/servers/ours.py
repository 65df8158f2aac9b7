"""The matrix's tools, prompts and resources on turnout: over stdio, or `ours.py http` at a port that it prints."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import turnout
from turnout.handlers import members_of
from turnout.protocol.handshake import META, HandshakeResponder, Implementation
from turnout.transports.http.listener import listen_http

NOTE = "mem://note"
PAUSE = 0.2
"""Seconds after an update: many a client loses one that shares a read with the answer."""

INVALID_PARAMS = -32602
KEPT = {"ttlMs": 0, "cacheScope": "private"}
CAPABILITIES = {
    "tools": {"listChanged": True},
    "prompts": {},
    "resources": {"subscribe": True, "listChanged": True},
    "logging": {},
}
ELICIT = {
    "message": "Your name?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
SAMPLE = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "Two and two?"}}],
    "maxTokens": 5,
}


def text(value: str) -> dict[str, Any]:
    """A tool's result."""
    return {"content": [{"type": "text", "text": value}]}


def refuse(message: str) -> turnout.RequestError:
    """An answer that says what is wrong with the params."""
    return turnout.RequestError(INVALID_PARAMS, message)


def is_modern(request: turnout.Request) -> bool:
    """Whether a request is of 2026-07-28, which nobody is asked anything in."""
    return f"{META}protocolVersion" in members_of(members_of(request.params).get("_meta"))


class Tools:
    """The tools, by name."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._states: dict[str, str] = {}

    async def echo(self, _: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(arguments.get("text"), str):
            return {**text("text is a string"), "isError": True}
        return text(arguments["text"])

    async def fail(self, _: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
        return {**text("as asked"), "isError": True}

    async def big(self, _: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        return text("é" * (arguments["bytes"] // 2))

    async def steps(self, request: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        for step in range(1, arguments["count"] + 1):
            request.progress(step, arguments["count"], f"step {step}")
            await asyncio.sleep(arguments.get("pause", PAUSE))
        return text("done")

    async def wait(self, request: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        self._states[arguments["tag"]] = "running"
        try:
            request.progress(1, None, "running")
            await asyncio.Event().wait()
        finally:
            self._states[arguments["tag"]] = "stopped"
        return text("never")

    async def state(self, _: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        return text(self._states.get(arguments["tag"], "unknown"))

    async def log(self, request: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
        for number in range(arguments["count"]):
            request.notify("notifications/message", {"level": "info", "data": number})
        return text("logged")

    async def greet(self, request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask(request, "elicitation/create", ELICIT)
        if "resultType" in answer:
            return answer
        accepted = answer.get("action") == "accept"
        return text(f"Hello {answer['content']['name']}" if accepted else answer["action"])

    async def sample(self, request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
        answer = await self._ask(request, "sampling/createMessage", SAMPLE)
        return answer if "resultType" in answer else text(f"The model says {answer['content']['text']}")

    @staticmethod
    async def _ask(request: turnout.Request, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """What the client answers, or the result that asks it."""
        if not is_modern(request):
            return members_of(await request.send(method, params))
        answers = members_of(request.params.get("inputResponses"))
        if "it" in answers:
            return members_of(answers["it"])
        return {"resultType": "input_required", "inputRequests": {"it": {"method": method, "params": params}}}

    async def change(self, _: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
        self._server.tell("notifications/tools/list_changed", {}, "toolsListChanged")
        self._server.tell("notifications/resources/updated", {"uri": NOTE}, NOTE)
        return text("changed")


SCHEMAS: dict[str, dict[str, Any]] = {
    "echo": {"text": {"type": "string"}},
    "fail": {},
    "big": {"bytes": {"type": "integer"}},
    "steps": {"count": {"type": "integer"}, "pause": {"type": "number"}},
    "wait": {"tag": {"type": "string"}},
    "state": {"tag": {"type": "string"}},
    "log": {"count": {"type": "integer"}},
    "greet": {},
    "sample": {},
    "change": {},
}


class Server:
    """What a router answers."""

    def __init__(self, router: turnout.Router) -> None:
        self._tools = Tools(self)
        self._listening: dict[turnout.Request, set[str]] = {}
        self._subscribed: dict[Any, set[str]] = {}
        HandshakeResponder(router, Implementation("turnout", "1", CAPABILITIES), "For the matrix.")
        router.on_request("tools/list")(self._list_tools)
        router.on_request("tools/call")(self._call)
        router.on_request("prompts/list")(self._list_prompts)
        router.on_request("prompts/get")(self._prompt)
        router.on_request("resources/list")(self._list_resources)
        router.on_request("resources/templates/list")(self._list_templates)
        router.on_request("resources/read")(self._read)
        router.on_request("resources/subscribe")(self._subscribe)
        router.on_request("logging/setLevel")(self._set_level)
        router.on_request("subscriptions/listen")(self._listen)

    def tell(self, method: str, params: dict[str, Any], what: str) -> None:
        """Tell all who listen for it."""
        for request, wanted in self._listening.items():
            if what in wanted:
                request.notify(method, params)
        for peer, wanted in self._subscribed.items():
            if peer.is_open and what in wanted:
                peer.notify(method, params)

    async def _list_tools(self, request: turnout.Request) -> dict[str, Any]:
        if not is_modern(request):
            # Up to 2025-11-25 nobody has to ask for it.
            self._subscribed.setdefault(request.peer, {"toolsListChanged"})
        tools = [
            {
                "name": name,
                "description": f"Does {name}.",
                "inputSchema": {"type": "object", "properties": given},
            }
            for name, given in SCHEMAS.items()
        ]
        return {"tools": tools, **(KEPT if is_modern(request) else {})}

    async def _call(self, request: turnout.Request) -> dict[str, Any]:
        tool = getattr(self._tools, str(request.params.get("name")), None)
        if request.params.get("name") not in SCHEMAS or tool is None:
            raise refuse("Unknown tool")
        result: dict[str, Any] = await tool(request, members_of(request.params.get("arguments")))
        return result

    async def _list_prompts(self, request: turnout.Request) -> dict[str, Any]:
        prompts = [{"name": "ask", "arguments": [{"name": "topic", "required": True}]}]
        return {"prompts": prompts, **(KEPT if is_modern(request) else {})}

    async def _prompt(self, request: turnout.Request) -> dict[str, Any]:
        topic = members_of(request.params.get("arguments")).get("topic")
        if request.params.get("name") != "ask" or topic is None:
            raise refuse("Unknown prompt, or no topic")
        content = {"type": "text", "text": f"What about {topic}?"}
        return {"messages": [{"role": "user", "content": content}]}

    async def _list_resources(self, request: turnout.Request) -> dict[str, Any]:
        note = {"name": "note", "uri": NOTE, "mimeType": "text/plain"}
        return {"resources": [note], **(KEPT if is_modern(request) else {})}

    async def _list_templates(self, request: turnout.Request) -> dict[str, Any]:
        item = {"name": "item", "uriTemplate": "mem://item/{key}", "mimeType": "text/plain"}
        return {"resourceTemplates": [item], **(KEPT if is_modern(request) else {})}

    async def _read(self, request: turnout.Request) -> dict[str, Any]:
        uri = str(request.params.get("uri"))
        if uri == NOTE:
            found = "a note"
        elif uri.startswith("mem://item/"):
            found = f"item {uri.removeprefix('mem://item/')}"
        else:
            raise turnout.RequestError(INVALID_PARAMS, "Resource not found", {"uri": uri})
        contents = [{"uri": uri, "mimeType": "text/plain", "text": found}]
        return {"contents": contents, **(KEPT if is_modern(request) else {})}

    async def _subscribe(self, request: turnout.Request) -> dict[str, Any]:
        self._subscribed.setdefault(request.peer, {"toolsListChanged"}).add(request.params["uri"])
        return {}

    async def _set_level(self, _: turnout.Request) -> dict[str, Any]:
        return {}

    async def _listen(self, request: turnout.Request) -> dict[str, Any]:
        wanted = members_of(request.params.get("notifications"))
        uris = [uri for uri in wanted.get("resourceSubscriptions", ()) if uri == NOTE]
        tools = wanted.get("toolsListChanged") is True
        honored = {
            **({"toolsListChanged": True} if tools else {}),
            **({"resourceSubscriptions": uris} if uris else {}),
        }
        request.notify("notifications/subscriptions/acknowledged", {"notifications": honored})
        self._listening[request] = {*uris, *(["toolsListChanged"] if tools else [])}
        try:
            await asyncio.Event().wait()
        finally:
            del self._listening[request]
        return {}


async def main() -> None:
    async with turnout.Router() as router:
        Server(router)
        if sys.argv[1:2] != ["http"]:
            peer = await router.connect(turnout.own_stdio(), era=None)
            await peer.wait_lost()
            return
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        listener = listen_http("127.0.0.1", int(sys.argv[2]) if sys.argv[2:] else 0)
        await router.serve(listener)
        print(listener.name, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
