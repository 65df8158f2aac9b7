"""What the official conformance suite asks of a server, on turnout: `server.py` prints the URL where it serves.

Names, texts and schemas are the suite's.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from contents import (
    AUDIO,
    DEFAULTS,
    ENUMS,
    IMAGE,
    MIXED,
    PROMPTS,
    RESOURCES,
    SCHEMAS,
    TEMPLATES,
    elicit,
    image,
    sample,
    text,
)

import turnout
from turnout.handlers import members_of
from turnout.protocol.handshake import META, HandshakeResponder, Implementation
from turnout.transports.http.listener import listen_http

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Tool = Callable[[turnout.Request, dict[str, Any]], Awaitable[dict[str, Any]]]

INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601
MISSING_CAPABILITY = -32021
PAUSE = 0.05

CAPABILITIES = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "completions": {},
    "logging": {},
}

TOOLS: dict[str, Tool] = {}


def tool(function: Tool) -> Tool:
    """Register a tool by the name of its function."""
    TOOLS[f"test_{function.__name__}"] = function
    return function


def says(value: str) -> dict[str, Any]:
    """A result of one text."""
    return {"content": [text(value)]}


def meta(request: turnout.Request, key: str) -> Any:
    """A member of the envelope of 2026-07-28."""
    return members_of(members_of(request.params).get("_meta")).get(f"{META}{key}")


def is_modern(request: turnout.Request) -> bool:
    """Whether a request is of 2026-07-28, which nobody is asked anything in."""
    return meta(request, "protocolVersion") is not None


# ---- results of every kind ----


@tool
async def simple_text(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return says("This is a simple text response for testing.")


@tool
async def image_content(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return {"content": [image()]}


@tool
async def audio_content(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "audio", "data": AUDIO, "mimeType": "audio/wav"}]}


@tool
async def embedded_resource(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    resource = {
        "uri": "test://embedded-resource",
        "mimeType": "text/plain",
        "text": "This is an embedded resource content.",
    }
    return {"content": [{"type": "resource", "resource": resource}]}


@tool
async def multiple_content_types(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return {"content": MIXED}


@tool
async def error_handling(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return {**says("This tool intentionally returns an error for testing"), "isError": True}


async def schema(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    return says("Its schema is what matters.")


TOOLS["json_schema_2020_12_tool"] = schema


@tool
async def header_param(_: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
    return says(str(arguments.get("region")))


# ---- what is said on the way ----


@tool
async def tool_with_logging(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    for number, data in enumerate(
        ("Tool execution started", "Tool processing data", "Tool execution completed")
    ):
        if number:
            await asyncio.sleep(PAUSE)
        if not is_modern(request) or meta(request, "logLevel") is not None:
            request.notify("notifications/message", {"level": "info", "data": data})
    return says("Logged.")


TOOLS["test_logging_tool"] = tool_with_logging


@tool
async def tool_with_progress(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    for progress in (0, 50, 100):
        if progress:
            await asyncio.sleep(PAUSE)
        request.progress(progress, 100)
    return says("Done.")


@tool
async def reconnection(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(PAUSE)
    return says("Reconnected.")


# ---- what the client is asked, up to 2025-11-25 ----


async def answered(request: turnout.Request, question: dict[str, Any]) -> dict[str, Any] | None:
    """The client's answer; None where a result is to ask for it."""
    if is_modern(request):
        return answers(request).get("it")
    return members_of(await request.send(question["method"], question["params"]))


async def asked(request: turnout.Request, question: dict[str, Any], begin: str) -> dict[str, Any]:
    """Ask during the request, and say what the answer was."""
    answer = await answered(request, question)
    if answer is None:
        return requires("it", question)
    return says(f"{begin}: action={answer.get('action')}, content={json.dumps(answer.get('content'))}")


@tool
async def sampling(request: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
    question = sample(str(arguments["prompt"]), 100)
    answer = await answered(request, question)
    if answer is None:
        return requires("it", question)
    return says(f"LLM response: {members_of(answer.get('content')).get('text')}")


@tool
async def elicitation(request: turnout.Request, arguments: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    }
    return await asked(request, elicit(str(arguments["message"]), fields), "User response")


@tool
async def elicitation_sep1034_defaults(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    return await asked(request, elicit("Who?", DEFAULTS, []), "Elicitation completed")


@tool
async def elicitation_sep1330_enums(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    return await asked(request, elicit("Which?", ENUMS, []), "Elicitation completed")


# ---- results that ask, from 2026-07-28 on ----

KEY = os.urandom(32)


def seal(state: str) -> str:
    """A state that nobody else can make."""
    return f"{state}.{hmac.new(KEY, state.encode(), hashlib.sha256).hexdigest()}"


def unseal(request: turnout.Request) -> str | None:
    """The state that a request brings back; None for none."""
    sealed = request.params.get("requestState")
    if sealed is None:
        return None
    state = str(sealed).partition(".")[0]
    if not hmac.compare_digest(seal(state), str(sealed)):
        raise turnout.RequestError(INVALID_PARAMS, "requestState is not what it was")
    return state


def requires(key: str, question: dict[str, Any], state: str | None = None) -> dict[str, Any]:
    """A result that asks one thing."""
    return requires_all({key: question}, state)


def requires_all(questions: dict[str, Any], state: str | None = None) -> dict[str, Any]:
    """A result that asks."""
    sealed = {} if state is None else {"requestState": seal(state)}
    return {"resultType": "input_required", "inputRequests": questions, **sealed}


def answers(request: turnout.Request) -> dict[str, dict[str, Any]]:
    """What was asked, as far as it is answered."""
    given = members_of(request.params.get("inputResponses"))
    return {key: answer for key, answer in given.items() if isinstance(answer, dict)}


NAME = elicit("What is your name?", {"name": {"type": "string"}})
CONFIRM = elicit("Please confirm", {"ok": {"type": "boolean"}})
ROOTS = {"method": "roots/list", "params": {}}


@tool
async def input_required_result_elicitation(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    content = answers(request).get("user_name", {}).get("content")
    if not isinstance(members_of(content).get("name"), str):
        return requires("user_name", NAME)
    return says(f"Hello, {members_of(content)['name']}!")


TOOLS["test_streaming_elicitation"] = input_required_result_elicitation


@tool
async def input_required_result_sampling(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    answer = answers(request).get("capital_question")
    if answer is None:
        return requires("capital_question", sample("What is the capital of France?", 100))
    return says(str(members_of(answer.get("content")).get("text")))


@tool
async def input_required_result_list_roots(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    answer = answers(request).get("client_roots")
    return requires("client_roots", ROOTS) if answer is None else says(json.dumps(answer.get("roots")))


@tool
async def input_required_result_request_state(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    if unseal(request) == "confirm" and "confirm" in answers(request):
        return says("state-ok")
    return requires("confirm", CONFIRM, "confirm")


@tool
async def input_required_result_tampered_state(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    return await input_required_result_request_state(request, _)


@tool
async def input_required_result_multiple_inputs(
    request: turnout.Request, _: dict[str, Any]
) -> dict[str, Any]:
    questions = {"user_name": NAME, "greeting": sample("Generate a greeting", 50), "client_roots": ROOTS}
    if unseal(request) == "all" and questions.keys() <= answers(request).keys():
        return says("All answered.")
    return requires_all(questions, "all")


@tool
async def input_required_result_multi_round(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    state, given = unseal(request), answers(request)
    if state == "two" and "step2" in given:
        return says("Both answered.")
    if state == "one" and "step1" in given:
        color = elicit("Step 2: What is your favorite color?", {"color": {"type": "string"}})
        return requires("step2", color, "two")
    return requires("step1", elicit("Step 1: What is your name?", {"name": {"type": "string"}}), "one")


@tool
async def input_required_result_capabilities(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    declared = members_of(meta(request, "clientCapabilities"))
    known = {"elicitation": NAME, "sampling": sample("Two and two?", 5), "roots": ROOTS}
    return requires_all({name: question for name, question in known.items() if name in declared})


@tool
async def missing_capability(request: turnout.Request, _: dict[str, Any]) -> dict[str, Any]:
    if "sampling" not in members_of(meta(request, "clientCapabilities")):
        data = {"requiredCapabilities": {"sampling": {}}}
        raise turnout.RequestError(MISSING_CAPABILITY, "The client has to declare sampling", data)
    return says("It did.")


class Server:
    """What a router answers beside its tools."""

    def __init__(self, router: turnout.Router) -> None:
        self._listening: dict[turnout.Request, set[str]] = {}
        HandshakeResponder(router, Implementation("everything", "1", CAPABILITIES))
        lists = {
            "tools": self._tools(),
            "prompts": PROMPTS,
            "resources": RESOURCES,
            "resourceTemplates": TEMPLATES,
        }
        methods = {"resourceTemplates": "resources/templates/list"}
        for kind, items in lists.items():
            router.on_request(methods.get(kind, f"{kind}/list"))(self._lister(kind, items))
        router.on_request("tools/call")(self._call)
        router.on_request("prompts/get")(self._prompt)
        router.on_request("resources/read")(self._read)
        router.on_request("subscriptions/listen")(self._listen)
        router.on_request("completion/complete")(self._complete)
        for method in ("logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
            router.on_request(method)(self._take_note)
        TOOLS["test_trigger_tool_change"] = self._changer("tools")
        TOOLS["test_trigger_prompt_change"] = self._changer("prompts")

    @staticmethod
    def _tools() -> list[dict[str, Any]]:
        plain = {"type": "object", "properties": {}}
        names = {*TOOLS, *SCHEMAS, "test_trigger_tool_change", "test_trigger_prompt_change"}
        return [
            {"name": name, "description": f"For the suite: {name}.", "inputSchema": SCHEMAS.get(name, plain)}
            for name in sorted(names)
        ]

    @staticmethod
    def _lister(kind: str, items: list[dict[str, Any]]) -> Any:
        async def list_items(_: turnout.Request) -> dict[str, Any]:
            return {kind: items}

        return list_items

    def _changer(self, kind: str) -> Tool:
        async def change(_: turnout.Request, __: dict[str, Any]) -> dict[str, Any]:
            for request, wanted in self._listening.items():
                if f"{kind}ListChanged" in wanted:
                    request.notify(f"notifications/{kind}/list_changed", {})
            return says("Told.")

        return change

    async def _call(self, request: turnout.Request) -> dict[str, Any]:
        found = TOOLS.get(str(request.params.get("name")))
        if found is None:
            raise turnout.RequestError(INVALID_PARAMS, "Unknown tool")
        return await found(request, members_of(request.params.get("arguments")))

    async def _prompt(self, request: turnout.Request) -> dict[str, Any]:
        name, given = request.params.get("name"), members_of(request.params.get("arguments"))
        says_it: list[dict[str, Any]]
        if name == "test_simple_prompt":
            says_it = [text("This is a simple prompt for testing.")]
        elif name == "test_prompt_with_arguments":
            says_it = [text(f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'")]
        elif name == "test_prompt_with_image":
            says_it = [image(), text("Please analyze the image above.")]
        elif name == "test_prompt_with_embedded_resource":
            resource = {
                "uri": given.get("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            }
            says_it = [
                {"type": "resource", "resource": resource},
                text("Please process the embedded resource above."),
            ]
        elif name == "test_input_required_result_prompt":
            context = members_of(answers(request).get("user_context", {}).get("content")).get("context")
            if context is None:
                asks = elicit("What context should the prompt use?", {"context": {"type": "string"}})
                return requires("user_context", asks)
            says_it = [text(f"In the context of {context}.")]
        else:
            raise turnout.RequestError(INVALID_PARAMS, "Unknown prompt")
        return {"messages": [{"role": "user", "content": content} for content in says_it]}

    async def _read(self, request: turnout.Request) -> dict[str, Any]:
        uri = str(request.params.get("uri"))
        begin, end = "test://template/", "/data"
        content: dict[str, Any]
        if uri == "test://static-text":
            content = {"mimeType": "text/plain", "text": "This is the content of the static text resource."}
        elif uri == "test://static-binary":
            content = {"mimeType": "image/png", "blob": IMAGE}
        elif uri.startswith(begin) and uri.endswith(end):
            key = uri[len(begin) : -len(end)]
            told = {"id": key, "templateTest": True, "data": f"Data for ID: {key}"}
            content = {"mimeType": "application/json", "text": json.dumps(told)}
        else:
            raise turnout.RequestError(INVALID_PARAMS, "Resource not found", {"uri": uri})
        return {"contents": [{"uri": uri, **content}]}

    async def _complete(self, _: turnout.Request) -> dict[str, Any]:
        return {"completion": {"values": ["paris", "park", "party"], "total": 3, "hasMore": False}}

    async def _take_note(self, request: turnout.Request) -> dict[str, Any]:
        if is_modern(request):
            raise turnout.RequestError(METHOD_NOT_FOUND, "Method not found")
        return {}

    async def _listen(self, request: turnout.Request) -> dict[str, Any]:
        wanted = members_of(request.params.get("notifications"))
        honored = {name: value for name, value in wanted.items() if value}
        request.notify("notifications/subscriptions/acknowledged", {"notifications": honored})
        self._listening[request] = set(honored)
        try:
            await asyncio.Event().wait()
        finally:
            del self._listening[request]
        return {}


async def main() -> None:
    async with turnout.Router() as router:
        Server(router)
        listener = listen_http("127.0.0.1", 0)
        await router.serve(listener)
        print(listener.name, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
