"""What a client hears of a tool, a prompt or a resource that nobody here has, or not for it (E6)."""

from __future__ import annotations

import json

import pytest

import turnout
import wire
from loops import both_loops, run
from relay_world import World

ROUTES = [
    turnout.Route(name, method, prefix=prefix)
    for name in "ab"
    for method, prefix in (
        ("tools/call", f"{name}_"),
        ("prompts/get", f"{name}_"),
        ("resources/read", f"{name}:"),
    )
]
NAMED = [
    ("tools/call", "name", "c_x", "Unknown tool: c_x"),
    ("prompts/get", "name", "c_x", "Unknown prompt: c_x"),
    ("resources/read", "uri", "c:x", "Resource not found"),
]
LIMIT = turnout.LIMITS["max_text_bytes"]


def code_of(method, era):
    return -32002 if method.startswith("resources/") and era == "legacy" else -32602


async def refused(client, method, params):
    with pytest.raises(turnout.RemoteError) as caught:
        await client.send(method, params)
    return caught.value


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize(("method", "key", "name", "message"), NAMED)
@both_loops
async def test_e6_what_no_route_names_is_unknown_and_nobody_is_asked(method, key, name, message, era):
    async with World() as world:
        world.build(world.upstream(name="a"), world.upstream(name="b"), routes=ROUTES)
        client = await world.client(era)
        error = await refused(client, method, {key: name})
        assert (error.code, error.message) == (code_of(method, era), message)
        about = {"uri": name} if key == "uri" else {}
        assert error.data == {"reason": "unknown_name", "sent": False, **about}
        assert (await refused(client, method, {})).code == code_of(method, era)
        assert (await refused(client, method, {key: [name]})).code == code_of(method, era)
        assert world.relay.counters()["forwarded"] == 0


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize(("method", "key", "name", "message"), NAMED)
@both_loops
async def test_e6_what_is_anothers_is_as_unknown_as_what_is_nobodys(method, key, name, message, era):
    async with World() as world:
        routes = [turnout.Route("a", "tools/list"), turnout.Route("b", principal="bob")]
        routes += [turnout.Route("b", method, prefix=name, principal="bob")]
        world.build(world.upstream(name="a"), world.upstream(name="b"), routes=routes)
        ada = await world.client(era, principal="ada")
        bobs, nobodys = [await refused(ada, method, {key: one}) for one in (name, name[::-1])]
        assert bobs.message == message
        assert (bobs.code, bobs.message.replace(name, "")) == (
            nobodys.code,
            nobodys.message.replace(name[::-1], ""),
        )


@pytest.mark.parametrize(
    "name",
    [
        'c"}\n\x01\x1b[31m\x9b\u202e',
        "c\\u0022",
        "\ud83d",
        "c" * (LIMIT - 1),
        "c" * LIMIT,
        "c" * (LIMIT + 1),
        "c" * (LIMIT - 1) + "\u00e9",
    ],
    ids=["controls", "escapes", "surrogate", "below", "at", "above", "across"],
)
@pytest.mark.parametrize("handled", [True, False], ids=["handled", "native"])
@both_loops
async def test_e6_a_name_is_told_back_as_text_and_no_longer_than_the_limit(name, handled):
    async with World() as world:
        local = ["tools/call"] if handled else []
        world.build(world.upstream(name="a"), world.upstream(name="b"), routes=ROUTES, local=local)
        if handled:

            @world.relay.on_request("tools/call")
            async def call(request):
                await world.relay.forward(request)

        client = await world.raw()
        client.transport.write(wire.request(1, "tools/call", {"name": name}))
        await client.until(lambda: client.lines)
        [line] = client.lines
        assert "\x1b" not in line
        message = json.loads(line)["error"]["message"]
        told = message.removeprefix("Unknown tool: ")
        assert told != message
        assert len(told.encode()) <= LIMIT
        if name == "\ud83d":
            assert told in ("\ufffd", "?")
        else:
            assert told == name.encode()[:LIMIT].decode("utf-8", "ignore")


def test_e6_a_resource_that_nobody_has_is_not_subscribed_to():
    async def main():
        async with World() as world:
            world.build(world.upstream(name="a"), world.upstream(name="b"), routes=ROUTES)
            client = await world.client()
            for method in ("resources/subscribe", "resources/unsubscribe"):
                error = await refused(client, method, {"uri": "c:x"})
                assert (error.code, error.message, error.data["uri"]) == (-32002, "Resource not found", "c:x")

    run("asyncio", main())


def test_e6_a_method_that_is_about_no_name_is_not_found():
    async def main():
        async with World() as world:
            world.build(world.upstream(name="a"), world.upstream(name="b"), routes=ROUTES)
            client = await world.client()
            error = await refused(client, "no/such", {"name": "a_x"})
            assert (error.code, error.message) == (-32601, "Method not found")

    run("asyncio", main())


def test_e6_a_policy_before_it_changes_nothing():
    async def main():
        async with World() as world:
            world.build(world.upstream(name="a"), world.upstream(name="b"), routes=ROUTES)

            @world.relay.policy.decide("tools/call")
            async def look(_):
                return None

            error = await refused(await world.client(), "tools/call", {"name": "c_x"})
            assert (error.code, error.message) == (-32602, "Unknown tool: c_x")

    run("asyncio", main())
