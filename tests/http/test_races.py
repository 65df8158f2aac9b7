"""Two things at once at an endpoint: what ends, and what is answered, whichever comes first."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from http_client import ACCEPT, META, mirrored, modern
from http_server import serving
from loops import both_loops
from turnout import Challenge, Principal

POST = {"Content-Type": "application/json", "Accept": ACCEPT}


async def until(holds):
    """Let the loop turn until that holds; the test's own limit ends what does not come."""
    while not holds():
        await asyncio.sleep(0)


@pytest.mark.parametrize("kept", [1, 5_000, 199_999])
@both_loops
async def test_a_disconnect_while_a_body_is_read_leaves_nothing(kept):
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        client.writer.write(client.head("POST", {**POST, "Content-Length": "200000"}) + b"{" * kept)
        await until(lambda: server.listener.endpoint.held_bytes == kept)
        client.close()
        await until(lambda: server.listener.endpoint.held_bytes == 0)
        assert (await other.call("tools/call", {"name": "echo"})).status == 200
        assert [record.method for record in server.router.records] == ["tools/call"]


@both_loops
async def test_delete_ends_what_is_in_flight_and_the_get_stream():
    async with serving() as server:
        client, listening, other = [await server.connect() for _ in range(3)]
        session = await client.open_session()
        listening.writer.write(listening.head("GET", {**session, "Accept": ACCEPT}))
        await listening.begin()
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "wait"}}
        client.send(call, session)
        await server.began.wait()
        other.writer.write(other.head("DELETE", session))
        assert (await other.read()).status == 200
        assert await listening.event() is None
        await server.was_cancelled.wait()
        answer = await client.read()
        assert answer.status == 200, "its stream ends"
        assert (await client.ask({**call, "id": 8}, session)).status == 404
        other.writer.write(other.head("DELETE", session))
        assert (await other.read()).status == 404
        assert server.listener.endpoint.sessions() == (0, 0)


@both_loops
async def test_a_session_that_ends_as_a_request_comes_is_404_or_answers():
    async with serving() as server:
        client = await server.connect()
        for _ in range(20):
            session = await client.open_session()
            [peer] = server.router.peers
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
            asking = asyncio.ensure_future(client.ask(call, session))
            await asyncio.sleep(0)
            server.listener.host.close_session(peer.connection)
            answer = await asking
            assert answer.status in (200, 404)
            assert (await client.ask(call, session)).status == 404
        assert server.listener.endpoint.sessions() == (0, 0)


@both_loops
async def test_a_session_outlives_requests_that_are_not_accepted():
    accepted = asyncio.Event()

    def authenticate(head):
        return Principal("ada") if accepted.is_set() else Challenge()

    async with serving(authenticate=authenticate) as server:
        client = await server.connect()
        accepted.set()
        session = await client.open_session()
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo"}}
        accepted.clear()
        assert (await client.ask(call, session)).status == 401
        accepted.set()
        assert (await client.ask(call, session)).status == 200


@both_loops
async def test_closing_ends_listens_by_their_results():
    """What a supervisor's signal leads to: the result, the end of the stream, and then the connection's."""
    async with serving() as server:

        @server.router.on_request("subscriptions/listen")
        async def listen(request):
            request.notify("notifications/subscriptions/acknowledged", {"notifications": {}})
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"_meta": {f"{META}subscriptionId": request.id}}

        clients = [await server.connect() for _ in range(3)]
        for client in clients:
            message = modern("subscriptions/listen", {"notifications": {}})
            client.send(message, mirrored(message))
            assert (await client.begin()).status == 200
            assert (await client.event())["method"] == "notifications/subscriptions/acknowledged"
        await server.router.close()
        for client in clients:
            while (event := await client.event()) is not None:
                assert "method" not in event
        await until(lambda: not server.listener.connections)


@both_loops
async def test_x_08_no_timer_keeps_what_is_over():
    """A deadline that is over would keep a session, its peer and its connection for as long as it had."""
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        [peer] = server.router.peers
        call = peer.send("roots/list")
        assert peer.connection.next_deadline is not None
        other.writer.write(other.head("DELETE", session))
        assert (await other.read()).status == 200
        with pytest.raises(turnout.PeerLost):
            await call
        assert peer.connection.next_deadline is None
        assert server.listener.endpoint.sessions() == (0, 0)


@both_loops
async def test_a_client_that_reads_nothing_and_sends_on_ends_and_holds_nobody_up():
    """What it sends is read ahead up to a bound; beyond that nothing makes room before it reads."""
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        connection = next(
            known
            for known in server.listener.connections
            if known._native is not None and known._native.requests
        )
        message = modern("tools/call", {"name": "echo", "arguments": {"text": "x" * 100_000}})
        client.send(message, mirrored(message))
        await client.read()
        connection.pause_writing()
        for _ in range(3):
            client.send(message, mirrored(message))
        await until(lambda: connection not in server.listener.connections)
        assert (await other.call("tools/call", {"name": "echo"})).status == 200
