"""The official SDK's clients and servers on turnout's own transports."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp import ClientSession, MCPError

import sdk_server
import turnout
from loops import both_loops
from sdk_native import at_rest, connected, peer_of, served, text, until
from turnout import mcp

# What the newest revision deprecates is still what the others have.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

ERAS = pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])


@ERAS
@pytest.mark.parametrize("transport", ["memory", "unix", "tcp"])
@both_loops
async def test_typed_calls_cross_every_transport_in_both_eras(mode, transport):
    async with connected(mode, transport) as (client, peer, router):
        results = await asyncio.gather(*(client.call_tool("add", {"a": n, "b": 1}) for n in range(100)))
        assert [result.structured_content["result"] for result in results] == list(range(1, 101))
        assert client.session.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        assert at_rest(peer, *router.peers)
        assert peer.counters()["requests_out"] >= 100
        assert router.records.counts["result"] >= 100


@ERAS
@both_loops
async def test_prg_10_x_06_progress_comes_in_order_and_before_the_result(mode):
    seen = []

    async def on_progress(progress, total, message):
        await asyncio.sleep(0)
        seen.append((progress, total, message))

    async with connected(mode) as (client, _, _):
        result = await client.call_tool("count", {"to": 5}, progress_callback=on_progress)
        assert text(result) == "counted"
        assert seen == [(n, 5, f"step {n}") for n in range(1, 6)]


@ERAS
@both_loops
async def test_can_01_can_11_a_cancelled_scope_stops_the_handler_at_the_other_end(mode):
    async with connected(mode) as (client, peer, router):
        with anyio.CancelScope() as scope:

            async def on_progress(*_):
                scope.cancel()

            await client.call_tool("wait", {}, progress_callback=on_progress)
        assert scope.cancelled_caught
        await until(lambda: "stopped" in sdk_server.log)
        await until(lambda: at_rest(peer, *router.peers))
        [record] = router.records.query(outcome="cancelled")
        assert (record.cancelled_by, record.cancel_reason) == ("peer", "caller cancelled")
        await until(lambda: record.cleanup == "stopped")
        assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"


@ERAS
@both_loops
async def test_tmo_01_a_timeout_ends_the_call_and_tells_the_server(mode):
    async with connected(mode) as (client, peer, router):
        with pytest.raises(mcp.TimedOut, match="tools/call"):
            await client.call_tool("wait", {}, read_timeout_seconds=0.05)
        await until(lambda: at_rest(peer, *router.peers))
        await until(lambda: sdk_server.log == ["waits", "stopped"])


@both_loops
async def test_tmo_12_an_error_of_the_peer_is_neither_lost_nor_timed_out():
    async with connected() as (client, _, _):
        with pytest.raises(MCPError) as raised:
            await client.get_prompt("no such prompt")
        assert type(raised.value) is MCPError


@both_loops
async def test_rid_14_a_modern_server_asks_its_client_nothing():
    async with connected("2026-07-28") as (client, _, router):
        with pytest.raises(MCPError, match="back-channel"):
            await client.call_tool("roots", {})
        assert all(peer.counters()["requests_out"] == 0 for peer in router.peers)


@both_loops
async def test_x_06_what_comes_before_a_result_is_looked_at_before_it():
    seen = []

    async def on_log(params):
        seen.append(params.data)

    async with connected(logging_callback=on_log) as (client, _, _):
        assert text(await client.call_tool("shout", {})) == "shouted"
        assert seen == ["before the result"]


@both_loops
async def test_sub_01_a_listen_is_told_of_changes_and_ends_alone():
    async with connected("auto") as (client, peer, router):
        async with client.listen(tools_list_changed=True) as events:
            await client.call_tool("change", {})
            assert type(await events.__anext__()).__name__ == "ToolsListChanged"
            assert peer.in_flight == (1, 0)
        await until(lambda: at_rest(peer, *router.peers))
        assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"


@both_loops
async def test_png_01_a_ping_is_the_sdks_to_answer():
    async with connected() as (client, peer, router):
        await client.session.send_ping()
        assert all(end.counters()["pings"] == 0 for end in (peer, *router.peers))


@both_loops
async def test_numbers_of_any_size_leave_as_the_sdk_writes_them():
    async with connected() as (client, _, _):
        assert not (await client.call_tool("big", {})).is_error


@both_loops
async def test_a_client_session_stands_on_a_dispatcher_alone():
    async with (
        served() as (target, _),
        mcp.open_dispatcher(target, name="theirs") as dispatcher,
        ClientSession(dispatcher=dispatcher) as session,
    ):
        await session.initialize()
        assert dispatcher.peer.name == "theirs"
        assert dispatcher.peer.revision == "2025-11-25"
        assert len((await session.list_tools()).tools) > 5


@both_loops
async def test_records_go_where_everybody_looks_unless_a_router_has_its_own():
    before = len(list(mcp.records))
    async with served() as (target, _), mcp.Client(target, mode="legacy") as client:
        await client.call_tool("add", {"a": 1, "b": 1})
    assert len(list(mcp.records)) > before
    router = turnout.Router(limits={"max_outbound": 1})
    async with served() as (target, _), mcp.Client(target, mode="legacy", router=router) as client:
        call = asyncio.ensure_future(client.call_tool("wait", {}))
        await until(lambda: peer_of(client).in_flight == (1, 0))
        with pytest.raises(turnout.LimitExceeded):
            await client.call_tool("add", {"a": 1, "b": 1})
        call.cancel()
        await asyncio.wait([call])
    assert router.records.counts["cancelled"] == 1


@both_loops
async def test_x_07_leaving_a_client_ends_its_calls_and_the_handlers_at_the_other_end():
    sdk_server.log.clear()

    async with served() as (target, router):
        async with mcp.Client(target, mode="legacy") as client:
            call = asyncio.ensure_future(client.call_tool("wait", {}))
            await until(lambda: "waits" in sdk_server.log)
        with pytest.raises(mcp.Lost):
            await call
        await until(lambda: sdk_server.log[-1] == "stopped")
        await until(lambda: not router.peers)


@both_loops
async def test_x_07_a_server_that_stops_ends_the_calls_of_its_clients():
    sdk_server.log.clear()

    async with served("unix") as (target, router), mcp.Client(target, mode="legacy") as client:
        call = asyncio.ensure_future(client.call_tool("wait", {}))
        await until(lambda: "waits" in sdk_server.log)
        await next(iter(router.peers)).close()
        with pytest.raises(mcp.Lost):
            await call
        with pytest.raises(mcp.Lost):
            await client.call_tool("add", {"a": 1, "b": 1})


def test_on_trio_the_transports_say_that_they_run_on_asyncio():
    trio = pytest.importorskip("trio", reason="trio is not installed")

    async def main():
        here, _ = turnout.memory()
        with pytest.raises(RuntimeError, match="on trio use the SDK's"):
            async with mcp.open_dispatcher(here):
                pass
        with pytest.raises(RuntimeError, match="on trio use the SDK's"):
            await mcp.serve_stdio(sdk_server.make())

    trio.run(main)


@both_loops
async def test_a_client_takes_what_the_sdks_takes():
    async with mcp.Client(sdk_server.make()) as client:
        assert text(await client.call_tool("add", {"a": 2, "b": 2})) == "4"
