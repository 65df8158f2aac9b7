"""The evidence: what tells one end from another, while it runs and after."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys

import pytest

import turnout
from loops import both_loops
from wire import Wire, cancelled, error, outcome, progress, request, result


def ends(wire):
    """One call for every way to end, each with its record."""
    calls = {}
    calls["result"] = wire.call()
    wire.take(result(calls["result"].id))
    calls["error"] = wire.call()
    wire.take(error(calls["error"].id))
    calls["cancelled"] = wire.call()
    calls["cancelled"].cancel("why")
    calls["idle_timeout"] = wire.call(timeout=1)
    calls["max_timeout"] = wire.call(timeout=None, max_timeout=1)
    wire.later(2)
    calls["late"] = wire.call()
    calls["late"].cancel()
    wire.take(result(calls["late"].id))
    return calls


@pytest.mark.parametrize(
    ("end", "code"), [("peer_closed", None), ("peer_exited", -9), ("peer_silent", None), ("closed", None)]
)
def test_x_07_a_caller_can_tell_every_end_from_every_other(end, code):
    wire = Wire()
    calls = ends(wire)
    calls[end] = wire.call()
    wire.connection.end(end, exit_code=code)
    told = {
        name: (outcome(call), call.record.cancelled_by, call.record.late_response)
        for name, call in calls.items()
    }
    assert told == {
        "result": ("result", None, None),
        "error": ("error", None, None),
        "cancelled": ("cancelled", "caller", None),
        "idle_timeout": ("idle_timeout", "timeout", None),
        "max_timeout": ("max_timeout", "timeout", None),
        "late": ("cancelled", "caller", "result"),
        end: (end, None, None),
    }
    assert calls[end].record.exit_code == code
    raised = {name: type(call.exception()) for name, call in calls.items()}
    assert raised == {
        "result": type(None),
        "error": turnout.RemoteError,
        "cancelled": turnout.CallCancelled,
        "idle_timeout": turnout.CallTimedOut,
        "max_timeout": turnout.CallTimedOut,
        "late": turnout.CallCancelled,
        end: turnout.PeerLost,
    }
    assert wire.at_rest


def test_trs_11_trs_14_the_exit_code_stands_in_exception_and_record():
    wire = Wire()
    calls = [wire.call() for _ in range(3)]
    asked = wire.ask()
    wire.connection.end("peer_exited", exit_code=137)
    for call in calls:
        with pytest.raises(turnout.PeerLost) as caught:
            call.result()
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.exit_code == caught.value.record.exit_code == 137
    assert asked.record.exit_code == 137
    assert wire.written() == []


def test_times_stand_in_their_order():
    wire = Wire()
    call = wire.connection.send("m")
    wire.clock.advance(1)
    assert call.record.written is None
    wire.raw()
    wire.clock.advance(1)
    wire.take(progress(call.id, 1))
    wire.clock.advance(1)
    wire.take(progress(call.id, 2, 4, "m"))
    wire.clock.advance(1)
    wire.take(result(call.id))
    record = call.record
    times = [record.created, record.written, record.first_progress, record.last_progress, record.ended]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [1, 1, 1, 1]
    assert record.duration == pytest.approx(4)
    assert (record.progress.progress, record.progress.total, record.progress.message) == (2, 4, "m")


def test_a_running_flight_has_a_record_too_in_both_directions():
    wire = Wire()
    call, asked = wire.call("ours"), wire.ask("x", "theirs", token="t")
    assert (call.record.outcome, call.record.direction, call.record.method) == (None, "outbound", "ours")
    assert (asked.record.outcome, asked.record.direction, asked.record.token) == (None, "inbound", "t")
    assert asked.record.id == "x"
    assert asked.record.ended is None


def test_the_ledger_keeps_the_newest_and_counts_all():
    ledger = turnout.Ledger(10)
    connection = turnout.Connection(ledger=ledger)
    for n in range(25):
        call = connection.send(f"m{n}")
        connection.data_to_send()
        connection.receive_data(result(call.id))
    assert [record.method for record in ledger.records()] == [f"m{n}" for n in range(15, 25)]
    assert ledger.outcomes()["result"] == 25


@pytest.mark.parametrize("capacity", [9, 10, 11])
def test_records_capacity_below_at_and_above(capacity):
    ledger = turnout.Ledger(capacity)
    connection = turnout.Connection(ledger=ledger)
    for _ in range(10):
        call = connection.send("m")
        connection.data_to_send()
        connection.receive_data(result(call.id))
    assert len(ledger.records()) == min(capacity, 10)


@pytest.mark.parametrize(
    ("first", "by"),
    [("peer", "peer"), ("close", "shutdown"), ("lost", "disconnect")],
)
def test_inbound_records_say_who_cancelled(first, by):
    wire = Wire()
    asked = wire.ask(1)
    if first == "peer":
        wire.take(cancelled(1))
    wire.connection.end("closed" if first == "close" else "peer_closed")
    assert asked.cancelled is True
    assert asked.record.cancelled_by == by
    assert asked.record.outcome == {"peer": "cancelled", "close": "closed", "lost": "peer_closed"}[first]


def test_x_07_a_declining_handler_whose_peer_left_keeps_the_first_canceller():
    wire = Wire()
    asked = wire.ask(1)
    asked.decline_cancel()
    wire.take(cancelled(1, "first"))
    wire.connection.end("peer_closed")
    assert (asked.record.cancelled_by, asked.record.cancel_reason) == ("peer", "first")
    assert asked.record.outcome == "peer_closed"
    assert asked.respond({}) is False


def test_cleanup_says_how_a_cancelled_handler_ended_and_how_long_it_took():
    wire = Wire()
    asked = wire.ask(1)
    wire.take(cancelled(1))
    wire.clock.advance(2.5)
    asked.respond({})
    assert asked.record.cleanup == "finished_anyway"
    assert asked.record.cleanup_duration == pytest.approx(2.5)


def test_an_answered_handler_has_no_cleanup():
    wire = Wire()
    asked = wire.ask(1)
    asked.respond({})
    assert asked.record.cleanup is None
    assert asked.record.cleanup_duration is None


def two(router):
    a, b = turnout.memory()
    return asyncio.gather(router.connect(a, era=None, name="a"), router.connect(b, era=None, name="b"))


@both_loops
async def test_tsk_59_records_are_queried_followed_and_written(tmp_path):
    async with turnout.Router() as router:
        pa, pb = await two(router)

        @pb.on_request("work")
        async def work(request):
            return {}

        file = io.BytesIO()
        followed = router.records.follow()
        with router.records.write(file), router.records.write(tmp_path / "records.jsonl"):
            await pa.send("work")
            with pytest.raises(turnout.RemoteError):
                await pa.send("missing")
        await pa.send("work")
        assert len(router.records) == 6
        assert len(router.records.query(method="work")) == 4
        assert len(router.records.query(method="work", direction="outbound", peer="a")) == 2
        assert {record.outcome for record in router.records.query(method="missing")} == {"error"}
        (missing,) = router.records.query(method="missing", direction="outbound")
        assert missing not in router.records.query(until=missing.ended)
        assert missing in router.records.query(since=missing.ended)
        assert router.records.counts["result"] == 4
        lines = [json.loads(line) for line in file.getvalue().splitlines()]
        assert [line["method"] for line in lines] == ["work"] * 2 + ["missing"] * 2
        assert (tmp_path / "records.jsonl").read_bytes() == file.getvalue()
        followed.close()
        assert [record.method async for record in followed] == ["work"] * 2 + ["missing"] * 2 + ["work"] * 2


@pytest.mark.parametrize("file", [io.StringIO(), sys.stdout], ids=["memory", "stdout"])
@both_loops
async def test_use_records_are_written_to_no_text_file(file):
    async with turnout.Router() as router:
        with pytest.raises(TypeError, match="open the file in mode 'ab'"):
            router.records.write(file)
        assert router.records._readers == []


class Source:
    """Whoever produces records, and what it was asked for."""

    def __init__(self):
        self.asked = []

    def follow_records(self, listener, *, every=False, wanted=None):
        self.asked.append(every)


def test_a_source_makes_every_record_only_while_somebody_follows():
    records, source = turnout.Records(turnout.Ledger()), Source()
    records.attach(source)
    one, other = records.follow(), records.follow()
    one.close()
    assert source.asked == [False, True, True], "another one follows yet"
    other.close()
    assert source.asked[-1] is False
    with records.on_finished(lambda: None):
        records.follow().close()
        assert source.asked[-1] is True
    assert source.asked[-1] is False


@both_loops
async def test_a_slow_follower_loses_the_oldest_and_knows_how_many():
    async with turnout.Router() as router:
        pa, _pb = await two(router)
        followed = router.records.follow(capacity=3)
        for n in range(5):
            pa.send(f"m{n}").cancel()
        followed.close()
        assert followed.missed == 2
        assert [record.method async for record in followed] == ["m2", "m3", "m4"]


@both_loops
async def test_late_answers_and_late_progress_are_events():
    async with turnout.Router() as router:
        pa, pb = await two(router)
        begun, events = asyncio.Event(), []
        arrived = asyncio.Event()

        @pa.on_event
        def note(event):
            events.append(event)
            if type(event) is turnout.LateResponse:
                arrived.set()

        @pb.on_request("initialize")
        async def stubborn(request):
            begun.set()
            await go.wait()
            request.progress(1)
            return {"late": 1}

        go = asyncio.Event()
        call = pa.send("initialize")
        await begun.wait()
        call.cancel("silently")
        go.set()
        await arrived.wait()
        assert [type(event).__name__ for event in events] == ["LateProgress", "LateResponse"]
        assert {event.record for event in events} == {call.record}
        assert json.loads(events[1].raw) == {"late": 1}
        assert call.record.late_response == "result"
        assert call.record.late_progress == 1


def test_every_record_can_be_written_as_json_whatever_the_peer_chose():
    wire = Wire()
    from turnout.records import to_json

    for id in ('"\\ud800"', "1e400", "-0", '"\\u0000"', "123456789012345678901234567890"):
        (asked,) = wire.take(
            b'{"jsonrpc":"2.0","id":' + id.encode() + b',"method":"m\\ud800\\n","params":{"_meta":{"progressToken":'
            + (id if id != "1e400" else "1").encode() + b"}}}\n"
        )  # fmt: skip
        asked.respond({})
        line = to_json(asked.record)
        assert line.count(b"\n") == 1
        json.loads(line)


def test_a_frame_that_is_refused_tells_what_and_where():
    wire = Wire()
    (refused,) = wire.take(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":tru}}\n')
    assert (refused.reason, refused.offset, refused.length) == ("not_json", 51, 56)
    assert "byte" in repr(refused)


def test_requests_of_two_reads_have_their_own_records():
    wire = Wire()
    (one,) = wire.take(request(1))
    one.respond({})
    (two_,) = wire.take(request(1))
    assert one.record != two_.record
    assert len({one.record, two_.record}) == 2


@pytest.mark.parametrize("token", ["t", 7, "\u20ac", "x" * 100])
def test_prg_04_the_record_shows_the_token_that_stands_on_the_wire(token):
    wire = Wire()
    own, ours = wire.call(params={"_meta": {"progressToken": token}}), wire.call()
    none = wire.call(progress=False)
    assert [call.record.token for call in (own, ours, none)] == [token, ours.id, None]


@pytest.mark.parametrize("end", ["closed", "peer_closed", "peer_exited", "peer_silent"])
def test_x_07_a_handler_that_opted_out_ends_as_its_connection_did(end):
    wire = Wire()
    asked = wire.ask()
    asked.decline_cancel()
    wire.take(cancelled(1))
    assert asked.record.outcome is None
    wire.connection.end(end)
    assert asked.record.outcome == end
    assert wire.at_rest
