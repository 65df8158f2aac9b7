"""FastMCP 4, client and server, on turnout's dispatcher: progress, cancels and timeouts end as they should.

FastMCP comes with the `bench` dependency group.
"""

import asyncio

import pytest

pytest.importorskip("fastmcp", reason="FastMCP comes with the bench dependency group", exc_type=ImportError)

import anyio
from fastmcp import Client, FastMCP
from fastmcp.server.context import Context
from mcp.shared.exceptions import MCPError

import turnout.mcp
from turnout.mcp.dispatcher import Dispatcher


@pytest.fixture
def installed(monkeypatch):
    """Turnout under FastMCP, with the records of this test alone; gives the dispatchers that were made."""
    made = []
    begin = Dispatcher.__init__

    def note(self, *arguments, **options):
        made.append(self)
        begin(self, *arguments, **options)

    monkeypatch.setattr(turnout.mcp, "records", turnout.Records(turnout.Ledger()))
    monkeypatch.setattr(Dispatcher, "__init__", note)
    assert turnout.mcp.install()
    yield made
    turnout.mcp.uninstall()


def server_of(stopped):
    server = FastMCP("worker")

    @server.tool
    async def work(steps: int, ctx: Context) -> int:
        for step in range(steps):
            await ctx.report_progress(step + 1, steps, f"step {step + 1}")
        return steps

    @server.tool
    async def hang() -> int:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()
        return 0

    return server


def the_call(direction, **more):
    (record,) = turnout.mcp.records.query(method="tools/call", direction=direction, **more)
    return record


def test_prg_05_progress_reaches_the_caller_in_order_and_before_the_result(on_loop, installed):
    seen = []

    async def on_progress(progress, total, message):
        seen.append((progress, total, message))

    async def main():
        async with Client(server_of(asyncio.Event())) as client:
            result = await client.call_tool("work", {"steps": 3}, progress_handler=on_progress)
            assert result.data == 3
            assert seen == [(n, 3, f"step {n}") for n in (1, 2, 3)]
        assert the_call("outbound").progress_accepted == 3
        assert the_call("inbound").outcome == "result"

    on_loop(main())
    assert len(installed) == 2
    assert not any(sum(dispatcher.entries().values()) for dispatcher in installed)


def test_can_13_a_cancelled_call_stops_its_tool(on_loop, installed):
    async def main():
        stopped = asyncio.Event()
        async with Client(server_of(stopped)) as client:
            call = asyncio.ensure_future(client.call_tool("hang"))
            while not any(dispatcher.in_flight[1] for dispatcher in installed):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await stopped.wait()
            assert len(await client.list_tools()) == 2
        assert the_call("outbound").cancelled_by == "caller"
        record = the_call("inbound")
        assert (record.outcome, record.cancelled_by, record.cleanup) == ("cancelled", "peer", "stopped")

    on_loop(main())
    assert not any(sum(dispatcher.entries().values()) for dispatcher in installed)


def test_tmo_03_a_call_that_takes_too_long_ends_and_stops_its_tool(on_loop, installed):
    async def main():
        stopped = asyncio.Event()
        async with Client(server_of(stopped)) as client:
            with pytest.raises(MCPError, match="timed out"):
                await client.call_tool("hang", timeout=0.05)
            await stopped.wait()
        record = the_call("outbound")
        assert (record.outcome, record.cancel_written) == ("max_timeout", True)
        assert the_call("inbound").outcome == "cancelled"

    on_loop(main())
    assert not any(sum(dispatcher.entries().values()) for dispatcher in installed)
