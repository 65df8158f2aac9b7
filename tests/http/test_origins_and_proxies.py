"""Pages of other origins, proxies in front, and sockets that somebody else bound."""

from __future__ import annotations

import asyncio
import socket

import pytest

import turnout
from http_client import ACCEPT, Client, mirrored, modern
from http_server import serving
from loops import both_loops
from turnout import Challenge, Principal

PAGE = "https://app.example.com"


@both_loops
async def test_cors_is_off_unless_it_is_asked_for():
    async with serving(origins=[PAGE]) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        answer = await client.ask(message, {**mirrored(message), "Origin": PAGE})
        assert (answer.status, "access-control-allow-origin" in answer.headers) == (200, False)
        client.writer.write(client.head("OPTIONS", {"Origin": PAGE, "Access-Control-Request-Method": "POST"}))
        assert (await client.read()).status == 405


@both_loops
async def test_cors_pages_of_listed_origins_are_shown_every_answer():
    def nobody(head):
        return Challenge() if head.bearer is None else Principal(head.bearer)

    async with serving(origins=[PAGE], cors=True, authenticate=nobody) as server:
        client = await server.connect()
        asked = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,mcp-method,mcp-param-region",
        }
        client.writer.write(client.head("OPTIONS", asked))
        allowed = await client.read()
        assert (allowed.status, allowed.body) == (204, b""), "before anybody is asked who they are"
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert allowed.headers["access-control-allow-methods"] == "GET, POST, DELETE"
        assert allowed.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
        message = modern("tools/call", {"name": "steps", "arguments": {"steps": 1}}, token=1)
        known = {**mirrored(message), "Origin": PAGE, "Authorization": "Bearer a"}
        refused = await client.ask(message, {**mirrored(message), "Origin": PAGE})
        wrong = await client.ask(message, {**known, "Mcp-Method": "x"})
        events = await client.ask(message, known)
        assert [answer.status for answer in (refused, wrong, events)] == [401, 400, 200]
        for answer in (refused, wrong, events):
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "Mcp-Session-Id" in answer.headers["access-control-expose-headers"]
            assert answer.headers["vary"] == "Origin"
        client.writer.write(client.head("OPTIONS", {**asked, "Origin": "https://evil.example"}))
        other = await client.read()
        assert (other.status, "access-control-allow-origin" in other.headers) == (403, False)
        plain = await client.ask(message, {**mirrored(message), "Authorization": "Bearer a"})
        assert "access-control-allow-origin" not in plain.headers


@pytest.mark.parametrize(
    ("proxies", "told", "address"),
    [
        ([], "1.2.3.4", "127.0.0.1"),
        (["10.0.0.0/8"], "1.2.3.4", "127.0.0.1"),
        (["127.0.0.0/8"], "1.2.3.4", "1.2.3.4"),
        (["127.0.0.1", "10.0.0.0/8"], "6.6.6.6, 1.2.3.4, 10.1.1.1", "1.2.3.4"),
        (["127.0.0.1"], "nonsense", "127.0.0.1"),
    ],
)
@both_loops
async def test_only_listed_proxies_say_for_whom_they_ask(proxies, told, address):
    async with serving(proxies=proxies) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        assert (await client.ask(message, {**mirrored(message), "X-Forwarded-For": told})).status == 200
        assert [peer.name for peer in server.router.peers] == [address]


@both_loops
async def test_clients_behind_a_proxy_are_told_apart():
    """They are counted by their own addresses, and not as one."""
    async with serving(proxies=["127.0.0.1"], limits={"max_client_sessions": 1}) as server:
        client = await server.connect()
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        statuses = [
            (await client.ask(hello, {"X-Forwarded-For": address})).status
            for address in ("1.1.1.1", "2.2.2.2", "1.1.1.1")
        ]
        assert statuses == [200, 200, 429]


@both_loops
async def test_a_socket_that_somebody_bound_is_listened_on():
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})
        router.on_request("tools/call")(lambda request: {"content": []})
        listener = turnout.listen_http(sock=bound)
        await router.serve(listener)
        client = await Client.connect(bound.getsockname()[1])
        assert listener.port == bound.getsockname()[1]
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        message = modern("tools/call", {"name": "echo"})
        answer = await client.ask(message, {**mirrored(message), "Host": "evil.example"})
        assert answer.status == 403, "it is this machine's"
        client.close()
    with pytest.raises(TypeError, match="or unix=, or sock="):
        turnout.listen_http("127.0.0.1", 0, sock=bound)


@both_loops
async def test_clients_come_by_a_unix_socket(tmp_path):
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})
        router.on_request("tools/call")(lambda request: {"content": []})
        await router.serve(turnout.listen_http(unix=tmp_path / "s"))
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "s")), 1)
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        client.writer.write(client.head("GET", {"Accept": ACCEPT}))
        assert (await client.read()).status == 400
        assert [peer.name for peer in router.peers] == [""]
        client.close()
    assert not (tmp_path / "s").exists()


@both_loops
async def test_a_proxy_at_a_unix_socket_is_believed_where_it_is_listed(tmp_path):
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})
        router.on_request("tools/call")(lambda request: {"content": []})
        await router.serve(turnout.listen_http(unix=tmp_path / "s", proxies=["unix"]))
        client = Client(*await asyncio.open_unix_connection(str(tmp_path / "s")), 1)
        message = modern("tools/call", {"name": "echo"})
        for address in ("1.1.1.1", "2.2.2.2"):
            answer = await client.ask(message, {**mirrored(message), "X-Forwarded-For": address})
            assert answer.status == 200
        assert sorted(peer.name for peer in router.peers) == ["1.1.1.1", "2.2.2.2"]
        client.close()


@pytest.mark.parametrize("name", ["hosts", "origins", "proxies"])
def test_a_text_is_no_list(name):
    with pytest.raises(TypeError, match=f"{name} is a list"):
        turnout.listen_http("127.0.0.1", 0, **{name: "api.example.com"})


@both_loops
async def test_a_client_that_vanishes_is_found_out_by_what_it_takes_no_note_of():
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("the system has no such timeout")
    async with serving() as server:
        client = await server.connect()
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        [connection] = server.listener.connections
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
