"""Tools that a route takes: lists and calls agree, natively, and nothing else is looked at."""

from __future__ import annotations

import pytest

import turnout
from loops import both_loops
from relay_world import World
from turnout import Route, Tools

NAMES = ("read_file", "read_secret", "write_file", "say")


def offers(*names):
    """Prepares a server that lists some names, and answers to every name."""

    def prepare(peer):
        able = {"tools": {}, "prompts": {}, "resources": {}}
        turnout.serve_handshake(peer, name="server", capabilities=able)
        for method, member, key in (
            ("tools/list", "tools", "name"),
            ("prompts/list", "prompts", "name"),
            ("resources/list", "resources", "uri"),
        ):

            @peer.on_request(method)
            async def answer(_, member=member, key=key):
                return {member: [{key: name} for name in names]}

        for method, key in (("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")):

            @peer.on_request(method)
            async def use(request, key=key):
                return {"used": request.params[key]}

    return prepare


async def listed(client, method="tools/list", member="tools", key="name"):
    return [item[key] for item in (await client.send(method))[member]]


async def is_usable(client, name):
    try:
        answer = await client.send("tools/call", {"name": name})
    except turnout.RemoteError as error:
        assert (error.code, error.message) == (-32602, f"Unknown tool: {name}")  # noqa: PT017
        assert error.data == {"reason": "unknown_name", "sent": False}  # noqa: PT017 - one of two answers
        return False
    return bool(answer)


FILTERS = [
    (Tools(["read_*"]), {"read_file", "read_secret"}),
    (Tools(["read_*", "say"], ["read_secret"]), {"read_file", "say"}),
    (Tools(deny=["read_secret"]), {"read_file", "write_file", "say"}),
    (Tools([]), set()),
    (Tools(["?a?"]), {"say"}),
    (Tools(["[rw]*"], ["*_secret"]), {"read_file", "write_file"}),
]


@pytest.mark.parametrize(("tools", "allowed"), FILTERS)
@pytest.mark.parametrize("prefix", ["", "f_"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_list_and_a_call_agree_on_every_tool(tools, allowed, prefix, era):
    async with World() as world:
        files = world.server("files", offers(*NAMES))
        if prefix:
            routes = [Route("files", "tools/call", prefix, strip=True, tools=tools)]
            routes += [Route("files", "prompts/get"), Route("files", "resources/read")]
        else:
            routes = [Route("files", tools=tools)]
        world.build(files, routes=routes)
        client = await world.client(era)
        assert await listed(client) == [prefix + name for name in NAMES if name in allowed]
        for name in NAMES:
            assert await is_usable(client, prefix + name) == (name in allowed), name
            assert not prefix or not await is_usable(client, name)
        assert await listed(client, "prompts/list", "prompts") == list(NAMES)
        assert await listed(client, "resources/list", "resources", "uri") == list(NAMES)
        assert (await client.send("prompts/get", {"name": "read_secret"}))["used"] == "read_secret"
        assert (await client.send("resources/read", {"uri": "read_secret"}))["used"] == "read_secret"


@both_loops
async def test_a_tool_that_no_list_names_is_decided_about_all_the_same():
    async with World() as world:
        world.build(
            world.server("files", offers()), routes=[Route("files", tools=Tools(["hidden_*"], ["*_x"]))]
        )
        client = await world.client()
        assert await listed(client) == []
        assert await is_usable(client, "hidden_one")
        for name in ("hidden_x", "other", ""):
            assert not await is_usable(client, name)


@both_loops
async def test_a_call_that_is_filtered_never_becomes_a_matter_of_pythons():
    async with World() as world:
        world.build(world.server("files", offers("say")), routes=[Route("files", tools=Tools(["say"]))])
        client = await world.client()
        before = world.relay.counters()
        for _ in range(5):
            assert await is_usable(client, "say")
            assert not await is_usable(client, "cry")
        after = world.relay.counters()
        assert after["to_host"] == before["to_host"]
        assert after["forwarded"] - before["forwarded"] == after["refused"] - before["refused"] == 5


@both_loops
async def test_a_name_that_is_spelled_with_escapes_is_the_same_name():
    async with World() as world:
        world.build(world.server("files", offers("say")), routes=[Route("files", tools=Tools(deny=["say"]))])
        client = await world.client()
        for spelled in (rb'"s\u0061y"', rb'"\u0073\u0061\u0079"'):
            with pytest.raises(turnout.RemoteError, match="Unknown tool"):
                await client.send("tools/call", b'{"name":%b}' % spelled)
        for params in (b'{"name":7}', b"{}", b'{"name":["say"]}'):
            with pytest.raises(turnout.RemoteError, match="Unknown tool"):
                await client.send("tools/call", params)
        with pytest.raises(turnout.RemoteError, match="twice"):
            await client.send("tools/call", b'{"name":"other","name":"say"}')


@both_loops
async def test_a_denied_name_falls_to_no_shorter_prefix():
    async with World() as world:
        deep = world.server("deep", offers("b"))
        wide = world.server("wide", offers("a_b", "c"))
        world.build(
            deep,
            wide,
            routes=[
                Route("deep", "tools/call", "a_", strip=True, tools=Tools(deny=["b"])),
                Route("wide", "tools/call"),
            ],
        )
        client = await world.client()
        assert await listed(client) == ["c"]
        assert await is_usable(client, "c")
        assert not await is_usable(client, "a_b")


@both_loops
async def test_each_principal_has_the_tools_of_its_own_routes():
    async with World() as world:
        routes = [
            Route("files", principal="ada", tools=Tools(["say"])),
            Route("files", tools=Tools(["write_file"])),
        ]
        world.build(world.server("files", offers(*NAMES)), routes=routes)
        ada, bob = await world.client(principal="ada"), await world.client(principal="bob")
        assert (await listed(ada), await listed(bob)) == (["say"], ["write_file"])
        assert await is_usable(ada, "say")
        assert not await is_usable(bob, "say")


@both_loops
async def test_an_update_of_the_tools_tells_clients_and_keeps_the_server():
    async with World() as world:
        files = world.server("files", offers(*NAMES))
        relay = world.build(files, routes=[Route("files", tools=Tools(["say"]))])
        client = await world.client()
        changed = []
        client.on_notification("notifications/tools/list_changed")(lambda _: changed.append("tools"))
        client.on_notification("notifications/prompts/list_changed")(lambda _: changed.append("prompts"))
        assert await listed(client) == ["say"]
        await relay.update(routes=[Route("files", tools=Tools(["read_file"]))])
        await world.until(lambda: changed)
        assert changed == ["tools"]
        assert await listed(client) == ["read_file"]
        assert not await is_usable(client, "say")
        # The same ones are no other ones.
        await relay.update(routes=[Route("files", tools=Tools(("read_file",)))])
        assert await is_usable(client, "read_file")
        assert (changed, world.started) == (["tools"], 1)


def test_tools_that_cannot_be_meant_are_refused():
    with pytest.raises(TypeError, match="allow is a list"):
        Tools("say")
    with pytest.raises(TypeError, match="deny is a list"):
        Tools(deny="say")
    with pytest.raises(TypeError):
        Tools([7])
    router = turnout.Router()
    near, _ = turnout.memory()
    one = turnout.Upstream(near, name="one")
    with pytest.raises(ValueError, match="a route for prompts/get takes no tools"):
        router.relay(one, routes=[Route("one", "prompts/get", tools=Tools())])
    with pytest.raises(ValueError, match="a handler answers tools/call"):
        router.relay(one, routes=[Route("one", tools=Tools())], local=["tools/call"])
    assert Tools(["a"]) == Tools(("a",))
    assert hash(Tools(["a"])) == hash(Tools(("a",)))
    assert Tools(["a*"]).allows("ab")
