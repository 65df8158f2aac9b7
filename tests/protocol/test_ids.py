"""Ids and tokens: typed, exact, echoed as they came; responses that fit nothing end nothing."""

from __future__ import annotations

import json

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import (
    LEGACY,
    MODERN,
    REVISIONS,
    Raw,
    Wire,
    cancelled,
    error,
    frame,
    kinds,
    notification,
    outcome,
    request,
    result,
)

ODD_IDS = [
    "7", '"7"', "7.0", "7e0", '"07"', '" 7 "', '""', '"007"', "0", "-0", "-1", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "123456789012345678901234567890",
    "1.9", "1e3", '"\\u0041"', '"\\ud83d\\ude00"', '"\\/"', '"a b\\n"',
]  # fmt: skip


@pytest.mark.parametrize("id", ODD_IDS)
def test_rid_06_rid_02_an_id_is_echoed_byte_for_byte(id):
    wire = Wire()
    asked = wire.ask(Raw(id))
    asked.respond({})
    assert wire.raw() == f'{{"jsonrpc":"2.0","id":{id},"result":{{}}}}\n'.encode()
    asked = wire.ask(Raw(id))
    asked.fail(-1, "no")
    assert f'"id":{id},"error"'.encode() in wire.raw()


def test_x_02_every_spelling_is_a_request_of_its_own():
    apart = [id for id in ODD_IDS if id != '"\\u0041"']
    wire = Wire()
    asked = {id: wire.ask(Raw(id)) for id in apart}
    assert wire.connection.in_flight == (0, len(apart))
    for id in apart:
        wire.take(cancelled(Raw(id)))
        assert asked[id].cancelled is True, id
        assert sum(request.cancelled for request in asked.values()) == 1, id
        del asked[id]
    assert wire.at_rest


def test_x_02_an_escape_does_not_make_another_id():
    wire = Wire()
    asked = wire.ask("A")
    wire.take(cancelled(Raw('"\\u0041"')))
    assert asked.cancelled is True


@pytest.mark.parametrize(
    "id",
    [
        "1.0",
        "1e0",
        '"1.0"',
        '"01"',
        '" 1"',
        '"+1"',
        '"0x1"',
        "01",
        "1.9",
        "-1",
        '"\u0661"',
        "null",
        '"x"',
        "true",
    ],
)
def test_x_02_rid_06_an_answer_under_another_spelling_settles_nothing(id):
    wire = Wire()
    call = wire.call()
    assert call.id == 1
    wire.take(result(Raw(id), {"wrong": 1}))
    assert not call.done()
    wire.take(result(1, {"right": 1}))
    assert call.result() == {"right": 1}


def test_f7_rid_06_the_same_digits_in_a_string_are_taken_as_ours():
    wire = Wire()
    call = wire.call()
    wire.take(result(str(call.id), {"ok": 1}))
    assert call.result() == {"ok": 1}


@pytest.mark.parametrize("revision", REVISIONS)
def test_rid_02_rid_04_our_ids_are_small_integers_that_count_up(revision):
    wire = Wire(revision, "client")
    ids = []
    for n in range(2000):
        call = wire.connection.send("m")
        ids.append(call.id)
        if n % 3:
            wire.raw()
            wire.take(result(call.id))
    assert ids == sorted(set(ids))
    assert ids[0] == 1
    assert ids[-1] < 1 << 16


def test_rid_03_a_null_id_is_answered_without_one_and_is_never_id_0():
    wire = Wire()
    zero = wire.ask(0)
    (refused,) = wire.take(frame(id=None, method="tools/call"))
    assert (refused.reason, type(refused)) == ("null_id", turnout.Refused)
    (message,) = wire.written()
    assert message["error"]["code"] == -32600
    assert message.get("id") is None
    assert zero.respond({}) is True


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}", '{"a":1}'])
def test_rid_02_an_id_of_another_type_is_refused(id):
    wire = Wire()
    (refused,) = wire.take(frame(id=Raw(id), method="tools/call"))
    assert refused.reason == "bad_id"
    assert len(wire.written()) == 1
    assert wire.answers


@pytest.mark.parametrize("revision", REVISIONS)
def test_rid_05_a_repeated_id_cannot_disturb_the_first(revision):
    wire = Wire(revision, "server")
    first = wire.ask(5)
    assert wire.take(request(5)) == []
    (message,) = wire.written()
    assert message.get("id") is None
    assert message["error"]["code"] == -32600
    assert message["error"]["data"]["requestId"] == 5
    assert first.respond({"mine": 1}) is True
    assert wire.written() == [{"jsonrpc": "2.0", "id": 5, "result": {"mine": 1, **typed(revision)}}]
    again = wire.ask(5)
    assert again.respond({}) is True


def typed(revision):
    return {"resultType": "complete"} if revision == MODERN else {}


def test_rid_05_an_id_whose_handler_still_cleans_up_after_its_cancel_does_not_answer_for_the_next():
    """morluto/leantoken#499: the old handler's answer went out as the new request's."""
    wire = Wire()
    old = wire.ask(5)
    wire.take(cancelled(5))
    new = wire.ask(5)
    assert old.respond({"old": 1}) is False
    assert wire.written() == []
    assert new.cancelled is False
    assert new.respond({"new": 1}) is True
    assert wire.written()[0]["result"] == {"new": 1}


@pytest.mark.parametrize("id", [None, "absent"])
def test_rid_07_an_error_without_an_id_settles_nothing(id):
    wire = Wire()
    call = wire.call()
    body = {"error": {"code": -32700, "message": "Parse error"}}
    deliveries = wire.take(frame(**({} if id == "absent" else {"id": None}), **body))
    assert kinds(deliveries) == ["Unmatched"]
    assert not call.done()
    assert wire.written() == []


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    "members",
    [
        {},
        {"result": {}, "error": {"code": 1, "message": "m"}},
        {"error": {"code": 1}},
        {"error": {"message": "m"}},
        {"error": {"code": "1", "message": "m"}},
        {"error": {"code": 1.5, "message": "m"}},
        {"error": {"code": 1, "message": 2}},
        {"error": None},
        {"error": "text"},
        {"error": []},
    ],
    ids=str,
)
def test_rid_08_rid_09_rid_10_rid_11_a_broken_answer_ends_its_own_call_typed(revision, members):
    wire = Wire(revision, "client")
    call, other = wire.call(), wire.call()
    wire.take(frame(id=call.id, **members))
    with pytest.raises(turnout.InvalidResponse):
        call.result()
    assert outcome(call) == "error"
    assert not other.done()
    assert wire.written() == []
    wire.take(result(other.id))
    assert outcome(other) == "result"


def test_rid_08_a_broken_answer_to_nothing_ends_nothing():
    wire = Wire()
    call = wire.call()
    for id in (99, "x", None):
        wire.take(frame(id=id, result={}, error={}))
    assert not call.done()
    assert wire.answers


@pytest.mark.parametrize("value", ["null", "7", '"text"', "[1,2]", "true", "{}", '{"a":{"b":[1e2]}}'])
def test_rid_08_any_json_value_is_a_result(value):
    wire = Wire()
    call = wire.call()
    wire.take(result(call.id, Raw(value)))
    assert call.result() == json.loads(value)
    assert call.raw_result() == value.encode()


@pytest.mark.parametrize("version", ["absent", '"1.0"', "2.0", "2", "null", '"2.0 "'])
def test_rid_01_only_version_2_0_is_taken(version):
    wire = Wire()
    members = b"" if version == "absent" else b'"jsonrpc":' + version.encode() + b","
    (refused,) = wire.take(b"{" + members + b'"id":1,"method":"m"}\n')
    assert refused.reason == "not_version_2"
    assert wire.answers


def test_rid_01_an_escaped_version_is_the_version():
    wire = Wire()
    (asked,) = wire.take(b'{"jsonrpc":"\\u0032.0","id":1,"method":"m"}\n')
    assert asked.id == 1


def test_rid_12_our_notifications_have_no_id():
    wire = Wire()
    call = wire.call()
    wire.connection.notify("notifications/initialized")
    wire.connection.notify("x", {"id": 7})
    call.cancel("why")
    wire.ask(1, token="t").progress(1)
    messages = wire.written()
    assert len(messages) == 4
    assert [("id" in message) for message in messages] == [False] * 4


@pytest.mark.parametrize(
    "method", ["notifications/cancelled", "notifications/progress", "notifications/made/up", ""]
)
@pytest.mark.parametrize("params", [None, "{}", "[]", "null", "7", '{"_meta":null}'])
def test_rid_13_a_notification_is_never_answered(method, params):
    wire = Wire(role="server")
    wire.take(notification(method, None if params is None else Raw(params)))
    assert wire.written() == []
    assert wire.answers


def test_rid_14_trs_07_trm_22_a_modern_client_drops_requests_without_a_word():
    wire = Wire(MODERN, "client")
    assert wire.take(request(1, "sampling/createMessage"), request(2, "ping")) == []
    assert wire.written() == []
    assert wire.counts["violations"] == 2
    with pytest.raises(turnout.NotAllowed, match="server sends no requests"):
        Wire(MODERN, "server").connection.send("roots/list")


def test_rid_15_trs_08_trm_14_trm_22_a_modern_server_takes_no_responses():
    wire = Wire(MODERN, "server")
    asked = wire.ask(1)
    assert wire.take(result(1), error(1), result(99)) == []
    assert wire.counts["violations"] == 3
    assert asked.respond({}) is True


def test_rid_15_trs_08_trm_14_trm_22_a_modern_client_has_nothing_to_respond_to():
    wire = Wire(MODERN, "client")
    wire.take(request(1), frame(id=2), b"noise\n", b"{\n")
    assert wire.written() == []


@pytest.mark.parametrize("method", ["tools/call", "tasks/get", "tasks/update", "tasks/cancel"])
def test_rid_16_tsx_13_tsx_30_tsx_44_every_result_of_a_modern_server_says_its_type(method):
    wire = Wire(MODERN, "server")
    for value in ({}, {"a": 1}, {"status": "working"}, {"resultType": "complete"}, {"_meta": {}}):
        wire.ask(1, method).respond(value)
        assert wire.written()[0]["result"] == {"resultType": "complete", **value}
    for revision in LEGACY:
        wire = Wire(revision, "server")
        wire.ask(1).respond({"a": 1})
        assert wire.written()[0]["result"] == {"a": 1}


def test_rid_17_an_absent_result_type_is_complete():
    wire = Wire(MODERN, "client")
    call = wire.call()
    wire.take(result(call.id, {"content": []}))
    assert call.result() == {"content": []}


@pytest.mark.parametrize("kind", ['"surprise"', '"Complete"', '""', "7", "null", "{}", '"complete "'])
def test_rid_18_an_unknown_result_type_fails_that_request_only(kind):
    wire = Wire(MODERN, "client")
    call, other = wire.call(), wire.call()
    wire.take(result(call.id, {"resultType": Raw(kind)}))
    with pytest.raises(turnout.InvalidResponse):
        call.result()
    wire.take(result(other.id, {"resultType": "complete"}))
    assert outcome(other) == "result"


def test_rid_18_an_escaped_result_type_reads_the_same():
    wire = Wire(MODERN, "client")
    call = wire.call()
    wire.take(result(call.id, {"resultType": Raw('"compl\\u0065te"')}))
    assert outcome(call) == "result"
    assert call.result()["resultType"] == "complete"


@pytest.mark.parametrize("code", [-32000, -32001, -32019, -32002, -32042, -32800, 0, 2**53])
def test_rid_24_no_meaning_is_assumed_for_a_peers_code(code):
    wire = Wire()
    call = wire.call()
    wire.take(error(call.id, code, "Connection closed"))
    with pytest.raises(turnout.RemoteError) as caught:
        call.result()
    assert (caught.value.code, caught.value.message) == (code, "Connection closed")
    assert outcome(call) == "error"


def test_x_03_the_same_id_in_both_directions_at_once():
    """rust-sdk#1251: the server's cancel ended the client's own call."""
    wire = Wire()
    call = wire.call()
    theirs = wire.ask(call.id)
    wire.take(cancelled(call.id))
    assert (theirs.cancelled, call.done()) == (True, False)
    theirs = wire.ask(call.id)
    wire.take(result(call.id, {"a": 1}))
    assert call.result() == {"a": 1}
    assert theirs.cancelled is False
    assert theirs.respond({}) is True


def test_trm_16_trm_18_two_connections_with_the_same_ids_do_not_meet():
    """typescript-sdk#820: two clients, the same ids, one process."""
    one, two = Wire(role="server"), Wire(role="server")
    a, b = one.ask(1, token=1), two.ask(1, token=1)
    one.take(cancelled(1))
    assert (a.cancelled, b.cancelled) == (True, False)
    b.progress(1)
    b.respond({"b": 1})
    assert one.written() == []
    assert len(two.written()) == 2


@pytest.mark.parametrize("length", [255, 256, 257])
def test_max_id_bytes_below_at_and_above(length):
    wire = Wire(limits={"max_id_bytes": 256})
    id = "x" * (length - 2)
    deliveries = wire.take(request(id, token=id))
    if length <= 256:
        assert deliveries[0].progress_token == id
        return
    assert deliveries[0].reason == "max_id_bytes"
    (message,) = wire.written()
    assert message["error"]["data"]["reason"] == "max_id_bytes"


@pytest.mark.parametrize("revision", LEGACY)
def test_png_01_png_02_a_ping_is_answered_at_once_in_both_directions(revision):
    wire = Wire(revision)
    busy = 10_000 if revision == LEGACY[-1] else 50
    wire.take(*(request(f"busy{n}") for n in range(busy)))
    assert wire.connection.in_flight == (0, busy)
    assert wire.take(request("p", "ping")) == []
    assert wire.written() == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    call = wire.call("ping")
    wire.take(result(call.id))
    assert call.result() == {}


@both_loops
async def test_png_02_a_ping_is_answered_while_a_handler_blocks_its_thread():
    import threading

    async with turnout.Router() as router:
        pa, pb = await pair(router)
        free = threading.Event()

        @pb.on_request("block")
        def block(request):
            free.wait()

        blocked = pa.send("block")
        assert await pa.send("ping") == {}
        free.set()
        await blocked
