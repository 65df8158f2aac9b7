"""Who may come in over HTTP, and which servers a principal sees; tokens are known by hashes only."""

from __future__ import annotations

import gc
import hashlib
import json
import signal

import pytest

import turnout
from gateway_child import GatewayChild, server
from http_client import Client, mirrored, modern
from loops import both_loops
from turnout.gateway.configuration import interpret
from turnout.gateway.faces import faces_of
from turnout.gateway.tokens import read_tokens

ADA, BOB = "ada-" + "a" * 28, "bob-" + "b" * 28
ENVIRON = {"ADA_TOKEN": ADA}


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def head(token):
    headers = [] if token is None else [("authorization", f"Bearer {token}".encode())]
    return turnout.HttpHead("POST", "/mcp", None, headers, "127.0.0.1")


def tokens(path, auth):
    file = {"mcpServers": {"demo": {"command": "sh"}}, "turnout": {"auth": auth}}
    return read_tokens(interpret(path / "mcp.json", json.dumps(file).encode(), ENVIRON))


async def ask(gateway, token, method, params=None):
    client = await Client.connect(gateway.port)
    message = modern(method, params)
    given = mirrored(message) if token is None else {**mirrored(message), "Authorization": f"Bearer {token}"}
    try:
        return await client.ask(message, given)
    finally:
        client.close()


async def names(gateway, token):
    listed = await ask(gateway, token, "tools/list")
    return sorted({tool["name"].partition("_")[0] for tool in listed.json["result"]["tools"]})


AUTH = {
    "tokens": [{"principal": "ada", "token": "${ADA_TOKEN}"}, {"principal": "bob", "sha256": digest(BOB)}],
    "servers": {"bob": ["b"]},
}


def test_a_token_of_a_variable_a_hash_and_a_file_let_in(tmp_path):
    carl, dora = "carl-" + "c" * 28, "dora-" + "d" * 28
    (tmp_path / "tokens").write_text(f"# people\n\ncarl sha256:{digest(carl)}\n  dora   {dora}\n")
    known = tokens(tmp_path, {**AUTH, "servers": {}, "file": "tokens"})
    for token, name in ((ADA, "ada"), (BOB, "bob"), (carl, "carl"), (dora, "dora")):
        assert known.authenticate(head(token)) == turnout.Principal(name)
    assert known.authenticate(head(None)) == turnout.Challenge()
    for wrong in ("", "x", ADA[:-1], ADA + "a", digest(ADA)):
        assert isinstance(known.authenticate(head(wrong)), turnout.Challenge)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("carl", ":2: a line has a principal, and sha256: with 64 digits or a token"),
        ("carl short", ":2: the token is shorter than 16 characters"),
        (f"carl {ADA}", ":2: the token is another principal's, too"),
    ],
)
def test_a_wrong_line_of_a_file_of_tokens_is_named(tmp_path, line, expected):
    (tmp_path / "tokens").write_text(f"# people\n{line}\n")
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        tokens(tmp_path, {**AUTH, "servers": {}, "file": "tokens"})
    assert str(caught.value) == f"{tmp_path}/tokens{expected}"


def test_no_token_is_kept(tmp_path):
    """Of the tokens there are hashes; nothing that leads from them to a token."""
    known = tokens(tmp_path, {**AUTH, "servers": {}})
    seen, waiting = set(), [known]
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type):
            continue
        seen.add(id(found))
        assert ADA not in str(found if isinstance(found, (str, bytes)) else "")
        waiting += gc.get_referents(found)
    assert len(seen) > 4


@both_loops
async def test_nobody_comes_in_over_http_without_a_token(tmp_path):
    async with GatewayChild(tmp_path, {"a": server(), "b": server()}, environ=ENVIRON, auth=AUTH) as gateway:
        assert (await ask(gateway, None, "tools/list")).status == 401
        refused = await ask(gateway, "wrong" * 8, "tools/list")
        assert refused.status == 401
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert (await ask(gateway, ADA, "tools/list")).status == 200
        assert await gateway.end() == 0
        assert not [line for line in gateway.seen if ADA in line or BOB in line or "wrong" in line]


@both_loops
async def test_a_principal_sees_and_uses_its_servers_only(tmp_path):
    async with (
        GatewayChild(tmp_path, {"a": server(), "b": server()}, environ=ENVIRON, auth=AUTH) as gateway,
        turnout.Router() as router,
    ):
        assert await names(gateway, ADA) == ["a", "b"]
        assert await names(gateway, BOB) == ["b"]
        call = {"name": "a_echo", "arguments": {"text": "x"}}
        assert (await ask(gateway, ADA, "tools/call", call)).json["result"]["content"][0]["text"] == "x"
        assert (await ask(gateway, BOB, "tools/call", call)).json["error"]["code"] == -32602
        # Our own user comes by the socket, without a token, to all of them.
        peer = await router.connect(turnout.unix(gateway.socket))
        listed = (await peer.send("tools/list"))["tools"]
        assert {tool["name"] for tool in listed} >= {"a_echo", "b_echo"}


@both_loops
async def test_a_reload_takes_a_token_away_and_ends_its_sessions(tmp_path):
    servers = {"a": server()}
    auth = {"tokens": AUTH["tokens"]}
    async with GatewayChild(tmp_path, servers, "--no-watch", environ=ENVIRON, auth=auth) as gateway:
        port = gateway.port
        client = await Client.connect(port)
        bearer = {"Authorization": f"Bearer {BOB}"}
        hello = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        opened = await client.ask(asked, bearer)
        assert opened.status == 200
        gateway.write(servers, auth={"tokens": auth["tokens"][:1]})
        gateway.process.send_signal(signal.SIGHUP)
        await gateway.until("reloaded: the servers are as before")
        session = {
            **bearer,
            "Mcp-Session-Id": opened.headers["mcp-session-id"],
            "MCP-Protocol-Version": "2025-11-25",
        }
        refused = await client.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, session)
        assert refused.status == 401
        assert (await ask(gateway, ADA, "tools/list")).status == 200
        client.close()


def test_a_tcp_face_beside_tokens_has_to_say_so(tmp_path):
    own = {"auth": {"tokens": AUTH["tokens"]}, "listen": ["tcp:127.0.0.1:0"]}
    file = {"mcpServers": {"demo": {"command": "sh"}}, "turnout": own}
    read = interpret(tmp_path / "mcp.json", json.dumps(file).encode(), ENVIRON)
    with pytest.raises(ValueError, match="tcp asks for no tokens"):
        faces_of(read, None)


@both_loops
async def test_a_reload_that_asks_for_tokens_ends_who_came_without(tmp_path):
    servers = {"a": server()}
    async with (
        GatewayChild(tmp_path, servers, "--no-watch", environ=ENVIRON) as gateway,
        turnout.Router() as router,
    ):
        local = await router.connect(turnout.unix(gateway.socket))
        assert (await local.send("tools/list"))["tools"]
        client = await Client.connect(gateway.port)
        session = await client.open_session()
        client.close()
        gateway.write(servers, auth={"tokens": AUTH["tokens"], "servers": {"bob": []}})
        gateway.process.send_signal(signal.SIGHUP)
        gateway.find_url(await gateway.until("clients arrive at "))
        await local.wait_lost()
        client = await Client.connect(gateway.port)
        listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        assert (await client.ask(listing, session)).status == 401
        assert (await ask(gateway, None, "tools/list")).status == 401
        assert (await ask(gateway, ADA, "tools/list")).json["result"]["tools"]
        client.close()
        local = await router.connect(turnout.unix(gateway.socket))
        assert (await local.send("tools/list"))["tools"]


@both_loops
async def test_a_file_of_tokens_that_a_reload_brings_in_is_watched_wherever_it_is(tmp_path):
    pytest.importorskip("watchfiles")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / "tokens"
    file.write_text(f"ada sha256:{digest(ADA)}\n")
    servers = {"a": server()}
    async with GatewayChild(
        tmp_path, servers, environ=ENVIRON, auth={"tokens": AUTH["tokens"][:1]}
    ) as gateway:
        assert (await ask(gateway, BOB, "tools/list")).status == 401
        gateway.write(servers, auth={"file": str(file)})
        await gateway.until("reloaded: ")
        aside = elsewhere / "new"
        aside.write_text(f"ada sha256:{digest(ADA)}\nbob sha256:{digest(BOB)}\n")
        aside.replace(file)
        await gateway.until("reloaded: ")
        assert (await ask(gateway, BOB, "tools/list")).status == 200
