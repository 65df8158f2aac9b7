"""One context from `authenticate` to the handler: what is set there is its request's, and no other's."""

from __future__ import annotations

import asyncio
import contextvars
import json

import pytest

import turnout
from http_client import ACCEPT, mirrored, modern
from http_server import serving
from loops import both_loops
from turnout import Principal

token_var: contextvars.ContextVar[str] = contextvars.ContextVar("token", default="nobody")


def by_token(head):
    token_var.set(head.bearer)
    return Principal(head.bearer.partition(".")[0], "test")


async def by_token_later(head):
    await asyncio.sleep(0)
    return by_token(head)


everywhere = pytest.mark.parametrize("authenticate", [by_token, by_token_later])


def asked(token, name="whose", **arguments):
    message = modern("tools/call", {"name": name, "arguments": arguments})
    return message, {**mirrored(message), "Authorization": f"Bearer {token}"}


def said(answer):
    return answer.json["result"]["structuredContent"]["tokens"]


class Tools:
    """Tools that say whose token they see: at once, after a while, and in a thread."""

    def __init__(self, router):
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})

        @router.on_request("tools/call")
        async def call(request):
            seen = [token_var.get()]
            if request.params["name"] == "wait":
                self.waiting.set()
                await self.go_on.wait()
                seen.append(token_var.get())
            return {"content": [], "structuredContent": {"tokens": seen}}

        @router.on_request("completion/complete")
        def complete(request):
            return {"completion": {"values": [token_var.get()]}}


@everywhere
@both_loops
async def test_requests_of_one_socket_see_their_own_tokens(authenticate):
    async with serving(authenticate=authenticate) as server:
        Tools(server.router)
        client = await server.connect()
        for token in ("ada.1", "ada.2", "bob.1", "ada.1"):
            assert said(await client.ask(*asked(token))) == [token]
        assert token_var.get() == "nobody"


@everywhere
@both_loops
async def test_requests_of_one_connection_that_are_under_way_together_see_their_own_tokens(authenticate):
    async with serving(authenticate=authenticate) as server:
        tools = Tools(server.router)
        one, two = await server.connect(), await server.connect()
        first = asyncio.ensure_future(one.ask(*asked("ada.1", "wait")))
        await tools.waiting.wait()
        assert said(await two.ask(*asked("ada.2"))) == ["ada.2"]
        assert len(server.router.peers) == 1, "both are one principal's"
        tools.go_on.set()
        assert said(await first) == ["ada.1", "ada.1"]


@everywhere
@both_loops
async def test_what_is_pipelined_sees_its_own_token(authenticate):
    async with serving(authenticate=authenticate) as server:
        Tools(server.router)
        client = await server.connect()
        for token in ("ada.1", "ada.2"):
            client.send(*asked(token))
        answers = [await client.read(), await client.read()]
        assert [said(answer) for answer in answers] == [["ada.1"], ["ada.2"]]


@everywhere
@both_loops
async def test_a_message_that_comes_behind_the_verdict_has_its_context(authenticate):
    heard = asyncio.Event()

    def hear(head):
        heard.set()
        return authenticate(head)

    async with serving(authenticate=hear) as server:
        Tools(server.router)
        client = await server.connect()
        for token in ("ada.1", "ada.2"):
            message, headers = asked(token)
            body = json.dumps(message).encode()
            given = {"Content-Type": "application/json", "Accept": ACCEPT, "Content-Length": str(len(body))}
            client.writer.write(client.head("POST", {**given, **headers}))
            await heard.wait()
            heard.clear()
            for piece in (body[:10], body[10:]):
                client.writer.write(piece)
                await client.writer.drain()
            assert said(await client.read()) == [token]


@everywhere
@both_loops
async def test_a_handler_in_a_thread_sees_the_token(authenticate):
    async with serving(authenticate=authenticate) as server:
        Tools(server.router)
        client = await server.connect()
        message = modern("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}})
        headers = {**mirrored(message), "Authorization": "Bearer ada.1"}
        answer = await client.ask(message, headers)
        assert answer.json["result"]["completion"]["values"] == ["ada.1"]


@everywhere
@both_loops
async def test_within_an_application_server_requests_see_their_own_tokens_and_its_context(authenticate):
    outer: contextvars.ContextVar[str] = contextvars.ContextVar("outer", default="")
    async with turnout.Router() as router:
        tools = Tools(router)
        seen = []

        @router.on_request("prompts/list")
        async def prompts(request):
            seen.append((outer.get(), token_var.get()))
            return {"prompts": []}

        app = turnout.asgi(router, authenticate=authenticate)

        async def ask(message, headers, span=""):
            outer.set(span)
            given = {"content-type": "application/json", "accept": ACCEPT, **headers}
            parts = [json.dumps(message).encode()]
            sent = []

            async def receive():
                if parts:
                    return {"type": "http.request", "body": parts.pop(), "more_body": False}
                return await asyncio.Event().wait()

            async def send(event):
                sent.append(event)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/mcp",
                "query_string": b"",
                "client": ("127.0.0.1", 1),
                "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            }
            await app(scope, receive, send)
            return json.loads(b"".join(event.get("body", b"") for event in sent))

        first = asyncio.ensure_future(ask(*asked("ada.1", "wait")))
        await tools.waiting.wait()
        second = await asyncio.ensure_future(ask(*asked("ada.2")))
        tools.go_on.set()
        tokens = [answer["result"]["structuredContent"]["tokens"] for answer in (await first, second)]
        assert tokens == [["ada.1", "ada.1"], ["ada.2"]]
        message = modern("prompts/list", {})
        headers = {**mirrored(message), "Authorization": "Bearer bob.1"}
        await asyncio.ensure_future(ask(message, headers, span="of the server"))
        assert seen == [("of the server", "bob.1")]


@both_loops
async def test_one_that_takes_too_long_is_refused_and_its_task_ends():
    cancelled = asyncio.Event()

    async def never(head):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(authenticate=never, limits={"max_head_ms": 50}) as server:
        client = await server.connect()
        assert (await client.ask(*asked("ada.1"))).status == 503
        await cancelled.wait()
