"""`turnout top` by textual's pilot, against control endpoints that run in the same loop."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest

import turnout
from control_world import Watched
from loops import both_loops
from turnout.top.app import Top
from turnout.top.dialogs import AskReason, ShowRecord

SIZE = (180, 40)


@contextlib.asynccontextmanager
async def running(*places, size=SIZE):
    """The program, on no terminal."""
    app = Top(list(places))
    async with app.run_test(size=size) as pilot:
        yield app, pilot


async def until(_, condition):
    """Wait for what is drawn, which is on a clock of its own; `both_loops` ends a test in which it never is."""
    while not condition():
        await asyncio.sleep(0.005)


def drawn(app):
    """The lines on the screen, as text."""
    shown = app.flights
    return [shown.render_line(y).text for y in range(shown.size.height)]


def summary(app):
    return str(app.summary.render())


@both_loops
async def test_what_is_in_flight_is_seen_and_c_cancels_it_with_a_reason(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client(principal="ada")
        made = await world.busy(client, steps=4, who="almost")
        async with running(world.path) as (app, pilot):
            shown = app.flights
            await until(pilot, lambda: len(shown.lines) == 1 and "almost" in drawn(app)[1])
            head, line, *_ = drawn(app)
            assert head.split() == [
                "age", "state", "principal", "client", "upstream", "method", "and", "target", "progress",
                "message", "bytes",
            ]  # fmt: skip
            for text in ("running", "ada", "client", "echo", "tools/call echo", "##########", "almost"):
                assert text in line
            await until(pilot, lambda: "1 in flight" in summary(app))
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, AskReason))
            await pilot.press(*"too-slow", "enter")
            await until(pilot, lambda: "1 cancelled" in app.note)
            with pytest.raises(turnout.RemoteError):
                await made
            [record] = world.gateway.records.query(direction="inbound", method="tools/call")
            assert (record.cancelled_by, record.cancel_reason) == ("operator", "too-slow")
            await until(pilot, lambda: shown.lines == [])


@both_loops
async def test_escape_cancels_nothing_and_capital_c_ends_all_of_one_client(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        one, other = await world.client(), await world.client()
        doomed = [await world.busy(one), await world.busy(one)]
        async with running(world.path) as (app, pilot):
            shown = app.flights
            await until(pilot, lambda: len(shown.lines) == 2)
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, AskReason))
            await pilot.press("x", "escape")
            await until(pilot, lambda: not isinstance(app.screen, AskReason))
            assert [made.done() for made in doomed] == [False, False]
            await pilot.press("C")
            await until(pilot, lambda: isinstance(app.screen, AskReason))
            assert "all 2 requests of client" in str(app.screen.query_one("Static").render())
            await pilot.press("enter")
            await until(pilot, lambda: "2 cancelled" in app.note)
            for made in doomed:
                with pytest.raises(turnout.RemoteError):
                    await made
        assert other.is_open


@both_loops
async def test_enter_shows_the_record_with_its_legs_as_a_time_line(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        made = await world.busy(await world.client(principal="ada"))
        async with running(world.path) as (app, pilot):
            await until(pilot, lambda: len(app.flights.lines) == 1)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ShowRecord))
            text = str(app.screen.query_one("Static").render())
            for word in (
                "method",
                "tools/call",
                "ada",
                "time line",
                "client",
                "to echo",
                "created",
                "written",
            ):
                assert word in text
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, ShowRecord))
        made.cancel()
        await made.wait_ended()


@both_loops
async def test_a_filter_an_order_and_a_pause(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client()
        calls = []
        for name in ("crunch", "walk", "crawl"):
            before = world.handled
            calls.append(client.send("tools/call", {"name": name, "arguments": {"wait": True}}))
            await world.until(partial(lambda before: world.handled > before, before))
        async with running(world.path) as (app, pilot):
            shown = app.flights

            def targets():
                return [line.row["target"] for line in shown.lines]

            await until(pilot, lambda: targets() == ["crunch", "walk", "crawl"])
            await pilot.press("slash", *"CR", "enter")
            assert targets() == ["crunch", "crawl"]
            await pilot.press("s", "s", "s")
            assert app.model.order == "what"
            assert targets() == ["crawl", "crunch"]
            await pilot.press("slash", "escape")
            assert targets() == ["crawl", "crunch", "walk"]
            # The choice stays with its request.
            assert shown.chosen.row["target"] == "crunch"
            await pilot.press("p")
            assert "PAUSED" in summary(app)
            calls[2].cancel()
            await until(pilot, lambda: len(app.model.lines()) == 2)
            assert targets() == ["crawl", "crunch", "walk"]
            await pilot.press("p")
            await until(pilot, lambda: targets() == ["crunch", "walk"])
            assert shown.chosen.row["target"] == "crunch"
        for made in calls:
            made.cancel()
            await made.wait_ended()


@both_loops
async def test_several_gateways_are_one_list_and_one_that_goes_is_told(tmp_path):
    (tmp_path / "other").mkdir()
    async with Watched(tmp_path) as world, Watched(tmp_path / "other") as other:
        calls = []
        for each in (world, other):
            await each.serve()
            calls.append(await each.busy(await each.client()))
        async with running(world.path, other.path) as (app, pilot):
            shown = app.flights
            await until(pilot, lambda: len(shown.lines) == 2)
            await until(pilot, lambda: "2 in flight" in summary(app))
            await other.control.close()
            await until(pilot, lambda: len(shown.lines) == 1)
            await until(pilot, lambda: other.path in str(app.troubles.render()))
            await other.control.start()
            await until(pilot, lambda: len(shown.lines) == 2 and app.model.troubles == [])
        for made in calls:
            made.cancel()
            await made.wait_ended()


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n[bold red]x[/]\u202e\x9b31m"


@both_loops
async def test_s9_no_control_character_and_no_markup_of_a_peer_reaches_the_terminal(tmp_path):
    async with Watched(tmp_path) as world:
        await world.serve()
        client = await world.client(principal=HOSTILE)
        before = world.handled
        made = client.send(
            "tools/call", {"name": HOSTILE, "arguments": {"wait": True, "steps": 1, "who": HOSTILE}}
        )
        await world.until(lambda: world.handled > before)
        async with running(world.path) as (app, pilot):
            await until(pilot, lambda: len(app.flights.lines) == 1)
            await until(pilot, lambda: "owned" in drawn(app)[1])
            lines = drawn(app)
            assert all(text.isprintable() for text in lines), lines
            assert "[bold red]x" in lines[1]
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ShowRecord))
            told = str(app.screen.query_one("Static").render())
            assert all(line.isprintable() for line in told.splitlines())
            assert "[bold red]x" in told
            await pilot.press("escape", "c")
            await until(pilot, lambda: isinstance(app.screen, AskReason))
            assert str(app.screen.query_one("Static").render()).isprintable()
            await pilot.press("escape")
        made.cancel()
        await made.wait_ended()


@both_loops
async def test_sixty_rows_that_change_all_the_time_and_ten_thousand_in_flight(tmp_path):
    async with turnout.Router() as asks, turnout.Router(limits={"max_inbound": 20_000}) as works:
        requests = []

        @works.on_request("work")
        async def work(request):
            requests.append(request)
            await asyncio.Event().wait()

        near, far = turnout.memory()
        server = await works.connect(far, era=None)
        peer = await asks.connect(near, era=None)
        path = str(tmp_path / "c.sock")
        await works.serve_control(path)
        calls = [peer.send("work", {"n": n}) for n in range(60)]
        async with running(path) as (app, pilot):
            shown = app.flights
            await until(pilot, lambda: len(shown.lines) == 60)
            for step in range(1, 31):
                for request in requests:
                    request.progress(step, total=30, message=f"step {step}")
                await asyncio.sleep(0.005)
            await until(pilot, lambda: "step 30" in drawn(app)[30])
            calls += [peer.send("work", {"n": n}) for n in range(60, 10_000)]
            await until(pilot, lambda: len(shown.lines) == 2_000 and "10000 in flight" in summary(app))
            await pilot.press("end")
            assert shown.chosen is shown.lines[-1]
            await until(pilot, lambda: drawn(app)[-1].strip() != "")
            await pilot.press("home", "down")
            assert shown.chosen is shown.lines[1]
            await pilot.press("c", "n", "o", "enter")
            await until(pilot, lambda: "1 cancelled" in app.note)
        assert server.in_flight[1] == 9_999
        for made in calls:
            made.cancel()
        await asyncio.gather(*(made.wait_ended() for made in calls))
