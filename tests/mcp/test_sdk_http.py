"""Servers of the SDK's over Streamable HTTP, before its own clients of both eras."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import anyio
import pytest

pytest.importorskip("mcp")

import httpx2
import mcp
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

import http_client
import turnout.mcp
from loops import both_loops

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Named(BaseModel):
    """What a person is asked for."""

    name: str


class Demo:
    """A server and what its tools saw."""

    def __init__(self) -> None:
        self.server = MCPServer("demo")
        self.began = anyio.Event()
        self.cancelled = anyio.Event()
        self.server.tool()(self.echo)
        self.server.tool()(self.steps)
        self.server.tool()(self.wait)
        self.server.tool()(self.ask)

    async def echo(self, text: str) -> str:
        """Say it again."""
        return text

    async def steps(self, ctx: Context) -> str:
        """Report progress."""
        for step in range(1, 4):
            await ctx.report_progress(step, 3, f"step {step}")
        return "done"

    async def wait(self) -> str:
        """Wait to be cancelled."""
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()
        return ""

    async def ask(self, ctx: Context) -> str:
        """Ask the person."""
        return str(await ctx.elicit("name?", Named))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Demo, str]]:
    """Serve on a port of this machine; the server, and its URL."""
    demo = Demo()
    router = turnout.Router()
    async with anyio.create_task_group() as tasks:
        listener: Any = await tasks.start(_serve, demo.server, router)
        try:
            yield demo, listener.name
        finally:
            tasks.cancel_scope.cancel()
    await router.close()


async def _serve(server: MCPServer, router: turnout.Router, *, task_status: Any) -> None:
    await turnout.mcp.serve_http(server, "127.0.0.1", 0, router=router, task_status=task_status)


async def _elicit(*_: Any) -> Any:
    return mcp.types.ElicitResult(action="accept", content={"name": "Ada"})


async def _use(demo: Demo, session: Any) -> None:
    """What works in either era."""
    assert len((await session.list_tools()).tools) == 4
    updates: list[Any] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        updates.append((progress, total, message))

    result = await session.call_tool("steps", {}, progress_callback=note)
    assert result.content[0].text == "done"
    assert updates == [(step, 3, f"step {step}") for step in (1, 2, 3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.call_tool, "wait", {})
        await demo.began.wait()
        tasks.cancel_scope.cancel()
    await demo.cancelled.wait()
    assert (await session.call_tool("echo", {"text": "ä\u2028"})).content[0].text == "ä\u2028"


@both_loops
async def test_trm_01_a_modern_client_calls_and_cancels_by_closing():
    async with serving() as (demo, url), Client(url) as client:
        await _use(demo, client)


@both_loops
async def test_trh_15_a_legacy_client_calls_cancels_and_is_asked():
    async with (
        serving() as (demo, url),
        streamable_http_client(url) as streams,
        mcp.ClientSession(streams[0], streams[1], elicitation_callback=_elicit) as session,
    ):
        assert (await session.initialize()).protocol_version == "2025-11-25"
        await _use(demo, session)
        assert "Ada" in (await session.call_tool("ask", {})).content[0].text


@both_loops
async def test_trh_04_the_sdks_client_goes_on_with_a_stream_whose_connection_breaks():
    """It connects again by itself, with the last event's id, after the `retry` that it was told."""
    demo = Demo()
    progress, go_on = anyio.Event(), anyio.Event()

    @demo.server.tool()
    async def long(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await go_on.wait()
        await ctx.report_progress(2, 2)
        return "whole"

    updates: list[float] = []

    async def note(step: float, total: float | None, message: str | None) -> None:
        updates.append(step)
        progress.set()

    router = turnout.Router()
    async with anyio.create_task_group() as tasks:
        listener: Any = await tasks.start(_serve, demo.server, router)
        async with (
            streamable_http_client(listener.name) as streams,
            mcp.ClientSession(streams[0], streams[1]) as session,
        ):
            await session.initialize()
            calling = asyncio.ensure_future(session.call_tool("long", {}, progress_callback=note))
            await progress.wait()
            for connection in tuple(listener.connections):
                connection._transport.abort()
            while listener.connections:
                await asyncio.sleep(0)
            go_on.set()
            assert (await calling).content[0].text == "whole"
            assert updates == [1, 2]
        tasks.cancel_scope.cancel()
    await router.close()


@both_loops
async def test_s3_e5_a_request_without_an_envelope_takes_the_server_from_nobody():
    async with serving() as (_, url):
        bare = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        other = await http_client.Client.connect(int(url.rsplit(":", 1)[1].split("/")[0]))
        refused = await other.ask(bare, http_client.mirrored(bare))
        assert (refused.status, refused.json["error"]["code"]) == (400, -32602)
        async with Client(url) as client:
            assert (await client.call_tool("echo", {"text": "hi"})).content[0].text == "hi"
        other.close()


@both_loops
async def test_s3_a_client_is_nobody_who_is_called_as_it_calls_itself():
    """Whoever registers a client may choose its id, and have a token without a subject."""

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            return AccessToken(
                token=token, client_id="ada", subject="ada" if token == "user" else None, scopes=[]
            )

    who = [
        await turnout.mcp.bearer(Verifier())(
            turnout.HttpHead("POST", "/mcp", None, [("authorization", b"Bearer " + token)], "")
        )
        for token in (b"user", b"client")
    ]
    assert who[0] == turnout.Principal("ada")
    assert who[1] != who[0]
    assert who[1].key != who[0].key


@both_loops
async def test_a_server_is_mounted_and_its_clients_are_known():
    """`turnout.mcp.asgi` in Starlette, and the SDK's verifier of tokens."""
    demo = Demo()

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            known = {
                "good": AccessToken(token=token, client_id="app", subject="ada", scopes=["tools"]),
                "weak": AccessToken(token=token, client_id="app", scopes=[]),
                "old": AccessToken(token=token, client_id="app", scopes=["tools"], expires_at=1),
            }
            return known.get(token)

    with pytest.raises(TypeError, match="not one text"):
        turnout.mcp.bearer(Verifier(), scopes="tools")
    router = turnout.Router()
    endpoint = turnout.mcp.asgi(
        demo.server, router=router, authenticate=turnout.mcp.bearer(Verifier(), scopes=["tools"])
    )
    app = Starlette(routes=[Mount("/tools", endpoint)], lifespan=endpoint.lifespan)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    served = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.ensure_future(served.serve(sockets=[bound]))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/tools/"
    async with httpx2.AsyncClient() as plain:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "server/discover"}
        accept = {"Accept": "application/json, text/event-stream"}
        for token, status, error in (
            (None, 401, None),
            ("weak", 403, "insufficient_scope"),
            ("old", 401, "invalid_token"),
            ("no", 401, "invalid_token"),
        ):
            headers = accept if token is None else {**accept, "Authorization": f"Bearer {token}"}
            answer = await plain.post(url, json=hello, headers=headers)
            challenge = answer.headers["www-authenticate"]
            assert (answer.status_code, error is None or f'error="{error}"' in challenge) == (status, True)
    async with (
        httpx2.AsyncClient(headers={"Authorization": "Bearer good"}) as known,
        Client(streamable_http_client(url, http_client=known)) as client,
    ):
        assert len((await client.list_tools()).tools) == 4
        assert (await client.call_tool("echo", {"text": "hi"})).content[0].text == "hi"
        assert [str(peer.principal) for peer in router.peers] == ["ada"]
    served.should_exit = True
    await serving
    await router.close()


@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
@both_loops
async def test_trm_12_trh_03_the_sdks_client_calls_and_cancels_over_our_http(mode):
    async with serving() as (demo, url), turnout.mcp.connect_http(url, mode=mode) as client:
        await _use(demo, client)


class NamedTokens:
    """The verifier of tokens that are names, with a number."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="app", subject=token.partition(".")[0], scopes=["tools"])


def _whose(demo: Demo) -> anyio.Event:
    """Give the server a tool that says whose token it sees, before and after it waited."""
    go_on = anyio.Event()

    @demo.server.tool()
    async def whose(waits: bool) -> str:
        """Say whose token it sees."""
        before = get_access_token()
        if waits:
            demo.began.set()
            await go_on.wait()
        after = get_access_token()
        return f"{before and before.token} {after and after.token}"

    return go_on


async def _ask_whose(url: str, token: str, *, waits: bool, mode: Any = "auto") -> str:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers) as known,
        Client(streamable_http_client(url, http_client=known), mode=mode) as client,
    ):
        result = await client.call_tool("whose", {"waits": waits})
        return str(result.content[0].text)


async def _check_whose(demo: Demo, go_on: anyio.Event, url: str) -> None:
    async with anyio.create_task_group() as tasks:
        said: list[str] = []

        async def first() -> None:
            said.append(await _ask_whose(url, "ada.1", waits=True))

        tasks.start_soon(first)
        await demo.began.wait()
        assert await _ask_whose(url, "ada.2", waits=False) == "ada.2 ada.2"
        go_on.set()
    assert said == ["ada.1 ada.1"]
    assert get_access_token() is None


@both_loops
async def test_handlers_of_the_sdk_see_the_token_of_their_own_request():
    demo = Demo()
    go_on = _whose(demo)
    router = turnout.Router()
    async with anyio.create_task_group() as tasks:

        async def serve(*, task_status: Any) -> None:
            await turnout.mcp.serve_http(
                demo.server,
                "127.0.0.1",
                0,
                router=router,
                task_status=task_status,
                authenticate=turnout.mcp.bearer(NamedTokens()),
            )

        listener: Any = await tasks.start(serve)
        await _check_whose(demo, go_on, listener.name)
        tasks.cancel_scope.cancel()
    await router.close()


@both_loops
async def test_handlers_of_the_sdk_see_it_within_an_application_server():
    demo = Demo()
    go_on = _whose(demo)
    router = turnout.Router()
    endpoint = turnout.mcp.asgi(demo.server, router=router, authenticate=turnout.mcp.bearer(NamedTokens()))
    app = Starlette(routes=[Mount("/tools", endpoint)], lifespan=endpoint.lifespan)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    served = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.ensure_future(served.serve(sockets=[bound]))
    await _check_whose(demo, go_on, f"http://127.0.0.1:{bound.getsockname()[1]}/tools/")
    served.should_exit = True
    await serving
    await router.close()


@pytest.mark.parametrize("kind", ["native", "mounted"])
@both_loops
async def test_aut_the_first_request_of_each_principal_sees_its_own_token(kind):
    """What waits for a server to begin is handed over later, by a task that others' requests may have begun."""
    demo = Demo()
    _whose(demo)
    router = turnout.Router()
    authenticate = turnout.mcp.bearer(NamedTokens())
    async with anyio.create_task_group() as tasks, contextlib.AsyncExitStack() as served:
        if kind == "native":

            async def serve(*, task_status: Any) -> None:
                await turnout.mcp.serve_http(
                    demo.server,
                    "127.0.0.1",
                    0,
                    router=router,
                    task_status=task_status,
                    authenticate=authenticate,
                )

            listener: Any = await tasks.start(serve)
            url = listener.name
        else:
            endpoint = turnout.mcp.asgi(demo.server, router=router, authenticate=authenticate)
            url = await served.enter_async_context(_served_without_lifespan(endpoint))
        for token in ("ada.1", "ben.1", "cleo.1", "ada.2"):
            seen = await _ask_whose(url, token, waits=False, mode="2026-07-28")
            assert seen == f"{token} {token}"
        await served.aclose()
        tasks.cancel_scope.cancel()
    await router.close()


@contextlib.asynccontextmanager
async def _served_without_lifespan(endpoint: Any) -> AsyncIterator[str]:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    app = Starlette(routes=[Mount("/tools", endpoint)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/tools/"
    server.should_exit = True
    await serving
    await endpoint.close()
