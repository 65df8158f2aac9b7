"""What the SDK's servers ask their clients on turnout's transports: answered, cancelled, and lost, in both roles."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp_types import CreateMessageResult, ElicitResult, ErrorData, ListRootsResult, Root, TextContent

import turnout
from loops import both_loops
from sdk_native import at_rest, connected, peer_of, text, until
from turnout import mcp

# What the newest revision deprecates is still what the others have.
pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

SERVER = str(Path(__file__).parents[1].joinpath("kit", "sdk_server.py"))

# What each tool asks its client, and the request that this is up to 2025-11-25.
ASKED = {
    "sample": ({"text": "loud"}, "sampling/createMessage", "LOUD"),
    "roots": ({}, "roots/list", "file:///here"),
    "greet": ({}, "elicitation/create", "Hello Ada"),
}


class Asked:
    """A client's callbacks: they answer at once, or hang until they are stopped."""

    def __init__(self, *, hangs=False):
        self.hangs = hangs
        self.begun, self.stopped = asyncio.Event(), asyncio.Event()

    async def _asked(self):
        self.begun.set()
        if self.hangs:
            try:
                await anyio.sleep_forever()
            finally:
                self.stopped.set()

    async def sampling(self, context, params):
        await self._asked()
        answer = TextContent(type="text", text=params.messages[0].content.text.upper())
        return CreateMessageResult(role="assistant", content=answer, model="none")

    async def roots(self, context):
        await self._asked()
        return ListRootsResult(roots=[Root(uri="file:///here")])

    async def elicitation(self, context, params):
        await self._asked()
        return ElicitResult(action="accept", content={"name": "Ada"})

    @property
    def options(self):
        return {
            "sampling_callback": self.sampling,
            "list_roots_callback": self.roots,
            "elicitation_callback": self.elicitation,
        }


@contextlib.asynccontextmanager
async def over(transport, asked, mode="legacy"):
    """A client whose server runs here, or in a child; the server's router is None there."""
    if transport == "stdio":
        router = turnout.Router()
        client = mcp.connect_stdio(sys.executable, SERVER, mode=mode, router=router, **asked.options)
        async with client:
            yield client, peer_of(client), None
    else:
        async with connected(mode, transport, router=turnout.Router(), **asked.options) as opened:
            yield opened


TRANSPORTS = pytest.mark.parametrize("transport", ["memory", "unix", "tcp", "stdio"])


@TRANSPORTS
@pytest.mark.parametrize("tool", ASKED)
@both_loops
async def test_a_client_answers_what_its_server_asks_for_a_tool(transport, tool):
    arguments, method, answer = ASKED[tool]

    asked = Asked()
    async with over(transport, asked) as (client, peer, router):
        assert text(await client.call_tool(tool, arguments)) == answer
        (record,) = peer.router.records.query(method=method, direction="inbound")
        assert (record.outcome, record.cancelled_by) == ("result", None)
        if router is not None:
            (record,) = router.records.query(method=method, direction="outbound")
            assert record.outcome == "result"
            assert at_rest(*router.peers)
        assert at_rest(peer)


@pytest.mark.parametrize("mode", ["auto", "2026-07-28"])
@both_loops
async def test_mrt_01_rid_14_a_modern_client_is_asked_by_the_result_and_comes_again(mode):
    asked = Asked()
    async with over("memory", asked, mode) as (client, peer, router):
        assert text(await client.call_tool("greet", {})) == "Hello Ada"
        calls = peer.router.records.query(method="tools/call", direction="outbound")
        assert [call.outcome for call in calls] == ["result", "result"]
        assert all(end.counters()["requests_out"] == 0 for end in router.peers)
        assert at_rest(peer, *router.peers)


@TRANSPORTS
@pytest.mark.parametrize("tool", ASKED)
@both_loops
async def test_x_10_can_13_a_cancelled_tool_takes_back_what_it_asked(transport, tool):
    """The caller gives up while its own callback is at work: the tool stops, and so does the callback."""
    arguments, method, _ = ASKED[tool]

    asked = Asked(hangs=True)
    async with over(transport, asked) as (client, peer, router):
        call = asyncio.ensure_future(client.call_tool(tool, arguments))
        await asked.begun.wait()
        assert peer.in_flight == (1, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asked.stopped.wait()
        await until(lambda: at_rest(peer, *(router.peers if router else ())))
        (record,) = peer.router.records.query(method="tools/call", outcome="cancelled")
        assert (record.cancelled_by, record.cancel_written) == ("caller", True)
        (record,) = peer.router.records.query(method=method, direction="inbound")
        assert (record.outcome, record.cancelled_by) == ("cancelled", "peer")
        await until(lambda: record.cleanup == "stopped")
        if router is not None:
            (record,) = router.records.query(method=method, direction="outbound")
            assert (record.outcome, record.cancelled_by) == ("cancelled", "caller")
            (record,) = router.records.query(method="tools/call", direction="inbound")
            assert (record.outcome, record.cancelled_by) == ("cancelled", "peer")
        assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"


@both_loops
async def test_x_10_tmo_01_a_call_that_times_out_takes_back_what_its_tool_asked():
    asked = Asked(hangs=True)
    async with over("memory", asked) as (client, peer, router):
        with pytest.raises(mcp.TimedOut):
            await client.call_tool("greet", {}, read_timeout_seconds=0.05)
        await asked.stopped.wait()
        await until(lambda: at_rest(peer, *router.peers))
        (record,) = peer.router.records.query(method="tools/call", direction="outbound")
        assert (record.outcome, record.cancel_written) == ("max_timeout", True)


@both_loops
async def test_an_error_of_the_callback_is_an_error_of_the_tool():
    async def refuse(context):
        return ErrorData(code=-32001, message="no roots for you")

    async with connected("legacy", list_roots_callback=refuse) as (client, peer, router):
        with pytest.raises(Exception, match="no roots for you"):
            await client.call_tool("roots", {})
        (record,) = router.records.query(method="roots/list")
        assert record.outcome == "error"
        assert at_rest(peer, *router.peers)


@pytest.mark.parametrize("transport", ["memory", "unix"])
@both_loops
async def test_x_07_a_client_that_leaves_while_it_is_asked_ends_the_tool(transport):
    asked = Asked(hangs=True)
    async with over(transport, asked) as (client, peer, router):
        (end,) = router.peers
        call = asyncio.ensure_future(client.call_tool("greet", {}))
        await asked.begun.wait()
        peer.abort()
        with pytest.raises(mcp.Lost):
            await call
        await asked.stopped.wait()
        await until(lambda: not router.peers and at_rest(end))
        (record,) = router.records.query(method="elicitation/create")
        assert record.outcome == "peer_closed"
        (record,) = router.records.query(method="tools/call", direction="inbound")
        assert record.outcome == "peer_closed"


@both_loops
async def test_x_07_a_server_that_dies_while_it_asks_stops_the_callback():
    asked = Asked(hangs=True)
    async with over("stdio", asked) as (client, peer, _):
        call = asyncio.ensure_future(client.call_tool("greet", {}))
        await asked.begun.wait()
        with pytest.raises(mcp.Lost):
            await client.call_tool("die", {})
        with pytest.raises(mcp.Lost):
            await call
        await asked.stopped.wait()
        (record,) = peer.router.records.query(method="elicitation/create")
        assert (record.outcome, record.exit_code) == ("peer_exited", -9)
        assert at_rest(peer)
