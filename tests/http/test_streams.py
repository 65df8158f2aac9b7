"""Which message goes on which stream, and when streams end, in both eras."""

from __future__ import annotations

import asyncio

import pytest

from http_client import mirrored, modern
from http_server import serving
from loops import both_loops

LISTEN_ID = "io.modelcontextprotocol/subscriptionId"


def call(name, number, token=None, **arguments):
    """A call in a session."""
    params = {"name": name, "arguments": arguments}
    if token is not None:
        params["_meta"] = {"progressToken": token}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def listen(server, session):
    """A session's stream of what belongs to no request."""
    client = await server.connect()
    client.writer.write(client.head("GET", {**session, "Accept": "text/event-stream"}))
    assert (await client.begin()).status == 200
    return client


# ---- sessions ----


@both_loops
async def test_trh_06_trh_13_trh_14_a_stream_stays_until_its_response_and_ends_behind_it():
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send(call("wait", 1, token="t"), session)
        assert (await client.begin()).headers["content-type"] == "text/event-stream"
        assert (await client.event())["method"] == "notifications/progress"
        # Others come and go meanwhile, of this session and of none.
        assert (await other.ask(call("echo", 2), session)).status == 200
        assert (await other.call("tools/call", {"name": "echo"})).status == 200
        server.go_on.set()
        assert (await client.event())["id"] == 1
        assert await client.event() is None
        answer = await client.ask(call("steps", 3, token="u", steps=2), session)
        assert [event.get("method", event.get("id")) for event in answer.events] == [
            "notifications/progress",
            "notifications/progress",
            3,
        ]


@both_loops
async def test_trh_17_trh_18_prg_23_each_message_is_on_one_stream():
    async with serving() as server:
        clients = [await server.connect() for _ in range(4)]
        session = await clients[0].open_session()
        standing = await listen(server, session)
        [peer] = server.router.peers
        answers = asyncio.gather(
            *(
                client.ask(call("steps", number, token=number, steps=5), session)
                for number, client in enumerate(clients)
            )
        )
        peer.notify("notifications/tools/list_changed")
        for number, answer in enumerate(await answers):
            *progress, last = answer.events
            assert {event["params"]["progressToken"] for event in progress} == {number}
            assert last["id"] == number
        peer.notify("notifications/prompts/list_changed")
        heard = [(await standing.event())["method"] for _ in range(2)]
        assert heard == ["notifications/tools/list_changed", "notifications/prompts/list_changed"]


@pytest.mark.parametrize("by", ["client", "server"])
@both_loops
async def test_trh_12_trh_21_trh_31_trh_35_a_session_that_ends_ends_its_streams(by):
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        standing = await listen(server, session)
        client.send(call("wait", 1, token="t"), session)
        await client.begin()
        await client.event()
        if by == "client":
            other.writer.write(other.head("DELETE", session))
            assert (await other.read()).status == 200
        else:
            await server.router.peers[0].close()
        await server.was_cancelled.wait()
        assert await client.event() is None
        assert await standing.event() is None
        assert (await other.ask(call("echo", 2), session)).status == 404
        # The connections are of nobody's session.
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        assert (await standing.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_the_stream_that_a_new_one_takes_over_gets_nothing_more_and_its_end_ends_nothing():
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session()
        [peer] = server.router.peers
        before, now = await listen(server, session), await listen(server, session)
        assert await before.event() is None
        before.close()
        for _ in range(3):
            assert (await client.ask(call("echo", 1), session)).status == 200
        peer.notify("notifications/tools/list_changed")
        assert (await now.event())["method"] == "notifications/tools/list_changed"


@both_loops
async def test_bat_04_a_batch_is_of_one_revision_and_each_answer_is_a_message_of_its_stream():
    batch = [call("echo", 1), call("steps", 2, token="t", steps=1), call("echo", "1")]
    async with serving() as server:
        client = await server.connect()
        answer = await client.ask(batch, await client.open_session("2025-03-26"))
        assert answer.status == 200
        assert sorted(str(event["id"]) for event in answer.events if "id" in event) == ["1", "1", "2"]
        assert {event["id"] for event in answer.events if "id" in event} == {1, "1", 2}


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25", "2026-07-28"])
@both_loops
async def test_bat_05_an_array_is_400_where_there_are_no_batches(revision):
    async with serving() as server:
        client = await server.connect()
        if revision == "2026-07-28":
            message = modern("tools/call", {"name": "echo"})
            answer = await client.ask([message], mirrored(message))
        else:
            answer = await client.ask([call("echo", 1)], await client.open_session(revision))
        assert answer.status == 400
        assert answer.json["error"]["code"] == -32600
        assert not [record for record in server.router.records if record.method == "tools/call"]


# ---- 2026-07-28 ----


@both_loops
async def test_trm_03_trm_04_nothing_more_is_said_of_a_request_whose_client_is_gone():
    async with serving() as server:
        began, ended = asyncio.Event(), asyncio.Event()

        async def stubborn(request):
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set()
                request.progress(2)
                request.notify("notifications/message", {"level": "info", "data": "late"})
            return {"content": []}

        server.router.on_request("tools/late")(stubborn)
        gone, stays = await server.connect(), await server.connect()
        for client in (stays, gone):
            message = modern("tools/call" if client is stays else "tools/late", {"name": "wait"}, token="t")
            client.send(message, mirrored(message))
        assert (await stays.begin()).status == 200
        assert (await stays.event())["params"]["progress"] == 1
        await began.wait()
        gone.close()
        await ended.wait()
        server.go_on.set()
        # Who has the same id and token hears its own only.
        assert (await stays.event())["result"]["content"] == [{"type": "text", "text": "wait"}]
        assert await stays.event() is None


@both_loops
async def test_trm_05_nothing_is_asked_on_the_stream_of_a_response():
    async with serving() as server:
        answer = await (await server.connect()).call("tools/call", {"name": "ask"}, token="t")
        events = answer.events or [answer.json]
        assert [event["id"] for event in events] == [1]
        assert "error" in events[0]


@both_loops
async def test_trm_09_trm_11_streams_are_not_resumable_and_headers_of_sessions_mean_nothing():
    async with serving(legacy=False) as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "steps", "arguments": {"steps": 2}}, token="t")
        session = {"Mcp-Session-Id": "no session", "Last-Event-ID": "7"}
        client.send(message, {**mirrored(message), **session})
        answer = await client.begin()
        assert "mcp-session-id" not in answer.headers
        raw = b""
        while b"0\r\n\r\n" not in raw:
            raw += await client.reader.read(65536)
        assert b"data: " in raw
        assert b"id: " not in raw.replace(b'"id": ', b"")
        for method in ("GET", "DELETE"):
            other = await server.connect()
            other.writer.write(other.head(method, {"Accept": "text/event-stream", **session}))
            answer = await other.read()
            assert (answer.status, answer.headers["allow"]) == (405, "POST")


@both_loops
async def test_k4_trm_01_trh_02_the_era_of_a_request_decides_what_its_disconnect_means():
    async with serving() as server:
        legacy, young, other = [await server.connect() for _ in range(3)]
        session = await legacy.open_session()
        legacy.send(call("wait", 1), session)
        message = modern("tools/call", {"name": "wait"})
        young.send(message, mirrored(message))
        while sum(peer.in_flight[1] for peer in server.router.peers) < 2:
            await asyncio.sleep(0)
        legacy.close()
        young.close()
        await server.was_cancelled.wait()
        # As many turns as another exchange takes: the one of the session goes on.
        assert (await other.ask(call("echo", 2), session)).status == 200
        assert len(server.cancelled) == 1
        server.go_on.set()
        while any(peer.in_flight != (0, 0) for peer in server.router.peers):
            await asyncio.sleep(0)
        calls = [record for record in server.router.records if record.method == "tools/call"]
        outcomes = sorted(str(record.outcome) for record in calls)
        assert outcomes == ["peer_closed", "result", "result"]


@both_loops
async def test_k1_can_28_sub_11_sub_16_sub_17_prg_24_a_listen_ends_with_its_result_and_hears_nothing_else():
    async with serving() as server:
        over = asyncio.Event()

        async def listen_handler(request):
            request.notify("notifications/subscriptions/acknowledged", {"notifications": {}})
            await over.wait()
            return {"_meta": {LISTEN_ID: 5}}

        server.router.on_request("subscriptions/listen")(listen_handler)
        listener, other = await server.connect(), await server.connect()
        message = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, number=5)
        listener.send(message, mirrored(message))
        assert (await listener.begin()).headers["content-type"] == "text/event-stream"
        assert (await listener.event())["method"] == "notifications/subscriptions/acknowledged"
        answer = await other.call("tools/call", {"name": "steps", "arguments": {"steps": 3}}, token="t")
        assert len(answer.events) == 4
        over.set()
        assert (await listener.event())["id"] == 5
        assert await listener.event() is None


@both_loops
async def test_k3_the_stream_of_a_cancelled_request_ends_bare_and_is_counted():
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send(call("wait", 7, token="t"), session)
        await client.begin()
        await client.event()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await other.ask(cancel, session)).status == 202
        assert await client.event() is None
        [record] = [record for record in server.router.records if record.method == "tools/call"]
        assert (record.outcome, record.cancelled_by) == ("cancelled", "peer")
        assert (await client.ask(call("echo", 7), session)).status == 200, "its id may be used again"
