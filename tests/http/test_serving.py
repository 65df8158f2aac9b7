"""Streamable HTTP, served: both eras at one endpoint, seen byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json

import pytest

import turnout
from http_client import MODERN, mirrored, modern
from http_server import serving
from loops import both_loops

TEXT = {"content": [{"type": "text", "text": "hi"}]}


@both_loops
async def test_trm_15_an_answer_that_is_all_there_is_is_one_body():
    async with serving() as server:
        client = await server.connect()
        for number in (1, 1, "1"):  # a fifth of all clients send id 1 always
            answer = await client.call(
                "tools/call", {"name": "echo", "arguments": {"text": "hi"}}, number=number
            )
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.json == {
                "jsonrpc": "2.0",
                "id": number,
                "result": {"resultType": "complete", **TEXT},
            }


@both_loops
async def test_trm_06_trm_07_progress_comes_as_events_and_the_answer_ends_them():
    async with serving() as server:
        client = await server.connect()
        answer = await client.call("tools/call", {"name": "steps", "arguments": {"steps": 3}}, token="t")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert (answer.headers["x-accel-buffering"], answer.headers["cache-control"]) == ("no", "no-cache")
        *progress, last = answer.events
        assert [event["params"]["progress"] for event in progress] == [1, 2, 3]
        assert {event["params"]["progressToken"] for event in progress} == {"t"}
        assert last["id"] == 1
        again = await client.call("tools/call", {"name": "echo"})
        assert again.status == 200, "the connection goes on"


@pytest.mark.parametrize("token", [None, 1], ids=["before the head", "in the stream"])
@both_loops
async def test_trm_01_a_client_that_goes_cancels_its_request(token):
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        message = modern("tools/call", {"name": "wait"}, token=token)
        client.send(message, mirrored(message))
        await server.began.wait()
        if token is not None:
            assert (await client.begin()).headers["content-type"] == "text/event-stream"
            assert (await client.event())["method"] == "notifications/progress"
        client.close()
        await server.was_cancelled.wait()
        [record] = [record for record in server.router.records if record.method == "tools/call"]
        assert (record.outcome, record.cancelled_by) == ("peer_closed", "disconnect")
        assert (await other.call("tools/call", {"name": "echo"})).status == 200


@both_loops
async def test_trm_01_pipelined_bytes_hide_no_disconnect():
    async with serving() as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "wait"})
        client.send(message, mirrored(message))
        client.writer.write(b"POST /mcp HT")
        await server.began.wait()
        client.close()
        await server.was_cancelled.wait()


@both_loops
async def test_pipelined_requests_are_answered_in_order():
    async with serving() as server:
        client = await server.connect()
        for number in range(5):
            message = modern(
                "tools/call", {"name": "echo", "arguments": {"text": str(number)}}, number=number
            )
            client.send(message, mirrored(message))
        assert [(await client.read()).json["id"] for _ in range(5)] == list(range(5))


@both_loops
async def test_rid_27_a_method_that_is_not_there_is_404():
    async with serving() as server:
        answer = await (await server.connect()).call("ping")
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (404, -32601, 1)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Mcp-Method": "tools/list"}, -32020),
        ({"Mcp-Name": "other"}, -32020),
        ({"Mcp-Name": "=?base64?b3RoZXI=?="}, -32020),
        ({"MCP-Protocol-Version": "2025-11-25"}, -32020),
        ({"MCP-Protocol-Version": "2027-01-01"}, -32020),
        ({"Mcp-Param-Region": "=?base64?SGVsbG8?="}, -32020),
        ({"mcp-param-region": "=?base64?SGVs!!!bG8=?="}, -32020),
    ],
)
@both_loops
async def test_headers_say_what_the_message_says(changed, code):
    async with serving() as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"}, number="x")
        answer = await client.ask(message, {**mirrored(message), **changed})
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, code, "x")
        for missing in ("Mcp-Method", "Mcp-Name", "MCP-Protocol-Version"):
            headers = mirrored(message)
            del headers[missing]
            answer = await client.ask(message, headers)
            assert (answer.status, answer.json["error"]["code"]) == (400, -32020)
        encoded = {
            **mirrored(message),
            "Mcp-Name": "=?base64?ZWNobw==?=",
            "Mcp-Param-Region": "=?base64?SGVsbG8=?=",
        }
        assert (await client.ask(message, encoded)).status == 200


@both_loops
async def test_an_unknown_revision_is_told_which_there_are():
    async with serving() as server:
        message = modern("tools/call", {"name": "echo"})
        message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2027-01-01"
        headers = {**mirrored(message), "MCP-Protocol-Version": "2027-01-01"}
        answer = await (await server.connect()).ask(message, headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32022)
        assert answer.json["error"]["data"]["requested"] == "2027-01-01"
        # Those that a request can claim; the others are for who shakes hands.
        assert answer.json["error"]["data"]["supported"] == [MODERN]
        unclaimed = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        answer = await (await server.connect()).ask(unclaimed, {"MCP-Protocol-Version": "2027-01-01"})
        assert (answer.status, answer.json["error"]["code"]) == (400, -32022)
        assert "2025-11-25" in answer.json["error"]["data"]["supported"]
    async with serving(modern=False) as server:
        answer = await (await server.connect()).ask(message, headers)
        assert "2025-11-25" in answer.json["error"]["data"]["supported"]


@both_loops
async def test_rid_27_a_modern_client_finds_no_initialize():
    async with serving() as server:
        answer = await (await server.connect()).call("initialize")
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (404, -32601, 1)


@both_loops
async def test_trm_14_a_modern_client_posts_no_answers():
    async with serving() as server:
        message = {"jsonrpc": "2.0", "id": 1, "result": {}}
        answer = await (await server.connect()).ask(message, {"MCP-Protocol-Version": MODERN})
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


@both_loops
async def test_trh_29_trh_30_a_notification_gets_202_without_a_body_and_nonsense_400():
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session()
        for number in (1, "unknown"):
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
            answer = await client.ask(cancel, session)
            assert (answer.status, answer.body, "content-type" in answer.headers) == (202, b"", False)
        answer = await client.ask(b"{nonsense", session)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32700)
        for nothing in (b"7", b"null", b'"x"', b'{"jsonrpc":"2.0","id":9}', b" {} "):
            answer = await client.ask(nothing, session)
            assert (answer.status, answer.json["error"]["code"]) == (400, -32600), nothing
        old = await client.open_session("2025-03-26")
        told = b'[{"jsonrpc":"2.0","method":"notifications/x"}]'
        assert (await client.ask(told, old)).status == 202


@both_loops
async def test_trh_29_a_notification_that_is_looked_at_gets_202_too():
    async with serving() as server:
        seen = []

        @server.router.rewrite_incoming("notifications/x")
        def look(method, params):
            seen.append(method)
            return params

        client = await server.connect()
        session = await client.open_session("2025-03-26")
        told = {"jsonrpc": "2.0", "method": "notifications/x", "params": {}}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        head = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "notifications/x"}
        for message, headers in ((told, session), ([told, told], session), (told, head)):
            answer = await client.ask(message, headers)
            assert (answer.status, answer.body, "content-type" in answer.headers) == (202, b"", False)
        answer = await client.ask([told, call], session)
        assert (answer.status, answer.json["id"], len(seen)) == (200, 1, 5)


@both_loops
async def test_trh_32_sessions_end_and_are_found_by_their_own_handle_only():
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session()
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        assert (await client.ask(call, session)).json["result"]["content"] == [
            {"type": "text", "text": "echo"}
        ]
        assert server.listener.endpoint.sessions() == (1, 0)
        handle = session["Mcp-Session-Id"]
        for other in (
            "",
            "x",
            handle[:-1],
            handle[:-2] + ("AA" if handle[-2:] != "AA" else "BB"),
            handle + "A",
        ):
            assert (await client.ask(call, {"Mcp-Session-Id": other})).status == 404
        answer = await client.ask(call)
        assert (answer.status, "Mcp-Session-Id" in answer.json["error"]["message"]) == (400, True)
        client.writer.write(client.head("DELETE", session))
        assert (await client.read()).status == 200
        assert (await client.ask(call, session)).status == 404
        assert server.listener.endpoint.sessions() == (0, 0)
        assert server.router.peers == ()


@both_loops
async def test_trh_15_what_a_handler_asks_rides_on_the_stream_of_its_request():
    async with serving() as server:
        client, second = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "ask"}}, session)
        await client.begin()
        asked = await client.event()
        assert asked["method"] == "roots/list"
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}}
        assert (await second.ask(reply, session)).status == 202
        assert (await client.event())["result"]["structuredContent"] == {"roots": []}
        assert await client.event() is None


@both_loops
async def test_trh_19_trh_20_the_get_stream_has_what_belongs_to_no_request_and_the_newest_wins():
    async with serving() as server:
        client, first, second = [await server.connect() for _ in range(3)]
        session = await client.open_session()
        [peer] = server.router.peers
        peer.notify("notifications/tools/list_changed")  # nobody listens yet
        listen = {**session, "Accept": "text/event-stream"}
        first.writer.write(first.head("GET", listen))
        answer = await first.begin()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert (await first.event())["method"] == "notifications/tools/list_changed"
        second.writer.write(second.head("GET", listen))
        await second.begin()
        assert await first.event() is None
        peer.notify("notifications/prompts/list_changed")
        assert (await second.event())["method"] == "notifications/prompts/list_changed"


@both_loops
async def test_trh_02_a_legacy_client_that_goes_cancels_nothing():
    async with serving() as server:
        client, second = await server.connect(), await server.connect()
        session = await client.open_session()
        client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "wait"}}, session)
        await server.began.wait()
        client.close()
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert not server.cancelled
        await second.ask(cancel, session)
        await server.was_cancelled.wait()


@both_loops
async def test_trh_05_the_stream_of_a_cancelled_request_ends():
    async with serving() as server:
        client, second = await server.connect(), await server.connect()
        session = await client.open_session()
        params = {"name": "wait", "_meta": {"progressToken": 1}}
        client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}, session)
        await client.begin()
        assert (await client.event())["method"] == "notifications/progress"
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        await second.ask(cancel, session)
        assert await client.event() is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost:x", "[::1"]
)
@both_loops
async def test_cve_2025_66414_a_name_that_leads_here_is_refused_on_every_endpoint(host):
    async with serving() as server:
        for method in ("GET", "DELETE", "POST", "OPTIONS"):
            client = await server.connect()
            client.writer.write(client.head(method, {"Host": host, "Content-Length": "0"}))
            answer = await client.read()
            assert answer.status in (400, 403), "a host that is none is refused as HTTP"
            assert b"hosts=" in answer.body or answer.status == 400
        client = await server.connect()
        message = modern("tools/call", {"name": "echo"})
        for known in ("localhost", "LOCALHOST:80", "[::1]:1", "127.0.0.1"):
            assert (await client.ask(message, {**mirrored(message), "Host": known})).status == 200


@both_loops
async def test_cve_2025_66414_an_origin_that_is_not_listed_is_refused():
    async with serving(origins=["https://app.example.com"]) as server:
        message = modern("tools/call", {"name": "echo"})
        for origin in (
            "https://app.example.com",
            "http://localhost:3000",
            "http://127.0.0.1",
            "https://[::1]:8",
        ):
            client = await server.connect()
            assert (await client.ask(message, {**mirrored(message), "Origin": origin})).status == 200
        for origin in (
            "http://app.example.com",
            "null",
            "https://app.example.com.evil",
            "http://localhost.evil",
            "x",
        ):
            client = await server.connect()
            answer = await client.ask(message, {**mirrored(message), "Origin": origin})
            assert (answer.status, "origins=" in answer.json["error"]["message"]) == (403, True)


@both_loops
async def test_statuses_of_what_is_not_offered():
    async with serving(legacy=False) as server:
        for method, headers, status in [
            ("PUT", {}, 405),
            ("GET", {"Accept": "text/event-stream"}, 405),
            ("DELETE", {}, 405),
            ("POST", {"Content-Type": "text/plain"}, 415),
            ("POST", {"Content-Type": "application/json", "Accept": "text/html"}, 406),
            ("POST", {"Content-Type": "application/json", "Accept": "application/json"}, 406),
        ]:
            client = await server.connect()
            client.writer.write(client.head(method, {**headers, "Content-Length": "0"}))
            answer = await client.read()
            assert answer.status == status, (method, headers)
            assert answer.headers.get("allow") == ("POST" if status == 405 else None)
        client = await server.connect()
        client.writer.write(client.head("GET", {}, "/other"))
        assert (await client.read()).status == 404
        # Both paths answer.
        message = modern("tools/call", {"name": "echo"})
        assert (await client.ask(message, mirrored(message), path="/mcp/")).status == 200
        # No session is looked for where there are none.
        assert (await client.ask(message, {**mirrored(message), "Mcp-Session-Id": "x"})).status == 200
    async with serving() as server:
        # Nor by a revision that has none, which is said as such: any other answer has clients ask again.
        for method in ("GET", "DELETE"):
            client = await server.connect()
            client.writer.write(
                client.head(method, {"Accept": "text/event-stream", "MCP-Protocol-Version": MODERN})
            )
            answer = await client.read()
            assert (answer.status, answer.headers["allow"]) == (405, "POST")


@both_loops
async def test_s1_a_message_of_several_lines_is_one_to_every_reader():
    async with serving() as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "echo", "arguments": {"text": "a\nb"}})
        body = json.dumps(message, indent=1).replace("\n", "\r\n").encode()
        answer = await client.ask(body, mirrored(message))
        assert answer.json["result"]["content"][0]["text"] == "a\nb"
        raw = json.dumps(message).replace("\\n", "\n").encode()
        assert (await client.ask(raw, mirrored(message))).status == 400


@both_loops
async def test_what_cannot_be_cut_in_one_way_only_is_refused_and_closed():
    async with serving() as server:
        for broken in (
            "Content-Length: 2\r\nTransfer-Encoding: chunked",
            "Content-Length: 2\r\nContent-Length: 2",
            "Transfer-Encoding: xchunked",
            "Content-Length: +2",
            "X: a\r\n b",
            "X : a",
        ):
            client = await server.connect()
            client.writer.write(f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{broken}\r\n\r\n{{}}".encode())
            assert (await client.read()).status in (400, 501)
            assert await client.reader.read() == b"", broken


@both_loops
async def test_x_09_closing_the_router_ends_what_is_open():
    async with serving() as server:
        client, listening = await server.connect(), await server.connect()
        session = await client.open_session()
        listening.writer.write(listening.head("GET", {**session, "Accept": "text/event-stream"}))
        await listening.begin()
        client.send({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "wait"}}, session)
        await server.began.wait()
        await server.router.close()
        assert server.cancelled == ["wait"]
        await client.read()
        assert await listening.event() is None


@both_loops
async def test_x_09_nobody_waits_for_a_peer_that_closes():
    async with serving() as server:
        client, other = await server.connect(), await server.connect()
        session = await client.open_session()
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "wait"}}
        for headers in (session, None):
            closing = asyncio.Event()
            may_end = asyncio.Event()

            @server.router.on_request("stubborn")
            async def stubborn(request, closing=closing, may_end=may_end):
                closing.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await may_end.wait()

            message = {**call, "method": "stubborn"} if headers else modern("stubborn")
            client.send(message, headers or mirrored(message))
            await closing.wait()
            [peer] = [peer for peer in server.router.peers if peer.in_flight[1]]
            end = asyncio.ensure_future(peer.close())
            await client.read()
            # The connection is over, and its handler is waited for.
            echo = {**call, "params": {"name": "echo"}} if headers else modern("tools/call", {"name": "echo"})
            answer = await other.ask(echo, headers or mirrored(echo))
            assert answer.status == (404 if headers else 200)
            may_end.set()
            await end
            assert server.listener.endpoint.sessions() == ((0, 0) if headers else (0, 1))


@both_loops
async def test_obs_a_record_says_from_where_in_which_session_and_with_which_status():
    async with serving() as server:
        client = await server.connect()
        session = await client.open_session()
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}
        assert (await client.ask(call, session)).status == 200
        steps = {"name": "steps", "arguments": {"steps": 1}, "_meta": {"progressToken": 1}}
        assert (await client.ask({**call, "params": steps}, session)).events
        assert (await client.call("tools/call", {"name": "echo"})).status == 200
        assert (await client.call("no/such")).status == 404
        opened, *of_session, modern, unknown = [record.as_dict() for record in server.router.records]
        digest = hashlib.sha256(session["Mcp-Session-Id"].encode()).hexdigest()[:16]
        for record in (opened, *of_session):
            assert (record["address"], record["session"], record["status"]) == ("127.0.0.1", digest, 200)
        for record, status in ((modern, 200), (unknown, 404)):
            assert (record["address"], record["session"], record["status"]) == ("127.0.0.1", None, status)
        assert session["Mcp-Session-Id"] not in str([opened, of_session, modern, unknown])


@both_loops
async def test_obs_readers_of_records_are_told_behind_the_write_with_the_status():
    async with serving() as server:
        lines = io.BytesIO()
        heard = []
        with server.router.records.write(lines), server.router.records.listen(heard.append):
            client = await server.connect()
            assert (await client.call("tools/call", {"name": "echo"})).status == 200
            assert (await client.call("no/such")).status == 404
        written = [json.loads(line) for line in lines.getvalue().splitlines()]
        assert [(line["method"], line["status"]) for line in written] == [
            ("tools/call", 200),
            ("no/such", 404),
        ]
        assert [record.status for record in heard] == [200, 404]


@both_loops
async def test_obs_a_request_that_is_not_answered_has_no_status_and_no_record_but_over_http_has_any():
    async with serving() as server:
        client = await server.connect()
        message = modern("tools/call", {"name": "wait"})
        client.send(message, mirrored(message))
        await server.began.wait()
        client.close()
        await server.was_cancelled.wait()
        [record] = [record for record in server.router.records if record.method == "tools/call"]
        assert (record.outcome, record.address, record.status) == ("peer_closed", "127.0.0.1", None)
        ours, theirs = turnout.memory()
        asking, asked = (
            await server.router.connect(ours, era=None),
            await server.router.connect(theirs, era=None),
        )
        await asking.send("tools/call", {"name": "echo"})
        record = list(server.router.records)[-1]
        assert (record.address, record.session, record.status) == (None, None, None)
        assert asked.transport == "memory"
