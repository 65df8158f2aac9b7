"""Requests that break the rules, and viewers that do not read: nobody else is kept waiting, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

import turnout
from control_world import Watched, exchange, until
from loops import both_loops
from turnout.control import server, viewers
from turnout.control.client import ControlClient, ControlError

HEAD = b"GET /turnout/flights HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.asynccontextmanager
async def served(directory, **options):
    async with turnout.Router() as router:
        yield await router.serve_control(directory / "control.sock", **options)


async def status(path, data):
    """The status of the answer to these bytes; 0 where the connection ends without one."""
    async with exchange(path) as (reader, writer):
        writer.write(data)
        line = await reader.readline()
        return int(line.split(b" ")[1]) if line else 0


WRONG = {
    "no HTTP": (b"\x00\x01\x02\r\n\r\n", 400),
    "no host": (b"GET /turnout/flights HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + b"Host: other\r\n\r\n", 400),
    "another version": (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 404),
    "a long head": (HEAD + b"X: " + b"x" * (32 << 10) + b"\r\n\r\n", 431),
    "a head without end": (b"GET /" + b"x" * (64 << 10), 431),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "a length below 0": (HEAD + b"Content-Length: -1\r\n\r\n", 400),
    "a length that is none": (HEAD + b"Content-Length: 1e3\r\n\r\n", 400),
    "a chunk that is none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "another coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "a folded header": (HEAD + b" folded\r\n\r\n", 200),
    "a bare line end in a value": (HEAD + b"X: a\rb\r\n\r\n", 400),
    "a long body": (HEAD + b"Content-Length: 65537\r\n\r\n" + b"x" * 65537, 413),
    "an endless body": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5,
        413,
    ),
    "a body up to the bound": (HEAD + b"Content-Length: 65536\r\n\r\n" + b"x" * 65536, 200),
    "many parameters": (b"GET /?" + b"a&" * 65 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a target that is no URL": (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "another path": (b"GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "dots": (b"GET /turnout/../turnout/flights HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    "another method": (b"DELETE /turnout/flights HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "a cancel by GET": (b"GET /turnout/cancel HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    "an end at once": (b"", 0),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
@both_loops
async def test_a_hostile_request_gets_a_status_and_the_next_one_an_answer(tmp_path, data):
    sent, expected = data
    async with served(tmp_path) as control:
        if not sent:
            async with exchange(control.name) as (_, writer):
                writer.write_eof()
        else:
            assert await status(control.name, sent) == expected
        assert (await ControlClient(control.name).get("/turnout/flights"))["rows"] == []


def post(body, kind=b"application/json"):
    head = b"POST /turnout/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + kind
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (post(b'{"handle":"x"}', b"text/plain"), 415),
        (post(b'{"handle":"x"}', b"application/x-www-form-urlencoded"), 415),
        (post(b""), 400),
        (post(b"{"), 400),
        (post(b"[" * 60_000), 400),
        (post(b'"x"'), 400),
        (post(b"{}"), 400),
        (post(b'{"handle":1}'), 400),
        (post(b'{"handle":"x","reason":1}'), 400),
        (post(b'{"handle":"x","reason":"' + b"r" * 1001 + b'"}'), 400),
        (post(b'{"handle":"x","reason":"' + b"r" * 1000 + b'"}'), 404),
        (post(b'{"handle":"x","reason":"' + b"r" * 999 + b'"}'), 404),
        (post(b'{"handle":""}'), 404),
        (post(b'{"handle":"\\ud800"}'), 404),
    ],
)
@both_loops
async def test_a_cancel_that_is_none_ends_nothing(tmp_path, data, expected):
    async with served(tmp_path) as control:
        assert await status(control.name, data) == expected


@both_loops
async def test_a_handle_that_was_changed_or_is_anothers_ends_nothing(tmp_path):
    (tmp_path / "other").mkdir()
    async with Watched(tmp_path) as world, Watched(tmp_path / "other") as other:
        for each in (world, other):
            await each.serve()
        made = await world.busy(await world.client())
        [row] = await world.rows()
        handle = row["handle"]
        swapped = [handle[:at] + ("B" if handle[at] == "A" else "A") + handle[at + 1 :] for at in range(64)]
        for wrong in (handle[:-4], handle + "AAAA", handle.swapcase(), *swapped):
            with pytest.raises(ControlError, match="404"):
                await world.viewer.post("/turnout/cancel", {"handle": wrong})
        with pytest.raises(ControlError, match="404"):
            await other.viewer.post("/turnout/cancel", {"handle": handle})
        assert not made.done()
        made.cancel()
        await made.wait_ended()


@both_loops
async def test_whoever_connects_and_asks_nothing_keeps_nobody_out(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with served(tmp_path) as control, contextlib.AsyncExitStack() as held:
        silent = [await held.enter_async_context(exchange(control.name)) for _ in range(2)]
        await ControlClient(control.name).get("/turnout/flights")
        assert await silent[0][0].read() == b"", "the one that asked nothing for longest"
        assert await ControlClient(control.name).get("/turnout/flights")


@pytest.mark.parametrize("here", [1, 2, 3])
@both_loops
async def test_beyond_the_most_connections_nobody_is_served_and_then_again(tmp_path, monkeypatch, here):
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with served(tmp_path) as control, contextlib.AsyncExitStack() as held:
        for _ in range(here - 1):
            reader, writer = await held.enter_async_context(exchange(control.name))
            writer.write(HEAD.replace(b"/turnout/flights", b"/turnout/events") + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        client = ControlClient(control.name)
        if here <= 2:
            await client.get("/turnout/flights")
        else:
            with pytest.raises(ControlError):
                await client.get("/turnout/flights")
        await held.aclose()
        while control._server._serving:
            await asyncio.sleep(0)
        await client.get("/turnout/flights")


@pytest.mark.parametrize("here", [1, 2, 3])
@both_loops
async def test_beyond_the_most_viewers_nobody_is_told(tmp_path, monkeypatch, here):
    monkeypatch.setattr(viewers, "MAX_VIEWERS", 2)
    async with served(tmp_path) as control:
        followed = [ControlClient(control.name).events() for _ in range(here)]
        for events in followed[:2]:
            assert (await events.__anext__())[0] == "snapshot"
        if here > 2:
            with pytest.raises(ControlError, match="503: too many look already"):
                await followed[2].__anext__()
        for events in followed:
            await events.aclose()
        while control._viewers._count:
            await asyncio.sleep(0)


@both_loops
async def test_whoever_sends_half_a_request_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.05)
    async with served(tmp_path) as control:
        for half in (b"", HEAD, HEAD + b"Content-Length: 5\r\n\r\nab"):
            async with exchange(control.name) as (reader, writer):
                writer.write(half)
                assert await reader.read() == b""


@both_loops
async def test_s9_text_of_peers_is_told_as_json_on_one_line(tmp_path):
    hostile = "\x1b]0;x\x07\r\n\r\nevent: delta\ndata: {}\u2028</script>\u202e"
    async with Watched(tmp_path) as world:
        viewer = await world.serve()
        client = await world.client()
        before = world.handled
        made = client.send(
            "tools/call", {"name": hostile, "arguments": {"wait": True, "steps": 1, "who": hostile}}
        )
        await world.until(lambda: world.handled > before)
        async with contextlib.aclosing(viewer.events()) as events:
            rows = await until(
                events, lambda rows: any(row["progress"] for row in rows.values()) and len(rows) == 1
            )
            [row] = rows.values()
            assert (row["target"], row["progress"]["message"]) == (hostile, hostile)
            assert await viewer.post("/turnout/cancel", {"handle": row["handle"], "reason": hostile}) == {
                "cancelled": True
            }
        with pytest.raises(turnout.RemoteError):
            await made
        [record] = (await viewer.get("/turnout/records", {"target": hostile, "direction": "inbound"}))[
            "records"
        ]
        assert record["cancel_reason"] == hostile
        assert json.dumps(record)


@both_loops
async def test_no_control_is_served_where_no_mode_keeps_others_out():
    async with turnout.Router() as router:
        with pytest.raises(ValueError, match="an abstract name has none"):
            await router.serve_control("\0turnout")
