"""The client's side of Streamable HTTP, against a server whose answers are written by hand."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import time

import pytest

import turnout
from http_scripted import JSON, called, scripted, shake_hands
from loops import both_loops
from turnout.transports.http.calling import caller, socket, streams

CALL = {"name": "x", "arguments": {}}


def nothing_left(peer) -> bool:
    return not any(peer.entries().values()) and not any(peer.in_flight)


@both_loops
async def test_trm_12_trm_13_each_message_is_a_post_of_its_own_with_its_headers():
    async with scripted() as server, called(server, headers={"X-Team": "a"}) as peer:
        call = peer.send("tools/call", {"name": "ütil", "arguments": {}})
        asked = await server.next("tools/call")
        assert asked.path == "/mcp"
        assert asked.headers["content-type"] == "application/json"
        assert {"application/json", "text/event-stream"} == set(asked.headers["accept"].split(", "))
        assert asked.headers["mcp-protocol-version"] == "2026-07-28"
        assert (asked.headers["mcp-method"], asked.headers["mcp-name"]) == (
            "tools/call",
            "=?base64?w7x0aWw=?=",
        )
        assert asked.headers["x-team"] == "a"
        assert asked.headers["host"] == f"127.0.0.1:{server.port}"
        assert "mcp-session-id" not in asked.headers
        asked.result({"content": [], "resultType": "complete"})
        await call
        other = peer.send("resources/list")
        asked = await server.next("resources/list")
        assert "mcp-name" not in asked.headers
        assert server.connections == 1, "one socket, one request after the other"
        asked.result({"resources": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
        await other


@both_loops
async def test_trm_15_answers_are_read_as_json_and_as_events():
    async with scripted() as server, called(server) as peer:
        seen = []
        call = peer.send("tools/call", CALL, on_progress=lambda update: seen.append(update.progress))
        asked = await server.next("tools/call")
        asked.begin()
        asked.progress(1)
        asked.progress(2)
        asked.event(asked.framed({"content": [], "resultType": "complete"}))
        asked.end()
        assert (await call)["content"] == []
        assert seen == [1, 2]
        assert nothing_left(peer)


@both_loops
async def test_can_02_trm_02_a_modern_cancel_closes_the_stream_and_posts_nothing():
    async with scripted() as server, called(server) as peer:
        for begins in (False, True):
            call = peer.send("tools/call", CALL)
            asked = await server.next("tools/call")
            if begins:
                asked.begin()
            call.cancel("enough")
            with pytest.raises(turnout.CallCancelled):
                await call
            await asked.gone()
        assert server.asked.empty()
        assert peer.counters()["cancels_out"] == 0
        assert nothing_left(peer)


@pytest.mark.parametrize("era", ["legacy", "auto"])
@both_loops
async def test_trh_03_a_legacy_cancel_is_posted_and_the_stream_is_read_no_more(era):
    async with scripted() as server, called(server, era=era) as peer:
        for begins in (False, True):
            call = peer.send("tools/call", CALL)
            asked = await server.next("tools/call")
            if begins:
                asked.begin()
            call.cancel("enough")
            with pytest.raises(turnout.CallCancelled):
                await call
            cancel = await server.next("notifications/cancelled")
            assert cancel.message["params"] == {"requestId": asked.message["id"], "reason": "enough"}
            assert cancel.headers["mcp-session-id"] == "s1"
            cancel.write(202)
            await asked.gone()
        assert nothing_left(peer)


@pytest.mark.parametrize("cut", ["head", "body", "event", "end"])
@both_loops
async def test_trm_10_a_stream_that_ends_without_its_answer_ends_its_request_at_once(cut):
    async with scripted() as server, called(server) as peer:
        call, other = peer.send("tools/call", CALL), peer.send("tools/call", CALL)
        asked, unharmed = await server.next("tools/call"), await server.next("tools/call")
        if cut == "head":
            asked.writer.write(b"HTTP/1.1 200 OK\r\nContent-")
            asked.close()
        elif cut == "body":
            asked.writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
            )
            asked.close()
        else:
            asked.begin()
            asked.chunk(b"data: {")
            asked.end() if cut == "end" else asked.close()
        with pytest.raises(turnout.PeerLost) as lost:
            await call
        assert lost.value.record.outcome == "peer_closed"
        assert peer.is_open
        unharmed.result({"content": [], "resultType": "complete"})
        await other
        assert nothing_left(peer)


@both_loops
async def test_prg_23_trh_16_what_comes_on_the_stream_of_one_request_says_nothing_of_another():
    async with scripted() as server, called(server) as peer:
        seen = []
        one = peer.send("tools/call", CALL, on_progress=lambda update: seen.append(("one", update.progress)))
        first = await server.next("tools/call")
        two = peer.send("tools/call", CALL, on_progress=lambda update: seen.append(("two", update.progress)))
        second = await server.next("tools/call")
        first.begin()
        second.begin()
        token = second.message["params"]["_meta"]["progressToken"]
        first.event(
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1},
            }
        )
        first.event(second.framed({"content": [], "resultType": "complete"}))
        first.end()
        with pytest.raises(turnout.PeerLost):
            await one
        assert not two.done()
        second.progress(2)
        second.event(second.framed({"content": [{"type": "text", "text": "mine"}], "resultType": "complete"}))
        second.end()
        assert (await two)["content"][0]["text"] == "mine"
        assert seen == [("two", 2)]
        assert peer.counters()["unmatched_responses"] == 1


@both_loops
async def test_trh_19_an_answer_on_the_stream_of_no_request_ends_none():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        told = asyncio.Event()
        peer.on_notification("notifications/tools/list_changed")(lambda _: told.set())
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        peer.stream.event(asked.framed())
        peer.stream.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        await told.wait()
        assert not call.done()
        assert peer.counters()["unmatched_responses"] == 1
        asked.result()
        await call


@both_loops
async def test_trh_08_trh_26_a_legacy_stream_is_resumed_behind_its_last_event():
    async with scripted() as server, called(server, era="legacy") as peer:
        seen = []
        call = peer.send("tools/call", CALL, on_progress=lambda update: seen.append(update.progress))
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(b"", id="e1", retry=1)
        asked.progress(1)
        asked.close()
        for last, ends in (("e1", False), ("e2", True)):
            resumed = await server.next(verb="GET")
            assert resumed.headers["last-event-id"] == last
            assert resumed.headers["mcp-session-id"] == "s1"
            resumed.begin()
            if ends:
                resumed.event(asked.framed(), id="e3")
                resumed.end()
            else:
                resumed.event(b"", id="e2", retry=1)
                resumed.close()
        assert (await call) == {"content": []}
        assert seen == [1]
        assert nothing_left(peer)


@both_loops
async def test_trh_26_a_stream_that_the_server_does_not_resume_ends_its_request():
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(b"", id="e1", retry=1)
        asked.close()
        (await server.next(verb="GET")).write(400)
        with pytest.raises(turnout.PeerLost, match="HTTP status 400"):
            await call
        assert nothing_left(peer)


@both_loops
async def test_trh_33_a_lost_session_is_opened_again_once_for_all_that_lost_it():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        calls = [peer.send("tools/call", {"name": str(number)}) for number in range(3)]
        for _ in calls:
            asked = await server.next("tools/call")
            assert asked.headers["mcp-session-id"] == "s1"
            asked.write(404, JSON, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"gone"}}')
        late = None
        asked = await server.next("initialize")
        assert "mcp-session-id" not in asked.headers
        late = peer.send("tools/call", {"name": "late"})
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "serverInfo": {"name": "s", "version": "1"},
        }
        asked.result(result, {"Mcp-Session-Id": "s2"})
        opened = await server.next("notifications/initialized")
        assert opened.headers["mcp-session-id"] == "s2"
        opened.write(202)
        named = set()
        for _ in range(5):
            asked = await asyncio.wait_for(server.asked.get(), 20)
            assert asked.headers["mcp-session-id"] == "s2"
            if asked.verb == "GET":
                asked.write(405)
                continue
            named.add(asked.message["params"]["name"])
            asked.result()
        await asyncio.gather(*calls, late)
        assert named == {"0", "1", "2", "late"}
        assert nothing_left(peer)


@both_loops
async def test_trh_33_a_session_that_cannot_be_opened_again_fails_what_lost_it():
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(404)
        (await server.next("initialize")).write(503)
        with pytest.raises(turnout.RemoteError, match="the session is gone") as failed:
            await call
        assert failed.value.data == {"reason": "http_status", "status": 404}
        assert nothing_left(peer)


@pytest.mark.parametrize("answers", [True, False])
@both_loops
async def test_trh_34_a_session_is_ended_and_a_silent_server_holds_nothing_up(answers):
    async with scripted() as server, turnout.Router() as router:
        target = turnout.http(server.url, limits={"max_close_ms": 50})
        opening = asyncio.ensure_future(router.connect(target, era="legacy"))
        await shake_hands(server, "s1")
        peer = await opening
        (await server.next(verb="GET")).write(405)
        closing = asyncio.ensure_future(peer.close())
        asked = await server.next(verb="DELETE")
        assert asked.headers["mcp-session-id"] == "s1"
        if answers:
            asked.write(200)
        await closing
        assert not peer.is_open


@pytest.mark.parametrize(
    ("status", "headers", "body"), [(202, {}, b""), (204, {}, b""), (200, JSON, b"null"), (200, JSON, b"")]
)
@both_loops
async def test_trh_29_every_success_takes_a_notification(status, headers, body):
    async with scripted() as server, called(server, era="legacy") as peer:
        peer.notify("notifications/roots/list_changed")
        asked = await server.next("notifications/roots/list_changed")
        headers = {**headers, **({"Content-Length": "0"} if status == 204 else {})}
        if status == 204:
            asked.writer.write(b"HTTP/1.1 204 X\r\n\r\n")
            asked.answered.set()
        else:
            asked.write(status, headers, body)
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.result()
        await call


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no"}}'),
        (500, b"<html>"),
        (503, b""),
        (400, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}'),
        (400, b'{"jsonrpc":"2.0","id":null,"error":7}'),
    ],
)
@both_loops
async def test_trh_30_the_status_ends_the_request_where_the_body_is_no_answer_to_it(status, body):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(status, JSON, body)
        with pytest.raises(turnout.RemoteError, match=f"HTTP status {status}") as failed:
            await call
        assert failed.value.data["status"] == status
        assert nothing_left(peer)


@both_loops
async def test_trh_30_an_error_under_its_own_id_is_the_answer():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        error = {"jsonrpc": "2.0", "id": asked.message["id"], "error": {"code": -32602, "message": "bad"}}
        asked.write(400, JSON, json.dumps(error).encode())
        with pytest.raises(turnout.RemoteError) as failed:
            await call
        assert failed.value.code == -32602


@pytest.mark.parametrize(
    "answer",
    [(200, JSON, b"{}"), (405, {}, b""), (404, {}, b""), (200, {"Content-Type": "text/html"}, b"<p>")],
)
@both_loops
async def test_trh_21_a_server_without_a_stream_of_its_own_is_asked_once(answer):
    async with scripted() as server, turnout.Router() as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url), era="legacy"))
        await shake_hands(server, "s1")
        peer = await opening
        (await server.next(verb="GET")).write(*answer)
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).result()
        await call
        closing = asyncio.ensure_future(peer.close())
        (await server.next(verb="DELETE")).write(405)
        await closing
        assert server.asked.empty()


@both_loops
async def test_trh_21_a_stream_that_the_server_ends_is_opened_again_and_no_call_ends_by_it():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        peer.stream.event(b"", id="g1", retry=1)
        peer.stream.end()
        again = await server.next(verb="GET")
        assert again.headers["last-event-id"] == "g1"
        again.begin()
        assert not call.done()
        asked.result()
        await call


@both_loops
async def test_png_14_nothing_is_asked_before_the_server_took_the_end_of_the_handshake():
    async with scripted() as server, turnout.Router() as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url), era="legacy"))
        asked = await server.next("initialize")
        assert "mcp-protocol-version" not in asked.headers
        result = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "serverInfo": {"name": "s", "version": "1"},
        }
        asked.result(result, {"Mcp-Session-Id": "s1"})
        peer = await opening
        call = peer.send("tools/call", CALL)
        opened = await server.next("notifications/initialized")
        assert opened.headers["mcp-protocol-version"] == "2025-06-18"
        assert server.asked.empty(), "neither a call nor a stream"
        opened.write(202)
        kinds = set()
        for _ in range(2):
            asked = await server.asked.get()
            kinds.add(asked.verb)
            asked.result() if asked.verb == "POST" else asked.write(405)
        await call
        assert kinds == {"GET", "POST"}
        closing = asyncio.ensure_future(peer.close())
        (await server.next(verb="DELETE")).write(200)
        await closing


@both_loops
async def test_a_servers_request_on_a_stream_is_answered_by_a_post():
    async with scripted() as server, called(server, era="legacy") as peer:

        @peer.on_request("roots/list")
        async def roots(request):
            return {"roots": []}

        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event({"jsonrpc": "2.0", "id": 7, "method": "roots/list"})
        answer = await server.next()
        assert answer.message == {"jsonrpc": "2.0", "id": 7, "result": {"roots": []}}
        answer.write(202)
        asked.event(asked.framed())
        asked.end()
        await call


@both_loops
async def test_one_login_serves_all_that_were_refused_and_disturbs_nobody():
    logins = []

    async def auth(challenge):
        logins.append(challenge)
        return {"Authorization": f"Bearer {len(logins)}"}

    async with scripted() as server, called(server, auth=auth) as peer:
        running = peer.send("tools/call", {"name": "running"})
        goes_on = await server.next("tools/call")
        assert goes_on.headers["authorization"] == "Bearer 1"
        goes_on.begin()
        calls = [peer.send("tools/call", {"name": str(number)}) for number in range(4)]
        refused = [await server.next("tools/call") for _ in calls]
        for asked in refused:
            asked.write(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        for _ in calls:
            asked = await server.next("tools/call")
            assert asked.headers["authorization"] == "Bearer 2"
            asked.result({"content": [], "resultType": "complete"})
        await asyncio.gather(*calls)
        goes_on.event(goes_on.framed({"content": [], "resultType": "complete"}))
        goes_on.end()
        await running
        assert logins == [None, 'Bearer error="invalid_token"']


@both_loops
async def test_a_login_that_is_of_no_use_ends_with_one_a_call():
    logins = []

    def auth(challenge):
        logins.append(challenge)
        return {"Authorization": "Bearer x"}

    async with scripted() as server, called(server, auth=auth) as peer:
        for number in range(1, 4):
            call = peer.send("tools/call", CALL)
            for _ in range(2):
                (await server.next("tools/call")).write(401)
            with pytest.raises(turnout.RemoteError, match="HTTP status 401, also after a login"):
                await call
            assert len(logins) == 1 + number, "one at the start, and one for each call"
        assert nothing_left(peer)
        assert server.asked.empty()


@both_loops
async def test_a_scope_may_be_asked_for_behind_a_login_and_once_only():
    logins = []
    weak = 'Bearer error="insufficient_scope", scope="more"'

    def auth(challenge):
        logins.append(challenge)
        return {"Authorization": f"Bearer {len(logins)}"}

    async with scripted() as server, called(server, auth=auth) as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(401)
        (await server.next("tools/call")).write(403, {"WWW-Authenticate": weak})
        (await server.next("tools/call")).write(403, {"WWW-Authenticate": weak})
        with pytest.raises(turnout.RemoteError, match="HTTP status 403"):
            await call
        assert logins == [None, "", weak]


@both_loops
async def test_redirects_keep_the_body_and_the_origin():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.write(307, {"Location": "/mcp/"})
        again = await server.next("tools/call")
        assert (again.path, again.body) == ("/mcp/", asked.body)
        again.result({"content": [], "resultType": "complete"})
        await call
        for status, location, match in (
            (307, "http://other.example/mcp", "another origin"),
            (308, f"https://127.0.0.1:{server.port}/mcp", "another origin"),
            (303, "/elsewhere", "GET"),
            (302, "/elsewhere", "GET"),
        ):
            call = peer.send("tools/call", CALL)
            (await server.next("tools/call")).write(status, {"Location": location})
            with pytest.raises(turnout.RemoteError, match=match):
                await call


@both_loops
async def test_redirects_that_turn_in_a_circle_end():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        for _ in range(4):
            (await server.next("tools/call")).write(307, {"Location": "/mcp"})
        with pytest.raises(turnout.RemoteError, match="HTTP status 307"):
            await call


@both_loops
async def test_max_connections_is_said_and_nothing_waits_in_silence():
    async with scripted() as server, called(server, limits={"max_connections": 2}) as peer:
        held = [peer.send("tools/call", CALL) for _ in range(2)]
        streams = [await server.next("tools/call") for _ in held]
        with pytest.raises(turnout.RemoteError, match=r"max_connections \(2\)") as full:
            await peer.send("tools/call", CALL)
        assert full.value.data["sent"] is False
        for asked in streams:
            asked.result({"content": [], "resultType": "complete"})
        await asyncio.gather(*held)
        more = peer.send("tools/call", CALL)
        (await server.next("tools/call")).result({"content": [], "resultType": "complete"})
        await more


@both_loops
async def test_arguments_are_repeated_in_headers_where_the_tool_says_so():
    tool = {
        "name": "query",
        "inputSchema": {
            "type": "object",
            "properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "where": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
                "none": {"type": "string", "x-mcp-header": "None"},
            },
        },
    }
    async with scripted() as server, called(server) as peer:
        listing = peer.send("tools/list")
        asked = await server.next("tools/list")
        asked.result({"tools": [tool], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
        await listing
        arguments = {"region": "Zürich", "where": {"n": 3}, "none": None}
        call = peer.send("tools/call", {"name": "query", "arguments": arguments})
        asked = await server.next("tools/call")
        assert asked.headers["mcp-param-region"] == "=?base64?WsO8cmljaA==?="
        assert asked.headers["mcp-param-n"] == "3"
        assert "mcp-param-none" not in asked.headers
        asked.result({"content": [], "resultType": "complete"})
        await call


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    ],
)
@both_loops
async def test_an_answer_that_can_be_read_two_ways_ends_its_own_request_only(answer):
    async with scripted() as server, called(server) as peer:
        call, other = peer.send("tools/call", CALL), peer.send("tools/call", CALL)
        asked, unharmed = await server.next("tools/call"), await server.next("tools/call")
        asked.writer.write(answer)
        with pytest.raises(turnout.PeerLost):
            await call
        unharmed.result({"content": [], "resultType": "complete"})
        await other
        assert nothing_left(peer)


@pytest.mark.parametrize("line", [b"data: ", b"", b"id: ", b": "])
@both_loops
async def test_an_endless_line_is_bounded(line):
    async with scripted() as server, turnout.Router(limits={"max_frame_bytes": 65_536}) as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url), era=None))
        peer = await opening
        peer.set_rules("2026-07-28", "client")
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.chunk(line + b"x" * 60_000)
        asked.chunk(b"x" * 60_000)
        if line == b": ":
            # A comment is kept nowhere, however long it is.
            asked.chunk(b"\n\n")
            asked.event(asked.framed({"content": [], "resultType": "complete"}))
            asked.end()
            await call
            return
        with pytest.raises(turnout.PeerLost, match="max_frame_bytes"):
            await call


@both_loops
async def test_a_server_that_cannot_be_reached_is_said_at_once():
    async with scripted() as server:
        url = server.url
    async with turnout.Router() as router:
        with pytest.raises(ConnectionRefusedError):
            await router.connect(turnout.http(url))
        assert not router.peers


@both_loops
async def test_a_server_that_is_gone_ends_each_request_and_comes_back():
    async with turnout.Router() as router:
        async with scripted() as server:
            port = server.port
            peer = await router.connect(turnout.http(server.url), era=None)
        with pytest.raises(turnout.PeerLost):
            await peer.send("tools/call", CALL)
        again = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        again.close()
        assert peer.is_open
        assert nothing_left(peer)


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("ftp://x/mcp", {}, ValueError),
        ("http:///mcp", {}, ValueError),
        ("http://user:secret@x/mcp", {}, ValueError),
        ("http://x/mcp", {"headers": {"Mcp-Session-Id": "1"}}, ValueError),
        ("http://x/mcp", {"headers": {"X": "a\r\nY: b"}}, ValueError),
        ("http://x/mcp", {"limits": {"max_nothing": 1}}, KeyError),
        ("http://x/mcp", {"limits": {"max_idle_ms": 0}}, ValueError),
    ],
)
def test_mistakes_are_refused_where_they_are_made(url, options, error):
    with pytest.raises(error) as refused:
        turnout.http(url, **options)
    assert "secret" not in str(refused.value)


def test_targets_are_equal_where_they_say_the_same():
    assert turnout.http("https://x/mcp", headers={"A": "b"}) == turnout.http(
        "https://x/mcp", headers={"A": "b"}
    )
    assert turnout.http("https://x/mcp") != turnout.http("https://x/other")


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"type": "string", "x-mcp-header": ""}},
        {"a": {"type": "object", "x-mcp-header": "A"}},
        {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}},
        {"a": {"type": "string", "x-mcp-header": "A B"}},
        {"a": {"type": "string", "x-mcp-header": "A:"}},
        {"a": {"type": "string", "x-mcp-header": "\u00e4"}},
        {"a": {"type": "string", "x-mcp-header": "A\r\nX: y"}},
        {"a": {"type": "string", "x-mcp-header": 7}},
    ],
)
@both_loops
async def test_a_tool_whose_headers_cannot_be_made_is_left_out(properties):
    async with scripted() as server, called(server) as peer:
        listing = peer.send("tools/list")
        tools = [
            {"name": "bad", "inputSchema": {"type": "object", "properties": properties}},
            {"name": "good", "inputSchema": {"type": "object"}},
        ]
        asked = await server.next("tools/list")
        asked.result({"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
        assert [tool["name"] for tool in (await listing)["tools"]] == ["good"]


@both_loops
async def test_what_changes_nothing_is_sent_once_more_where_a_rested_socket_was_closed():
    async with scripted() as server, called(server) as peer:
        for method, again in (("tools/list", True), ("tools/call", False)):
            call = peer.send(method, CALL)
            first = await server.next(method)
            first.close()
            if not again:
                with pytest.raises(turnout.PeerLost):
                    await call
                continue
            second = await server.next(method)
            assert second.connection != first.connection
            second.result({"tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
            await call


@both_loops
async def test_trh_01_an_answer_that_is_cut_at_any_byte_ends_its_request_once():
    async with scripted() as server, called(server) as peer:
        cut, is_whole = 0, False
        while not is_whole:
            call = peer.send("tools/call", CALL)
            asked = await server.next("tools/call")
            body = asked.framed({"content": [], "resultType": "complete"})
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            whole = head % len(body) + body
            is_whole = cut >= len(whole)
            asked.writer.write(whole[:cut])
            asked.close()
            if is_whole:
                await call
            else:
                with pytest.raises(turnout.PeerLost):
                    await call
            assert nothing_left(peer)
            cut += 3


@both_loops
async def test_rid_20_what_is_asked_again_after_a_loss_is_a_request_of_its_own():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.close()
        with pytest.raises(turnout.PeerLost):
            await call
        again = peer.send("tools/call", CALL)
        second = await server.next("tools/call")
        assert second.message["id"] != asked.message["id"]
        second.result({"content": [], "resultType": "complete"})
        await again


@both_loops
async def test_trh_10_a_server_may_ask_to_wait_and_the_deadline_of_the_request_runs_on():
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL, timeout=0.05)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(b"", id="e1", retry=60_000)
        asked.close()
        with pytest.raises(turnout.CallTimedOut):
            await call
        (await server.next("notifications/cancelled")).write(202)
        assert server.asked.empty(), "it is not asked for its stream before the time"
        assert nothing_left(peer)


@both_loops
async def test_trm_09_a_modern_stream_is_not_resumed_whatever_ids_its_events_have():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(b"", id="e1", retry=1)
        asked.close()
        with pytest.raises(turnout.PeerLost):
            await call
        assert server.asked.empty()


@both_loops
async def test_trm_08_comments_are_no_messages_and_renew_no_deadline():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL, timeout=0.1)
        asked = await server.next("tools/call")
        asked.begin()
        while not call.done():
            asked.chunk(b": still here\n\n:\r\n")
            await asyncio.sleep(0.01)
        with pytest.raises(turnout.CallTimedOut):
            await call
        await asked.gone()
        assert peer.counters()["frames_in"] == 1, "the answer to the discovery"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_trh_35_trh_22_a_close_closes_every_connection_and_ends_every_call(era):
    async with scripted() as server, called(server, era=era, stream=era == "legacy") as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        closing = asyncio.ensure_future(peer.close())
        with pytest.raises(turnout.PeerLost):
            await call
        if era == "legacy":
            (await server.next(verb="DELETE")).write(200)
            await peer.stream.gone()
        await closing
        await asked.gone()
        assert nothing_left(peer)


@both_loops
async def test_tsx_53_the_name_of_a_request_about_a_task_is_its_id():
    async with scripted() as server, called(server) as peer:
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            call = peer.send(method, {"taskId": "t-1"})
            asked = await server.next(method)
            assert (asked.headers["mcp-method"], asked.headers["mcp-name"]) == (method, "t-1")
            asked.result({"resultType": "complete", "taskId": "t-1", "status": "working"})
            await call


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result"])
@both_loops
async def test_tsk_21_tsk_22_a_client_may_stop_waiting_for_a_task_and_ask_again(method):
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send(method, {"taskId": "t-1"})
        asked = await server.next(method)
        asked.begin()
        call.cancel()
        with pytest.raises(turnout.CallCancelled):
            await call
        (await server.next("notifications/cancelled")).write(202)
        again = peer.send(method, {"taskId": "t-1"})
        (await server.next(method)).result({"taskId": "t-1", "status": "working"})
        await again


@both_loops
async def test_tsk_23_news_of_a_task_are_taken_on_any_stream():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        news = asyncio.Queue()
        peer.on_notification("notifications/tasks/status")(
            lambda told: news.put_nowait(told.params["status"])
        )
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        status = {"jsonrpc": "2.0", "method": "notifications/tasks/status"}
        asked.event({**status, "params": {"taskId": "t", "status": "working"}})
        assert await news.get() == "working"
        peer.stream.event({**status, "params": {"taskId": "t", "status": "completed"}})
        assert await news.get() == "completed"
        asked.event(asked.framed())
        asked.end()
        await call


@both_loops
async def test_where_the_machine_is_short_of_sockets_a_request_waits_for_another_ones():
    async with scripted() as server, turnout.Router() as router:
        target = turnout.http(server.url)
        peer = await router.connect(target, era=None)
        peer.set_rules("2026-07-28", "client")
        tried = asyncio.Event()

        async def short(make):
            tried.set()
            raise OSError(errno.EMFILE, "Too many open files")

        target.connect = short
        first, second = peer.send("tools/call", CALL), peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        await tried.wait()
        assert not second.done()
        asked.result({"content": [], "resultType": "complete"})
        await first
        (await server.next("tools/call")).result({"content": [], "resultType": "complete"})
        await second


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Invalid session ID"}}',
    ],
)
@both_loops
async def test_trh_33_a_session_is_lost_where_the_server_says_so_by_400(body):
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(400, JSON, body)
        await shake_hands(server, "s2")
        (await server.next("tools/call")).result()
        await call


@both_loops
async def test_what_a_refusal_says_is_told_beside_its_status():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no\\u001b[2J"}}'
        (await server.next("tools/call")).write(400, JSON, body)
        with pytest.raises(turnout.RemoteError) as failed:
            await call
        assert failed.value.data == {
            "reason": "http_status",
            "status": 400,
            "error": {"code": -32000, "message": "no\x1b[2J"},
        }
        assert "\x1b" not in str(failed.value)


@both_loops
async def test_tmo_06_a_deadline_closes_the_stream_and_posts_nothing():
    async with scripted() as server, called(server) as peer:
        for timeouts in ({"timeout": 0.05}, {"max_timeout": 0.05}):
            call = peer.send("tools/call", CALL, **timeouts)
            asked = await server.next("tools/call")
            asked.begin()
            with pytest.raises(turnout.CallTimedOut):
                await call
            await asked.gone()
        assert server.asked.empty()
        assert nothing_left(peer)


@both_loops
async def test_sub_09_a_listen_is_ended_by_closing_its_stream():
    async with scripted() as server, called(server) as peer:
        told = asyncio.Queue()
        peer.on_notification("notifications/tools/list_changed")(lambda notice: told.put_nowait(notice.call))
        listen = peer.send("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        asked = await server.next("subscriptions/listen")
        asked.begin()
        meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": asked.message["id"]}}
        notice = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": meta}
        asked.event({**notice, "method": "notifications/subscriptions/acknowledged"})
        asked.event(notice)
        assert await told.get() is listen
        listen.cancel()
        with pytest.raises(turnout.CallCancelled):
            await listen
        await asked.gone()
        assert server.asked.empty()


@both_loops
async def test_mrt_01_tsx_11_what_ended_with_a_question_is_not_cancelled_later():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.result({"resultType": "input_required", "inputRequests": {}, "requestState": "s"})
        await asyncio.wait([call])
        call.cancel()
        again = peer.send("tools/call", CALL)
        second = await server.next("tools/call")
        assert second.connection == asked.connection, "nothing was closed"
        second.result({"content": [], "resultType": "complete"})
        await again
        assert server.asked.empty()


@both_loops
async def test_trm_14_a_modern_client_answers_nothing():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event({"jsonrpc": "2.0", "id": 7, "method": "roots/list"})
        asked.event(b"no message at all")
        asked.event(asked.framed({"content": [], "resultType": "complete"}))
        asked.end()
        await call
        again = peer.send("tools/list")
        listed = await server.next("tools/list")
        listed.result({"tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
        await again
        assert server.asked.empty()
        assert peer.counters()["violations"] >= 1


@both_loops
async def test_tsx_11_a_task_is_cancelled_by_its_id_and_by_no_stream():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        task = {"resultType": "task", "taskId": "t-1", "status": "working", "ttlMs": 60_000}
        asked.result({**task, "createdAt": "2026-07-28T00:00:00Z", "lastUpdatedAt": "2026-07-28T00:00:00Z"})
        await call
        call.cancel()
        cancel = await server.next("tasks/cancel")
        assert cancel.message["params"]["taskId"] == "t-1"
        assert cancel.connection == asked.connection, "nothing was closed"
        cancel.result({"resultType": "complete"})


@pytest.fixture
def _looks_often(monkeypatch):
    """Have what waits looked at without a second in between."""
    monkeypatch.setattr(caller, "TICK", 0.01)


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_max_post_ms_is_how_long_a_message_without_an_answer_of_its_own_may_take():
    async with scripted() as server, turnout.Router() as router:
        target = turnout.http(server.url, limits={"max_post_ms": 50, "max_close_ms": 50})
        opening = asyncio.ensure_future(router.connect(target, era="legacy"))
        asked = await server.next("initialize")
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "serverInfo": {"name": "s", "version": "1"},
        }
        asked.result(result, {"Mcp-Session-Id": "s1"})
        peer = await opening
        call = peer.send("tools/call", CALL)
        unanswered = await server.next("notifications/initialized")
        asked = await server.next("tools/call")
        await unanswered.gone()
        asked.result()
        await call


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_a_stream_that_goes_on_behind_its_answer_is_closed():
    async with scripted() as server, called(server, limits={"max_post_ms": 50}) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(asked.framed({"content": [], "resultType": "complete"}))
        await call
        await asked.gone()
        assert nothing_left(peer)


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_max_idle_ms_closes_what_carries_nothing():
    async with scripted() as server, called(server, limits={"max_idle_ms": 20}) as peer:
        while peer.link.transport.pool.connections:
            await asyncio.sleep(0)
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        assert server.connections == 2
        asked.result({"content": [], "resultType": "complete"})
        await call


@both_loops
async def test_what_waits_for_a_socket_gets_another_one_when_that_is_gone():
    async with scripted() as server, turnout.Router() as router:
        target = turnout.http(server.url)
        peer = await router.connect(target, era=None)
        peer.set_rules("2026-07-28", "client")
        connect, tried = target.connect, asyncio.Event()

        async def short(make):
            tried.set()
            target.connect = connect
            raise OSError(errno.EMFILE, "Too many open files")

        target.connect = short
        first, second = peer.send("tools/call", CALL), peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        await tried.wait()
        asked.write(
            200, {**JSON, "Connection": "close"}, asked.framed({"content": [], "resultType": "complete"})
        )
        await first
        (await server.next("tools/call")).result({"content": [], "resultType": "complete"})
        await second


def sockets_in_memory() -> int:
    gc.collect()
    return sum(isinstance(it, socket.ClientSocket) for it in gc.get_objects())


@both_loops
async def test_a_socket_that_is_closed_leaves_nothing_in_memory():
    async with scripted() as server, called(server) as peer:
        before = sockets_in_memory()
        for _ in range(5):
            call = peer.send("tools/call", CALL)
            asked = await server.next("tools/call")
            asked.write(200, {**JSON, "Connection": "close"}, asked.framed({"resultType": "complete"}))
            await call
        while peer.link.transport.sockets:
            await asyncio.sleep(0)
        assert sockets_in_memory() <= before


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "/a b", "/\xe4", "/%zz", "http:\\\\x"],
)
@both_loops
async def test_a_redirect_to_what_is_no_url_ends_its_own_request_only(location):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.writer.write(
            b"HTTP/1.1 307 X\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n"
        )
        asked.answered.set()
        with pytest.raises(turnout.RemoteError, match="HTTP status 307"):
            await call
        again = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        assert asked.path == "/mcp"
        asked.result({"content": [], "resultType": "complete"})
        await again


@pytest.mark.parametrize("answer", ["garbage", "nothing", "events", "error", "other"])
@both_loops
async def test_trh_33_a_handshake_that_brings_no_session_fails_what_lost_it_and_the_next_call_tries_again(
    answer,
):
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(404)
        asked = await server.next("initialize")
        if answer == "garbage":
            asked.write(200, JSON, b"nope")
        elif answer == "nothing":
            asked.write(200, JSON, b"")
        elif answer == "error":
            error = {"jsonrpc": "2.0", "id": asked.message["id"], "error": {"code": 1, "message": "later"}}
            asked.write(200, JSON, json.dumps(error).encode())
        else:
            asked.begin()
            if answer == "other":
                asked.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
            asked.end()
        with pytest.raises(turnout.RemoteError, match="the session is gone"):
            await call
        again = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(404)
        await shake_hands(server, "s2")
        asked = await server.next("tools/call")
        assert asked.headers["mcp-session-id"] == "s2"
        asked.result()
        await again
        assert nothing_left(peer)
        (await server.next(verb="GET")).write(405)


@both_loops
async def test_trh_33_another_session_has_one_stream_of_the_servers_own_and_closes_the_one_before():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        stream = peer.stream
        for session in ("s2", "s3"):
            call = peer.send("tools/call", CALL)
            (await server.next("tools/call")).write(404)
            await shake_hands(server, session)
            kinds = {}
            for _ in range(2):
                asked = await asyncio.wait_for(server.asked.get(), 20)
                kinds[asked.verb] = asked
            kinds["POST"].result()
            await call
            await stream.gone()
            stream = kinds["GET"]
            stream.begin()


@both_loops
async def test_trh_21_a_stream_of_its_own_is_asked_for_again_when_the_server_can_be_reached_again(
    monkeypatch,
):
    monkeypatch.setattr(streams, "RETRY", 0.001)
    monkeypatch.setattr(streams, "LEAST_RETRY", 0.001)
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        target, tries = peer.link.transport._target, []
        connect = target.connect

        async def refused(make):
            tries.append(make)
            if len(tries) == 2:
                target.connect = connect
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

        for socket in tuple(peer.link.transport.sockets):
            if socket._native.phase == "idle":
                socket.abort()
        await asyncio.sleep(0)
        target.connect = refused
        peer.stream.close()
        again = await server.next(verb="GET")
        again.begin()
        assert len(tries) == 2


@both_loops
async def test_trh_21_a_stream_that_stood_long_may_be_cut_any_number_of_times(monkeypatch):
    monkeypatch.setattr(streams, "RETRY", 0.001)
    monkeypatch.setattr(streams, "LEAST_RETRY", 0.001)
    monkeypatch.setattr(streams, "MOST_RETRY", 0.001)
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        stream = peer.stream
        for _ in range(streams.MOST_RESUMES + 2):
            stood = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() - stood < 0.005:
                await asyncio.sleep(0)
            stream.end()
            stream = await server.next(verb="GET")
            stream.begin()


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_trh_26_nothing_is_kept_of_a_stream_that_was_resumed():
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event(b"", id="e1", retry=1)
        asked.close()
        resumed = await server.next(verb="GET")
        resumed.begin()
        resumed.event(asked.framed())
        resumed.end()
        await call
        while peer.link.transport._streams._resumes:
            await asyncio.sleep(0)


@pytest.mark.usefixtures("_looks_often")
@both_loops
async def test_what_waits_for_a_socket_gets_one_when_the_machine_has_some_again():
    async with scripted() as server, called(server, era="legacy", stream=True) as peer:
        target = peer.link.transport._target
        connect = target.connect

        async def short(make):
            target.connect = connect
            raise OSError(errno.EMFILE, "Too many open files")

        for socket in tuple(peer.link.transport.sockets):
            if socket._native.phase == "idle":
                socket.abort()
        await asyncio.sleep(0)
        target.connect = short
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).result()
        await call


@both_loops
async def test_max_connections_does_not_count_a_socket_that_rested_too_long():
    limits = {"max_connections": 1, "max_idle_ms": 501}
    async with scripted() as server, called(server, limits=limits) as peer:
        # The loop does not run meanwhile, so that nothing is closed before it is used.
        time.sleep(0.52)
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        assert asked.connection == 2
        asked.result({"content": [], "resultType": "complete"})
        await call


@pytest.mark.parametrize("fault", ["header", "cancel"])
@both_loops
async def test_a_login_that_fails_ends_what_was_refused_and_spoils_nothing(fault):
    async def auth(challenge):
        if challenge is None:
            return {"Authorization": "Bearer 1"}
        if fault == "cancel":
            raise asyncio.CancelledError
        return {"Authorization": "Bearer \xe4"}

    async with scripted() as server, called(server, auth=auth) as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(401)
        with pytest.raises(turnout.RemoteError, match="the login failed"):
            await call
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(307, {"Location": "/mcp/"})
        asked = await server.next("tools/call")
        assert asked.headers["authorization"] == "Bearer 1"
        asked.result({"content": [], "resultType": "complete"})
        await call


@pytest.mark.usefixtures("_looks_often")
@pytest.mark.parametrize("status", [500, 200])
@both_loops
async def test_trh_30_the_status_ends_the_request_however_long_its_body_goes_on(status):
    async with scripted() as server, called(server, limits={"max_post_ms": 50}) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\n\r\n".encode())
        asked.writer.write(b"x" * (70_000 if status == 500 else 1))
        with pytest.raises(turnout.RemoteError, match="HTTP status 500" if status == 500 else "neither JSON"):
            await call
        await asked.gone()
        silent = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.writer.write(b"HTTP/1.1 500 X\r\nContent-Type: text/html\r\n\r\n")
        with pytest.raises(turnout.PeerLost):
            await silent
        await asked.gone()
        assert nothing_left(peer)


@both_loops
async def test_trh_30_a_result_is_no_answer_where_the_status_is_no_success():
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.write(500, JSON, asked.framed({"content": [], "resultType": "complete"}))
        with pytest.raises(turnout.RemoteError, match="HTTP status 500"):
            await call


@both_loops
async def test_what_waits_for_a_session_is_bounded_by_max_connections():
    async with scripted() as server, called(server, era="legacy", limits={"max_connections": 3}) as peer:
        call = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(404)
        asked = await server.next("initialize")
        held = [peer.send("tools/call", CALL) for _ in range(3)]
        with pytest.raises(turnout.RemoteError, match=r"max_connections \(3\)") as full:
            await peer.send("tools/call", CALL)
        assert full.value.data["sent"] is False
        for waiting in held:
            waiting.cancel()
        asked.write(503)
        with pytest.raises(turnout.RemoteError, match="the session is gone"):
            await call
        assert nothing_left(peer)


@both_loops
async def test_trh_33_a_404_that_names_an_unknown_method_is_the_answer_and_no_end_of_the_session():
    async with scripted() as server, called(server, era="legacy") as peer:
        call = peer.send("x/unknown")
        asked = await server.next("x/unknown")
        error = {"jsonrpc": "2.0", "id": asked.message["id"], "error": {"code": -32601, "message": "none"}}
        asked.write(404, JSON, json.dumps(error).encode())
        with pytest.raises(turnout.RemoteError, match="none") as failed:
            await call
        assert failed.value.code == -32601
        assert server.asked.empty()


@both_loops
async def test_what_is_paused_reads_nothing_on_sockets_that_are_opened_meanwhile_either():
    async with scripted() as server, called(server) as peer:
        transport = peer.link.transport
        calls = [peer.send("tools/call", CALL) for _ in range(2)]
        transport.pause_reading()
        for asked in [await server.next("tools/call") for _ in calls]:
            asked.result({"content": [], "resultType": "complete"})
            await asked.writer.drain()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        transport.resume_reading()
        await asyncio.gather(*calls)
