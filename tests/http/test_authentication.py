"""Who asks over HTTP: principals, challenges, metadata, and whose a session is."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

import turnout
from http_client import ACCEPT, Client, mirrored, modern
from http_server import serving
from loops import both_loops
from turnout import Challenge, Principal, ProtectedResource

RESOURCE = ProtectedResource(
    "https://api.example.com/mcp", ["https://auth.example.com"], scopes=["tools"], name="tools of ours"
)
METADATA = "/.well-known/oauth-protected-resource/mcp"


def by_token(head: turnout.HttpHead) -> Principal | Challenge:
    """Tokens are names."""
    if head.bearer is None:
        return Challenge()
    if head.bearer == "expired":
        return Challenge(error="invalid_token", description='it is "over"')
    if head.bearer == "weak":
        return Challenge(403, error="insufficient_scope", scope="more")
    return Principal(head.bearer.partition(".")[0], "test")


async def by_token_later(head: turnout.HttpHead) -> Principal | Challenge:
    """Likewise, but it takes a while."""
    await asyncio.sleep(0)
    return by_token(head)


def bearing(token: str | None, headers: dict[str, str] | None = None) -> dict[str, str]:
    return {**(headers or {}), **({} if token is None else {"Authorization": f"Bearer {token}"})}


async def ask(client, token, name="echo"):
    message = modern("tools/call", {"name": name})
    return await client.ask(message, bearing(token, mirrored(message)))


@pytest.mark.parametrize("authenticate", [by_token, by_token_later])
@both_loops
async def test_aut_01_requests_without_accepted_credentials_are_challenged(authenticate):
    async with serving(authenticate=authenticate, resource=RESOURCE) as server:
        client = await server.connect()
        where = 'resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/mcp"'
        for token, status, challenge in (
            (None, 401, f'Bearer scope="tools", {where}'),
            (
                "expired",
                401,
                f'Bearer error="invalid_token", error_description="it is \\"over\\"", scope="tools", {where}',
            ),
            ("weak", 403, f'Bearer error="insufficient_scope", scope="more", {where}'),
        ):
            answer = await ask(client, token)
            assert (answer.status, answer.headers["www-authenticate"]) == (status, challenge)
            assert "error" in answer.json
        assert (await ask(client, "alice")).status == 200, "on the same connection"
        assert len(server.router.peers) == 1, "who is refused is no peer"


@both_loops
async def test_aut_02_anybody_is_told_where_credentials_are_had():
    async with serving(authenticate=by_token, resource=RESOURCE) as server:
        client = await server.connect()
        for path in (METADATA, "/.well-known/oauth-protected-resource"):
            client.writer.write(client.head("GET", {"Origin": "https://page.example"}, path))
            answer = await client.read()
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
            assert answer.json == {
                "resource": "https://api.example.com/mcp",
                "authorization_servers": ["https://auth.example.com"],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["tools"],
                "resource_name": "tools of ours",
            }
        asked = {"Origin": "https://page.example", "Access-Control-Request-Headers": "mcp-protocol-version"}
        client.writer.write(client.head("OPTIONS", asked, METADATA))
        assert (await client.read()).headers["access-control-allow-headers"] == "mcp-protocol-version"
        client.writer.write(client.head("DELETE", {}, METADATA))
        refused = await client.read()
        assert (refused.status, refused.headers["allow"]) == (405, "GET, OPTIONS")
        client.writer.write(client.head("GET", {"Host": "evil.example"}, METADATA))
        assert (await client.read()).status == 403
    async with serving() as server:
        client = await server.connect()
        client.writer.write(client.head("GET", {}, METADATA))
        assert (await client.read()).status == 404


@both_loops
async def test_aut_03_a_token_in_the_url_is_refused():
    async with serving(authenticate=by_token) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        for query in ("access_token=alice", "a=b&access_token=alice"):
            answer = await client.ask(message, bearing("alice", mirrored(message)), path=f"/mcp?{query}")
            assert (answer.status, "alice" in answer.body.decode()) == (400, False)
        answer = await client.ask(message, bearing("alice", mirrored(message)), path="/mcp?a=access_token")
        assert answer.status == 200


@both_loops
async def test_aut_04_two_credentials_are_none():
    async with serving(authenticate=by_token) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        answer = await client.ask(
            message, {**bearing("alice", mirrored(message)), "authorization": "Bearer bob"}
        )
        assert answer.status == 400


@both_loops
async def test_aut_05_a_session_is_its_principals():
    """Another one's token on a session that lives, and CVE-2025-6515: whose it is, is asked for every request."""
    async with serving(authenticate=by_token) as server:
        client = await server.connect()
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        opened = await client.ask(hello, bearing("alice"))
        session = {
            "Mcp-Session-Id": opened.headers["mcp-session-id"],
            "MCP-Protocol-Version": "2025-11-25",
            "Accept": ACCEPT,
        }
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        assert (await client.ask(call, bearing("alice", session))).status == 200
        assert (await client.ask(call, bearing("alice.renewed", session))).status == 200, "the same subject"
        assert (await client.ask(call, bearing("bob", session))).status == 404
        assert (await client.ask(call, session)).status == 401
        for method in ("GET", "DELETE"):
            for token, status in (("bob", 404), (None, 401)):
                client.writer.write(client.head(method, bearing(token, session)))
                assert (await client.read()).status == status
        assert (await client.ask(call, bearing("alice", session))).status == 200
        assert [peer.principal for peer in server.router.peers] == [Principal("alice", "test")]


@both_loops
async def test_aut_06_modern_requests_are_their_principals():
    async with serving(authenticate=by_token) as server:
        client, other = await server.connect(), await server.connect()
        for token in ("alice", "bob", "alice.renewed"):
            assert (await ask(client, token)).status == 200
        assert (await ask(other, "alice")).status == 200
        principals = sorted(str(peer.principal) for peer in server.router.peers)
        assert principals == ["alice of test", "bob of test"], "one peer for each, on whatever connection"


@both_loops
async def test_aut_07_what_authenticate_raises_is_503_and_no_log_of_credentials(caplog):
    def broken(head):
        raise RuntimeError("no")

    def nobody(head):
        return None

    async def slow(head):
        await asyncio.Event().wait()

    with caplog.at_level(logging.DEBUG, logger="turnout.http"):
        for authenticate in (broken, nobody, slow):
            async with serving(authenticate=authenticate, limits={"max_head_ms": 50}) as server:
                client = await server.connect()
                answer = await ask(client, "secret-token")
                assert answer.status == 503
                assert (await ask(client, "secret-token")).status == 503, "the connection goes on"
    assert "secret-token" not in caplog.text
    assert "RuntimeError" in caplog.text
    assert "Principal or a Challenge, not NoneType" in caplog.text


@both_loops
async def test_aut_08_an_answer_for_who_is_gone_does_nothing():
    asked, answer = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def later(head):
        asked.set()
        return await answer

    async with serving(authenticate=later) as server:
        client, other = await server.connect(), await server.connect()
        message = modern("tools/call", {"name": "echo"})
        client.send(message, bearing("alice", mirrored(message)))
        await asked.wait()
        [connection] = [known for known in server.listener.connections if known._native.phase == "answering"]
        client.close()
        while connection in server.listener.connections:
            await asyncio.sleep(0)
        answer.set_result(Principal("alice"))
        assert (await ask(other, "alice")).status == 200
        assert len(server.router.peers) == 1


@both_loops
async def test_aut_09_nobody_is_told_to_go_on_before_it_is_known_who_asks():
    async with serving(authenticate=by_token) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        body = json.dumps(message).encode()
        for token, status in (("alice", 200), (None, 401)):
            headers = {
                "Content-Type": "application/json",
                "Accept": ACCEPT,
                "Content-Length": str(len(body)),
                "Expect": "100-continue",
            }
            client.writer.write(client.head("POST", bearing(token, {**headers, **mirrored(message)})))
            if status == 200:
                assert (await client.begin()).status == 100
                client.writer.write(body)
            assert (await client.read()).status == status


OWN_SERVER = """
import asyncio, os, turnout
async def main():
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="own", version="1", capabilities={"tools": {}})
        async def call(request):
            return {"content": [], "structuredContent": {"pid": os.getpid()}}
        router.on_request("tools/call")(call)
        peer = await router.connect(turnout.own_stdio(), era=None)
        await peer.wait_lost()
asyncio.run(main())
"""


@both_loops
async def test_aut_10_each_principal_has_a_server_of_its_own():
    """`per_client` means per principal over modern HTTP."""
    async with turnout.Router() as router:
        upstream = turnout.Upstream(
            turnout.stdio(sys.executable, "-c", OWN_SERVER), name="own", sharing="per_client"
        )
        relay = router.relay(upstream)
        await relay.start()
        listener = turnout.listen_http("127.0.0.1", 0, authenticate=by_token)
        await router.serve(listener, relay.attach)
        clients = [await Client.connect(listener.port) for _ in range(3)]
        pids = []
        for client, token in zip(clients, ("alice", "bob", "alice.renewed"), strict=True):
            answer = await ask(client, token)
            assert answer.status == 200, answer.body
            pids.append(answer.json["result"]["structuredContent"]["pid"])
            client.close()
        assert pids[0] == pids[2] != pids[1]
        assert {str(record.principal) for record in router.records if record.method == "tools/call"} >= {
            "alice of test",
            "bob of test",
        }


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Principal(""), ValueError),
        (lambda: Challenge(500), ValueError),
        (lambda: Challenge(description="a\r\nSet-Cookie: b"), ValueError),
        (lambda: ProtectedResource("ftp://a/mcp", ["https://b"]), ValueError),
        (lambda: ProtectedResource("https://a/mcp", []), ValueError),
        (lambda: ProtectedResource("https://a/mcp", "https://b"), ValueError),
        (lambda: ProtectedResource("https://a/mcp", ["https://b"], scopes="tools"), ValueError),
        (lambda: ProtectedResource("https://a/mcp", ["https://b"], scopes=['a"b']), ValueError),
        (lambda: ProtectedResource("https://a/mcp\n", ["https://b"]), ValueError),
        (lambda: turnout.listen_http("127.0.0.1", 0, authenticate="no"), TypeError),
        (lambda: turnout.listen_http("127.0.0.1", 0, proxies=["nowhere"]), ValueError),
        (lambda: turnout.listen_http("127.0.0.1", 0, nothing=1), TypeError),
        (lambda: turnout.listen_http("127.0.0.1"), TypeError),
        (lambda: turnout.listen_http(), TypeError),
    ],
)
def test_what_makes_no_sense_is_refused(make, error):
    with pytest.raises(error):
        make()


def test_principals_are_told_apart():
    keys = {
        Principal("a", "b").key,
        Principal("a", "", "b").key,
        Principal("b", "a").key,
        Principal('a","b').key,
    }
    assert len(keys) == 4
    names = {
        str(principal)
        for principal in (
            Principal("a"),
            Principal("a", "i"),
            Principal("a", "", "i"),
            Principal("a", "i", "t"),
            Principal("a of i"),
            Principal("a", "i for t"),
            Principal('"a of i"'),
        )
    }
    assert len(names) == 7
    assert str(Principal("a", "i", "t")) == "a of i for t"
    assert "secret" not in repr(turnout.HttpHead("GET", "/mcp", None, (("authorization", b"secret"),), ""))
