"""What the revision changes without anybody asking."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import (
    LEGACY,
    MODERN,
    REVISIONS,
    Wire,
    cancelled,
    frame,
    notification,
    outcome,
    progress,
    request,
    result,
)

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def test_k4_the_end_of_a_byte_stream_cancels_what_the_peer_had_in_flight_in_every_era():
    for revision in REVISIONS:
        wire = Wire(revision, "server")
        asked = wire.ask(1)
        wire.connection.end("peer_closed")
        assert asked.cancelled is True
        assert asked.record.outcome == "peer_closed"


@both_loops
async def test_k4_by_choice_a_handler_outlives_the_connection_that_asked():
    async with turnout.Router(options=turnout.ProtocolOptions(disconnect_cancels=False)) as router:
        client, server = await pair(router)
        begun, go_on, saved = asyncio.Event(), asyncio.Event(), asyncio.Event()
        seen = []

        @server.on_request("save")
        async def save(request):
            begun.set()
            await go_on.wait()
            seen.append((request.cancelled, request))
            saved.set()
            return {}

        client.send("save")
        await begun.wait()
        client.abort()
        await server.wait_lost()
        go_on.set()
        await saved.wait()
        ((was_cancelled, request),) = seen
        assert was_cancelled is False
        assert request.record.outcome == "peer_closed"
        assert request.record.cancelled_by is None


def test_k4_closing_stops_handlers_whatever_was_chosen():
    wire = Wire(role="server", disconnect_cancels=False)
    asked = wire.ask(1)
    wire.connection.end("closed")
    assert asked.cancelled is True
    assert asked.record.cancelled_by == "shutdown"


@pytest.mark.parametrize("send", [True, False])
def test_k1_can_28_sub_11_a_server_answers_a_listen_and_says_so_again(send):
    wire = Wire(MODERN, "server", listen_end_sends_cancelled=send)
    listen = wire.ask("l1", "subscriptions/listen")
    other = wire.ask("c1")
    listen.respond({})
    other.respond({})
    messages = wire.written()
    assert messages[0]["id"] == "l1"
    told = [m["params"]["requestId"] for m in messages if m.get("method") == "notifications/cancelled"]
    assert told == (["l1"] if send else [])


@pytest.mark.parametrize("revision", LEGACY)
def test_k1_a_legacy_server_sends_no_such_cancel(revision):
    wire = Wire(revision, "server")
    wire.ask(1, "subscriptions/listen").respond({})
    assert len(wire.written()) == 1


def test_can_28_sub_11_sub_12_a_server_that_closes_answers_its_open_listens():
    wire = Wire(MODERN, "server")
    listen, other = wire.ask("l1", "subscriptions/listen"), wire.ask(2)
    wire.connection.end("closed")
    answer, cancel = wire.written()
    assert (answer["id"], answer["result"]["_meta"]) == (
        "l1",
        {"io.modelcontextprotocol/subscriptionId": "l1"},
    )
    assert (cancel["method"], cancel["params"]) == ("notifications/cancelled", {"requestId": "l1"})
    assert listen.cancelled
    assert (listen.record.outcome, other.record.outcome) == ("result", "closed")
    assert wire.at_rest


def test_trs_09_sub_06_sub_07_sub_08_two_listens_on_one_pipe():
    wire = Wire(MODERN, "client")
    one, two = wire.call("subscriptions/listen"), wire.call("subscriptions/listen")

    def event(id):
        return notification("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: id}})

    deliveries = wire.take(event(one.id), event(two.id), event(one.id), event(99), event("x"))
    assert [None if d.call is None else d.call.id for d in deliveries] == [one.id, two.id, one.id, None, None]
    one.cancel("enough")
    (late, live) = wire.take(event(one.id), event(two.id))
    assert (late.call, live.call.id) == (None, two.id)
    assert not two.done()


def test_sub_09_a_client_ends_a_listen_by_cancelled_on_a_pipe():
    wire = Wire(MODERN, "client")
    listen = wire.call("subscriptions/listen")
    listen.cancel("enough")
    (message,) = wire.written()
    assert message["params"] == {"requestId": listen.id, "reason": "enough"}


def test_sub_10_race_13_after_the_cancel_of_a_listen_its_handler_is_told():
    wire = Wire(MODERN, "server")
    listen = wire.ask("l", "subscriptions/listen")
    wire.take(cancelled("l"))
    assert listen.cancelled is True
    assert listen.respond({}) is False
    assert wire.written() == []


@pytest.mark.parametrize(
    ("end", "told"),
    [("result", "result"), ("cancel", "cancelled"), ("local", "closed"), ("lost", "peer_closed")],
)
def test_sub_14_the_ends_of_a_listen_are_told_apart(end, told):
    wire = Wire(MODERN, "client")
    listen = wire.call("subscriptions/listen")
    if end == "result":
        wire.take(result(listen.id, {"resultType": "complete", "_meta": {SUBSCRIPTION: listen.id}}))
    elif end == "cancel":
        wire.take(cancelled(listen.id))
    else:
        wire.connection.end("closed" if end == "local" else "peer_closed")
    assert outcome(listen) == told


def test_sub_05_the_acknowledged_filter_is_shown():
    wire = Wire(MODERN, "client")
    listen = wire.call("subscriptions/listen")
    params = {"_meta": {SUBSCRIPTION: listen.id}, "notifications": {"toolsListChanged": True}}
    (ack,) = wire.take(notification("notifications/subscriptions/acknowledged", params))
    assert ack.call.id == listen.id
    assert ack.params["notifications"] == {"toolsListChanged": True}


def test_prg_24_progress_of_a_call_is_not_a_listens():
    wire = Wire(MODERN, "client")
    listen, call = wire.call("subscriptions/listen"), wire.call()
    wire.take(progress(call.id, 1))
    assert (listen.latest, call.latest.progress) == (None, 1)


def test_modern_requests_carry_who_asks_in_their_meta():
    wire = Wire()
    wire.connection.set_rules(
        MODERN, "client", request_meta={"io.modelcontextprotocol/protocolVersion": MODERN}
    )
    wire.connection.send("tools/list", {"_meta": {"mine": 1}})
    wire.connection.send("tools/list", b'{"_meta":{},"x":1}', progress=False)
    wire.connection.send("tools/list")
    metas = [m["params"]["_meta"] for m in wire.written()]
    assert all(meta["io.modelcontextprotocol/protocolVersion"] == MODERN for meta in metas)
    assert metas[0]["mine"] == 1


async def opened(router, era, **server):
    """A client and a server that answers openings."""
    a, b = turnout.memory()
    served = await router.connect(b, era=None, name="client")
    turnout.serve_handshake(served, name="test", **server)
    return await router.connect(a, era=era, name="server"), served


@pytest.mark.parametrize(("era", "revision"), [("legacy", LEGACY[-1]), ("modern", MODERN), ("auto", MODERN)])
@both_loops
async def test_both_eras_open_from_both_sides(era, revision):
    async with turnout.Router() as router:
        client, server = await opened(router, era, instructions="be kind")
        assert client.revision == server.revision == revision
        assert client.server_info["name"] == "test"
        assert client.instructions == "be kind"


@pytest.mark.parametrize("answer", [-32601, -32602, -32000, -1, "nonsense", "silence", "null"])
@both_loops
async def test_trs_15_trs_16_trs_17_whatever_is_no_discovery_is_legacy(answer):
    async with turnout.Router() as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)
        methods, gone = [], asyncio.Event()

        @server.on_request("*")
        async def answered(request):
            methods.append(request.method)
            if request.method == "initialize":
                return {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "serverInfo": {"name": "old"},
                }
            if answer == "silence":
                await gone.wait()
                return {"too": "late"}
            if answer == "nonsense":
                return {"what": 1}
            if answer == "null":
                return None
            raise turnout.RequestError(answer, "no")

        cancels, late, came = [], [], asyncio.Event()
        server.on_notification("notifications/cancelled")(cancels.append)

        @router.on_event
        def note(event):
            late.append(event)
            came.set()

        client = await router.connect(a, era="auto", probe_timeout=0.05 if answer == "silence" else 10)
        assert client.revision == "2025-06-18"
        assert methods == ["server/discover", "initialize"]
        gone.set()
        if answer == "silence":
            await came.wait()
            (probe,) = late
            assert type(probe) is turnout.LateResponse
            assert probe.record.method == "server/discover"
            assert probe.record.outcome in ("idle_timeout", "max_timeout")
            assert client.is_open
        assert cancels == []


@pytest.mark.parametrize("era", ["modern", "auto"])
@pytest.mark.parametrize("refusals", [1, 2])
@both_loops
async def test_a_server_that_refuses_the_revision_that_it_names_is_asked_once_more(era, refusals):
    async with turnout.Router() as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)
        methods = []

        @server.on_request("*")
        async def answered(request):
            methods.append(request.method)
            if len(methods) <= refusals:
                raise turnout.RequestError(-32022, "no", {"supported": [MODERN], "requested": MODERN})
            if request.method == "initialize":
                return {"protocolVersion": LEGACY[-1], "capabilities": {}, "serverInfo": {"name": "two"}}
            return {"supportedVersions": [MODERN], "capabilities": {}}

        if refusals == 1:
            client = await router.connect(a, era=era)
            assert client.revision == MODERN
            assert methods == ["server/discover"] * 2
        elif era == "modern":
            with pytest.raises(turnout.HandshakeFailed, match="-32022"):
                await router.connect(a, era=era)
            assert methods == ["server/discover"] * 2
        else:
            client = await router.connect(a, era=era)
            assert client.revision == LEGACY[-1]
            assert methods == ["server/discover", "server/discover", "initialize"]


@both_loops
async def test_trs_17_a_server_that_dies_at_the_probe_fails_the_opening():
    async with turnout.Router() as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)

        @server.on_request("*")
        async def die(request):
            request.peer.abort()

        with pytest.raises((turnout.PeerLost, turnout.HandshakeFailed)):
            await router.connect(a, era="auto")
        assert router.peers == ()


def test_rid_28_an_unknown_elicitation_completion_has_no_effect():
    wire = Wire(role="client")
    call = wire.call()
    for _ in range(2):
        wire.take(notification("notifications/elicitation/complete", {"elicitationId": "unknown"}))
    assert wire.written() == []
    assert not call.done()


@pytest.mark.parametrize("revision", LEGACY)
@pytest.mark.parametrize("role", ["client", "server"])
def test_png_13_png_14_nothing_but_ping_is_asked_before_the_handshake_is_over(role, revision):
    wire = Wire(revision)
    wire.connection.set_rules(revision, role, opened=False)
    with pytest.raises(turnout.NotAllowed, match="only ping"):
        wire.connection.send("tools/call" if role == "client" else "roots/list")
    assert wire.written() == []
    assert wire.at_rest
    assert wire.call("ping").id == 1
    wire.take(request(1, "ping"))
    assert wire.written()[0]["id"] == 1
    wire.connection.notify("notifications/message", {"level": "info", "data": 1})
    if role == "server":
        wire.take(notification("notifications/initialized"))
    else:
        wire.connection.set_rules(revision, role)
    assert wire.call().record.outcome is None


@both_loops
async def test_png_13_png_14_an_opening_holds_both_sides_to_it():
    async with turnout.Router() as router:
        a, b = turnout.memory()
        server = await router.connect(b, era=None)
        turnout.serve_handshake(server, name="test")
        refused, initialized = [], asyncio.Event()
        server.on_notification("notifications/initialized")(lambda _: initialized.set())

        def ask(peer):
            try:
                peer.send("roots/list").cancel()
            except turnout.NotAllowed:
                refused.append(peer)

        ask(server)

        @server.rewrite_incoming("initialize")
        def between(method, params):
            ask(server)
            for peer in router.peers:
                ask(peer)

        client = await router.connect(a, era="legacy")
        await initialized.wait()
        assert refused[:2] == [server, server]
        assert set(refused) == {server, client}
        refused.clear()
        ask(server)
        ask(client)
        assert refused == []


def test_tsx_58_k2_the_era_decides_what_a_task_is():
    legacy = Wire("2025-11-25", "client")
    call = legacy.call(params={"task": {}})
    legacy.take(result(call.id, {"resultType": "task", "taskId": "t"}))
    assert outcome(call) == "result"
    assert call.result()["taskId"] == "t"
    modern = Wire(MODERN, "client")
    call = modern.call(params={"task": {}})
    call.cancel("stop")
    assert modern.written()[0]["method"] == "notifications/cancelled"


def test_tsk_04_tsx_60_a_task_member_means_nothing_where_the_revision_has_no_such_thing():
    for revision in (*LEGACY[:3], MODERN):
        wire = Wire(revision, "server")
        asked = wire.ask(1, task={"ttl": 1})
        wire.take(cancelled(1))
        assert asked.cancelled is True


def test_what_a_revision_is_called_is_checked():
    connection = turnout.Connection()
    with pytest.raises(ValueError, match="revision"):
        connection.set_rules("2023-01-01")
    with pytest.raises(ValueError, match="role"):
        connection.set_rules(MODERN, "boss")
    with pytest.raises(TypeError, match="choice"):
        connection.choose(nonsense=True)


def test_bat_05_an_array_is_refused_outside_of_its_revision():
    for revision in REVISIONS:
        if revision == "2025-03-26":
            continue
        wire = Wire(revision, "server")
        (refused,) = wire.take(b"[" + frame(id=1, method="m").strip() + b"]\n")
        assert refused.reason == "batch"
        (message,) = wire.written()
        assert message["error"]["code"] == -32600
