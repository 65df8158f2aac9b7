"""Peers that break the protocol while other requests are under way: those go on, in both directions."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import turnout
from transport_link import pair
from wire import MODERN, Raw, Wire, cancelled, error, frame, notification, progress, request, result

BIG = "x" * 1_000_000

FRAMES = {
    "noise": b"Traceback (most recent call last):\n",
    "wrong utf-8": b'{"jsonrpc":"2.0","id":1,"method":"\xc3("}\n',
    "cut off": b'{"jsonrpc":"2.0","id":4711,"result":{"a"\n',
    "depth bomb": b'{"jsonrpc":"2.0","id":8,"method":"m","params":' + b"[" * 100_000 + b"\n",
    "duplicate id": b'{"jsonrpc":"2.0","id":1,"id":1,"method":"m"}\n',
    "escaped duplicate": b'{"jsonrpc":"2.0","id":8,"\\u006dethod":"m","method":"m"}\n',
    "request, id null": request(None),
    "request, id float": request(Raw("1.5")),
    "request, id exponent": request(Raw("1e0")),
    "request, id of 30 digits": request(Raw("1" * 30)),
    "request, id of a megabyte": request(BIG),
    "request, id of an object": request({"a": 1}),
    "request, id in flight": request("theirs"),
    "request, id in flight escaped": request(Raw('"their\\u0073"')),
    "request, token in flight": request("other", token="token"),
    "request, token of a megabyte": request("other", token=BIG),
    "request, token null": request("other", token=None),
    "request, token of an object": request("other", token={"a": 1}),
    "response, id null": result(None),
    "response, id float": result(Raw("1.0")),
    "response, id exponent": result(Raw("1e0")),
    "response, id of 30 digits": result(Raw("1" * 30)),
    "response, id of a megabyte": result(BIG),
    "response, id unknown": result(4711),
    "response, id zero": result(0),
    "response, id negative": result(-1),
    "response, id of their own request": result("theirs"),
    "response without an id": frame(result={}),
    "error without an id": frame(error={"code": 1, "message": "m"}),
    "error of a wrong shape": error(4711, code="x", message=7),
    "result and error": frame(id=4711, result={}, error={"code": 1, "message": "m"}),
    "cancel of nothing": cancelled("nothing"),
    "cancel of our request": cancelled(1),
    "cancel without an id": notification("notifications/cancelled", {}),
    "cancel of a megabyte": cancelled(BIG, BIG),
    "progress unknown": progress("nobody", 1),
    "progress of their own token": progress("token", 1),
    "progress backwards": progress(1, -5),
    "progress NaN": progress(1, Raw("NaN")),
    "progress 1e999": progress(1, Raw("1e999")),
    "progress as text": progress(1, "50"),
    "progress of a megabyte": progress(1, 1, message=BIG),
    "unknown notification": notification("notifications/nobody", {"x": BIG}),
    "method of a megabyte": request("other", BIG),
    "method of a number": frame(id="other", method=7),
    "params of a number": frame(id="other", method="m", params=7),
    "batch": b"[" + frame(id="other", method="m").strip() + b"]\n",
    "empty batch": b"[]\n",
    "version": b'{"jsonrpc":"1.0","id":"other","method":"m"}\n',
    "no version": b'{"id":"other","method":"m"}\n',
}


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
@pytest.mark.parametrize("name", FRAMES)
def test_x_05_trs_02_other_flights_go_on_whatever_comes_between(name, revision):
    wire = Wire(revision)
    call = wire.call()
    asked = wire.ask("theirs", token="token")
    for _ in range(3):
        for delivery in wire.take(FRAMES[name]):
            if type(delivery) is turnout.Request:
                assert delivery.respond({}) is True
        assert not call.done()
        assert not asked.cancelled
    for message in wire.written():
        assert message.get("id") != "theirs" or "in flight" in name, "nobody answered that one"
    assert asked.progress(1) == "sent"
    assert asked.respond({"theirs": 1}) is True
    answers = [message for message in wire.written() if message.get("id") == "theirs"]
    assert [answer["result"]["theirs"] for answer in answers] == [1]
    wire.take(result(call.id, {"ours": 1, "resultType": "complete"}))
    assert call.result()["ours"] == 1
    assert wire.at_rest
    assert wire.connection.memory < 8 << 20


@pytest.mark.parametrize("name", FRAMES)
def test_x_07_a_peer_that_dies_after_whatever_it_said(name):
    """Half a frame, then the end: whatever is in flight ends, once, and says how."""
    for cut in {1, len(FRAMES[name]) // 2, len(FRAMES[name]) - 1}:
        wire = Wire()
        call = wire.call()
        asked = wire.ask("theirs")
        wire.take(FRAMES[name][:cut])
        left = wire.connection.receive_eof()
        assert all(type(delivery) is not turnout.Request or not delivery.cancelled for delivery in left)
        wire.connection.end("peer_exited", exit_code=-9)
        assert (call.record.outcome, call.record.exit_code) == ("peer_exited", -9)
        assert (asked.record.outcome, asked.cancelled) == ("peer_exited", True)
        assert asked.respond({}) is False
        assert wire.at_rest


def run(main):
    asyncio.run(asyncio.wait_for(main, 30))


async def raw_peer(router, path):
    """A peer of ours whose other end is a stream that the test plays."""
    arrived = asyncio.get_running_loop().create_future()
    server = await asyncio.start_unix_server(lambda *streams: arrived.set_result(streams), path)
    peer = await router.connect(turnout.unix(path), era=None)
    reader, writer = await arrived
    return peer, reader, writer, server


def test_x_04_x_09_a_peer_that_stops_reading(tmp_path):
    """What waits for it is bounded and says so; cancels cost no wait; others, and the close, are not held up."""

    async def main():
        async with turnout.Router(limits={"max_output_bytes": 100_000}, close_timeout=0.1) as router:
            peer, _, writer, server = await raw_peer(router, str(tmp_path / "s"))
            client, other = await pair(router)

            @other.on_request("echo")
            async def echo(request):
                return request.params

            calls = []

            async def flood():
                while True:
                    calls.append(peer.send("m", {"text": "x" * 10_000}))
                    await asyncio.sleep(0)

            with pytest.raises(turnout.LimitExceeded) as caught:
                await flood()
            assert caught.value.limit == "max_output_bytes"
            assert peer.memory < 1 << 20
            assert await client.send("echo", [1]) == [1]
            assert all(call.cancel("it does not read") for call in calls[:5])
            assert [call.done() for call in calls[:6]] == [True] * 5 + [False]
            # It asks and asks, and still does not read.
            for n in range(2000):
                writer.write(request(n, "ping") + request(n, "nobody knows"))
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(writer.drain(), 1)
            assert await client.send("echo", [2]) == [2]
            assert peer.memory < 2 << 20
            await peer.close()
            assert {call.record.outcome for call in calls} == {"cancelled", "closed"}
            assert await client.send("echo", [3]) == [3]
            writer.close()
            server.close()

    run(main())


def test_x_07_x_08_x_09_close_with_everything_in_progress(tmp_path):
    """Stubborn handlers, a slow subscriber, callbacks that raise, half a frame, a full transport: it ends, once."""

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        router = turnout.Router(close_timeout=0.05, limits={"max_output_bytes": 200_000})
        peer, _, writer, server = await raw_peer(router, str(tmp_path / "s"))
        stubborn, leave = [], asyncio.Event()

        def bad(*_):
            raise RuntimeError("mine")

        @router.on_request("ignores")
        async def ignores(request):
            stubborn.append(request)
            while not leave.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await leave.wait()
            assert request.respond({}) is False

        @router.on_request("raises")
        async def raises(request):
            stubborn.append(request)
            try:
                await request.wait_cancelled()
            finally:
                raise ValueError("while cancelled")

        @router.on_request("answers")
        async def answers(request):
            stubborn.append(request)
            try:
                await request.wait_cancelled()
            except asyncio.CancelledError:
                assert request.respond({"late": True}) is False
                raise

        @router.on_request("opted out", interruptible=False)
        async def opted_out(request):
            stubborn.append(request)
            await request.wait_cancelled()

        methods = ("ignores", "raises", "answers", "opted out")
        calls = [peer.send("m", {"text": "x" * 1000}, on_progress=bad) for _ in range(50)]
        slow = calls[0].progress()
        calls[1].add_done_callback(bad)
        nested = []
        writer.write(b"".join(request(n, method, token=n) for n, method in enumerate(methods * 3)))
        await writer.drain()
        while len(stubborn) < 12:
            await asyncio.sleep(0)
        nested.extend(handled.send("nested") for handled in stubborn)
        calls[2].cancel("early")
        writer.write(b"".join(progress(calls[0].id, n) for n in range(1, 1001)) + b"noise\n")
        writer.write(cancelled(0, "never mind") + result(calls[3].id) + b'{"jsonrpc":"2.0","id":')
        await writer.drain()
        while calls[3].record.outcome is None or not stubborn[0].cancelled:
            await asyncio.sleep(0)
        peer.link.pause_writing()
        for handled in stubborn[1:]:
            handled.progress(1)
        await asyncio.wait_for(router.close(), 10)

        outcomes = [call.record.outcome for call in calls]
        assert outcomes == ["closed", "closed", "cancelled", "result", *["closed"] * 46]
        assert {call.record.outcome for call in nested} <= {"closed", "cancelled"}
        assert [update.progress async for update in slow][-1] == 1000
        assert all(handled.cancelled for handled in stubborn)
        assert not any(peer.entries().values())
        assert peer.in_flight == (0, 0)
        leave.set()
        while any(handled.record.cleanup == "still_running" for handled in stubborn):
            await asyncio.sleep(0)
        ends = {handled.method: handled.record.cleanup for handled in stubborn}
        assert ends["ignores"] == "finished_anyway"
        assert ends["raises"] == "raised"
        assert {repr(context["exception"]) for context in complaints} == {"RuntimeError('mine')"}
        writer.close()
        server.close()

    run(main())
