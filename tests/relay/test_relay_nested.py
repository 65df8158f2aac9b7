"""What a server needs, and what a client says to it, as messages of their own (S1, S2): rounds and suspended exchanges.

Where it stands inside a message it is payload. Hostile servers and clients put into it what a received message may not
have: keys that readers read differently, tokens and ids that are another side's.
"""

from __future__ import annotations

import json

import pytest

from loops import both_loops
from relay_by_hand import Played
from turnout import _native
from wire import MODERN, Raw, error, frame, notification, request, result

META = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{META}protocolVersion": MODERN,
    f"{META}clientInfo": {"name": "c", "version": "1"},
    f"{META}clientCapabilities": {"sampling": {}, "elicitation": {}},
}
FOREIGN = {
    "progressToken": 1,
    f"{META}subscriptionId": 1,
    f"{META}related-task": {"taskId": "another's"},
    **ENVELOPE,
}
SAMPLE = "sampling/createMessage"

HOSTILE = [
    '{"_meta":{"ProgressToken":1}}',
    '{"_meta":{"progressToken":1,"progressToken":2}}',
    r'{"_meta":{"progre\u017f\u017fToken":1}}',
    r'{"_meta":{"progressToken\u0000":1}}',
    r'{"\u005fmeta":{"progressToken":1}}',
    '{"_Meta":{"progressToken":1}}',
    '{"_meta":{},"_meta":{"progressToken":1}}',
    '{"task":{},"Task":{}}',
    "7",
    '"x"',
    "[]",
]


async def at_rest(world):
    """Nothing is in flight, and no table remembers anything."""
    for peer in world.gateway.peers:
        assert peer.in_flight == (0, 0), peer
        assert not any(peer.entries().values()), peer.entries()
    assert world.relay.in_flight == 0


# ---- rounds: a legacy client before a modern server ----


async def asked_in_rounds(world, params=None, **options):
    """A legacy client and a modern server that has its call; gives both, and the call as the server sees it."""
    world.build(world.upstream(era="modern", **options))
    client = await world.client()
    info = {"name": "c", "version": "1"}
    capabilities = {"sampling": {}, "elicitation": {"url": {}}}
    opens = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info}
    client.say(request(0, "initialize", opens))
    server = await world.server(0)
    asked = await server.hears_one()
    assert asked["method"] == "server/discover"
    offers = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
    offers["_meta"] = {f"{META}serverInfo": {"name": "s", "version": "1"}}
    server.say(result(asked["id"], {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **offers}))
    await client.hears_one()
    client.say(
        notification("notifications/initialized"),
        frame(id="c", method="tools/call", params=params or {"name": "t"}),
    )
    return client, server, await server.hears_one()


def needs(asked, *, state=None, **wanted):
    """The answer of a server that needs input first."""
    said = {"resultType": "input_required", **({} if state is None else {"requestState": state})}
    return result(asked["id"], {**said, **({"inputRequests": wanted} if wanted else {})})


SHARING = pytest.mark.parametrize("sharing", ["shared", "per_client"])


@SHARING
@pytest.mark.parametrize("method", [SAMPLE, "elicitation/create"])
@both_loops
async def test_s1_a_round_names_nothing_of_the_other_sides_in_either_direction(sharing, method):
    async with Played() as world:
        client, server, asked = await asked_in_rounds(world, sharing=sharing)
        params = {"task": {"ttl": 1}, "_meta": {**FOREIGN, "its": 2}, "n": Raw("1.50")}
        server.say(needs(asked, a={"method": method, "params": params}))
        question = await client.hears_one()
        assert (question["method"], question["params"]) == (method, {"_meta": {"its": 2}, "n": 1.5})
        client.say(result(question["id"], {"model": "m", "resultType": "x", "_meta": {**FOREIGN, "b": 1}}))
        again = await server.hears_one()
        assert again["params"]["inputResponses"] == {"a": {"model": "m", "_meta": {"b": 1}}}
        server.say(result(again["id"], {"resultType": "complete", "content": []}))
        assert (await client.hears_one())["id"] == "c"
        await at_rest(world)


@both_loops
async def test_s1_an_elicitation_by_url_has_the_relays_id_and_no_other():
    async with Played() as world:
        client, server, asked = await asked_in_rounds(world)
        params = {"mode": "url", "url": "x://y", "elicitationId": "another's", "_meta": FOREIGN}
        server.say(needs(asked, a={"method": "elicitation/create", "params": params}))
        question = (await client.hears_one())["params"]
        assert question.pop("elicitationId") not in ("another's", None)
        assert question == {"mode": "url", "url": "x://y", "_meta": {}}


@pytest.mark.parametrize("params", HOSTILE)
@both_loops
async def test_s2_what_a_server_needs_is_not_asked_for_where_readers_differ_on_it(params):
    async with Played() as world:
        client, server, asked = await asked_in_rounds(world)
        fine = {"method": SAMPLE, "params": {}}
        server.say(needs(asked, a=fine, b={"method": SAMPLE, "params": Raw(params)}))
        answer = await client.hears_one()
        assert answer["id"] == "c", "it is not asked for anything"
        assert answer["error"]["data"] == {"reason": "invalid_answer", "sent": True, "upstream": "one"}
        await world.settle(client, server)
        await at_rest(world)


@pytest.mark.parametrize("response", HOSTILE)
@both_loops
async def test_s2_a_server_is_not_told_what_readers_differ_on(response):
    async with Played() as world:
        client, server, asked = await asked_in_rounds(world)
        server.say(needs(asked, a={"method": SAMPLE, "params": {}}))
        question = await client.hears_one()
        client.say(result(question["id"], Raw(response)))
        answer = await client.hears_one()
        assert (answer["id"], answer["error"]["data"]["reason"]) == ("c", "input_refused")
        await world.settle(client, server)
        await at_rest(world)


@SHARING
@both_loops
async def test_mrt_04_mrt_05_a_round_has_one_state_and_one_set_of_answers(sharing):
    """What the client says of rounds by itself is of none that it was asked for."""
    async with Played() as world:
        own = {"n": 1, "inputResponses": {"x": {}}}
        if sharing == "per_client":
            own["requestState"] = "old"
        client, server, asked = await asked_in_rounds(world, own, sharing=sharing)
        for state, wanted in (("new", {}), ('2"', {"a": {"method": SAMPLE}}), (None, {}), ("3", {})):
            server.say(needs(asked, state=state, **wanted))
            said = {}
            if wanted:
                question = await client.hears_one()
                client.say(result(question["id"], {"model": "m"}))
                said["inputResponses"] = {"a": {"model": "m"}}
            if state is not None:
                said["requestState"] = state
            asked = await server.hears_one()
            del asked["params"]["_meta"]
            assert asked["params"] == {"n": 1, **said}
            assert server.lines[-1].count('"requestState"') == (state is not None)
            assert server.lines[-1].count('"inputResponses"') == bool(wanted)
        server.say(result(asked["id"], {"resultType": "complete", "content": []}))
        assert (await client.hears_one())["id"] == "c"
        await at_rest(world)


@both_loops
async def test_mrt_04_a_round_of_params_by_position_is_refused():
    async with Played() as world:
        client, server, asked = await asked_in_rounds(world, Raw("[1]"))
        server.say(needs(asked, state="s"))
        answer = await client.hears_one()
        assert (answer["id"], answer["error"]["data"]["reason"]) == ("c", "not_bridged")
        await world.settle(client, server)
        await at_rest(world)


# ---- suspended exchanges: a modern client before a legacy server of its own ----


async def suspended(world, **options):
    """A modern client before a legacy server of its own that asks it something.

    Gives both, the id of the client's call as the server sees it, what the client is to answer, and the state.
    """
    world.build(world.upstream(era="legacy", sharing="per_client", **options))
    client = await world.client()
    client.say(request("c", params={"_meta": ENVELOPE}))
    server = await world.server(0)
    asked = await server.hears_one()
    assert asked["method"] == "initialize"
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    server.say(result(asked["id"], info))
    _, asked = await server.hears(2)
    params = {"task": {"ttl": 1}, "elicitationId": "e", "_meta": {**FOREIGN, "its": 2}, "n": 1}
    server.say(request("q0", SAMPLE, params))
    answer = await client.hears_one()
    [(key, wanted)] = answer["result"]["inputRequests"].items()
    assert wanted == {"method": SAMPLE, "params": {"n": 1}}, "a round's params have no _meta"
    return client, server, asked["id"], key, answer["result"]["requestState"]


def back(id, state, **responses):
    """What a client comes back with."""
    said = {"requestState": state, "inputResponses": {key: Raw(raw) for key, raw in responses.items()}}
    return request(id, params={"_meta": ENVELOPE, **said})


@both_loops
async def test_s1_what_a_client_comes_back_with_names_nothing_of_its_side():
    async with Played() as world:
        client, server, number, key, state = await suspended(world)
        response = {"model": "m", "resultType": "complete", "n": 0, "_meta": {**FOREIGN, "mine": 1}}
        client.say(back("d", state, **{key: json.dumps(response)}))
        told = {"jsonrpc": "2.0", "id": "q0", "result": {"model": "m", "n": 0, "_meta": {"mine": 1}}}
        assert await server.hears_one() == told
        server.say(result(number, {"content": []}))
        assert (await client.hears_one())["id"] == "d"
        await at_rest(world)


@pytest.mark.parametrize("response", [*HOSTILE, "null", '{"resultType":"complete","ResultType":"x"}'])
@both_loops
async def test_s2_a_client_that_comes_back_with_what_readers_differ_on_may_come_again(response):
    async with Played() as world:
        client, server, number, key, state = await suspended(world)
        for attempt in range(3):
            client.say(back(attempt, state, **{key: response}))
            answer = await client.hears_one()
            assert (answer["id"], answer["error"]["code"]) == (attempt, -32602)
            assert answer["error"]["data"] == {"reason": "invalid_input"}
        assert not server.unread, "it is told nothing"
        client.say(back("e", state, **{key: '{"model":"m"}'}))
        assert (await server.hears_one())["result"] == {"model": "m"}
        server.say(result(number, {"content": []}))
        assert (await client.hears_one())["id"] == "e"
        await at_rest(world)


@both_loops
async def test_s2_of_several_answers_none_is_told_where_one_cannot_be():
    async with Played() as world:
        client, server, number, key, state = await suspended(world)
        server.say(request("q1", SAMPLE))
        keys = [key]
        while len(keys) < 2:
            # What it does not answer it is asked again, with what the server asked meanwhile.
            client.say(back("d", state))
            answer = (await client.hears_one())["result"]
            keys, state = list(answer["inputRequests"]), answer["requestState"]
        client.say(back("e", state, **{keys[0]: '{"n":0}', keys[1]: '{"_META":{}}'}))
        assert (await client.hears_one())["error"]["data"] == {"reason": "invalid_input"}
        assert not server.unread
        client.say(back("f", state, **{one: f'{{"n":{n}}}' for n, one in enumerate(keys)}))
        told = {one["id"]: one["result"] for one in await server.hears(2)}
        assert told == {"q0": {"n": 0}, "q1": {"n": 1}}
        server.say(error(number))
        assert (await client.hears_one())["id"] == "f"
        await at_rest(world)


@both_loops
async def test_s2_a_client_that_only_comes_back_with_such_has_no_more_time_than_any_other():
    async with Played() as world:
        client, server, _, key, state = await suspended(world, input_timeout=0.2)
        client.say(back("d", state, **{key: "7"}))
        assert (await client.hears_one())["error"]["data"] == {"reason": "invalid_input"}
        told, cancel = await server.hears(2)
        assert told["error"]["data"]["reason"] == "input_expired"
        assert cancel["method"] == "notifications/cancelled"
        client.say(back("e", state, **{key: "{}"}))
        assert (await client.hears_one())["error"]["data"] == {"reason": "input_expired"}


# ---- the native part, as Python has it ----


def test_s2_the_native_part_says_why_it_refuses():
    for makes in (_native.params_for, _native.result_for):
        assert makes("roots/list", b'{"a":\r1 , "_meta" :{"progressToken":7}}') == b'{"a": 1 , "_meta" :{}}'
        with pytest.raises(ValueError, match="it is no object"):
            makes("roots/list", b"[]")
        with pytest.raises(ValueError, match="stands there twice"):
            makes("roots/list", b'{"_meta":{},"_meta":"secret"}')
    assert _native.next_round(None, b"{}", None) == b'{"inputResponses":{}}'
    with pytest.raises(ValueError, match="no object"):
        _native.next_round(b"[]", None, None)
