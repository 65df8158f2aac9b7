"""Multi round-trip requests: an answer that asks for input ends its request; the retry is a new one."""

from __future__ import annotations

import pytest

from wire import MODERN, Raw, Wire, cancelled, outcome, result


def test_rid_19_mrt_01_a_retry_is_a_new_request_with_a_new_id():
    wire = Wire(MODERN, "client")
    first = wire.call("tools/call", {"name": "t"})
    wire.take(result(first.id, {"resultType": "input_required", "requestState": "s"}))
    assert outcome(first) == "result"
    assert first.cancel() is False
    second = wire.call("tools/call", {"name": "t", "requestState": "s"})
    assert second.id != first.id
    assert wire.written() == []


@pytest.mark.parametrize(
    "method", ["tools/call", "prompts/get", "resources/read", "tools/list", "server/discover"]
)
def test_mrt_01_mrt_02_only_three_methods_are_answered_with_input_required(method):
    wire = Wire(MODERN, "client")
    call = wire.call(method)
    wire.take(result(call.id, {"resultType": "input_required", "inputRequests": {}}))
    allowed = method in {"tools/call", "prompts/get", "resources/read"}
    assert (call.exception() is None) is allowed
    assert wire.at_rest


@pytest.mark.parametrize("method", ["tools/list", "server/discover", "prompts/get", "tasks/get"])
@pytest.mark.parametrize("kind", ["input_required", "task"])
def test_mrt_02_tsx_07_our_answers_do_not_either(method, kind):
    wire = Wire(MODERN, "server")
    wire.ask(1, method).respond({"resultType": kind, "x": 1})
    (answer,) = wire.written()
    if (method, kind) == ("prompts/get", "input_required"):
        assert answer["result"]["resultType"] == kind
    else:
        assert answer["error"]["code"] == -32603
        assert "resultType" in answer["error"]["message"]
    assert wire.at_rest


@pytest.mark.parametrize("value", [7, "text", [1], True])
def test_rid_16_what_cannot_say_its_type_is_no_result(value):
    wire = Wire(MODERN, "server")
    wire.ask(1).respond(value)
    assert "an object" in wire.written()[0]["error"]["message"]
    wire.ask(2).respond(None)
    assert wire.written()[0]["result"] == {"resultType": "complete"}
    legacy = Wire("2025-11-25", "server")
    legacy.ask(1).respond(value)
    assert legacy.written()[0]["result"] == value


@pytest.mark.parametrize("kind", [5, None, True, [], {}, ["complete"]], ids=repr)
@pytest.mark.parametrize("method", ["tools/list", "x/y"])
def test_rid_16_a_type_that_is_no_text_is_none(method, kind):
    wire = Wire(MODERN, "server")
    wire.ask(1, method).respond({"resultType": kind})
    (answer,) = wire.written()
    assert answer["error"]["code"] == -32603
    assert "resultType" in answer["error"]["message"]
    assert wire.at_rest


def test_rid_16_a_type_that_we_do_not_know_is_the_handlers_business():
    wire = Wire(MODERN, "server")
    wire.ask(1, "x/y").respond({"resultType": "of an extension"})
    assert wire.written()[0]["result"] == {"resultType": "of an extension"}


def test_mrt_04_request_state_passes_byte_for_byte():
    wire = Wire(MODERN, "client")
    state = b'"\\u0041\\/\xc3\xa4 1e0"'
    wire.connection.send("tools/call", b'{"requestState":' + state + b"}", progress=False)
    assert b'"requestState":' + state + b"}" in wire.raw()


def test_mrt_05_no_request_state_is_made_up():
    wire = Wire(MODERN, "client")
    first = wire.call("tools/call", {"name": "t"})
    wire.take(result(first.id, {"resultType": "input_required", "inputRequests": {}}))
    wire.connection.send("tools/call", {"name": "t", "inputResponses": {}})
    assert "requestState" not in wire.written()[0]["params"]


def test_mrt_06_what_one_flow_is_asked_for_changes_no_other():
    wire = Wire(MODERN, "client")
    one, two = wire.call("tools/call", {"name": "one"}), wire.call("tools/call", {"name": "two"})
    wire.take(result(one.id, {"resultType": "input_required", "requestState": "of one"}))
    assert (outcome(one), outcome(two)) == ("result", None)
    wire.connection.send("tools/call", {"name": "three"})
    wire.connection.send("tools/call", {"name": "one", "requestState": "of one"})
    states = [message["params"].get("requestState") for message in wire.written()]
    assert states == [None, "of one"]
    wire.take(result(two.id, {"resultType": "complete", "content": []}))
    assert two.result()["content"] == []


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_mrt_01_mrt_03_a_server_that_asked_for_input_keeps_nothing(method):
    wire = Wire(MODERN, "server")
    asked = wire.ask(1, method, token="t")
    assert asked.respond({"resultType": "input_required", "inputRequests": {}, "requestState": "s"}) is True
    assert wire.written()[0]["result"]["resultType"] == "input_required"
    assert wire.at_rest
    wire.take(cancelled(1))
    assert wire.counts["cancels_too_late"] == 1
    assert asked.progress(1) == "over"
    assert wire.ask(1, method, requestState=Raw('"s"')).id == 1
