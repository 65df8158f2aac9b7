"""What a client of Streamable HTTP can grow is bounded, and each bound has a name."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

import turnout
from http_client import mirrored, modern
from http_server import serving
from loops import both_loops
from turnout.transports.http import listener as serving_module

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}


@pytest.fixture
def _looks_often(monkeypatch):
    """Have what waits looked at without a second in between."""
    monkeypatch.setattr(serving_module, "TICK", 0.01)


def test_every_limit_has_a_default_and_unknown_ones_are_refused():
    assert turnout.HTTP_LIMITS["max_sessions"] == 10_000
    with pytest.raises(TypeError, match="max_nothing"):
        turnout.listen_http("127.0.0.1", 0, limits={"max_nothing": 1})
    with pytest.raises(ValueError, match="max_head_ms must be at least 1 and at most"):
        turnout.listen_http("127.0.0.1", 0, limits={"max_head_ms": 0})


def test_mistakes_are_refused_where_they_are_made():
    with pytest.raises(ValueError, match="slash"):
        turnout.listen_http("127.0.0.1", 0, path="mcp")
    with pytest.raises(ValueError, match="legacy"):
        turnout.listen_http("127.0.0.1", 0, legacy=False, modern=False)
    with pytest.raises(TypeError):
        turnout.listen_http("127.0.0.1", "8000")  # type: ignore[arg-type]


@both_loops
async def test_max_connections():
    async with serving(limits={"max_connections": 2}) as server:
        first, second, third = [await server.connect() for _ in range(3)]
        assert await third.reader.read() == b""
        assert server.listener.refused_connections == 1
        assert (await first.call("tools/call", {"name": "echo"})).status == 200
        second.close()
        while len(server.listener.connections) > 1:
            await asyncio.sleep(0)
        assert (await (await server.connect()).call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_max_body_bytes_is_refused_by_the_length_before_it_is_read():
    message = modern("tools/call", {"name": "echo"})
    body = turnout.json.dumps(message)
    async with serving(limits={"max_body_bytes": len(body)}) as server:
        client = await server.connect()
        assert (await client.ask(body, mirrored(message))).status == 200
        headers = {
            **mirrored(message),
            "Content-Type": "application/json",
            "Content-Length": str(len(body) + 1),
        }
        client.writer.write(client.head("POST", headers))
        assert (await client.read()).status == 413
        chunked = await server.connect()
        headers = {**mirrored(message), "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        chunked.writer.write(
            chunked.head("POST", headers) + f"{len(body) + 1:x}\r\n".encode() + body + b" \r\n0\r\n\r\n"
        )
        assert (await chunked.read()).status == 413


def nested(depth, number=1):
    """A call of 2026-07-28 with so many objects and arrays within each other."""
    message = modern("tools/call", {"name": "echo", "arguments": {"x": None}}, number=number)
    deep = "[" * (depth - 3) + "]" * (depth - 3)
    return json.dumps(message).replace("null", deep).encode(), mirrored(message)


@both_loops
async def test_max_depth_is_that_of_the_router():
    async with serving(of_router={"limits": {"max_depth": 20}}) as server:
        client = await server.connect()
        for depth, status in ((20, 200), (21, 400), (19, 200)):
            answer = await client.ask(*nested(depth))
            assert answer.status == status
            if status == 400:
                assert answer.json["error"]["data"]["reason"] == "max_depth"


@pytest.mark.parametrize("most", [40, 400], ids=["below the default", "above it"])
@both_loops
async def test_max_id_bytes_is_that_of_the_router(most):
    async with serving(of_router={"limits": {"max_id_bytes": most}}) as server:
        client = await server.connect()
        for length, status in ((most, 200), (most + 1, 400), (most - 1, 200)):
            message = modern("tools/call", {"name": "echo"}, number="x" * (length - 2))
            answer = await client.ask(message, mirrored(message))
            assert answer.status == status
            if status == 400:
                assert answer.json["error"]["data"]["reason"] == "max_id_bytes"


@both_loops
async def test_max_client_streams_is_429_and_holds_for_that_client_only():
    async with serving(limits={"max_client_streams": 2}) as server:
        client = await server.connect()
        session, other = await client.open_session(), await client.open_session()
        waiting = [await server.connect() for _ in range(2)]
        for number, one in enumerate(waiting):
            one.send({**CALL, "id": number, "params": {"name": "wait"}}, session)
        while server.router.peers[0].in_flight[1] + server.router.peers[1].in_flight[1] < 2:
            await asyncio.sleep(0)
        answer = await client.ask({**CALL, "id": "x"}, session)
        assert (answer.status, answer.json["id"]) == (429, "x")
        assert answer.json["error"]["data"]["limit"] == "max_client_streams"
        assert (await client.ask(CALL, other)).status == 200
        server.go_on.set()
        for one in waiting:
            await one.read()
        assert (await client.ask(CALL, session)).status == 200


@pytest.mark.parametrize(("limit", "status"), [("max_sessions", 503), ("max_client_sessions", 429)])
@both_loops
async def test_sessions_are_bounded(limit, status):
    async with serving(limits={limit: 2}) as server:
        client = await server.connect()
        first, _ = await client.open_session(), await client.open_session()
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        opening = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await client.ask(opening)
        assert (answer.status, answer.json["error"]["data"]["limit"]) == (status, limit)
        client.writer.write(client.head("DELETE", first))
        assert (await client.read()).status == 200
        assert (await client.ask(opening)).status == 200


@both_loops
async def test_max_session_idle_ms_counts_from_the_last_use():
    async with serving(limits={"max_session_idle_ms": 60_000}) as server:
        client = await server.connect()
        session = await client.open_session()
        endpoint = server.listener.endpoint
        now = int(asyncio.get_running_loop().time() * 1000) + 10_000
        assert endpoint.idle_sessions(now) == []
        await client.ask(CALL, session)
        assert endpoint.idle_sessions(now + 59_999) == []
        [idle] = endpoint.idle_sessions(now + 60_000)
        assert idle is server.router.peers[0].connection
        listening = await server.connect()
        listening.writer.write(listening.head("GET", {**session, "Accept": "text/event-stream"}))
        await listening.begin()
        assert endpoint.idle_sessions(now + 600_000) == [], "one that listens is in use"


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_an_idle_session_ends_with_its_peer():
    async with serving(limits={"max_session_idle_ms": 1}) as server:
        client = await server.connect()
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "c", "version": "1"},
        }
        opened = await client.ask({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        for peer in server.router.peers:
            await peer.wait_lost()
        assert (await client.ask(CALL, {"Mcp-Session-Id": opened.headers["mcp-session-id"]})).status == 404


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        ("max_head_ms", b"POST /mcp HTTP/1.1\r\nHost: loc"),
        (
            "max_body_ms",
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        ),
        ("max_connection_idle_ms", b""),
    ],
)
@both_loops
async def test_what_takes_too_long_is_ended(limit, sent):
    async with serving(limits={limit: 1}) as server:
        client = await server.connect()
        client.writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await client.reader.read() == b""


@both_loops
async def test_a_busy_connection_is_not_idle_and_an_answer_may_take_long():
    async with serving() as server:
        client = await server.connect()
        now = asyncio.get_running_loop().time()
        for _ in range(3):
            # Between two looks it had a request, whatever it waits for at each of them.
            assert (await client.call("tools/call", {"name": "echo"})).status == 200
            [connection] = server.listener.connections
            now += 1000
            connection.look(now)
        message = modern("tools/call", {"name": "wait"})
        client.send(message, mirrored(message))
        await server.began.wait()
        for _ in range(3):
            now += 1000
            connection.look(now)
        server.go_on.set()
        assert (await client.begin()).status == 200


@both_loops
async def test_a_connection_between_two_requests_gives_its_memory_back():
    async with serving() as server:
        client = await server.connect()
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        [connection] = server.listener.connections
        assert connection._native.shrink(), "a busy one keeps it"
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        now = asyncio.get_running_loop().time()
        connection.look(now)
        connection.look(now + 1)
        assert not connection._native.shrink(), "it was given back when nothing had come between two looks"
        message = modern("tools/call", {"name": "wait"})
        client.send(message, mirrored(message))
        await server.began.wait()
        assert not connection._native.shrink(), "the head of what is not answered stays"
        server.go_on.set()
        assert (await client.read()).status == 200


@both_loops
async def test_max_stream_bytes_ends_a_client_that_does_not_read():
    async with serving(limits={"max_stream_bytes": 200_000}) as server:

        @server.router.on_request("flood")
        async def flood(request):
            try:
                while True:
                    request.notify("notifications/message", {"level": "info", "data": "x" * 50_000})
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                server.was_cancelled.set()
                raise

        client, other = await server.connect(), await server.connect()
        message = modern("flood")
        client.send(message, mirrored(message))
        client.writer.transport.pause_reading()
        await server.was_cancelled.wait()
        assert (await other.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_max_waiting_bytes_keeps_the_first_messages_for_the_get_stream():
    async with serving(limits={"max_waiting_bytes": 201}) as server:
        client = await server.connect()
        session = await client.open_session()
        [peer] = server.router.peers
        for number in range(10):
            peer.notify("notifications/x", {"number": number})
            peer.connection.flush()
        client.writer.write(client.head("GET", {**session, "Accept": "text/event-stream"}))
        await client.begin()
        assert [(await client.event())["params"]["number"] for _ in range(3)] == [0, 1, 2]
        peer.notify("notifications/x", {"number": "now"})
        assert (await client.event())["params"]["number"] == "now"


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_trm_08_an_answer_that_takes_long_becomes_a_stream_with_comments(monkeypatch):
    monkeypatch.setattr(serving_module, "HEAD_INTERVAL", 0.02)
    monkeypatch.setattr(serving_module, "COMMENT_INTERVAL", 0.02)
    async with serving() as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "wait"})
        client.send(message, mirrored(message))
        assert (await client.begin()).headers["content-type"] == "text/event-stream"
        assert b":\n\n" in await client.reader.readuntil(b":\n\n")
        server.go_on.set()
        rest = await client.reader.readuntil(b"0\r\n\r\n")
        assert b'"id":1,"result"' in rest


@both_loops
async def test_max_held_bytes_bounds_what_all_connections_send_at_once():
    head = {"Content-Type": "application/json", "Content-Length": "100000"}
    async with serving(limits={"max_held_bytes": 150_000}) as server:
        first, second, third = [await server.connect() for _ in range(3)]
        first.writer.write(first.head("POST", head) + b" " * 90_000)
        while server.listener.endpoint.held_bytes < 90_000:
            await asyncio.sleep(0)
        second.writer.write(second.head("POST", head) + b" " * 90_000)
        answer = await second.read()
        assert (answer.status, answer.json["error"]["data"]["limit"]) == (503, "max_held_bytes")
        first.close()
        while len(server.listener.connections) > 1:
            await asyncio.sleep(0)
        assert (await third.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_max_held_bytes_leaves_room_for_what_is_small():
    """Whoever sends large messages slowly takes the room of no small one."""
    head = {"Content-Type": "application/json", "Content-Length": "200000"}
    async with serving(limits={"max_held_bytes": 200_000}) as server:
        large, other, small = [await server.connect() for _ in range(3)]
        large.writer.write(large.head("POST", head) + b" " * 170_000)
        while server.listener.endpoint.held_bytes < 170_000:
            await asyncio.sleep(0)
        other.writer.write(other.head("POST", head) + b" " * 70_000)
        assert (await other.read()).status == 503
        for _ in range(3):
            assert (await small.call("tools/call", {"name": "echo"})).status == 200


@pytest.mark.parametrize(("most", "status"), [(149_999, 429), (150_000, None), (150_001, None)])
@both_loops
async def test_max_client_held_bytes_is_what_one_client_may_have_read(most, status):
    """At, below and above: of an address behind a listed proxy, others are not touched."""
    head = {"Content-Type": "application/json", "Content-Length": "200000", "X-Forwarded-For": "1.1.1.1"}
    limits = {"max_client_held_bytes": most}
    async with serving(limits=limits, proxies=["127.0.0.1"]) as server:
        first, second, other = [await server.connect() for _ in range(3)]
        for number, client in enumerate((first, second), 1):
            client.writer.write(client.head("POST", head) + b" " * 75_000)
            while server.listener.endpoint.held_bytes < 75_000 * number and number == 1:
                await asyncio.sleep(0)
        if status is not None:
            answer = await second.read()
            assert (answer.status, answer.json["error"]["data"]["limit"]) == (status, "max_client_held_bytes")
        else:
            while server.listener.endpoint.held_bytes < 150_000:
                await asyncio.sleep(0)
        other.writer.write(other.head("POST", {**head, "X-Forwarded-For": "2.2.2.2"}) + b" " * 75_000)
        while server.listener.endpoint.held_bytes < (150_000 if status else 225_000):
            await asyncio.sleep(0)


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_max_body_pause_ms_is_how_long_nothing_may_come():
    head = {"Content-Type": "application/json", "Content-Length": "100"}
    async with serving(limits={"max_body_pause_ms": 50}) as server:
        client, steady = await server.connect(), await server.connect()
        client.writer.write(client.head("POST", head) + b"{")
        answering = asyncio.ensure_future(steady.call("tools/call", {"name": "wait"}))
        await server.began.wait()
        assert await client.reader.read() == b"", "the connection is closed"
        server.go_on.set()
        assert (await answering).status == 200, "an answer may take long"


@both_loops
async def test_a_client_that_the_router_does_not_take_in_is_told_so_and_the_log_once(caplog):
    async with serving() as server:
        server.router.limits = {"max_peers": 1}
        client = await server.connect()
        await client.open_session()
        for _ in range(3):
            answer = await client.call("tools/call", {"name": "echo"})
            assert (answer.status, answer.json["error"]["code"]) == (503, -32603)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert [record.name for record in warnings] == ["turnout.http"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
@both_loops
async def test_the_body_of_another_method_is_no_message(method):
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        headers = {**session, "Accept": "text/event-stream", "Content-Length": "2"}
        other.writer.write(other.head(method, headers) + b"{}")
        answer = await other.begin()
        assert answer.status == {"GET": 200, "DELETE": 200}.get(method, 405)
        assert not [record for record in server.router.records if record.method != "initialize"]
