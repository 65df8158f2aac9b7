"""The control endpoint: what is in flight, live, and the end of what a person stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

import turnout
from control_world import Watched, call, until
from loops import both_loops
from turnout.control import flights, places
from turnout.control.client import ControlClient, ControlError
from turnout.control.figures import percentile


@both_loops
async def test_a_request_of_a_client_is_a_row_with_what_a_person_wants_to_know(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve(name="mine")
        client = await world.client(principal="ada")
        made = await world.busy(client, steps=3, who="half way")
        told = await world.viewer.get("/turnout/flights")
        assert told["name"] == "mine"
        assert told["figures"]["in_flight"] == 1
        [row] = told["rows"]
        assert (row["method"], row["target"], row["principal"]) == ("tools/call", "echo", "ada")
        assert (row["client"], row["upstream"], row["state"]) == ("client", "echo", "running")
        assert row["progress"] == {"progress": 3.0, "total": 3.0, "message": "half way"}
        assert row["bytes"] > 50
        assert 0 <= told["now"] - row["created"] < 60
        made.cancel()
        await made.wait_ended()


@both_loops
async def test_a_cancel_by_handle_ends_one_request_at_both_sides_and_no_other(tmp_path):
    async with Watched(tmp_path) as world:
        viewer = await world.serve()
        one, other = await world.client(), await world.client()
        doomed, spared = await world.busy(one, who="a"), await world.busy(other, who="b")
        # Both have the id that their clients gave them, which is the same.
        rows = await world.rows()
        assert len({row["id"] for row in rows}) == 1
        handle = next(row["handle"] for row in rows if row["created"] == min(row["created"] for row in rows))
        assert await viewer.post("/turnout/cancel", {"handle": handle, "reason": "too long"}) == {
            "cancelled": True
        }
        with pytest.raises(turnout.RemoteError) as raised:
            await doomed
        assert raised.value.data["reason"] == "cancelled"
        await world.until(lambda: world.handled == 1)
        [ended] = world.gateway.records.query(direction="inbound", outcome="error")
        assert (ended.cancelled_by, ended.cancel_reason) == ("operator", "too long")
        [leg] = ended.legs
        assert (leg.outcome, leg.cancelled_by, leg.cancel_written) == ("cancelled", "operator", True)
        assert world.servers.records.query(outcome="cancelled")[0].cancel_reason == "too long"
        assert not spared.done()
        assert await viewer.post("/turnout/cancel", {"handle": handle}) == {"cancelled": False}
        spared.cancel()
        await spared.wait_ended()


@both_loops
async def test_a_handler_and_a_call_of_a_router_without_a_relay_are_stopped(tmp_path):
    stopped = asyncio.Event()
    async with turnout.Router(name="asks") as asks, turnout.Router(name="works") as works:

        @works.on_request("work")
        async def work(request):
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        near, far = turnout.memory()
        server = await works.connect(far, era=None)
        peer = await asks.connect(near, era=None)
        at_work = await works.serve_control(tmp_path / "works.sock")
        at_asking = await asks.serve_control(tmp_path / "asks.sock")
        assert stat.S_IMODE(Path(at_work.name).stat().st_mode) == 0o600
        for control in (at_work, at_asking):
            viewer, made = ControlClient(control.name), peer.send("work")
            while server.in_flight != (0, 1):
                await asyncio.sleep(0)
            [row] = (await viewer.get("/turnout/flights"))["rows"]
            stopped.clear()
            assert await viewer.post("/turnout/cancel", {"handle": row["handle"], "reason": "no"}) == {
                "cancelled": True
            }
            with pytest.raises((turnout.RemoteError, turnout.CallCancelled)):
                await made
            await stopped.wait()
        [handled, _] = works.records.query(direction="inbound")
        assert (handled.outcome, handled.cancelled_by) == ("error", "operator")
        assert asks.records.query(outcome="cancelled")[0].cancelled_by == "operator"


@both_loops
async def test_a_viewer_is_told_what_changes_and_what_is_over(tmp_path):
    async with Watched(tmp_path) as world:
        viewer = await world.serve()
        client = await world.client()
        async with contextlib.aclosing(viewer.events()) as events:
            rows = await until(events, lambda _: True)
            made = await world.busy(client, steps=2)
            rows = await until(events, lambda rows: any(row["progress"] for row in rows.values()), rows)
            [row] = rows.values()
            assert row["progress"]["progress"] == 2.0
            made.cancel("enough")
            await until(events, lambda rows: [row["state"] for row in rows.values()] == ["cancelling"], rows)
            assert await until(events, lambda rows: not rows, rows) == {}
        await world.until(lambda: world.control._viewers._looking is None)


@both_loops
async def test_a_late_answer_shows_as_late(tmp_path):
    async with Watched(tmp_path) as world:
        viewer = await world.serve()
        hold = asyncio.Event()

        @world.servers.on_request("stubborn")
        async def stubborn(request):
            request.decline_cancel()
            await hold.wait()
            # As a server does that does not know of cancels.
            peer = request.peer
            peer.link.transport.write(b'{"jsonrpc":"2.0","id":%d,"result":{}}\n' % request.id)

        client = await world.client()
        before = world.handled
        made = client.send("stubborn")
        await world.until(lambda: world.handled > before)
        async with contextlib.aclosing(viewer.events()) as events:
            rows = await until(events, lambda rows: len(rows) == 1)
            made.cancel()
            await until(events, lambda rows: {row["state"] for row in rows.values()} == {"cancelling"}, rows)
            hold.set()
            await until(events, lambda rows: {row["state"] for row in rows.values()} == {"late"}, rows)
            told = (await viewer.get("/turnout/flights"))["figures"]
            assert (told["late"], told["settled"]["count"]) == (1, 1)
            assert told["settled"]["p99"] == told["settled"]["p50"] > 0


@both_loops
async def test_a_request_whose_client_is_asked_meanwhile_says_so(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        answer = asyncio.Event()

        @world.clients.on_request("sampling/createMessage")
        async def sample(request):
            await answer.wait()
            return {"text": "yes"}

        world.build(world.upstream(sharing="per_client"))
        await world.relay.start()
        client = await world.client()
        made = client.send("tools/call", call(ask=True, who="x"))
        while sum(peer.in_flight[1] for peer in world.clients.peers) != 1:
            await asyncio.sleep(0)
        states = {row["method"]: row["state"] for row in await world.rows()}
        assert states == {"tools/call": "asking", "sampling/createMessage": "running"}
        answer.set()
        assert await made == {"text": "yes"}


@both_loops
async def test_records_are_looked_up_and_a_row_finds_its_own(tmp_path):
    async with Watched(tmp_path) as world:
        viewer = await world.serve()
        client = await world.client(principal="ada")
        for who in "abc":
            await client.send("tools/call", call(who=who))
        made = await world.busy(client)
        [row] = await world.rows()

        async def found(**query):
            return (await viewer.get("/turnout/records", query))["records"]

        assert len(await found(direction="inbound", method="tools/call")) == 3
        [newest] = await found(limit="1", direction="inbound")
        assert newest["outcome"] == "result"
        assert newest["legs"][0]["peer"] == "echo"
        assert await found(outcome="cancelled") == []
        assert len(await found(since=str(newest["ended"]), principal="ada")) == 1
        [own] = await found(handle=row["handle"])
        assert (own["method"], own["outcome"]) == ("tools/call", None)
        made.cancel()
        await made.wait_ended()
        [own] = await found(handle=row["handle"])
        assert own["outcome"] == "cancelled"
        assert await found(handle="none") == []
        for wrong in ({"limit": "0"}, {"limit": "1001"}, {"since": "nan"}, {"colour": "red"}):
            with pytest.raises(ControlError, match="400"):
                await found(**wrong)


@both_loops
async def test_what_is_redacted_is_never_told_and_an_error_hides_it(tmp_path):
    def redact(told):
        if told["target"] == "secret":
            return None
        if told["target"] == "broken":
            raise LookupError("in the hook")
        return {**told, "principal": "***"}

    async with Watched(tmp_path) as world:
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        viewer = await world.serve(redact=redact)
        client = await world.client(principal="ada")
        for name in ("echo", "secret", "broken"):
            await client.send("tools/call", {"name": name, "arguments": {}})
        told = (await viewer.get("/turnout/records", {"method": "tools/call"}))["records"]
        assert [(each["target"], each["principal"]) for each in told] == [("echo", "***")]
        made = await world.busy(client)
        assert [row["principal"] for row in await world.rows()] == ["***"]
        made.cancel()
        await made.wait_ended()
        assert [type(each["exception"]) for each in complaints] == [LookupError]


@pytest.mark.parametrize("live", [1, 2, 3])
@both_loops
async def test_beyond_the_most_rows_their_number_is_told(tmp_path, monkeypatch, live):
    monkeypatch.setattr(flights.Flights.__init__, "__defaults__", (2,))
    monkeypatch.setattr("turnout.control.service.Control.__init__.__kwdefaults__", {"rows": 2})
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client()
        calls = [await world.busy(client) for _ in range(live)]
        told = await world.viewer.get("/turnout/flights")
        assert (len(told["rows"]), told["figures"]["in_flight"]) == (min(live, 2), live)
        for made in calls:
            made.cancel()
            await made.wait_ended()


@both_loops
async def test_a_viewer_that_missed_too_much_is_told_everything_anew_and_nothing_is_queued(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(flights, "MAX_OVER", 2)
    monkeypatch.setattr(flights, "SETTLING_SECONDS", 0)
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client()
        seen = world.control._flights
        # Two of the same service: one is asked for more at once, the other when it is too late.
        quick, slow = world.control._viewers.follow(), world.control._viewers.follow()
        assert [(await each.__anext__())[:15] for each in (quick, slow)] == [b"event: snapshot"] * 2
        for over in (1, 2, 3):
            made = await world.busy(client)
            told = await quick.__anext__()
            assert told.startswith(b"event: delta")
            made.cancel()
            await made.wait_ended()
            while b'"over":[{' not in told:
                told = await quick.__anext__()
            assert len(seen._over) == min(over, 2)
        assert (await slow.__anext__()).startswith(b"event: snapshot")
        for each in (quick, slow):
            await each.aclose()


@both_loops
async def test_where_it_is_served_is_found_and_other_users_do_not_get_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert places.sockets() == []
    async with turnout.Router() as router:
        control = await router.serve_control()
        assert places.sockets() == [Path(control.name)]
        assert Path(control.name) == tmp_path / "turnout" / f"{os.getpid()}.sock"
        assert stat.S_IMODE((tmp_path / "turnout").stat().st_mode) == 0o700
    assert places.sockets() == []
    (tmp_path / "turnout").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as others:
        others.bind(str(tmp_path / "turnout" / "1.sock"))
        assert places.sockets() == [], "whoever may write there may show what is not so"
    async with turnout.Router() as router:
        with pytest.raises(PermissionError, match="not a directory of ours alone"):
            await router.serve_control()


@both_loops
async def test_a_port_asks_for_a_token_and_for_its_own_name(tmp_path):
    async with turnout.Router() as router:
        with pytest.raises(ValueError, match="printable characters"):
            await router.serve_control(host="127.0.0.1", port=0, token="a b")
        for wrong in ({"host": "127.0.0.1", "port": 0}, {"host": "127.0.0.1"}, {"port": 1, "token": "t"}):
            with pytest.raises(TypeError):
                await router.serve_control(**wrong)
        with pytest.raises(TypeError):
            await router.serve_control("path", host="127.0.0.1", port=0, token="t")
        control = await router.serve_control(host="127.0.0.1", port=0, token="the-token")
        url = control.name
        assert (await ControlClient(url, "the-token").get("/turnout/flights"))["rows"] == []
        for token in (None, "x", "the-toke", "the-tokem", "the-token2"):
            with pytest.raises(ControlError, match="401: a token is needed"):
                await ControlClient(url, token).get("/turnout/flights")
        for token in ("", "\u00dc", "a\r\nb"):
            with pytest.raises(ControlError, match="no token has"):
                ControlClient(url, token)
        elsewhere = ControlClient(url, "the-token")
        elsewhere._host = "evil.example"
        with pytest.raises(ControlError, match="421"):
            await elsewhere.get("/turnout/flights")


def test_percentiles_are_of_what_was_seen():
    assert percentile([], 50) is None
    assert [percentile([1.0, 2.0, 3.0, 4.0], percent) for percent in (1, 50, 75, 99, 100)] == [1, 2, 3, 4, 4]
