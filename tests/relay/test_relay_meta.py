"""What of a `_meta` goes on (S1, E3): the same wherever a message crosses, natively or by Python."""

from __future__ import annotations

import json

import pytest

from loops import both_loops
from relay_by_hand import Played
from turnout import _native
from wire import MODERN, Raw, frame, notification, request, result

META = "io.modelcontextprotocol/"
ENVELOPE = {
    f"{META}protocolVersion": MODERN,
    f"{META}clientInfo": {"name": "c", "version": "1"},
    f"{META}clientCapabilities": {},
    f"{META}logLevel": "debug",
    f"{META}serverInfo": {"name": "another", "version": "0"},
}
OWN = {"progressToken": 77, f"{META}related-task": {"taskId": "another's"}}
SUBSCRIBED = {f"{META}subscriptionId": 77}
ITS = {"a/b": Raw("1.50"), "n": Raw("[ 1e999 ]")}
INFO = {"name": "s", "version": "1"}


async def opened(world, client_era, server_era, **options):
    """A client and a server of these eras, after both handshakes."""
    options = {"sharing": "per_client", **options}
    world.build(world.upstream(era=server_era, **options))
    client = await world.client()
    if client_era == "legacy":
        opens = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": INFO}
        client.say(request(0, "initialize", opens))
    else:
        client.say(request(0, "server/discover", {"_meta": ENVELOPE}))
    server = await world.server(0)
    asked = await server.hears_one()
    able = {"tools": {}, "logging": {}, "resources": {"subscribe": True}}
    if server_era == "legacy":
        assert asked["method"] == "initialize"
        said = {"protocolVersion": "2025-11-25", "capabilities": able, "serverInfo": INFO}
        server.say(result(asked["id"], said))
        assert (await server.hears_one())["method"] == "notifications/initialized"
    else:
        said = {"supportedVersions": [MODERN], "capabilities": able, "_meta": {f"{META}serverInfo": INFO}}
        server.say(
            result(asked["id"], {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **said})
        )
    assert (await client.hears_one())["id"] == 0
    if client_era == "legacy":
        client.say(notification("notifications/initialized"))
    return client, server


def meta_of(line, *path):
    """The `_meta` as it stands, without white space between its members."""
    value = line.encode()
    for member in (*path, "_meta"):
        value = dict(_native.members(value))[member]
    return {key: member.decode() for key, member in _native.members(value)}


AS_THEY_STAND = {"a/b": "1.50", "n": "[ 1e999 ]"}
ERAS = pytest.mark.parametrize("server_era", ["legacy", "modern"])


async def asked_by(world, client_era, server_era):
    """A call of the client's that wants progress, as the server sees it; gives both, and its id there."""
    client, server = await opened(world, client_era, server_era)
    meta = {"progressToken": "c", **({} if client_era == "legacy" else ENVELOPE)}
    client.say(frame(id="c", method="tools/call", params={"name": "t", "_meta": meta}))
    asked = await server.hears_one()
    while asked["method"] != "tools/call":
        asked = await server.hears_one()
    return client, server, asked["id"]


@ERAS
@both_loops
async def test_e3_s1_the_meta_of_progress_loses_what_is_another_sides(server_era):
    for client_era in ("legacy", "modern"):
        async with Played() as world:
            client, server, number = await asked_by(world, client_era, server_era)
            meta = {**ENVELOPE, **OWN, **SUBSCRIBED, **ITS}
            server.say(
                notification(
                    "notifications/progress", {"progressToken": number, "progress": 1, "_meta": meta}
                ),
                result(number, {"content": [], "resultType": "complete"}),
            )
            progress, answer = await client.hears(2)
            assert (progress["params"]["progressToken"], answer["id"]) == ("c", "c")
            keys = meta_of(client.lines[-2], "params")
            keeps = ENVELOPE if client_era == "modern" else {}
            assert keys.keys() == {*keeps, *ITS, f"{META}related-task"}
            assert {key: keys[key] for key in ITS} == AS_THEY_STAND


@ERAS
@both_loops
async def test_e3_s1_the_meta_of_a_result_loses_what_is_another_sides(server_era):
    for client_era in ("legacy", "modern"):
        async with Played() as world:
            client, server, number = await asked_by(world, client_era, server_era)
            meta = {**ENVELOPE, **OWN, **SUBSCRIBED, **ITS}
            server.say(result(number, {"content": [], "resultType": "complete", "_meta": meta}))
            assert (await client.hears_one())["id"] == "c"
            keys = meta_of(client.lines[-1], "result")
            keeps = {*ENVELOPE, *SUBSCRIBED} if client_era == server_era else set()
            assert keys.keys() == {*keeps, *ITS, f"{META}related-task"}
            assert {key: keys[key] for key in ITS} == AS_THEY_STAND
            # Where it goes on, it is the id that the client asked under.
            assert keys.get(f"{META}subscriptionId", '"c"') == '"c"'


@both_loops
async def test_e3_s1_the_meta_of_a_notification_loses_what_is_another_sides():
    async with Played() as world:
        client, server, _ = await asked_by(world, "legacy", "modern")
        meta = {**ENVELOPE, **OWN, **ITS}
        server.say(notification("notifications/message", {"level": "info", "data": 1, "_meta": meta}))
        assert (await client.hears_one())["method"] == "notifications/message"
        assert meta_of(client.lines[-1], "params") == {
            **AS_THEY_STAND,
            f"{META}related-task": '{"taskId":"another\'s"}',
        }


@both_loops
async def test_s1_what_python_tells_subscribers_keeps_what_its_server_says_of_it():
    async with Played() as world:
        client, server = await opened(world, "modern", "legacy", sharing="shared")
        wanted = {"resourceSubscriptions": ["x"]}
        client.say(
            frame(
                id="l",
                method="subscriptions/listen",
                params={"notifications": wanted, "_meta": ENVELOPE},
            )
        )
        asked = await server.hears_one()
        assert asked["method"] == "resources/subscribe"
        server.say(result(asked["id"]))
        assert (await client.hears_one())["method"] == "notifications/subscriptions/acknowledged"
        meta = {**ENVELOPE, **OWN, **ITS}
        server.say(notification("notifications/resources/updated", {"uri": "x", "_meta": meta}))
        assert (await client.hears_one())["method"] == "notifications/resources/updated"
        assert meta_of(client.lines[-1], "params") == {f"{META}subscriptionId": '"l"', **AS_THEY_STAND}


def test_s1_the_native_part_carries_the_rest_over_as_it_stands():
    meta = json.dumps({**ENVELOPE, **OWN, **SUBSCRIBED, "a": 1})
    said = f' {{"x" : 1.50, "_meta" :{meta},\r"y":[]}} '.encode()
    kept = json.loads(_native.carried_over(said, keeps_envelope=True))
    assert kept == {"x": 1.5, "_meta": {**ENVELOPE, "a": 1}, "y": []}
    assert _native.carried_over(said, keeps_envelope=False) == b'{"x" : 1.50, "_meta" :{"a": 1}, "y":[]}'
    for other in (b"{}", b"[]", b'{"_meta":7}', b'{"_meta":[]}'):
        assert _native.carried_over(other, keeps_envelope=False) == other
