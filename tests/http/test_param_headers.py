"""Headers that repeat the arguments of a tool: true whoever calls it, by whatever way, and under whatever name."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Annotated, Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from pydantic import Field

import turnout
from http_client import Client, mirrored, modern
from http_scripted import called, scripted
from loops import both_loops

TOOL = {
    "name": "ask",
    "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
}
MISMATCH = -32020


def refusal(asked, code=MISMATCH) -> bytes:
    """An error under the request's own id."""
    return turnout.json.dumps(
        {"jsonrpc": "2.0", "id": asked.message["id"], "error": {"code": code, "message": "no header"}}
    )


def listing(*tools: dict[str, Any], cursor: str | None = None) -> dict[str, Any]:
    """A page of a list."""
    more = {} if cursor is None else {"nextCursor": cursor}
    return {"tools": list(tools), "resultType": "complete", "ttlMs": 0, "cacheScope": "private", **more}


DONE = {"content": [], "resultType": "complete"}
CALL = {"name": "ask", "arguments": {"region": "eu"}}


@both_loops
async def test_what_was_never_listed_is_listed_once_for_all_that_were_refused():
    async with scripted() as server, called(server) as peer:
        calls = [peer.send("tools/call", CALL) for _ in range(3)]
        refused = [await server.next("tools/call") for _ in calls]
        for asked in refused:
            assert "mcp-param-region" not in asked.headers
            asked.write(400, {"Content-Type": "application/json"}, refusal(asked))
        asked = await server.next("tools/list")
        asked.result(listing({"name": "other", "inputSchema": {}}, cursor="2"))
        asked = await server.next("tools/list")
        assert asked.message["params"]["cursor"] == "2"
        asked.result(listing(TOOL))
        for _ in calls:
            asked = await server.next("tools/call")
            assert asked.headers["mcp-param-region"] == "eu"
            asked.result(DONE)
        for call in calls:
            assert (await call)["content"] == []
        assert not any(peer.entries().values())


@both_loops
async def test_what_is_refused_behind_the_list_is_refused():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.write(400, {"Content-Type": "application/json"}, refusal(asked))
        (await server.next("tools/list")).result(listing(TOOL))
        asked = await server.next("tools/call")
        asked.write(400, {"Content-Type": "application/json"}, refusal(asked))
        with pytest.raises(turnout.RemoteError) as refused:
            await call
        assert refused.value.code == MISMATCH
        assert server.asked.empty()


@pytest.mark.parametrize("status", [200, 404, 500])
@both_loops
async def test_where_there_is_no_list_the_refusal_stands(status):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.write(400, {"Content-Type": "application/json"}, refusal(asked))
        asked = await server.next("tools/list")
        asked.write(status, {"Content-Type": "application/json"}, refusal(asked, -32601))
        with pytest.raises(turnout.RemoteError) as refused:
            await call
        assert refused.value.code == MISMATCH


@pytest.mark.parametrize("is_listed", [True, False])
@both_loops
async def test_an_error_of_nobodys_id_asks_for_the_list_too(is_listed):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        said = b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32020, "message": "no header"}}'
        asked.write(400, {"Content-Type": "application/json"}, said)
        asked = await server.next("tools/list")
        if is_listed:
            asked.result(listing(TOOL))
            (await server.next("tools/call")).result(DONE)
            assert (await call)["content"] == []
            return
        asked.write(500)
        with pytest.raises(turnout.RemoteError, match="HTTP status 400"):
            await call


@both_loops
async def test_a_list_without_an_end_holds_nothing_up(monkeypatch):
    monkeypatch.setattr(turnout.transports.http.calling.tools, "MOST_PAGES", 3)
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.write(400, {"Content-Type": "application/json"}, refusal(asked))
        for page in range(3):
            (await server.next("tools/list")).result(listing(TOOL, cursor=str(page)))
        asked = await server.next("tools/call")
        assert asked.headers["mcp-param-region"] == "eu"
        asked.result(DONE)
        await call


@pytest.mark.parametrize("body", [b"", b"{}", b"<p>"])
@both_loops
async def test_only_an_error_of_that_code_asks_for_the_list(body):
    async with scripted() as server, called(server) as peer:
        for method, said in (("tools/call", body), ("prompts/get", None)):
            call = peer.send(method, CALL)
            asked = await server.next(method)
            asked.write(400, {"Content-Type": "application/json"}, refusal(asked) if said is None else said)
            with pytest.raises(turnout.RemoteError):
                await call
            assert server.asked.empty()


@both_loops
async def test_a_list_that_asks_for_no_headers_any_more_has_none_made():
    async with scripted() as server, called(server) as peer:
        listed = peer.send("tools/list")
        (await server.next("tools/list")).result(listing(TOOL))
        await listed
        bare = {
            "name": "ask",
            "inputSchema": {"type": "object", "properties": {"region": {"type": "string"}}},
        }
        for tools, has in (([TOOL], True), ([bare], False), ([TOOL], True)):
            listed = peer.send("tools/list")
            (await server.next("tools/list")).result(listing(*tools))
            await listed
            call = peer.send("tools/call", CALL)
            asked = await server.next("tools/call")
            assert ("mcp-param-region" in asked.headers) is has
            asked.result(DONE)
            await call


@contextlib.asynccontextmanager
async def sdk_server(header: str = "Region"):
    """A server of the SDK's, which refuses a call whose headers are not those of its arguments."""
    server = MCPServer("strict")

    def ask(region, count=0):
        return f"{region} {count} by {header}"

    ask.__annotations__ = {
        "region": Annotated[str, Field(json_schema_extra={"x-mcp-header": header})],
        "count": Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})],
        "return": str,
    }
    server.add_tool(ask)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        server.streamable_http_app(), log_level="critical", timeout_graceful_shutdown=1, lifespan="on"
    )
    served = uvicorn.Server(config)
    running = asyncio.ensure_future(served._serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        served.should_exit = True
        await running
        listening.close()


def routes(prefix: str) -> list[turnout.Route]:
    """The tools of the server under their own names, or under others."""
    if not prefix:
        return [turnout.Route("far")]
    return [turnout.Route("far", "tools/call", prefix=prefix, strip=True)]


ARGUMENTS = {"region": "zürich", "count": 3}


class OverHttp:
    """A client over HTTP that is written by hand."""

    def __init__(self, client: Client, session: dict[str, str] | None) -> None:
        self._client = client
        self._session = session

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request."""
        if self._session is not None:
            message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
            answer = await self._client.ask(message, self._session)
        else:
            message = modern(method, params)
            # What it says itself of the arguments is left to nobody's belief.
            lies = {"Mcp-Param-Region": "elsewhere", "Mcp-Param-Other": "x"}
            answer = await self._client.ask(message, {**mirrored(message), **lies})
        said = answer.events[-1] if answer.events else answer.json
        assert "result" in said, said
        return said["result"]


class InMemory:
    """A client over a channel."""

    def __init__(self, peer: turnout.Peer) -> None:
        self._peer = peer

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request."""
        return await self._peer.send(method, params)


@contextlib.asynccontextmanager
async def clients_of(router: turnout.Router, relay: turnout.Relay):
    """Makes clients, by where they come and by which era."""
    listener = turnout.listen_http("127.0.0.1", 0)
    await router.serve(listener, relay.attach)
    opened: list[Client] = []
    async with turnout.Router() as others:

        async def make(way: str, era: str) -> OverHttp | InMemory:
            if way == "http":
                opened.append(await Client.connect(listener.port))
                return OverHttp(opened[-1], await opened[-1].open_session() if era == "legacy" else None)
            ours, theirs = turnout.memory()
            relay.attach(await router.connect(theirs, era=None))
            return InMemory(await others.connect(ours, era=era))

        try:
            yield make
        finally:
            for client in opened:
                client.close()


@pytest.mark.parametrize("is_listed", [False, True], ids=["unlisted", "listed"])
@pytest.mark.parametrize("prefix", ["", "far_"])
@both_loops
async def test_every_client_reaches_a_server_that_checks_its_headers(prefix, is_listed):
    for way in ("http", "memory"):
        for era in ("modern", "legacy"):
            async with sdk_server() as url, turnout.Router() as router:
                upstream = turnout.Upstream(turnout.http(url), name="far", era="modern")
                relay = router.relay(upstream, routes=routes(prefix))
                async with clients_of(router, relay) as make:
                    client = await make(way, era)
                    if is_listed:
                        tools = (await client.ask("tools/list", {}))["tools"]
                        assert f"{prefix}ask" in [tool["name"] for tool in tools]
                    for _ in range(2):
                        result = await client.ask(
                            "tools/call", {"name": f"{prefix}ask", "arguments": ARGUMENTS}
                        )
                        assert result["content"][0]["text"] == "zürich 3 by Region", (way, era)


@both_loops
async def test_names_and_servers_may_change_while_clients_go_on():
    async with sdk_server() as url, sdk_server("Zone") as other, turnout.Router() as router:
        declared = [turnout.Upstream(turnout.http(at), name="far", era="modern") for at in (url, other)]
        relay = router.relay(declared[0], routes=routes("one_"))
        async with clients_of(router, relay) as make:
            clients = [await make(way, era) for way in ("http", "memory") for era in ("modern", "legacy")]

            async def all_reach(name: str, header: str) -> None:
                for client in clients:
                    result = await client.ask("tools/call", {"name": name, "arguments": ARGUMENTS})
                    assert result["content"][0]["text"] == f"zürich 3 by {header}"

            await all_reach("one_ask", "Region")
            await relay.update(routes=routes("two_"))
            await all_reach("two_ask", "Region")
            await relay.update(upstreams=[declared[1]], routes=routes("two_"))
            await all_reach("two_ask", "Zone")
            await relay.renew("far")
            await all_reach("two_ask", "Zone")
