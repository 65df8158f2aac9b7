"""FastMCP 4 on turnout: its progress, its cancels and its timeouts, by `install()` and on turnout's transports.

FastMCP comes with the `fastmcp` dependency group.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")
pytest.importorskip(
    "fastmcp", reason="FastMCP is not installed: pip install --group fastmcp", exc_type=ImportError
)

import anyio
from fastmcp import Client, Context, FastMCP
from fastmcp.client.transports import ClientTransport
from mcp.shared.exceptions import MCPError

import turnout
from loops import both_loops
from sdk_native import until
from turnout import mcp
from turnout.mcp.dispatch.over_streams import Dispatcher
from turnout.mcp.dispatch.session_peer import SessionPeer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


class OnTurnout(ClientTransport):
    """FastMCP's client on what turnout can connect to."""

    def __init__(self, target):
        self.target = target
        self.dispatcher = None

    @contextlib.asynccontextmanager
    async def connect_session(self, *, transport_options=None, **session):
        from mcp import ClientSession

        made = ClientSession if transport_options is None else transport_options.session_class
        async with (
            mcp.open_dispatcher(self.target) as self.dispatcher,
            made(dispatcher=self.dispatcher, **session) as opened,
        ):
            yield opened


def server(log):
    made = FastMCP("fast")

    @made.tool
    async def count(to: int, ctx: Context) -> str:
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")
        return "counted"

    @made.tool
    async def wait(ctx: Context) -> str:
        log.append("waits")
        try:
            await ctx.report_progress(1)
            await anyio.sleep_forever()
        finally:
            log.append("stopped")
        return "never"

    return made


@contextlib.asynccontextmanager
async def native(made):
    here, there = turnout.memory()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mcp.serve_target, made, there)
        async with Client(OnTurnout(here)) as client:
            yield client
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def installed(made):
    assert mcp.install()
    try:
        async with Client(made) as client:
            yield client
    finally:
        mcp.uninstall()


@pytest.fixture(params=[native, installed])
def connected(request, monkeypatch):
    """FastMCP's client and server, with records of this test alone; at the end nothing of a request may be left."""
    ends = []
    for kind in (Dispatcher, SessionPeer):
        monkeypatch.setattr(kind, "__init__", noting(ends, kind.__init__))
    monkeypatch.setattr(mcp, "records", turnout.Records(turnout.Ledger()))
    yield request.param
    assert {type(end) for end in ends} == {Dispatcher if request.param is installed else SessionPeer}
    assert not any(sum(end.entries().values()) for end in ends)


def noting(ends, begin):
    def note(self, *arguments, **options):
        ends.append(self)
        begin(self, *arguments, **options)

    return note


def the_call(direction, outcome):
    (record,) = mcp.records.query(method="tools/call", direction=direction, outcome=outcome)
    return record


@both_loops
async def test_prg_05_prg_10_progress_reaches_the_callback_in_order_and_before_the_result(connected):
    seen = []

    async def on_progress(progress, total, message):
        seen.append((progress, total, message))

    async with connected(server([])) as client:
        result = await client.call_tool("count", {"to": 4}, progress_handler=on_progress)
        assert result.data == "counted"
        assert seen == [(n, 4, f"step {n}") for n in range(1, 5)]
    assert the_call("outbound", "result").progress_accepted == 4
    assert the_call("inbound", "result").cancelled_by is None


@both_loops
async def test_can_01_can_13_a_cancelled_call_stops_the_tool(connected):
    log = []
    async with connected(server(log)) as client:
        call = asyncio.ensure_future(client.call_tool("wait", {}))
        await until(lambda: log == ["waits"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: log == ["waits", "stopped"])
        assert (await client.call_tool("count", {"to": 1})).data == "counted"
    assert the_call("outbound", "cancelled").cancelled_by == "caller"
    record = the_call("inbound", "cancelled")
    assert (record.cancelled_by, record.cleanup) == ("peer", "stopped")


@both_loops
async def test_tmo_01_tmo_03_a_timeout_ends_the_call_and_stops_the_tool(connected):
    log = []
    async with connected(server(log)) as client:
        with pytest.raises(MCPError, match=r"[Tt]imed out"):
            await client.call_tool("wait", {}, timeout=0.05)
        await until(lambda: log == ["waits", "stopped"])
    assert the_call("outbound", "max_timeout").cancel_written
    assert the_call("inbound", "cancelled").cancelled_by == "peer"


@both_loops
async def test_the_servers_lifespan_is_entered_and_left(connected):
    log = []

    @contextlib.asynccontextmanager
    async def lifespan(_):
        log.append("entered")
        yield {"state": 1}
        log.append("left")

    made = FastMCP("fast", lifespan=lifespan)

    @made.tool
    async def state(ctx: Context) -> int:
        return ctx.lifespan_context["state"]

    async with connected(made) as client:
        assert (await client.call_tool("state", {})).data == 1
    assert log == ["entered", "left"]
