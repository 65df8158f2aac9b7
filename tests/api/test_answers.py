"""Every request is answered, whatever its handler, a filter or a relay's policy raises or returns (J1, J2)."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import math

import pytest

import turnout
from loops import both_loops
from raising import EXITS, run
from relay_world import World, call
from transport_link import FakeLink, pair
from turnout.json import HugeNumber
from wire import Wire, cancelled

INTERNAL = {"code": -32603, "message": "Internal error"}


class Raising(turnout.RequestError):
    """An error that cannot even be asked what it says."""

    @property
    def data(self):
        raise ZeroDivisionError

    @data.setter
    def data(self, value):
        pass


class Bare(turnout.RequestError):
    """An error that was never told its code."""

    def __init__(self):
        pass


class Word(str, enum.Enum):
    GONE = "gone"


class Status(int, enum.Enum):
    """Codes whose values are pairs."""

    def __new__(cls, code, text):
        member = int.__new__(cls, code)
        member._value_ = (code, text)
        return member

    GONE = -32410, "gone"


def ring():
    items = []
    items.append(items)
    return items


NOT_SENT = {
    "set as data": lambda: turnout.RequestError(-32000, "busy", {"retry": {1, 2}}),
    "nan as data": lambda: turnout.RequestError(-32000, "busy", [math.nan]),
    "exception as data": lambda: turnout.RequestError(-32000, "busy", ValueError("secret")),
    "broken bytes as data": lambda: turnout.RequestError(-32000, "busy", b"{"),
    "two lines as data": lambda: turnout.RequestError(-32000, "busy", b'{\n"a":1}'),
    "ring as data": lambda: turnout.RequestError(-32000, "busy", ring()),
    "exception as message": lambda: turnout.RequestError(-32000, ValueError("secret")),
    "None as message": lambda: turnout.RequestError(-32000, None),
    "set as message": lambda: turnout.RequestError(-32000, {1}),
    "None as code": lambda: turnout.RequestError(None, "no"),
    "bool as code": lambda: turnout.RequestError(True, "no"),
    "float as code": lambda: turnout.RequestError(-32000.0, "no"),
    "str as code": lambda: turnout.RequestError("-32000", "no"),
    "int that is too long as code": lambda: turnout.RequestError(10**20_000, "no"),
    "data that raises": lambda: Raising(-32000, "no"),
    "no code at all": Bare,
}

SENT = {
    "surrogate": (-32602, "there is no tool a\ud83d", None),
    "surrogate as data": (-32602, "no", {"name\udc00": "a\ud83d"}),
    "line end": (-32602, "two\nlines\u2028\x00", None),
    "code beyond 64 bits": (99999999999999999999, "no", None),
    "code of 5,000 digits": (10**5000, "no", None),
    "long integer as data": (-32000, "no", [10**5000, HugeNumber("1e999")]),
    "members of enumerations": (-32000, Word.GONE, Word.GONE),
    "members of one with other values": (Status.GONE, "no", [Status.GONE]),
    "null inside": (-32000, "", [None]),
}


def error_of(caught):
    error = caught.value
    plain = {"code": error.code, "message": error.message}
    return plain if error.data is None else {**plain, "data": error.data}


def raises(make):
    """Handlers of every kind that raise it."""

    async def in_task(request):
        raise make()

    async def after_a_turn(request):
        await asyncio.sleep(0)
        raise make()

    def in_thread(request):
        raise make()

    return {
        "async": (in_task, True),
        "async, not stopped": (in_task, False),
        "after a turn": (after_a_turn, True),
        "thread": (in_thread, True),
        "thread, not stopped": (in_thread, False),
    }


KINDS = list(raises(Bare))


async def until(condition):
    """Let the loop turn until the condition holds; `run` ends a test in which it never does."""
    while not condition():
        await asyncio.sleep(0)


async def ended(*peers):
    """Nothing is in flight any more, and no table holds an entry."""
    await until(lambda: not any(any(peer.in_flight) or any(peer.entries().values()) for peer in peers))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", NOT_SENT)
def test_j1_an_error_that_cannot_be_sent_is_answered_as_an_internal_one(on_loop, caplog, what, kind):
    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)
            function, stops = raises(NOT_SENT[what])[kind]
            server.on_request("tool", interruptible=stops)(function)
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tool", timeout=10)
            assert error_of(caught) == INTERNAL
            await ended(client, server)
            assert server.is_open

    on_loop(main())
    (line,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert line.getMessage() == "the error raised for tool cannot be sent as it is"
    assert "secret" not in line.getMessage()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", SENT)
def test_j1_an_error_that_json_has_is_sent_exactly(on_loop, caplog, what, kind):
    code, message, data = SENT[what]

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)
            function, stops = raises(lambda: turnout.RequestError(code, message, data))[kind]
            server.on_request("tool", interruptible=stops)(function)
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tool", timeout=10)
            assert turnout.json.dumps(error_of(caught)) == turnout.json.dumps(
                {"code": code, "message": message, **({} if data is None else {"data": data})}
            )
            await ended(client, server)

    on_loop(main())
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
@both_loops
async def test_j1_a_handler_that_stops_for_the_cancel_of_another_request_is_answered(kind):
    async with turnout.Router() as router:
        client, server = await pair(router)
        function, stops = raises(lambda: turnout.RequestCancelled("another one"))[kind]
        server.on_request("tool", interruptible=stops)(function)
        with pytest.raises(turnout.RemoteError, match="the handler was cancelled") as caught:
            await client.send("tool", timeout=10)
        assert caught.value.code == -32603
        await ended(client, server)


def test_j1_nobody_stops_at_a_cancel_that_did_not_come():
    wire = Wire()
    asked = wire.ask(1)
    asked.stopped()
    assert asked.respond({"still": "here"}) is True
    assert wire.written()[0]["result"] == {"still": "here"}
    asked = wire.ask(2)
    wire.take(cancelled(2))
    asked.stopped()
    assert asked.respond({}) is False
    assert asked.record.cleanup == "stopped"
    assert wire.written() == []
    assert wire.at_rest


@pytest.mark.parametrize("kind", ["async", "after a turn"])
@pytest.mark.parametrize("exit", EXITS)
def test_j1_an_exit_while_an_error_is_written_ends_the_loop_and_the_request_is_answered(
    loop_kind, exit, kind
):
    class Exiting(turnout.RequestError):
        @property
        def data(self):
            raise exit

        @data.setter
        def data(self, value):
            pass

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)
            function, stops = raises(lambda: Exiting(-32000, "no"))[kind]
            server.on_request("tool", interruptible=stops)(function)
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tool", timeout=10)
            assert error_of(caught) == INTERNAL
            await ended(client, server)

    _, told, exits = run(loop_kind, main())
    assert told == []
    assert [type(error) for error in exits] == [exit]


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
@pytest.mark.parametrize("result", [{1}, {"a": math.inf}, {1: 2}, object(), b"{", ring()], ids=range(6))
def test_j1_a_result_that_cannot_be_sent_is_answered_as_an_internal_error(on_loop, caplog, result, threaded):
    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)

            async def in_task(request):
                return result

            server.on_request("tool")((lambda request: result) if threaded else in_task)
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tool", timeout=10)
            assert error_of(caught) == INTERNAL
            # A thread writes the line when it has answered.
            await until(lambda: caplog.records)
            await ended(client, server)

    on_loop(main())
    (line,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert line.getMessage() == "the handler of tool raised"


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
@both_loops
async def test_j1_a_handler_whose_own_class_fails_is_answered(threaded):
    """Whatever making an answer of it comes to: the request does not stay in flight."""
    # The loop is told of what was raised last.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with turnout.Router() as router:
        client, server = await pair(router)

        def fail(request, error):
            raise ZeroDivisionError

        server.delivery.handler_failed = fail

        async def in_task(request):
            raise ValueError

        def in_thread(request):
            raise ValueError

        server.on_request("tool")(in_thread if threaded else in_task)
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tool", timeout=10)
        assert error_of(caught) == INTERNAL
        await ended(client, server)


def test_j1_what_fail_and_respond_refuse_can_still_be_answered():
    wire = Wire()
    asked = wire.ask()
    for answer in (
        lambda: asked.fail("x", "m"),
        lambda: asked.fail(1, None),
        lambda: asked.fail(1, "m", {1}),
        lambda: asked.respond({1}),
        lambda: asked.respond(math.nan),
    ):
        with pytest.raises(turnout.EncodeError):
            answer()
    with pytest.raises(ValueError, match="malformed"):
        asked.respond(b"{")
    assert wire.written() == []
    assert asked.fail(2**64, "\ud83d") is True
    assert wire.written()[0]["error"] == {"code": 2**64, "message": "\ud83d"}
    # Over: whatever is said now is not even looked at.
    assert asked.respond({1}) is False
    assert wire.at_rest


# ---- filters ----

ODD = {
    "surrogate": rb'{"t":"a\ud83d"}',
    "1e999": b'{"t":[1e999,-1e999]}',
    "big": b'{"t":123456789012345678901234567890}',
    "5,000 digits": b'{"t":%b}' % (b"7" * 5000),
    "forms of numbers": b'{"t":[1.0,1E5,-0.0,1e-999,0.1000000000000000055511151231257827]}',
    "repeated": rb'{"t":1,"t":2,"\u0074":"\/"}',
}


async def raw_server(router):
    """A connection whose other end is the test's: lines in, lines out."""
    near, far = turnout.memory()
    peer = await router.connect(far, era=None)
    link = FakeLink()
    link.transport = await near.open(link)
    return peer, link


async def lines(link, count):
    await link.until(lambda: link.data.count(b"\n") >= count)
    return bytes(link.data).splitlines()


@pytest.mark.parametrize("what", ODD)
@both_loops
async def test_j2_a_filter_sees_legal_json_of_every_kind_and_the_connection_lives(what):
    async with turnout.Router() as router:
        peer, link = await raw_server(router)
        seen, handled = [], []

        @peer.on_request("m")
        async def handle(request):
            handled.append(request.raw_params)
            return request.params

        @peer.rewrite_incoming("m")
        def look(method, params):
            seen.append(params)

        link.transport.write(b'{"jsonrpc":"2.0","id":1,"method":"m","params":%b}\n' % ODD[what])
        link.transport.write(b'{"jsonrpc":"2.0","id":2,"method":"m"}\n')
        first, second = await lines(link, 2)
        assert handled == [ODD[what], None]
        assert seen == [turnout.json.loads(ODD[what]), None]
        assert turnout.json.dumps(seen[0]) in first
        assert json.loads(second)["result"] is None
        assert peer.is_open


@pytest.mark.parametrize("what", NOT_SENT)
def test_j2_a_filter_that_raises_an_odd_error_fails_its_own_message_only(on_loop, caplog, what):
    async def main():
        async with turnout.Router() as router:
            peer, link = await raw_server(router)

            @peer.on_request("*")
            async def handle(request):
                return {}

            @peer.rewrite_incoming("m")
            def look(method, params):
                error = NOT_SENT[what]()
                raise error

            link.transport.write(
                b'{"jsonrpc":"2.0","id":1,"method":"m"}\n{"jsonrpc":"2.0","method":"m"}\n'
                b'{"jsonrpc":"2.0","id":2,"method":"other"}\n'
            )
            first, second = map(json.loads, await lines(link, 2))
            assert first == {"jsonrpc": "2.0", "id": 1, "error": INTERNAL}
            assert second == {"jsonrpc": "2.0", "id": 2, "result": {}}
            assert peer.is_open

    on_loop(main())
    assert "the error raised for m cannot be sent as it is" in caplog.messages


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"t": {1}}, turnout.EncodeError),
        ({"t": math.nan}, turnout.EncodeError),
        ({1: 1}, turnout.EncodeError),
        (5, TypeError),
        ("x", TypeError),
        (True, TypeError),
        (HugeNumber("1e999"), TypeError),
        (b"{}", TypeError),
    ],
    ids=range(8),
)
def test_j2_what_a_filter_makes_of_params_must_be_params(changed, kind):
    """Nobody tells the peer that its request is malformed, which it was not."""
    told = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        async with turnout.Router() as router:
            peer, link = await raw_server(router)
            peer.rewrite_incoming("m")(lambda method, params: changed)
            link.transport.write(b'{"jsonrpc":"2.0","id":1,"method":"m"}\n')
            (first,) = map(json.loads, await lines(link, 1))
            assert first["error"] == INTERNAL
            assert peer.is_open

    asyncio.run(main())
    assert [type(error) for error in told] == [kind]


@pytest.mark.parametrize("direction", ["incoming", "outgoing"])
@both_loops
async def test_j2_what_a_filter_returns_counts_also_where_it_is_the_same_object(direction):
    """What it took out inside must not get past it."""
    async with turnout.Router() as router:
        client, server = await pair(router)
        end = server if direction == "incoming" else client
        seen = []

        @getattr(end, f"rewrite_{direction}")("m")
        def redact(method, params):
            params.pop("secret", None)
            return params

        @getattr(end, f"rewrite_{direction}")("m")
        def look(method, params):
            seen.append(dict(params))

        @server.on_request("m")
        async def handle(request):
            return request.params

        assert await client.send("m", {"secret": 1, "open": 2}, progress=False) == {"open": 2}
        assert await client.send("m", b'{"secret": 1, "open": 1E1}', progress=False) == {"open": 10.0}
        assert seen == [{"open": 2}, {"open": 10.0}]


@both_loops
async def test_j2_a_filter_of_outgoing_messages_sees_raw_json_decoded():
    async with turnout.Router() as router:
        client, server = await pair(router)
        seen, handled = [], []
        client.rewrite_outgoing("m")(lambda method, params: seen.append(params))

        @server.on_request("m")
        async def handle(request):
            handled.append(request.raw_params)
            return {}

        await client.send("m", b'{"a": 1E1}', progress=False)
        await client.send("m", progress=False)
        assert seen == [{"a": 10.0}, None]
        assert handled == [b'{"a": 1E1}', None]


def test_raw_json_may_have_white_space_around_it():
    wire = Wire("2026-07-28", "server")
    assert wire.ask(method="tools/list").respond(b'\t {"tools":[]} ') is True
    (answer,) = wire.written()
    assert answer["result"]["tools"] == []
    assert answer["result"]["resultType"] == "complete"
    wire = Wire()
    wire.connection.send("m", b' {"a":[1]} ', progress=False)
    wire.connection.notify("n", b" [1]")
    assert [frame["params"] for frame in wire.written()] == [{"a": [1]}, [1]]


@both_loops
async def test_j2_what_a_filter_rewrites_keeps_the_values_that_it_leaves_alone():
    async with turnout.Router() as router:
        peer, link = await raw_server(router)
        handled = []

        @peer.on_request("m")
        async def handle(request):
            handled.append(request.raw_params)
            return {}

        @peer.rewrite_incoming("m")
        def look(method, params):
            return {**params, "more": "\udfff"}

        link.transport.write(
            b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":["\\ud83d",1e999,%b]}}\n' % (b"9" * 30)
        )
        await lines(link, 1)
        assert handled == [b'{"t":["\\ud83d",1e999,%b],"more":"\\udfff"}' % (b"9" * 30)]


# ---- policy of a relay ----


@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
@pytest.mark.parametrize("what", NOT_SENT)
def test_j1_a_relays_policy_that_raises_an_odd_error_is_answered(on_loop, caplog, what, threaded):
    async def main():
        async with World() as world:
            relay = world.build()

            async def in_task(request):
                error = NOT_SENT[what]()
                raise error

            def in_thread(request):
                error = NOT_SENT[what]()
                raise error

            relay.policy.decide("tools/call")(in_thread if threaded else in_task)
            client = await world.client()
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/call", call(who="x"), timeout=10)
            assert error_of(caught) == INTERNAL
            await world.quiet()

    on_loop(main())
    assert "the error raised for tools/call cannot be sent as it is" in caplog.messages


@pytest.mark.parametrize(
    "verdict",
    [turnout.Answer({1}), turnout.Forward(params={"name": {1}}), turnout.Answer(math.nan)],
    ids=range(3),
)
def test_j1_a_relays_policy_that_answers_with_what_is_no_json_is_answered(on_loop, caplog, verdict):
    async def main():
        async with World() as world:
            relay = world.build()
            relay.policy.decide("tools/call")(lambda request: verdict)
            client = await world.client(principal="ada")
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/call", call(who="x"), timeout=10)
            assert error_of(caught) == INTERNAL
            await world.quiet()

    on_loop(main())
    assert "the handler of tools/call 'echo' for 'ada' raised" in caplog.messages
