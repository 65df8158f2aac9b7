"""Interop over stdio with the SDK's own transport, and what a child's life and death mean to its calls."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

from mcp import Client, StdioServerParameters

from loops import both_loops, run
from turnout import mcp

SERVER = str(Path(__file__).parents[1].joinpath("kit", "sdk_server.py"))

PAIRS = {
    "ours with ours": lambda mode: mcp.connect_stdio(sys.executable, SERVER, mode=mode),
    "ours with stock": lambda mode: mcp.connect_stdio(sys.executable, SERVER, "stock", mode=mode),
    "stock with ours": lambda mode: Client(
        StdioServerParameters(command=sys.executable, args=[SERVER]), mode=mode
    ),
}


def text(result):
    return result.content[0].text


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("pair", PAIRS)
def test_trs_01_calls_progress_timeouts_and_cancels_cross_to_the_stock_transport(pair, mode):
    async def main():
        seen = []

        async def on_progress(progress, total, message):
            seen.append(progress)

        async with PAIRS[pair](mode) as client:
            sums = await asyncio.gather(*(client.call_tool("add", {"a": n, "b": 1}) for n in range(20)))
            assert [text(result) for result in sums] == [str(n + 1) for n in range(20)]
            assert (
                text(await client.call_tool("count", {"to": 3}, progress_callback=on_progress)) == "counted"
            )
            assert seen == [1, 2, 3]
            assert (await client.call_tool("fail", {})).is_error
            with pytest.raises(Exception, match="timed out"):
                await client.call_tool("wait", {}, read_timeout_seconds=0.2)
            waiting = asyncio.Event()

            async def on_waiting(*_):
                waiting.set()

            call = asyncio.ensure_future(client.call_tool("wait", {}, progress_callback=on_waiting))
            await waiting.wait()
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"

    run("asyncio", main())


@pytest.mark.parametrize("kind", ["stock", "ours"])
@both_loops
async def test_trs_10_leaving_reaps_the_child(kind):
    async with mcp.connect_stdio(sys.executable, SERVER, kind) as client:
        peer = client.session._dispatcher.peer
        pid = peer.link.transport.pid
        await client.call_tool("add", {"a": 1, "b": 1})
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert peer.connection.is_over
    assert not any(peer.entries().values())


@both_loops
async def test_x_07_a_server_that_dies_ends_its_calls():
    async with mcp.connect_stdio(sys.executable, SERVER, mode="legacy") as client:
        peer = client.session._dispatcher.peer
        other = asyncio.ensure_future(client.call_tool("wait", {}))
        with pytest.raises(mcp.Lost):
            await client.call_tool("die", {})
        with pytest.raises(mcp.Lost):
            await other
        with pytest.raises(mcp.Lost):
            await client.call_tool("add", {"a": 1, "b": 1})
        records = peer.router.records.query(outcome="peer_exited")
        assert [record.exit_code for record in records][-2:] == [-9, -9]


@both_loops
async def test_a_program_that_is_not_there_is_said_so_at_once():
    with pytest.raises(FileNotFoundError):
        async with mcp.connect_stdio("no-such-program-anywhere"):
            pass
