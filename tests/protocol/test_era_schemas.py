"""Every message that the relay or `serve_handshake` makes or translates is valid in the revision of who reads it.

By the protocol's own JSON schemas, for every pair of revisions; those without a schema are held to the one of
2025-11-25, which has all that they have. `make test` fetches the schemas; where they are not there, this file says so
and is skipped.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os

import pytest

import schemas
import turnout
from era_world import META, MODERN, REVISIONS, Client, Relayed, Server
from loops import both_loops

pytest.importorskip("jsonschema")

UNKNOWN = "no/such"
"""A method of no revision: it is passed on as it is."""

PAIRS = list(itertools.product(REVISIONS, REVISIONS))


@pytest.fixture(autouse=True)
def _need_schemas():
    missing = [revision for revision in schemas.DIGESTS if not schemas.is_there(revision)]
    if missing:
        why = (
            f"the schemas of {', '.join(missing)} are not there; fetch them by `python tests/kit/schemas.py`"
        )
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def keys_in(value):
    """Every key of every `_meta` in a message."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if key == "_meta" and isinstance(inside, dict):
                yield from inside
            yield from keys_in(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from keys_in(inside)


def check_side(end, *, asked, probe=None):
    """Check everything that an end was sent.

    Args:
        end: the end.
        asked: the methods of its own requests, by their ids.
        probe: the one request of the other era, if there was one, by which it was found out of which era the end is.

    """
    schema = schemas.schema_of(end.revision)
    for message in end.read:
        if message is probe:
            schemas.schema_of("2025-11-25" if end.is_modern else MODERN).request(message)
            continue
        if "method" not in message:
            schema.response(asked[message["id"]], message)
        elif "id" in message:
            if message["method"] != UNKNOWN:
                schema.request(message)
        else:
            schema.notification(message)
        if not end.is_modern:
            assert not turnout._native.ERA_KEYS & set(keys_in(message)), message
        if end.revision == "2024-11-05" and message.get("method") == "notifications/progress":
            assert "message" not in message["params"], "PRG-06"


def check(world):
    """Check what every end of a world was sent."""
    for client in world.clients:
        check_side(client, asked=client.methods)
    for server in world.servers:
        probe = "initialize" if server.is_modern else "server/discover"
        first = server.read[0] if server.read[0].get("method") == probe else None
        check_side(server, asked={"e": "elicitation/create"}, probe=first)


async def ask_for_everything(client, *, private):
    """Use everything that a server offers; gives the results by their methods."""
    results = {}

    async def ask(method, params=None, **options):
        answer = await client.send(method, params, **options)
        results[method] = answer.get("result", answer.get("error"))

    await ask("tools/list")
    await ask("prompts/list")
    await ask("resources/list")
    await ask("resources/templates/list")
    await ask("resources/read", {"uri": "x:y"})
    await ask("prompts/get", {"name": "p"})
    await ask(
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": ""}},
    )
    results["nothing"] = (await client.send("resources/read", {"uri": "x:none"}))["error"]
    await ask("tools/call", {"name": "plain"}, meta={"progressToken": "t"})
    asked = await client.call_and_come_back({"name": "ask"})
    results["ask"] = asked.get("result", asked.get("error"))
    if client.is_modern:
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["x:y"]}
        client.ask("subscriptions/listen", {"notifications": wanted})
        heard = "notifications/resources/updated"
        await client.until(lambda: any(message.get("method") == heard for message in client.read))
    else:
        await ask("ping")
        await ask("resources/subscribe", {"uri": "x:y"})
        heard = "notifications/resources/updated"
        await client.until(lambda: any(message.get("method") == heard for message in client.read))
        await ask("logging/setLevel", {"level": "error"})
        client.write(method="notifications/roots/list_changed")
    results["unknown"] = (await client.send(UNKNOWN))["error"]
    return results


@pytest.mark.parametrize("sharing", ["shared", "per_client"])
@pytest.mark.parametrize(("client", "server"), PAIRS)
@both_loops
async def test_e1_e2_e3_each_side_gets_messages_of_its_own_revision(client, server, sharing):
    async with Relayed(server, sharing=sharing) as world:
        end = await world.client(client)
        opened = (await end.open_connection())["result"]
        results = await ask_for_everything(end, private=sharing == "per_client")
        for one in world.servers:
            one.write(method="notifications/tools/list_changed")
            one.write(method="notifications/message", params={"level": "error", "data": "x"})
            one.write(method="notifications/elicitation/complete", params={"elicitationId": "e"})
        await end.send("tools/call", {"name": "plain"})
        check(world)

        assert [tool["name"] for tool in results["tools/list"]["tools"]] == ["plain", "own"]
        assert results["nothing"]["code"] == (-32602 if MODERN in (client, server) else -32002)
        assert results["unknown"]["code"] == -32601
        progress = [one for one in end.read if one.get("method") == "notifications/progress"]
        assert [one["params"]["progressToken"] for one in progress] == ["t"]
        if client == MODERN and server != MODERN:
            for method in ("tools/list", "prompts/list", "resources/list", "resources/read"):
                assert results[method]["ttlMs"] == 0, method
                assert results[method]["cacheScope"] == "private", method
        if client == MODERN == server:
            listed = results["tools/list"]
            # Another client's own server may say otherwise.
            scope = "public" if sharing == "shared" else "private"
            assert (listed["ttlMs"], listed["cacheScope"]) == (5000, scope)
        if server == MODERN or sharing == "per_client":
            assert "accept" in json.dumps(results["ask"]), results["ask"]
        assert ("tasks" in opened["capabilities"]) == (MODERN not in (client, server))


@pytest.mark.parametrize("sharing", ["shared", "per_client"])
@pytest.mark.parametrize("client", REVISIONS)
@both_loops
async def test_e1_lists_merged_from_servers_of_both_eras_are_of_the_clients_revision(client, sharing):
    made = itertools.count()

    def make(_, name):
        return Server(REVISIONS[-1 - next(made) % 2], name)

    routes = [
        turnout.Route(f"up{number}", method=method, prefix=f"up{number}_", strip=True)
        for number in (0, 1)
        for method in ("tools/call", "prompts/get")
    ]
    routes += [
        turnout.Route("up0", method="resources/read", prefix="x:"),
        turnout.Route("up1", method="resources/read", prefix="y:"),
    ]
    async with Relayed(None, upstreams=2, make=make, routes=routes, sharing=sharing) as world:
        end = await world.client(client)
        await end.open_connection()
        assert {server.revision for server in world.servers} == {MODERN, "2025-11-25"}
        tools = (await end.send("tools/list"))["result"]
        assert [tool["name"] for tool in tools["tools"]] == [
            "up0_plain",
            "up0_own",
            "up1_plain",
            "up1_own",
        ]
        for method in ("prompts/list", "resources/list", "resources/templates/list"):
            assert "result" in await end.send(method)
        for number in (0, 1):
            assert "result" in await end.send("tools/call", {"name": f"up{number}_plain"})
        for method, params in (
            ("tools/call", {"name": "up2_plain"}),
            ("prompts/get", {"name": "none"}),
            ("resources/read", {"uri": "z:z"}),
        ):
            assert "error" in await end.send(method, params)
        check(world)
        if client == MODERN:
            assert (tools["ttlMs"], tools["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("client", REVISIONS)
@both_loops
async def test_e2_what_a_native_server_answers_is_of_the_clients_revision(client):
    async with turnout.Router() as router:
        turnout.serve_handshake(
            router,
            name="native",
            capabilities={
                "tools": {},
                "tasks": {"list": {}},
                "extensions": {f"{META}tasks": {}, "x.y/z": {}},
            },
            instructions="do",
        )

        @router.on_request("tools/list")
        async def tools(request):
            return {"tools": []}

        @router.on_request("resources/read")
        async def read(request):
            if request.params["uri"] != "x:y":
                raise turnout.RequestError(-32002, "Resource not found", {"uri": request.params["uri"]})
            return {"contents": [], **({"ttlMs": 7} if request.peer.revision == MODERN else {})}

        @router.on_request("tools/call")
        def call(request):
            request.progress(1, total=2, message="half")
            return {"content": []}

        for opens in (True, False):
            near, far = turnout.memory()
            end = Client(client)
            await asyncio.gather(router.connect(far, era=None), end.open(near))
            if opens or not end.is_modern:
                opened = (await end.open_connection())["result"]
                assert ("tasks" in opened["capabilities"]) == (client != MODERN)
                assert list(opened["capabilities"]["extensions"]) == (
                    [f"{META}tasks", "x.y/z"] if client == MODERN else ["x.y/z"]
                )
            for method, params in (
                ("tools/list", None),
                ("resources/read", {"uri": "x:y"}),
                ("resources/read", {"uri": "x:none"}),
                ("tools/call", {"name": "x"}),
                (UNKNOWN, None),
            ):
                await end.send(method, params, meta={"progressToken": 1})
            check_side(end, asked=end.methods)
            if end.is_modern:
                read = next(one["result"] for one in end.read if "contents" in one.get("result", {}))
                assert (read["ttlMs"], read["cacheScope"]) == (7, "private")
            end.transport.abort()


@pytest.mark.parametrize("native", [True, False], ids=["native", "relay"])
@both_loops
async def test_e5_refusals_of_an_era_are_as_its_schema_has_them(native):
    async with Relayed("2025-11-25") as world:
        if native:
            turnout.serve_handshake(world.gateway, name="native")
            near, far = turnout.memory()
            end = Client(MODERN)
            await asyncio.gather(world.gateway.connect(far, era=None), end.open(near))
            world.clients.append(end)
        else:
            end = await world.client(MODERN)
        schema = schemas.schema_of(MODERN)
        end.revision = "2027-01-01"
        answer = await end.send("tools/list")
        schema.check("UnsupportedProtocolVersionError", answer)
        assert answer["error"]["data"] == {"supported": list(REVISIONS[::-1]), "requested": "2027-01-01"}
        end.revision = MODERN
        assert "result" in await end.open_connection()
        end.revision = "2027-01-01"
        answer = await end.send("tools/list")
        schema.check("UnsupportedProtocolVersionError", answer)
        assert answer["error"]["data"] == {"supported": [MODERN], "requested": "2027-01-01"}
        end.revision = MODERN
        answer = await end.send("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}})
        schema.check("UnsupportedProtocolVersionError", answer)
        assert answer["error"]["data"] == {"supported": [MODERN], "requested": "2025-11-25"}
        end.is_modern = False
        for meta in (None, {f"{META}protocolVersion": MODERN}, {f"{META}clientCapabilities": {}}):
            answer = await end.send("tools/list", meta=meta)
            assert answer["error"]["code"] == -32602
            schema.check("JSONRPCErrorResponse", answer)
