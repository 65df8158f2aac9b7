"""Clients of one endpoint, and of one address: nobody gets at another's requests, whatever he posts (S1, TRM-02)."""

from __future__ import annotations

import pytest

from http_client import META, MODERN, mirrored, modern
from http_server import serving
from loops import both_loops

ENVELOPE = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}


def noted(method, **params):
    """A modern notification and the headers that repeat it."""
    message = {"jsonrpc": "2.0", "method": method, "params": {"_meta": ENVELOPE, **params}}
    return message, {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}


@both_loops
async def test_trm_02_a_cancel_that_is_posted_ends_nobodys_request():
    """Clients behind one address are one peer, and many send id 1 always; each ends its own by closing its stream."""
    async with serving() as server:
        victim, other = await server.connect(), await server.connect()
        waits = modern("tools/call", {"name": "wait"})
        victim.send(waits, mirrored(waits))
        await server.began.wait()
        for said in ({"requestId": 1}, {"requestId": 1, "reason": "mine"}, {"requestId": "1"}, {}):
            answer = await other.ask(*noted("notifications/cancelled", **said))
            assert (answer.status, answer.body) == (202, b"")
        assert not server.cancelled
        server.go_on.set()
        assert (await victim.read()).json["result"]["content"]
        [peer] = server.router.peers
        assert peer.connection.counters()["cancels_in"] == 0


@both_loops
async def test_s1_progress_that_a_client_posts_is_nobodys():
    async with serving() as server:
        victim, other = await server.connect(), await server.connect()
        waits = modern("tools/call", {"name": "wait"}, token=1)
        victim.send(waits, mirrored(waits))
        await server.began.wait()
        said = {"progressToken": 1, "progress": 99}
        assert (await other.ask(*noted("notifications/progress", **said))).status == 202
        server.go_on.set()
        *progress, last = (await victim.read()).events
        assert [event["params"]["progress"] for event in progress] == [1]
        assert "result" in last


@pytest.mark.parametrize("method", ["tools/call", "ping", "tools/list"])
@pytest.mark.parametrize("params", [None, {"name": "echo"}, {"name": "echo", "_meta": {}}, [1]])
@both_loops
async def test_e5_the_first_of_an_address_has_the_envelope_of_its_revision(method, params):
    """What is not known yet of the others, who share the connection, does not let him do without."""
    async with serving() as server:
        client = await server.connect()
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        if params is None:
            del message["params"]
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if isinstance(params, dict):
            headers["Mcp-Name"] = "echo"
        answer = await client.ask(message, headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32602)
        assert "protocolVersion" in answer.json["error"]["message"]
        assert (await client.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_s1_a_session_is_found_by_its_own_handle_only():
    async with serving() as server:
        mine, theirs, other = [await server.connect() for _ in range(3)]
        my_session, their_session = await mine.open_session(), await theirs.open_session()
        handle = their_session["Mcp-Session-Id"]
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        near = [
            handle.lower(),
            handle[:-1],
            handle[:-1] + chr(ord(handle[-1]) ^ 1),
            handle + "A",
            handle + "=",
            my_session["Mcp-Session-Id"][:24] + handle[24:],
            "",
        ]
        for guess in near:
            headers = {**my_session, "Mcp-Session-Id": guess}
            assert (await other.ask(call, headers)).status == 404, guess
            other.writer.write(other.head("DELETE", headers))
            assert (await other.read()).status == 404, guess
        assert (await theirs.ask(call, their_session)).status == 200


@both_loops
async def test_s1_a_session_says_nothing_about_the_requests_of_another():
    async with serving() as server:
        victim, other = await server.connect(), await server.connect()
        sessions = await victim.open_session(), await other.open_session()
        params = {"name": "wait", "_meta": {"progressToken": 1}}
        victim.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, sessions[0])
        await server.began.wait()
        for message in (
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 9},
            },
            {"jsonrpc": "2.0", "id": 1, "result": {}},
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}},
        ):
            assert (await other.ask(message, sessions[1])).status == 202
        assert not server.cancelled
        server.go_on.set()
        *progress, last = (await victim.read()).events
        assert [event["params"]["progress"] for event in progress] == [1]
        assert last["result"]["content"]
