"""`subscriptions/listen` from the server's side: what goes out on it, in which order, and when no more."""

from __future__ import annotations

import json

import pytest

import turnout
from wire import MODERN, Wire, cancelled, request

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CHANGED = "notifications/tools/list_changed"


def server(**choices):
    return Wire(MODERN, "server", **choices)


def tagged(messages):
    return [(m["method"], m["params"]["_meta"][SUBSCRIPTION]) for m in messages]


def test_sub_02_sub_03_nothing_goes_out_before_the_acknowledgment():
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    with pytest.raises(turnout.NotAllowed, match="acknowledged"):
        listen.notify(CHANGED)
    assert wire.written() == []
    assert listen.notify(ACKNOWLEDGED, {"notifications": {"toolsListChanged": True}}) is True
    assert listen.notify(CHANGED) is True
    messages = wire.written()
    assert tagged(messages) == [(ACKNOWLEDGED, "l"), (CHANGED, "l")]
    assert messages[0]["params"]["notifications"] == {"toolsListChanged": True}


def test_sub_04_the_order_is_that_of_each_subscription():
    wire = server()
    one, two = wire.ask(1, "subscriptions/listen"), wire.ask(2, "subscriptions/listen")
    one.notify(ACKNOWLEDGED)
    one.notify(CHANGED)
    with pytest.raises(turnout.NotAllowed):
        two.notify(CHANGED)
    two.notify(ACKNOWLEDGED)
    two.notify(CHANGED)
    assert tagged(wire.written()) == [(ACKNOWLEDGED, 1), (CHANGED, 1), (ACKNOWLEDGED, 2), (CHANGED, 2)]


def test_sub_06_each_is_tagged_with_the_id_as_it_came():
    wire = server()
    number, text = wire.take(request(1, "subscriptions/listen"), request("1", "subscriptions/listen"))
    for listen in (number, text):
        listen.notify(ACKNOWLEDGED)
        listen.notify(CHANGED, {"_meta": {"mine": 7}, "x": 1})
    messages = wire.written()
    assert tagged(messages) == [(ACKNOWLEDGED, 1), (CHANGED, 1), (ACKNOWLEDGED, "1"), (CHANGED, "1")]
    assert messages[1]["params"] == {"_meta": {"mine": 7, SUBSCRIPTION: 1}, "x": 1}


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ('{"_meta":null}', '{"_meta":{SUB:"l"}}'),
        ('{"a":1, "_meta" : 7 }', '{"a":1, "_meta" : {SUB:"l"} }'),
        ('{"_meta":[],"a":1}', '{"_meta":{SUB:"l"},"a":1}'),
        ('{"_meta":{SUB:5}}', '{"_meta":{SUB:"l"}}'),
        ('{"_meta":{"b":1.50,SUB:5},"a":1}', '{"_meta":{SUB:"l","b":1.50},"a":1}'),
        ("[1]", "[1]"),
        ("[ ]", "[ ]"),
    ],
)
def test_sub_06_the_tag_stands_there_once_whatever_the_caller_has_in_its_place(said, written):
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    listen.notify(ACKNOWLEDGED)
    wire.raw()
    listen.notify(CHANGED, said.replace("SUB", f'"{SUBSCRIPTION}"').encode())
    [line] = wire.raw().splitlines()
    params = written.replace("SUB", f'"{SUBSCRIPTION}"')
    assert line.decode() == f'{{"jsonrpc":"2.0","method":"{CHANGED}","params":{params}}}'


def test_sub_08_ending_one_of_two_equal_subscriptions_leaves_the_other():
    wire = server()
    one, two = wire.ask(1, "subscriptions/listen"), wire.ask(2, "subscriptions/listen")
    for listen in (one, two):
        listen.notify(ACKNOWLEDGED)
    wire.raw()
    wire.take(cancelled(1))
    assert (one.notify(CHANGED), two.notify(CHANGED)) == (False, True)
    assert tagged(wire.written()) == [(CHANGED, 2)]


def test_k1_nothing_follows_the_error_that_a_listen_is_refused_with():
    wire = server()
    wire.ask("l", "subscriptions/listen").fail(-32602, "no such resource")
    [answer] = wire.written()
    assert answer["error"]["code"] == -32602
    assert wire.counts["cancels_out"] == 0


@pytest.mark.parametrize("ends", ["cancel", "respond", "close"])
def test_sub_10_nothing_follows_the_end(ends):
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    listen.notify(ACKNOWLEDGED)
    if ends == "cancel":
        wire.take(cancelled("l"))
    elif ends == "respond":
        listen.respond({})
    else:
        wire.connection.end("closed")
    wire.raw()
    assert listen.notify(CHANGED) is False
    assert wire.written() == []
    assert wire.at_rest


@pytest.mark.parametrize("sends", [True, False])
def test_sub_11_sub_12_sub_16_k1_a_server_that_closes_answers_then_cancels_then_is_silent(sends):
    wire = server(listen_end_sends_cancelled=sends)
    for id in (1, "1"):
        wire.ask(id, "subscriptions/listen").notify(ACKNOWLEDGED)
    wire.raw()
    wire.connection.end("closed")
    messages = wire.written()
    for id in (1, "1"):
        about = [
            m for m in messages
            if (m.get("id"), type(m.get("id"))) == (id, type(id))
            or (m.get("params", {}).get("requestId"), type(m.get("params", {}).get("requestId"))) == (id, type(id))
        ]  # fmt: skip
        assert about[0]["result"] == {"resultType": "complete", "_meta": {SUBSCRIPTION: id}}
        assert [m["method"] for m in about[1:]] == (["notifications/cancelled"] if sends else [])


@pytest.mark.parametrize("method", ["notifications/message", "notifications/progress"])
def test_sub_17_prg_24_prg_25_what_belongs_to_another_request_does_not_go_out_on_a_listen(method):
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    listen.notify(ACKNOWLEDGED)
    wire.raw()
    with pytest.raises(turnout.NotAllowed):
        listen.notify(method, {"progressToken": "l", "progress": 1})
    assert wire.written() == []


def test_prg_24_progress_of_a_call_carries_no_subscription():
    wire = server()
    listen, call = wire.ask("l", "subscriptions/listen"), wire.ask(2, token="t")
    listen.notify(ACKNOWLEDGED)
    wire.raw()
    call.progress(1)
    (message,) = wire.written()
    assert message["params"] == {"progressToken": "t", "progress": 1}


def test_sub_13_a_listen_has_no_deadline_at_the_server_either():
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    wire.later(1e6)
    assert listen.record.outcome is None
    assert wire.connection.next_deadline is None


def test_an_answer_waits_behind_progress_only_and_shares_a_write_with_everything_else():
    wire = server()
    listen = wire.ask("l", "subscriptions/listen")
    listen.notify(ACKNOWLEDGED)
    listen.notify(CHANGED)
    listen.respond({})
    first = wire.connection.data_to_send().splitlines()
    assert [json.loads(line).get("method", "the answer") for line in first][:3] == [
        ACKNOWLEDGED,
        CHANGED,
        "the answer",
    ]
