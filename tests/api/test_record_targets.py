"""What a record says of a request beside its method: what it is about, on whose behalf it is, the caller's label."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

import turnout
from loops import both_loops
from relay_world import World
from wire import Wire, request, result

PROMPT = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": "b"}}
TEMPLATE = {"ref": {"type": "ref/resource", "uri": "file:///{path}"}, "argument": {"name": "a", "value": "b"}}

TARGETS = [
    ("tools/call", {"arguments": {"name": "x"}, "name": "search"}, "search"),
    ("tools/call", {"name": "caf\u00e9 \ud83d"}, "caf\u00e9 \ud83d"),
    ("prompts/get", {"name": "greet", "uri": "x"}, "greet"),
    ("resources/read", {"uri": "file:///a", "name": "x"}, "file:///a"),
    ("resources/subscribe", {"uri": "file:///a"}, "file:///a"),
    ("resources/unsubscribe", {"uri": "file:///a"}, "file:///a"),
    ("completion/complete", PROMPT, "greet"),
    ("completion/complete", TEMPLATE, "file:///{path}"),
    ("tools/call", {"name": 7}, None),
    ("tools/call", {"name": ""}, None),
    ("tools/list", {"name": "x", "uri": "y"}, None),
    ("completion/complete", {"ref": "greet"}, None),
    ("logging/setLevel", {"level": "info"}, None),
]


@pytest.mark.parametrize(("method", "params", "target"), TARGETS)
@pytest.mark.parametrize("write", [lambda params: params, lambda params: json.dumps(params).encode()])
def test_a_record_names_what_a_request_is_about_in_flight_and_finished(method, params, target, write):
    wire = Wire()
    call = wire.call(method, write(params))
    assert call.record.target == target
    wire.take(result(call.id))
    assert (call.record.outcome, call.record.target) == ("result", target)
    (asked,) = wire.take(request(9, method, params))
    assert asked.record.target == target
    asked.respond({})
    assert (asked.record.outcome, asked.record.target) == ("result", target)
    assert asked.record.as_dict()["target"] == target


def test_a_rewrite_of_the_params_is_what_the_record_names():
    async def main():
        async with turnout.Router() as router:
            near, far = turnout.memory()
            client, server = await asyncio.gather(*(router.connect(end, era=None) for end in (near, far)))
            client.rewrite_outgoing("tools/call")(lambda _, params: {**params, "name": "other"})
            server.on_request("tools/call")(lambda _: {})
            call = client.send("tools/call", {"name": "search"})
            await call
            assert [record.target for record in router.records.query(method="tools/call")] == ["other"] * 2

    asyncio.run(main())


@pytest.mark.parametrize(("length", "kept"), [(7, 7), (8, 8), (9, 8)])
def test_a_target_and_a_label_are_cut_at_the_limit_of_texts(length, kept):
    wire = Wire(limits={"max_text_bytes": 8})
    text = "abcdefghi"[:length]
    call = wire.call(params={"name": text}, label=text)
    assert (call.record.target, call.record.label) == (text[:kept], text[:kept])
    asked = wire.ask(name=text)
    assert asked.record.target == text[:kept]
    named = wire.call(params={"name": text}, label=text, request_id="mine")
    assert (named.record.id, named.record.target, named.record.label) == ("mine", text[:kept], text[:kept])


def test_a_long_target_and_long_ids_are_kept_whole():
    wire = Wire()
    target, id, token = "t" * 3000, "i" * 200, "k" * 200
    (asked,) = wire.take(request(id, "tools/call", {"name": target}, token))
    assert (asked.record.id, asked.record.token, asked.record.target) == (id, token, target)
    assert wire.call(params={"name": target}).record.target == target


def test_a_label_is_the_callers_own_text_and_is_not_sent():
    wire = Wire()
    call = wire.connection.send("tools/call", {"name": "x"}, label="step 3")
    assert b"step 3" not in wire.connection.data_to_send()
    assert call.record.label == "step 3"
    assert call.record.as_dict()["label"] == "step 3"
    assert wire.call().record.label is None
    assert wire.ask().record.label is None
    with pytest.raises(TypeError, match="label"):
        wire.connection.send("tools/call", label=3)
    assert wire.connection.in_flight == (2, 1)


def test_the_request_of_a_handler_has_a_label_too():
    wire = Wire()
    call = wire.ask().send("sampling/createMessage", {}, label="step 3")
    assert call.record.label == "step 3"


HOSTILE = "\x1b[31mred\r\nINFO forged \u202eline"


def test_targets_and_labels_are_escaped_where_a_person_reads_them(caplog):
    wire = Wire()
    records = turnout.Records(wire.connection.ledger)
    records.attach(wire.connection)
    written = io.BytesIO()
    with records.write(written), caplog.at_level(logging.INFO, logger="turnout.cancel"):
        wire.call(params={"name": HOSTILE}, label=HOSTILE).cancel("why")
        asked = wire.ask(name=HOSTILE)
        wire.take(request(2, "notifications/cancelled"), _cancelled(asked))
    for line in caplog.messages:
        assert line.isprintable(), line
        assert "'\\x1b[31mred\\r\\nINFO forged" in line
    assert len(caplog.messages) == 2
    assert caplog.messages[0].endswith("\\u202eline') cancelled by caller: why")
    lines = written.getvalue().splitlines()
    assert [json.loads(line)["target"] for line in lines] == [HOSTILE, HOSTILE]
    assert [json.loads(line)["label"] for line in lines] == [HOSTILE, None]
    assert b"\x1b" not in written.getvalue()
    assert repr(asked.record).isprintable()
    assert "red" in repr(asked.record)


def _cancelled(asked):
    return (
        json.dumps(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": asked.id}}
        ).encode()
        + b"\n"
    )


def test_records_are_found_by_target_and_label():
    wire = Wire()
    records = turnout.Records(wire.connection.ledger)
    for name, label in [("a", "one"), ("b", "one"), ("a", None)]:
        wire.take(result(wire.call(params={"name": name}, label=label).id))
    found = [(record.target, record.label) for record in records.query(target="a")]
    assert found == [("a", "one"), ("a", None)]
    assert [record.target for record in records.query(label="one")] == ["a", "b"]
    assert records.query(principal="ada") == []


@both_loops
async def test_a_relay_says_on_whose_behalf_and_what_each_server_calls_it(caplog):
    async with World() as world:
        world.build(
            world.upstream(name="a"),
            world.upstream(name="b"),
            routes=[turnout.Route("a", "tools/call", prefix="a_", strip=True), turnout.Route("b")],
        )
        ada, nobody = await world.client(principal="ada"), await world.client()
        for client, name in [(ada, "a_echo"), (ada, "b_echo"), (nobody, "a_echo")]:
            await client.send("tools/call", {"name": name, "arguments": {}})
        records = world.gateway.records.query(method="tools/call")
        assert [(record.principal, record.target) for record in records] == [
            ("ada", "a_echo"),
            ("ada", "b_echo"),
            (None, "a_echo"),
        ]
        legs = [leg for record in records for leg in record.legs]
        assert [(leg.principal, leg.target) for leg in legs] == [
            ("ada", "echo"),
            ("ada", "b_echo"),
            (None, "echo"),
        ]
        assert records[0].as_dict()["legs"][0]["principal"] == "ada"
        assert world.gateway.records.query(principal="ada", method="tools/call") == records[:2]

        waits = ada.send("tools/call", {"name": "a_echo", "arguments": {"wait": True}})
        await world.until(lambda: world.handled == 1)
        with caplog.at_level(logging.INFO, logger="turnout.cancel"):
            waits.cancel("enough")
            await world.quiet()
        assert "tools/call 'a_echo' with client for 'ada' cancelled by peer: enough" in caplog.text


@both_loops
async def test_what_a_relay_asks_for_a_principal_itself_has_it_too():
    async with World() as world:
        world.build(
            world.upstream(name="a"),
            world.upstream(name="b"),
            routes=[turnout.Route("a", "tools/call", prefix="a_"), turnout.Route("b")],
        )
        client = await world.client(principal=("ada", 7))
        await client.send("tools/list")
        [record] = world.gateway.records.query(method="tools/list")
        assert [record.principal, *(leg.principal for leg in record.legs)] == ["('ada', 7)"] * 3


@both_loops
async def test_the_principal_of_a_client_that_is_asked_is_that_of_the_leg():
    async with World() as world:
        world.build(world.upstream(sharing="per_client"))
        client = await world.client(principal="ada")
        client.on_request("sampling/createMessage")(lambda _: {"model": "m"})
        await client.send("tools/call", {"name": "echo", "arguments": {"ask": True, "who": "me"}})
        [record] = world.gateway.records.query(method="sampling/createMessage")
        assert [leg.principal for leg in record.legs] == ["ada"]
        assert record.principal is None
