"""`Client.call_tool` on turnout's transports: how it ends, and the record that tells what happened."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio

import sdk_server
import turnout
from loops import both_loops
from sdk_native import at_rest, connected, served, text, until
from turnout import mcp

ERAS = pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])


async def ignore(*_):
    return None


def record_of(router, **wanted):
    (record,) = router.records.query(method="tools/call", **wanted)
    return record


@ERAS
@both_loops
async def test_tmo_05_tmo_11_a_timeout_leaves_what_was_heard_before_it_on_record(mode):
    own = turnout.Router()
    async with connected(mode, router=own) as (client, peer, router):
        with pytest.raises(mcp.TimedOut) as caught:
            await client.call_tool("wait", {}, read_timeout_seconds=0.05, progress_callback=ignore)
        assert caught.value.error.code == -32001
        record = record_of(own)
        assert (record.outcome, record.cancelled_by, record.cancel_written) == (
            "max_timeout",
            "timeout",
            True,
        )
        assert (record.progress_accepted, record.token) == (1, record.id)
        assert (record.progress.progress, record.progress.message) == (1, "waits")
        await until(lambda: at_rest(peer, *router.peers))
        theirs = record_of(router, direction="inbound")
        assert (theirs.outcome, theirs.cancelled_by) == ("cancelled", "peer")
        await until(lambda: theirs.cleanup == "stopped")


@ERAS
@both_loops
async def test_tmo_09_progress_does_not_renew_what_the_sdk_calls_a_timeout(mode):
    """The SDK's `read_timeout_seconds` is for the whole request, however much is heard of it."""
    own = turnout.Router()
    heard = []

    async def on_progress(*update):
        heard.append(update)

    async with connected(mode, router=own) as (client, _, _):
        with pytest.raises(mcp.TimedOut):
            await client.call_tool("tick", {}, read_timeout_seconds=0.2, progress_callback=on_progress)
        record = record_of(own)
        assert record.outcome == "max_timeout"
        assert len(heard) == record.progress_accepted > 1


@ERAS
@both_loops
async def test_x_06_progress_and_the_result_are_on_record_in_both_roles(mode):
    own = turnout.Router()
    async with connected(mode, router=own) as (client, _, router):
        await client.call_tool("count", {"to": 7}, progress_callback=ignore)
        ours, theirs = record_of(own), record_of(router)
        assert (ours.direction, theirs.direction) == ("outbound", "inbound")
        assert ours.outcome == theirs.outcome == "result"
        assert ours.progress_accepted == theirs.progress_accepted == 7
        assert ours.progress.progress == theirs.progress.progress == 7
        assert ours.created <= ours.written <= ours.first_progress <= ours.last_progress <= ours.ended


@ERAS
@both_loops
async def test_prg_01_a_call_without_a_callback_asks_for_no_progress(mode):
    own = turnout.Router()
    async with connected(mode, router=own) as (client, _, router):
        await client.call_tool("count", {"to": 7})
        assert record_of(own).token is None
        assert record_of(router).token is None
        assert all(peer.counters()["progress_out"] == 0 for peer in router.peers)


@both_loops
async def test_x_07_five_ends_of_one_tool_are_told_apart():
    sdk_server.log.clear()

    own = turnout.Router()
    async with (
        served("unix") as (target, router),
        mcp.Client(target, mode="legacy", router=own) as client,
    ):
        assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"
        with pytest.raises(Exception, match="no such"):
            await client.read_resource("file:///no such")
        with pytest.raises(mcp.TimedOut):
            await client.call_tool("wait", {}, read_timeout_seconds=0.05)
        with anyio.move_on_after(0.05):
            await client.call_tool("wait", {})
        lost = asyncio.ensure_future(client.call_tool("wait", {}))
        await until(lambda: sdk_server.log.count("waits") == 3)
        next(iter(router.peers)).abort()
        with pytest.raises(mcp.Lost):
            await lost
    asked = [r for r in own.records if r.method in ("tools/call", "resources/read")]
    assert [(record.outcome, record.cancelled_by) for record in asked] == [
        ("result", None),
        ("error", None),
        ("max_timeout", "timeout"),
        ("cancelled", "caller"),
        ("peer_closed", None),
    ]
