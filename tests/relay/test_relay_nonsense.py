"""What peers send to a relay where something else should stand: it is answered, and no fault of ours."""

from __future__ import annotations

import json
import logging

import pytest

import turnout
from relay_world import World

METHODS = (
    "initialize",
    "server/discover",
    "tools/list",
    "completion/complete",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "subscriptions/listen",
)
NONSENSE = (
    None,
    [],
    [1],
    {"_meta": []},
    {"cursor": {}, "ref": [], "uri": 7, "level": [], "notifications": [1]},
    {"ref": {"type": [], "name": {}}, "notifications": {"resourceSubscriptions": 7}, "clientInfo": 7},
    {"ref": {"type": "ref/prompt"}, "capabilities": [], "_meta": {"progressToken": {}}},
)


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_client_that_sends_nonsense_is_answered(on_loop, caplog, era):
    async def main():
        async with World() as world:
            routes = [
                turnout.Route("a", "tools/call", prefix="a_"),
                turnout.Route("b", "tools/call", prefix="b_"),
                turnout.Route("a", "prompts/get", prefix="a_"),
                turnout.Route("b", None),
            ]
            world.servers.on_request("tools/list")(lambda _: {"tools": [7, {"name": 7}, {"name": "a_x"}]})
            world.build(world.upstream(name="a"), world.upstream(name="b"), routes=routes)
            client = await world.raw()
            if era == "modern":
                meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
                line = {"jsonrpc": "2.0", "id": 0, "method": "server/discover", "params": {"_meta": meta}}
                client.transport.write(json.dumps(line).encode() + b"\n")
                await client.until(lambda: client.lines)
            owed = set()
            for method in METHODS:
                if (era, method) == ("modern", "initialize"):
                    continue
                for params in NONSENSE:
                    number = len(owed) + 1000 * len(method)
                    line = {"jsonrpc": "2.0", "id": number, "method": method}
                    line |= {} if params is None else {"params": params}
                    client.transport.write(json.dumps(line).encode() + b"\n")
                    if (era, method) != ("modern", "subscriptions/listen"):
                        owed.add(number)
            await client.until(lambda: owed <= {json.loads(line).get("id") for line in client.lines})
            answered = [json.loads(line) for line in client.lines]
            faults = [one for one in answered if one.get("error", {}).get("message") == "Internal error"]
            assert faults == []

    with caplog.at_level(logging.ERROR, "turnout"):
        on_loop(main())
    assert caplog.messages == []
