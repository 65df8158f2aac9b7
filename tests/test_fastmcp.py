"""FastMCP 4 on turnout: its progress, its cancels and its timeouts, by `install()` and on turnout's transports."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")
pytest.importorskip("fastmcp", reason="FastMCP is not installed: pip install --group fastmcp")

import anyio
from fastmcp import Client, Context, FastMCP
from fastmcp.client.transports import ClientTransport

import turnout
from turnout import mcp

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
            await ctx.report_progress(step + 1, to)
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
        transport = OnTurnout(here)
        async with Client(transport) as client:
            assert transport.dispatcher.peer.counters()["requests_out"] > 0
            yield client
        tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def installed(made):
    assert mcp.install()
    try:
        before = len(mcp.records)
        async with Client(made) as client:
            assert len(mcp.records) > before, "the session does not stand on turnout"
            yield client
    finally:
        mcp.uninstall()


async def until(condition):
    with anyio.fail_after(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture(params=[native, installed])
def connected(request):
    return request.param


def test_prg_10_progress_reaches_the_callback_before_the_result(connected, on_loop):
    async def main():
        seen = []

        async def on_progress(progress, total, message):
            seen.append((progress, total))

        async with connected(server([])) as client:
            result = await client.call_tool("count", {"to": 4}, progress_handler=on_progress)
            assert result.data == "counted"
            assert seen == [(n, 4) for n in range(1, 5)]

    on_loop(main())


def test_can_01_a_cancelled_call_stops_the_tool(connected, on_loop):
    async def main():
        log = []
        async with connected(server(log)) as client:
            call = asyncio.ensure_future(client.call_tool("wait", {}))
            await until(lambda: log == ["waits"])
            call.cancel()
            await asyncio.wait([call])
            await until(lambda: log == ["waits", "stopped"])
            assert (await client.call_tool("count", {"to": 1})).data == "counted"

    on_loop(main())


def test_tmo_01_a_timeout_ends_the_call_and_stops_the_tool(connected, on_loop):
    async def main():
        log = []
        async with connected(server(log)) as client:
            with pytest.raises(Exception, match=r"[Tt]imed out"):
                await client.call_tool("wait", {}, timeout=0.1)
            await until(lambda: log == ["waits", "stopped"])

    on_loop(main())


def test_the_servers_lifespan_is_entered_and_left(connected, on_loop):
    async def main():
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

    on_loop(main())
