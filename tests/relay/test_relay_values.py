"""Legal JSON of every kind behind a relay: what is merged, asked and told on keeps its bytes (J3, J4)."""

from __future__ import annotations

import pytest

import turnout
from loops import both_loops
from relay_inputs import SAMPLE, ask, modern
from relay_lists import PREFIXED, tools
from relay_world import World

ODD = {
    "surrogate": rb'"cut \ud83d"',
    "1e999": b"[1e999,-1E+999]",
    "long integers": b'{"maximum":123456789012345678901234567890,"n":%b}' % (b"7" * 5000),
    "forms of numbers": b"[1.0,1E5,-0.0,1e-999,0.1000000000000000055511151231257827]",
    "spelling": rb'{ "a" : "\/\u0041" ,"a":null, "b":[ ] }',
}


def lists(items, more=b""):
    """Prepares a server that lists these items."""

    def prepare(peer):
        @peer.on_request("tools/list")
        async def answer(request):
            return b'{"tools":[%b]%b}' % (b",".join(items), more)

    return prepare


async def listed(world, items, more=b""):
    """The bytes of the merged list of a server with these items and one with a plain one."""
    world.build(world.server("a", lists(items, more)), world.server("b", tools("ok")), routes=PREFIXED)
    client = await world.client()
    return client, await client.send("tools/list").raw()


@pytest.mark.parametrize("what", ODD)
@both_loops
async def test_j4_items_of_a_merged_list_keep_their_bytes(what):
    async with World() as world:
        item = b'{"title": %b ,"name":"t", "inputSchema":%b}' % (ODD[what], ODD[what])
        _, raw = await listed(world, [item])
        assert raw.startswith(b'{"tools":[%b,' % item.replace(b'"t"', b'"a_t"'))
        assert [tool["name"] for tool in turnout.json.loads(raw)["tools"]] == ["a_t", "b_ok"]
        await world.quiet()


@pytest.mark.parametrize(
    "item",
    [
        b"null",
        b'"s"',
        b"[]",
        b'{"title":"x"}',
        b'{"name":5}',
        b'{"name":1e999}',
        b'{"name":"x","name":"y"}',
        b'{"name":"x","Name":"y"}',
        rb'{"name":"x","\u004eame":"y"}',
        b'{"Name":"y"}',
    ],
)
@both_loops
async def test_j4_an_item_that_readers_name_differently_is_left_out_alone(item):
    async with World() as world:
        _, raw = await listed(world, [item, b'{"name":"t"}'])
        assert [tool["name"] for tool in turnout.json.loads(raw)["tools"]] == ["a_t", "b_ok"]


@pytest.mark.parametrize(
    ("name", "called"),
    [(rb'"cut\ud83d"', "a_cut\ud83d"), (rb'"\u0074\/x"', "a_t/x"), (b'"a\\u0000b"', "a_a\0b"), (b'""', "a_")],
)
@both_loops
async def test_j4_a_name_of_any_text_is_listed(name, called):
    async with World() as world:
        _, raw = await listed(world, [b'{"name":%b}' % name])
        assert [tool["name"] for tool in turnout.json.loads(raw)["tools"]] == [called, "b_ok"]


@both_loops
async def test_j4_a_cursor_of_any_text_leads_on():
    async with World() as world:
        seen = []

        def prepare(peer):
            @peer.on_request("tools/list")
            async def answer(request):
                seen.append(request.raw_params)
                return rb'{"tools":[],"nextCursor":"cut \ud83d"}'

        world.build(world.server("a", prepare), world.server("b", tools("ok")), routes=PREFIXED)
        client = await world.client()
        first = await client.send("tools/list")
        params = b'{"cursor":%b,"_meta":{"own":1E5}}' % turnout.json.dumps(first["nextCursor"])
        await client.send("tools/list", params, progress=False)
        asked = dict(turnout.json.members(seen[1]))
        assert asked["cursor"] == rb'"cut \ud83d"'
        assert b'"own":1E5' in asked["_meta"]


ERRORS = {
    "surrogate": rb'{"code":-32000,"message":"cut \ud83d"}',
    "surrogate as data": rb'{"code":-32000,"message":"no","data":"cut \ud83d"}',
    "code beyond 64 bits": b'{"code":99999999999999999999,"message":"no"}',
    "code of 5,000 digits": b'{"code":%b,"message":"no"}' % (b"7" * 5000),
    "1e999 as data": b'{"code":-32000,"message":"no","data":[1e999]}',
}


def fails(error):
    """Prepares a server that answers lists with an error, whose bytes are the test's."""

    def prepare(peer):
        @peer.on_request("tools/list")
        async def answer(request):
            plain = turnout.json.loads(error)
            raise turnout.RequestError(plain["code"], plain["message"], plain.get("data"))

    return prepare


@pytest.mark.parametrize("what", ERRORS)
def test_j1_the_error_of_the_only_server_of_a_list_reaches_the_client_exactly(on_loop, what, caplog):
    async def main():
        async with World() as world:
            world.build(world.server("a", fails(ERRORS[what])), routes=PREFIXED[:1])
            client = await world.client()
            with pytest.raises(turnout.RemoteError) as caught:
                await client.send("tools/list", timeout=10)
            error = {"code": caught.value.code, "message": caught.value.message}
            if caught.value.data is not None:
                error["data"] = caught.value.data
            assert turnout.json.dumps(error) == ERRORS[what]
            await world.quiet()

    on_loop(main())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].isprintable(), "what a log takes"
    assert len(caplog.messages[0]) < 300


ELICIT = b'{"method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"odd": %b}}}'


def needs(world, told, odd):
    """Makes the servers' tool ask for input with odd values, once."""

    @world.servers.on_request("tools/call")
    async def call(request):
        told.append(request.raw_params)
        if len(told) == 1:
            wanted = b'{"key \\udfff":%b}' % (ELICIT % odd)
            return b'{"resultType":"input_required","requestState":"s","inputRequests":%b}' % wanted
        return {"resultType": "complete"}


@pytest.mark.parametrize("what", ODD)
@both_loops
async def test_j3_what_a_server_asks_for_and_what_its_client_says_keep_their_bytes(what):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        told, asked = [], []
        needs(world, told, ODD[what])

        @world.clients.on_request("elicitation/create")
        async def elicit(request):
            asked.append(dict(turnout.json.members(request.raw_params))["requestedSchema"])
            return b'{"action":"accept","content":{"odd": %b}}' % ODD[what]

        world.clients.implementation.capabilities["elicitation"] = {}
        client = await world.client()
        await client.send("tools/call", {"name": "x"}, timeout=10)
        assert asked == [b'{"odd": %b}' % ODD[what]]
        said = dict(turnout.json.members(told[1]))["inputResponses"]
        ((key, answer),) = turnout.json.members(said)
        assert key == "key \udfff"
        assert dict(turnout.json.members(answer))["content"] == b'{"odd": %b}' % ODD[what]
        await world.quiet()


@pytest.mark.parametrize("what", ERRORS)
@both_loops
async def test_j3_a_client_that_answers_with_an_odd_error_is_answered(what):
    async with World() as world:
        world.build(world.upstream(era="modern"))
        needs(world, [], b"1")

        @world.clients.on_request("elicitation/create")
        async def elicit(request):
            plain = turnout.json.loads(ERRORS[what])
            raise turnout.RequestError(plain["code"], plain["message"], plain.get("data"))

        world.clients.implementation.capabilities["elicitation"] = {}
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "x"}, timeout=10)
        assert caught.value.data["reason"] == "input_refused"
        await world.quiet()


@pytest.mark.parametrize("params", [b"5", b'"x"', b"[1]", b'{"mode":{}}', b'{"mode":1e999}', b'{"mode":[1]}'])
@both_loops
async def test_j3_a_server_that_asks_with_params_that_are_none_is_refused(params):
    async with World() as world:
        world.build(world.upstream(era="modern"))

        @world.servers.on_request("tools/call")
        async def call(request):
            wanted = b'{"a":{"method":"elicitation/create","params":%b}}' % params
            return b'{"resultType":"input_required","requestState":"s","inputRequests":%b}' % wanted

        world.clients.implementation.capabilities["elicitation"] = {}
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "x"}, timeout=10)
        assert caught.value.data["reason"] == "invalid_answer"
        await world.quiet()


@pytest.mark.parametrize("what", ODD)
@both_loops
async def test_j3_what_a_suspended_server_asks_and_is_told_keeps_its_bytes(what):
    async with World() as world:
        client = await modern(world)
        told = []

        @world.servers.on_request("tools/call")
        async def call(request):
            told.append(await request.send(SAMPLE, b'{"odd": %b}' % ODD[what]).raw())
            return {}

        asked = await ask(client)
        ((key, wanted),) = asked["inputRequests"].items()
        assert wanted["params"] == turnout.json.loads(b'{"odd": %b}' % ODD[what])
        answer = b'{"content":{"odd": %b}}' % ODD[what]
        state = turnout.json.dumps(asked["requestState"])
        responses = b"{%b:%b}" % (turnout.json.dumps(key), answer)
        members = b'{"name":"x","inputResponses":%b,"requestState":%b}' % (responses, state)
        await client.send("tools/call", members, timeout=10)
        assert told == [answer]


def test_members_are_taken_apart_and_put_together():
    spliced = turnout.json.with_member(b'{"uri":"x", "more" : 1E5 }', "uri", b'"y"')
    assert spliced == b'{"uri":"y", "more" : 1E5 }'
    for broken in (b"{}", b"[]", b'{"uri":1,"uri":2}', rb'{"uri":1,"\u0075ri":2}'):
        with pytest.raises(ValueError, match="one member"):
            turnout.json.with_member(broken, "uri", b"1")
    cut = rb'{"\ud83d":1,"\ud800":2,"\ufffd":3}'
    assert turnout.json.with_member(cut, "\ud800", b"4") == rb'{"\ud83d":1,"\ud800":4,"\ufffd":3}'
    assert turnout.json.with_member(cut, "\ufffd", b"4") == rb'{"\ud83d":1,"\ud800":2,"\ufffd":4}'
    assert turnout.json.members(b' {"a":1 , "a":[2]}') == [("a", b"1"), ("a", b"[2]")]
    assert turnout.json.members(b"[1]") is None
    assert turnout.json.items(b' [1 , {"a":2}]') == [b"1", b'{"a":2}']
    assert turnout.json.items(b"{}") is None
    assert turnout.json.joined({"a\ud83d": b"1E5", "b": b"[ ]"}) == b'{"a\\ud83d":1E5,"b":[ ]}'


def says(instructions, info=b'{"name":"x","version":"1"}'):
    """Prepares a server whose opening says this."""

    def prepare(peer):
        @peer.on_request("initialize")
        async def answer(request):
            return (
                b'{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":%b,"instructions":%b}'
                % (info, instructions)
            )

    return prepare


@pytest.mark.parametrize("value", [b"5", b"1e999", b"true", b"[1]", b'{"a":1}', b"null"])
@both_loops
async def test_j4_what_one_server_says_of_itself_does_not_keep_clients_from_the_others(value):
    async with World() as world:
        world.build(
            world.server("a", says(value, value)), world.server("b", says(b'"read"')), routes=PREFIXED
        )
        client = await world.client()
        assert client.instructions == "read"
        assert client.server_info["name"] == "gateway"


@pytest.mark.parametrize("value", [b"5", b"1e999", b"true", b"[1]", b'"x"'])
@both_loops
async def test_j4_a_server_without_a_name_of_its_own_is_told_of_under_the_relays(value):
    async with World() as world:
        world.build(world.server("a", says(b"5", value)))
        client = await world.client()
        assert client.instructions is None
        assert client.server_info["name"] == "gateway"


@pytest.mark.parametrize("life", [b"true", b"-5", b"1.5", b"1e999", b'"5"', b"null", b"[]"])
@both_loops
async def test_e1_a_merged_list_is_kept_no_longer_than_its_parts_say(life):
    async with World() as world:
        more = b',"resultType":"complete","cacheScope":"public","ttlMs":%b'
        world.build(
            world.server("a", lists([], more % life), era="modern"),
            world.server("b", lists([], more % b"7"), era="modern"),
            routes=PREFIXED,
        )
        client = await world.client(era="modern")
        raw = await client.send("tools/list").raw()
        assert dict(turnout.json.members(raw))["ttlMs"] == b"0"


@pytest.mark.parametrize("method", [b"5", b'"ping"', b"null", b'"tools/call"'])
@both_loops
async def test_a_server_asks_a_client_for_nothing_but_input(method):
    """Whatever the client says that it can do."""
    async with World() as world:
        world.build(world.upstream(era="modern"))

        @world.servers.on_request("tools/call")
        async def call(request):
            return b'{"resultType":"input_required","inputRequests":{"a":{"method":%b}}}' % method

        world.clients.implementation.capabilities[""] = {}
        client = await world.client()
        with pytest.raises(turnout.RemoteError) as caught:
            await client.send("tools/call", {"name": "x"}, timeout=10)
        assert caught.value.data["reason"] == "not_bridged"
        await world.quiet()


@pytest.mark.parametrize("tenants", [False, True])
@both_loops
async def test_e1_a_list_of_one_tenants_routes_is_not_shared_with_others(tenants):
    """Its servers may say what they like: they do not know who else the relay serves, and what else it shows them."""
    async with World() as world:
        more = b',"resultType":"complete","cacheScope":"public","ttlMs":7'
        own = [turnout.Route("c", "tools/call", prefix="c_", strip=True, principal="one")]
        world.build(
            *(world.server(name, lists([], more), era="modern") for name in "abc"),
            routes=[*PREFIXED, *(own if tenants else [])],
        )
        for principal in (None, "one", "other"):
            client = await world.client(era="modern", principal=principal)
            raw = await client.send("tools/list").raw()
            scope = dict(turnout.json.members(raw))["cacheScope"]
            assert scope == (b'"private"' if tenants else b'"public"')
