"""The dispatcher on a turnout peer, against a peer played by hand: every byte is the test's."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp import MCPError

from loops import both_loops
from sdk_native import played
from sdk_streams import turns
from turnout import mcp
from wire import cancelled, error, frame, notification, progress, request, result


@both_loops
async def test_prg_01_a_chosen_id_is_id_and_token_and_in_flight_once():
    async with played() as (dispatcher, other):
        seen = []

        async def on_progress(*update):
            seen.append(update)

        opts = {"request_id": "listen-1", "on_progress": on_progress}
        call = asyncio.ensure_future(
            dispatcher.send_raw_request("listen", {"_meta": {"progressToken": "mine", "kept": 1}}, opts)
        )
        sent = await other.read()
        assert sent["id"] == "listen-1"
        assert sent["params"] == {"_meta": {"progressToken": "listen-1", "kept": 1}}
        with pytest.raises(ValueError, match="in flight"):
            await dispatcher.send_raw_request("listen", None, {"request_id": "listen-1"})
        other.send(progress("listen-1", 2), progress("listen-1", 1), result("listen-1", {"ok": True}))
        assert await call == {"ok": True}
        assert seen == [(2, None, None), (1, None, None)]


@both_loops
async def test_can_10_what_may_not_be_cancelled_ends_without_a_word():
    async with played() as (dispatcher, other):
        with pytest.raises(mcp.TimedOut):
            await dispatcher.send_raw_request("a", {}, {"timeout": 0.01, "cancel_on_abandon": False})
        with pytest.raises(mcp.TimedOut):
            await dispatcher.send_raw_request("b", {}, {"timeout": 0.01})
        methods = [(await other.read())["method"] for _ in range(3)]
        assert methods == ["a", "b", "notifications/cancelled"]


@both_loops
async def test_f3_what_was_cancelled_before_it_was_sent_never_is():
    async with played() as (dispatcher, other):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await dispatcher.send_raw_request("never", {})
        await dispatcher.notify("marker", {})
        assert (await other.read())["method"] == "marker"


@both_loops
async def test_x_06_notifications_are_intercepted_and_looked_at_in_their_order_before_the_answer():
    log = []

    def intercept(method, params):
        log.append(("intercepted", method))
        return method == "consumed"

    async def on_notify(ctx, method, params):
        log.append(("observed", method))

    async with played(on_notify=on_notify, intercept=intercept) as (dispatcher, other):
        call = asyncio.ensure_future(dispatcher.send_raw_request("a", {}))
        sent = await other.read()
        other.send(
            notification("consumed"),
            progress("nobody", 1),
            cancelled(99),
            notification("one", {"n": 1}),
            result(sent["id"]),
        )
        await call
        shown = ["consumed", "notifications/progress", "notifications/cancelled", "one"]
        assert [method for kind, method in log if kind == "intercepted"] == shown
        assert [method for kind, method in log if kind == "observed"] == shown[1:]


@both_loops
async def test_x_06_an_observer_has_begun_when_who_asked_goes_on():
    """The notification came in one read with the answer, before it; who asked may look at what it did."""
    log = []

    async def on_notify(ctx, method, params):
        log.append(method)

    async with played(on_notify=on_notify) as (dispatcher, other):

        async def ask():
            await dispatcher.send_raw_request("a", {})
            return list(log)

        asking = asyncio.ensure_future(ask())
        sent = await other.read()
        other.send(notification("one"), notification("two"), result(sent["id"]))
        assert await asking == ["one", "two"]


@both_loops
async def test_can_13_a_cancelled_handler_is_stopped_by_its_scope_and_not_answered():
    log = []
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(ctx, method, params):
        if method != "wait":
            return {"method": method}
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            assert ctx.cancel_requested.is_set()
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                log.append("shielded")
            ended.set()

    async with played(handle) as (dispatcher, other):
        other.send(request("7", "wait"))
        await begun.wait()
        other.send(cancelled(7))
        other.send(request(1, "next"))
        assert (await other.read())["id"] == 1
        assert not ended.is_set()
        other.send(cancelled("7", "enough"))
        await ended.wait()
        other.send(request(2, "next"))
        assert (await other.read())["id"] == 2
        assert log == ["shielded"]
        [record] = dispatcher.peer.router.records.query(outcome="cancelled")[-1:]
        assert (record.id, record.cancel_reason, record.cleanup) == ("7", "enough", "stopped")
        assert not any(dispatcher.peer.entries().values())


@both_loops
async def test_inline_requests_are_over_before_what_came_behind_them():
    log = []

    async def handle(ctx, method, params):
        log.append(("begins", method))
        await turns(5 if method == "initialize" else 1)
        log.append(("ends", method))
        return {}

    async def on_notify(ctx, method, params):
        log.append(("observed", method))

    inline = {"inline_methods": frozenset({"initialize"})}
    async with played(handle, on_notify, **inline) as (_, other):
        other.send(
            request(1, "initialize"), notification("notifications/initialized"), request(2, "tools/list")
        )
        assert [(await other.read())["id"] for _ in range(2)] == [1, 2]
        assert log[:3] == [
            ("begins", "initialize"),
            ("ends", "initialize"),
            ("observed", "notifications/initialized"),
        ]


@both_loops
async def test_rid_11_answers_that_the_sdk_cannot_take_end_their_own_calls():
    async with played() as (dispatcher, other):
        for answer in ({"result": 5}, {"result": [1]}, {"error": {"code": "x", "message": "y"}}):
            call = asyncio.ensure_future(dispatcher.send_raw_request("a", {}))
            sent = await other.read()
            other.send(frame(id=sent["id"], **answer))
            with pytest.raises(MCPError):
                await call
        call = asyncio.ensure_future(dispatcher.send_raw_request("a", {}))
        sent = await other.read()
        other.send(frame(id=sent["id"], error={"code": -32000, "message": "closed", "data": {"a": 1}}))
        with pytest.raises(MCPError) as raised:
            await call
        assert type(raised.value) is MCPError
        assert raised.value.error.data == {"a": 1}


@both_loops
async def test_params_that_are_no_object_reach_no_handler():
    seen = []

    async def handle(ctx, method, params):
        seen.append(method)
        return {}

    async with played(handle, handle) as (_, other):
        other.send(frame(id=1, method="a", params=[1]), frame(method="n", params=[1]))
        assert (await other.read())["error"]["code"] == -32602
        assert seen == []


@both_loops
async def test_a_refused_frame_is_told_to_who_listens():
    told = asyncio.Queue()
    async with played() as (dispatcher, other):
        dispatcher.on_stream_exception = told.put
        other.send(b"{not json}\n")
        assert isinstance(await told.get(), ValueError)


@both_loops
async def test_what_a_handler_raises_is_answered_and_ends_run_only_if_asked():
    async def handle(ctx, method, params):
        raise KeyError("odd")

    async with played(handle) as (_, other):
        other.send(request(1))
        assert (await other.read())["error"]["code"] == 0
    with pytest.raises(BaseException) as raised:  # noqa: PT011, PT012 - a group, of either kind
        async with played(handle, raise_handler_exceptions=True) as (_, other):
            other.send(request(1))
            assert (await other.read())["error"]["code"] == 0
            await anyio.sleep_forever()
    assert raised.group_contains(KeyError)


@both_loops
async def test_numbers_beyond_64_bits_are_written():
    async def handle(ctx, method, params):
        return {"number": 1 << 70}

    async with played(handle) as (dispatcher, other):
        await dispatcher.notify("n", {"number": 1 << 70})
        assert (await other.read())["params"] == {"number": 1 << 70}
        other.send(request(1))
        assert (await other.read())["result"] == {"number": 1 << 70}
        call = asyncio.ensure_future(dispatcher.send_raw_request("a", {"number": 1 << 70}))
        sent = await other.read()
        assert sent["params"] == {"number": 1 << 70}
        other.send(result(sent["id"]))
        await call


@both_loops
async def test_a_notification_waits_while_the_transport_is_full():
    async with played() as (dispatcher, other):
        dispatcher.peer.link.pause_writing()
        sending = asyncio.ensure_future(dispatcher.notify("n", {}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not sending.done()
        dispatcher.peer.link.resume_writing()
        await sending
        assert (await other.read())["method"] == "n"
        dispatcher.peer.link.pause_writing()
        sending = asyncio.ensure_future(dispatcher.notify("n", {}))
        await asyncio.sleep(0)
        dispatcher.peer.abort()
        await sending


class Span:
    """A span that writes down what it is told."""

    def __init__(self, name, attributes):
        self.name, self.attributes, self.status = name, dict(attributes), None

    def set_attribute(self, name, value):
        self.attributes[name] = value

    def set_attributes(self, attributes):
        self.attributes.update(attributes)

    def set_status(self, status, description=None):
        self.status = description


@both_loops
async def test_every_request_has_the_sdks_span(monkeypatch):
    from mcp.shared import _otel

    spans = []

    class Tracer:
        @contextlib.contextmanager
        def start_as_current_span(self, name, *, attributes=None, **_):
            spans.append(Span(name, attributes or {}))
            yield spans[-1]

    monkeypatch.setattr(_otel, "_tracer", Tracer())

    spans.clear()
    async with played() as (dispatcher, other):
        call = asyncio.ensure_future(
            dispatcher.send_raw_request("tools/call", {"name": "add", "_meta": {"a": 1}})
        )
        sent = await other.read()
        assert sent["params"]["name"] == "add"
        assert sent["params"]["_meta"]["a"] == 1
        other.send(error(sent["id"], -32000, "no"))
        with pytest.raises(MCPError):
            await call
        [span] = spans
        assert span.name == "MCP send tools/call add"
        assert span.attributes["mcp.method.name"] == "tools/call"
        assert span.attributes["jsonrpc.request.id"] == str(sent["id"])
        assert span.attributes["error.type"] == "-32000"
        assert span.status == "no"


@both_loops
async def test_prg_10_can_05_what_is_written_by_hand_goes_through_what_is_in_flight():
    async def report(ctx, *_):
        await ctx.notify("notifications/progress", {"progressToken": "t", "progress": 1, "message": "m"})
        await ctx.notify("notifications/progress", {"progressToken": "another", "progress": 1})
        return {}

    async with played(report) as (dispatcher, other):
        other.send(request(1, "a", token="t"))
        told, answer = await other.read(), await other.read()
        assert told["params"] == {"progressToken": "t", "progress": 1, "message": "m"}
        assert answer["id"] == 1
        await dispatcher.notify("notifications/progress", {"progressToken": "t", "progress": 2})
        await dispatcher.notify("notifications/cancelled", {"requestId": 99})
        call = asyncio.ensure_future(dispatcher.send_raw_request("b", {}))
        sent = await other.read()
        assert sent["method"] == "b"
        await dispatcher.notify("notifications/cancelled", {"requestId": sent["id"], "reason": "by hand"})
        assert (await other.read())["params"] == {"requestId": sent["id"], "reason": "by hand"}
        with pytest.raises(MCPError):
            await call


@both_loops
async def test_prg_03_a_token_that_comes_twice_goes_on_serving_the_first():
    go_on = {"first": asyncio.Event(), "second": asyncio.Event()}

    async def handle(ctx, method, params):
        await go_on[method].wait()
        value = 1 if method == "second" else 2
        await ctx.notify("notifications/progress", {"progressToken": "t", "progress": value})
        return {}

    async with played(handle) as (_, other):
        other.send(request(1, "first", token="t"), request(2, "second", token="t"))
        await turns()
        go_on["second"].set()
        said = [await other.read()]
        while said[-1].get("id") != 2:
            said.append(await other.read())
        go_on["first"].set()
        said = [await other.read(), await other.read()]
        assert said[0]["params"] == {"progressToken": "t", "progress": 2}
        assert said[1]["id"] == 1


class Speechless(Exception):
    """An exception that cannot be asked what it says."""

    def __str__(self):
        raise ZeroDivisionError


ODD = {
    "speechless": lambda: Speechless(),
    "surrogate": lambda: MCPError(0, "cut \ud83d"),
    "set as data": lambda: MCPError(0, "no", {1}),
    "object as data": lambda: MCPError(0, "no", object()),
    "not finite": lambda: MCPError(0, "no", [float("nan")]),
    "surrogate as data": lambda: MCPError(0, "no", "cut \ud83d"),
}


@pytest.mark.parametrize("what", ODD)
@both_loops
async def test_j1_what_a_handler_raises_is_answered(what):
    async def handle(ctx, method, params):
        if method == "tool":
            error = ODD[what]()
            raise error
        return {}

    async with played(handle) as (_, other):
        other.send(request(1, "tool"))
        answer = await other.read()
        assert answer["error"]["code"] == (-32603 if what == "object as data" else 0)
        other.send(request(2, "other"))
        assert (await other.read())["result"] == {}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (b'{"code":-1,"message":"cut \\ud83d","data":["\\udc00",1e999]}', -1),
        (b'{"code":99999999999999999999,"message":"no"}', 99999999999999999999),
        (b'{"code":%b,"message":"no"}' % (b"9" * 10_001), -32603),
    ],
    ids=["surrogate", "beyond 64 bits", "10,001 digits"],
)
@both_loops
async def test_j1_every_error_of_a_peer_is_one_of_the_sdks(fault, code):
    async with played() as (dispatcher, other):
        call = asyncio.ensure_future(dispatcher.send_raw_request("tool", {}))
        sent = await other.read()
        other.send(b'{"jsonrpc":"2.0","id":%d,"error":%b}\n' % (sent["id"], fault))
        with pytest.raises(MCPError) as caught:
            await call
        assert caught.value.error.code == code
