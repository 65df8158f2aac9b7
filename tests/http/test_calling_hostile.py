"""Servers of HTTP that lie to their client: about the era, a stream, a session, and the length of an answer."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from http_scripted import JSON, called, scripted, shake_hands
from loops import both_loops
from turnout.machine_memory import default_bytes
from turnout.transports.http.calling import streams

CALL = {"name": "x", "arguments": {}}
MEGABYTE = 1 << 20

DISCOVERED = {
    "supportedVersions": ["2026-07-28"],
    "capabilities": {},
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
}


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"Retry-After": "1"}, b"busy"),
        (429, {}, b""),
        (401, {"WWW-Authenticate": "Bearer"}, b""),
        (403, {}, b""),
        (302, {"Location": "/login"}, b""),
        (307, {"Location": "http://elsewhere.example/mcp"}, b""),
        (502, JSON, b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32601, "message": "x"}}'),
        (504, {"Content-Type": "text/html"}, b"<p>"),
        (200, {"Content-Type": "text/html"}, b"<p>log in"),
        (204, {}, b""),
    ],
    ids=lambda answer: f"{answer[0]}-{len(answer[2])}",
)
@both_loops
async def test_trs_15_what_says_nothing_of_the_era_settles_none(answer):
    async with scripted() as server, turnout.Router() as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url)))
        (await server.next("server/discover")).write(*answer)
        with pytest.raises(turnout.HandshakeFailed, match="server/discover"):
            await opening
        assert server.asked.empty(), "no handshake of the other era was tried"
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url)))
        (await server.next("server/discover")).result(DISCOVERED)
        assert (await opening).revision == "2026-07-28"


@both_loops
async def test_trs_15_a_relay_tries_again_and_reaches_a_server_in_its_own_era():
    async with scripted() as server, turnout.Router() as router, turnout.Router() as clients:
        quick = turnout.RestartPolicy(initial_delay=0.001, max_delay=0.002)
        relay = router.relay(turnout.Upstream(turnout.http(server.url), restart=quick))
        ours, theirs = turnout.memory()
        relay.attach(await router.connect(theirs, era=None))
        client = asyncio.ensure_future(clients.connect(ours, era="modern"))
        (await server.next("server/discover")).write(503)
        with pytest.raises(turnout.HandshakeFailed):
            await client
        starting = asyncio.ensure_future(relay.start())
        (await server.next("server/discover")).result(DISCOVERED)
        await starting
        call = clients.peers[0].send("server/discover") if clients.peers else None
        if call is not None:
            await call
        (session,) = relay._upstreams.sessions
        assert session.peer.revision == "2026-07-28"


@pytest.mark.parametrize("status", [400, 404, 405, 406, 500, 501])
@both_loops
async def test_trs_16_what_a_legacy_server_says_of_the_probe_is_legacy(status):
    async with scripted() as server, turnout.Router() as router:
        opening = asyncio.ensure_future(router.connect(turnout.http(server.url)))
        (await server.next("server/discover")).write(status)
        await shake_hands(server, "s1")
        assert (await opening).revision == "2025-11-25"
        (await server.next(verb="GET")).write(405)
        ending = asyncio.ensure_future(router.close())
        (await server.next(verb="DELETE")).write(200)
        await ending


class Pool:
    """Counts the streams that are asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def listen(self, number, last_event_id):
        self.asked.append((number, last_event_id))

    def awaits(self, number):
        return True

    def lose(self, number, why):
        raise AssertionError(why)


@pytest.mark.parametrize("number", [0, 7])
@both_loops
async def test_trh_21_a_stream_that_brings_something_each_time_is_asked_for_less_and_less_often(number):
    loop = asyncio.get_running_loop()
    known = streams.Streams("server", Pool())
    waits = []
    for event in range(12):
        known.opened(number)
        known.ended(number, f"event-{event}", 0)
        waits.append(known._timers[number].when() - loop.time())
    expected = [min(streams.LEAST_RETRY * 2**step, streams.RETRY) for step in range(12)]
    for wait, least in zip(waits, expected, strict=True):
        assert least * 0.8 <= wait <= least + 0.01
    # One that stood is asked for as at first.
    known.opened(number)
    known._resumes[number].stands_since -= streams.RETRY * 2
    known.ended(number, "event-x", 0)
    assert known._timers[number].when() - loop.time() <= streams.LEAST_RETRY + 0.01
    known.close()


async def posted_in(server, most):
    """The methods of so many messages that are posted, and of those that came besides; each is answered."""
    seen = []
    while len(seen) < most or not server.asked.empty():
        came = await asyncio.wait_for(server.asked.get(), 20)
        if came.verb == "GET":
            came.write(405)
        else:
            seen.append(came.method)
            came.result()
    return seen


@both_loops
async def test_trh_33_what_was_asked_in_a_lost_session_is_answered_in_no_other():
    async with scripted() as server, called(server, era="legacy") as peer:
        began, ended, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @peer.on_request("roots/list")
        async def roots(request):
            began.set()
            try:
                await go_on.wait()
            finally:
                ended.set()
            return {"roots": []}

        asks = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        asked.begin()
        asked.event({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
        await began.wait()
        other = peer.send("tools/call", CALL)
        (await server.next("tools/call")).write(404)
        await shake_hands(server, "s2")
        await ended.wait()
        go_on.set()
        assert await posted_in(server, 1) == ["tools/call"], "and no answer"
        await other
        asked.event(asked.framed())
        asked.end()
        await asks
        assert await posted_in(server, 0) == []
        assert not any(peer.in_flight)


@both_loops
async def test_trh_33_nor_is_an_answer_that_is_refused_itself():
    async with scripted() as server, called(server, era="legacy") as peer:

        @peer.on_request("roots/list")
        async def roots(request):
            return {"roots": []}

        calls = [peer.send("tools/call", CALL) for _ in range(2)]
        asked = [await server.next("tools/call") for _ in calls]
        asked[0].begin()
        asked[0].event({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
        answer = await server.next()
        assert answer.message == {"jsonrpc": "2.0", "id": 1, "result": {"roots": []}}
        answer.write(404)
        asked[1].write(404)
        await shake_hands(server, "s2")
        assert await posted_in(server, 1) == ["tools/call"]
        asked[0].event(asked[0].framed())
        asked[0].end()
        for call in calls:
            await call
        assert await posted_in(server, 0) == []


@pytest.fixture
def total():
    """Sets what the process may hold, for one test."""
    yield lambda most: turnout.Router(limits={"max_total_bytes": most})
    turnout.Router(limits={"max_total_bytes": default_bytes()})


@pytest.mark.parametrize("form", ["json", "events"])
@both_loops
async def test_s6_an_answer_that_is_not_whole_counts_for_the_process(form):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        before = peer.connection.held_bytes
        body = asked.framed({"content": [], "resultType": "complete", "text": "x" * (4 * MEGABYTE)})
        if form == "json":
            asked.begin({"Content-Type": "application/json"})
            asked.chunk(body[: 3 * MEGABYTE])
        else:
            asked.begin()
            asked.chunk(b"data: " + body[: 3 * MEGABYTE])
        while peer.connection.held_bytes - before < 3 * MEGABYTE:
            await asyncio.sleep(0)
        asked.chunk(body[3 * MEGABYTE :])
        if form == "events":
            asked.chunk(b"\n\n")
        asked.end()
        assert len((await call)["text"]) == 4 * MEGABYTE
        while peer.connection.held_bytes - before > MEGABYTE:
            await asyncio.sleep(0)


@pytest.mark.parametrize("way", ["close", "cancel"])
@both_loops
async def test_s6_nothing_counts_of_an_answer_that_is_given_up(way):
    async with scripted() as server, called(server) as peer:
        call = peer.send("tools/call", CALL)
        asked = await server.next("tools/call")
        before = peer.connection.held_bytes
        asked.begin({"Content-Type": "application/json"})
        asked.chunk(b"{" + b" " * (2 * MEGABYTE))
        while peer.connection.held_bytes - before < 2 * MEGABYTE:
            await asyncio.sleep(0)
        asked.close() if way == "close" else call.cancel()
        with pytest.raises((turnout.PeerLost, turnout.CallCancelled)):
            await call
        while peer.connection.held_bytes > before + 8192:
            await asyncio.sleep(0)
        assert peer.link.transport.pool.connections <= 1


@both_loops
async def test_s6_a_server_that_sends_too_much_of_many_answers_is_gone_and_others_are_not(total):
    async with scripted() as greedy, called(greedy) as much, scripted() as modest, called(modest) as little:
        total(turnout.memory_usage()["held_bytes"] + 8 * MEGABYTE)
        calls = [much.send("tools/call", CALL) for _ in range(8)]
        asked = [await greedy.next("tools/call") for _ in calls]
        for one in asked:
            one.begin({"Content-Type": "application/json"})
            one.chunk(b"{" + b" " * (4 * MEGABYTE))
        for call in calls:
            with pytest.raises((turnout.PeerLost, turnout.RemoteError)):
                await call
        assert not much.is_open
        while turnout.memory_usage()["held_bytes"] > MEGABYTE:
            await asyncio.sleep(0)
        call = little.send("tools/call", CALL)
        (await modest.next("tools/call")).result({"content": [], "resultType": "complete"})
        await call
        assert little.is_open
