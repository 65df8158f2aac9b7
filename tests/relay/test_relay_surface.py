"""What a relay is to its user, and that its parts face downward."""

from __future__ import annotations

import types

import turnout
from loops import both_loops
from relay_world import World
from turnout.handlers import Hooks

PUBLIC = {
    "attach",
    "clients",
    "close",
    "counters",
    "detach",
    "forward",
    "in_flight",
    "on_status",
    "queued",
    "renew",
    "routes",
    "start",
    "status",
    "trace",
    "update",
    "upstreams",
}


def test_a_relay_shows_what_its_user_calls_and_nothing_else():
    hooks = {name for name in dir(Hooks) if not name.startswith("_")}
    shown = {name for name in dir(turnout.Relay) if not name.startswith("_")}
    assert shown - hooks == PUBLIC


def parts_of(thing):
    """The objects of the relay's own modules that an object holds, at any depth."""
    found, held = [], [thing]
    while held:
        part = held.pop()
        if isinstance(part, dict):
            held += [*part, *part.values()]
        elif isinstance(part, (list, tuple, set)):
            held += part
        elif type(part).__module__.startswith("turnout.relay") and not any(part is one for one in found):
            found.append(part)
            held += getattr(part, "__dict__", {}).values()
    return found


@both_loops
async def test_no_part_of_a_relay_holds_the_relay():
    async with World() as world:
        relay = world.build()
        await (await world.client()).send("tools/call", {"name": "x"})
        parts = parts_of(relay)
        assert len(parts) > 15
        held = [type(part).__name__ for part in parts if any(value is relay for value in vars(part).values())]
        assert not [name for name in held if name != "Relay"]
        assert isinstance(relay.forward, types.MethodType)
