"""Legacy streams that are lost and gone on with: `Last-Event-ID`."""

from __future__ import annotations

import asyncio

import pytest

from http_client import ACCEPT
from http_server import serving
from loops import both_loops


def call(name, number=1, token=None, **arguments):
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    params = {"name": name, "arguments": arguments, **meta}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def resume(client, session, after):
    client.writer.write(
        client.head("GET", {**session, "Accept": "text/event-stream", "Last-Event-ID": after})
    )
    return await client.begin()


async def gone(server, count):
    while len(server.listener.connections) > count:
        await asyncio.sleep(0)


@both_loops
async def test_trh_04_trh_09_trh_11_trh_27_a_lost_stream_is_gone_on_with_behind_the_last_event():
    async with serving() as server:
        client, other, third = await server.connect(), await server.connect(), await server.connect()
        session = await client.open_session()
        client.send(call("wait", token="t"), session)
        await server.began.wait()
        assert (await client.begin()).headers["content-type"] == "text/event-stream"
        assert (await client.event())["method"] == "notifications/progress"
        primed, progress = client.event_ids
        assert client.retry == 1_000, "how long to wait"
        await other.ask(call("echo", 5), session)
        client.close()
        await gone(server, 2)
        assert server.cancelled == [], "a legacy request goes on"
        assert (await resume(other, session, progress)).status == 200
        server.go_on.set()
        assert (await other.event())["id"] == 1
        assert await other.event() is None
        # What was seen by nobody can be asked for again, from wherever.
        assert (await resume(third, session, primed)).status == 200
        assert [(await third.event()).get("id"), (await third.event())["id"]] == [None, 1]
        assert await third.event() is None
        assert (await other.ask(call("echo", 6), session)).status == 200, "the connection goes on"


@both_loops
async def test_trh_06_an_answer_that_nobody_read_waits():
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send(call("wait", token="t"), session)
        await client.begin()
        await client.event()
        client.close()
        await gone(server, 1)
        server.go_on.set()
        [peer] = server.router.peers
        while peer.in_flight != (0, 0):
            await asyncio.sleep(0)
        await resume(other, session, client.event_ids[-1])
        assert (await other.event())["id"] == 1
        assert await other.event() is None


@both_loops
async def test_trh_17_trh_18_the_new_stream_wins_and_no_event_comes_twice():
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send(call("wait", token="t"), session)
        await client.begin()
        await client.event()
        await resume(other, session, client.event_ids[-1])
        assert await client.event() is None, "the old one ends"
        server.go_on.set()
        assert (await other.event())["id"] == 1
        assert await other.event() is None
        assert (await client.ask(call("echo", 2), session)).status == 200
        assert len(set(client.event_ids + other.event_ids)) == len(client.event_ids + other.event_ids)


@both_loops
async def test_trh_27_what_belongs_to_no_request_is_gone_on_with():
    async with serving() as server:
        client, listening = await server.connect(), await server.connect()
        session = await client.open_session()
        [peer] = server.router.peers
        listening.writer.write(listening.head("GET", {**session, "Accept": "text/event-stream"}))
        await listening.begin()
        for number in range(3):
            peer.notify("notifications/message", {"level": "info", "data": number})
        seen = [(await listening.event())["params"]["data"] for _ in range(2)]
        assert seen == [0, 1]
        listening.close()
        await gone(server, 1)
        peer.notify("notifications/message", {"level": "info", "data": 3})
        # The third was written, and not read.
        await resume(client, session, listening.event_ids[-1])
        assert [(await client.event())["params"]["data"] for _ in range(1)] + [
            (await client.event())["params"]["data"]
        ] == [2, 3]


@pytest.mark.parametrize("after", ["", "x", "99-0", "1-99", "1--1", "1-18446744073709551616", "a" * 300])
@both_loops
async def test_what_is_not_kept_is_refused_and_the_session_goes_on(after):
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session()
        await client.ask(call("steps", token="t", steps=2), session)
        client.writer.write(
            client.head("GET", {**session, "Accept": "text/event-stream", "Last-Event-ID": after})
        )
        answer = await client.read()
        assert answer.status == 400, "404 would say that the session is gone"
        assert (await client.ask(call("echo", 2), session)).status == 200


@both_loops
async def test_s3_nobody_goes_on_with_a_stream_of_another_session():
    """CVE-2026-33946: ids are those of a session."""
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session, others = await client.open_session(), await other.open_session()
        answer = await client.ask(call("steps", token="t", steps=2, text="mine"), session)
        assert len(answer.events) == 3
        for event in client.event_ids:
            other.writer.write(
                other.head("GET", {**others, "Accept": "text/event-stream", "Last-Event-ID": event})
            )
            assert (await other.read()).status == 400


@both_loops
async def test_trh_11_clients_before_2025_11_25_get_no_event_without_data():
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session("2025-06-18")
        client.send(call("steps", token="t", steps=2), session)
        await client.begin()
        assert (await client.event())["method"] == "notifications/progress"
        assert (len(client.event_ids), client.retry) == (1, 0)


@both_loops
async def test_trh_01_what_a_handler_asks_after_its_client_went_comes_elsewhere():
    async with serving() as server:
        client, listening = await server.connect(), await server.connect()
        session = await client.open_session()
        going = asyncio.Event()

        @server.router.on_request("ask/later")
        async def later(request):
            going.set()
            await server.go_on.wait()
            return await request.send("roots/list")

        client.send({"jsonrpc": "2.0", "id": 1, "method": "ask/later"}, session)
        await going.wait()
        listening.writer.write(listening.head("GET", {**session, "Accept": "text/event-stream"}))
        await listening.begin()
        client.close()
        await gone(server, 1)
        server.go_on.set()
        assert (await listening.event())["method"] == "roots/list"


@both_loops
async def test_what_is_kept_is_bounded_and_counted():
    limits = {"max_kept_events": 4, "max_session_kept_bytes": 4096}
    async with serving(limits=limits) as server:
        client = await server.connect()
        session = await client.open_session()
        for number in range(20):
            await client.ask(call("steps", number, token=f"t{number}", steps=30), session)
        assert 0 < server.listener.endpoint.held_bytes <= 4096
        client.writer.write(client.head("DELETE", {**session, "Accept": ACCEPT}))
        assert (await client.read()).status == 200
        while server.listener.endpoint.held_bytes:
            await asyncio.sleep(0)
    async with serving(limits={"max_held_bytes": 2048}) as server:
        client = await server.connect()
        session = await client.open_session()
        for number in range(20):
            answer = await client.ask(call("steps", number, token=f"t{number}", steps=30), session)
            assert len(answer.events) == 31, "what cannot be kept is sent"
        assert server.listener.endpoint.held_bytes <= 2048
