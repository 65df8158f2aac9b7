"""Values of every kind through the SDK's client and server on turnout's transports: as exact as on its own (J5)."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import anyio
import pytest
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError

from loops import both_loops
from sdk_native import at_rest, connected, peer_of, text
from turnout import mcp

BIG = 123456789012345678901234567890


def server():
    made = MCPServer("values")

    @made.tool()
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    @made.tool()
    async def half() -> str:
        return "cut \ud83d"

    @made.tool()
    async def nothing() -> dict[str, float | None]:
        return {"nan": math.nan, "inf": math.inf}

    @made.tool()
    async def refuse() -> str:
        raise MCPError(-32000, "no \ud83d", data={"retry": {1, 2}, "when": math.nan})

    return made


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@both_loops
async def test_j5_integers_beyond_64_bits_are_exact_both_ways(mode):
    async with connected(mode, server=server()) as (client, peer, _):
        result = await client.call_tool("add", {"a": BIG, "b": -1})
        assert result.structured_content == {"sum": BIG - 1}
        assert at_rest(peer)


@both_loops
async def test_j5_integers_beyond_64_bits_are_exact_over_stdio():
    path = Path(__file__).parents[1].joinpath("kit", "sdk_server.py")
    async with mcp.connect_stdio(sys.executable, str(path)) as client:
        assert text(await client.call_tool("add", {"a": BIG, "b": 1})) == str(BIG + 1)
        assert (await client.call_tool("big", {})).structured_content == {"number": 1 << 70}
        assert at_rest(peer_of(client))


@both_loops
async def test_what_the_sdk_sends_as_null_is_null_here():
    async with connected("auto", server=server()) as (client, _, _):
        result = await client.call_tool("nothing", {})
        assert result.structured_content == {"nan": None, "inf": None}


@pytest.mark.parametrize("tool", ["half", "refuse", "no such tool \ud83d"])
@both_loops
async def test_j1_what_the_sdk_cannot_hold_ends_the_call_and_nothing_else(tool):
    async with connected("auto", server=server()) as (client, peer, _):
        with anyio.fail_after(10):
            try:
                result = await client.call_tool(tool, {})
            except (MCPError, ValueError):
                pass
            else:
                assert result.is_error or tool == "half"
            assert (await client.call_tool("add", {"a": 1, "b": 2})).structured_content == {"sum": 3}
        assert at_rest(peer)
