"""Requests under ids of the caller's own, requests that end without a word, and cancels that a callback takes."""

from __future__ import annotations

import json

import pytest

from wire import Wire, cancelled, error, progress, request, result


def test_rid_02_prg_01_a_chosen_id_is_the_id_and_the_token_on_the_wire():
    wire = Wire()
    seen = []
    call = wire.connection.send(
        "tools/call", {"a": 1}, request_id="listen-1", on_progress=lambda update: seen.append(update.progress)
    )
    assert call.id == call.record.id == "listen-1"
    [sent] = wire.written()
    assert sent["id"] == "listen-1"
    assert sent["params"]["_meta"] == {"progressToken": "listen-1"}
    wire.take(progress("listen-1", 0.5), result("listen-1", {"done": True}))
    assert seen == [0.5]
    assert call.result() == {"done": True}
    assert wire.at_rest


def test_rid_04_a_chosen_id_in_flight_is_not_used_again_until_its_request_ended():
    wire = Wire()
    first = wire.connection.send("a", request_id="x")
    with pytest.raises(ValueError, match="in flight"):
        wire.connection.send("a", request_id="x")
    wire.raw()
    wire.take(error("x"))
    assert first.done()
    second = wire.connection.send("a", request_id="x")
    wire.raw()
    wire.take(result("x"))
    assert second.result() == {}
    assert wire.at_rest


def test_x_02_x_11_chosen_and_minted_ids_never_mean_two_requests():
    wire = Wire()
    chosen = wire.connection.send("chosen", request_id=2)
    minted = [wire.connection.send("minted") for _ in range(3)]
    ids = [sent["id"] for sent in wire.written()]
    assert ids[0] == 2
    assert len(set(ids)) == len(ids)
    with pytest.raises(ValueError, match="in flight"):
        wire.connection.send("a", request_id=minted[0].id)
    wire.take(result(2, {"of": "chosen"}), *(result(call.id, {"of": call.id}) for call in minted))
    assert chosen.result() == {"of": "chosen"}
    assert [call.result() for call in minted] == [{"of": call.id} for call in minted]
    assert wire.at_rest


def test_rid_08_the_number_behind_a_chosen_id_answers_nothing():
    wire = Wire()
    call = wire.connection.send("a", request_id="x")
    wire.raw()
    wire.take(result(1))
    assert not call.done()
    assert wire.counts["unmatched_responses"] == 1
    wire.take(result("x"))
    assert call.done()


def test_can_01_can_17_a_cancel_names_the_chosen_id_and_a_late_answer_finds_its_record():
    wire = Wire()
    call = wire.connection.send("a", request_id="x")
    wire.raw()
    assert call.cancel("enough")
    [sent] = wire.written()
    assert sent["method"] == "notifications/cancelled"
    assert sent["params"] == {"requestId": "x", "reason": "enough"}
    assert wire.at_rest
    [late] = wire.take(result("x"))
    assert late.record.id == "x"
    assert wire.at_rest


@pytest.mark.parametrize("id", [True, 1.5, b"x", ["x"]])
def test_rid_02_an_id_is_a_str_or_an_int(id):
    with pytest.raises(TypeError, match="str or an int"):
        Wire().connection.send("a", request_id=id)


@pytest.mark.parametrize("ending", ["cancel", "timeout"])
def test_can_10_a_request_that_nobody_is_told_of_ends_without_a_word(ending):
    wire = Wire()
    call = wire.connection.send("a", notify_peer=False, max_timeout=5)
    wire.raw()
    if ending == "cancel":
        assert call.cancel()
    else:
        wire.clock.advance(6)
        wire.connection.expire()
    assert call.done()
    assert wire.written() == []
    assert call.record.outcome == {"cancel": "cancelled", "timeout": "max_timeout"}[ending]


def test_can_11_a_callback_takes_the_cancel_with_its_reason():
    wire = Wire()
    asked, reasons = wire.ask(1), []
    asked.on_cancel(reasons.append)
    wire.take(cancelled(1, "user left"))
    assert reasons == ["user left"]
    assert asked.record.outcome == "cancelled"
    late = []
    asked.on_cancel(late.append)
    assert late == ["user left"]


def test_png_01_a_ping_is_handed_over_where_the_host_has_its_own_answer():
    wire = Wire(answer_ping=False)
    [asked] = wire.take(request(1, "ping"))
    asked.respond({"mine": True})
    assert json.loads(wire.raw())["result"] == {"mine": True}


def test_x_08_names_of_cancelled_requests_do_not_pile_up():
    wire = Wire()
    held = wire.connection.memory
    for start in range(0, 10_000, 100):
        calls = [wire.connection.send("a", request_id=f"name-{n}") for n in range(start, start + 100)]
        wire.raw()
        for call in calls:
            call.cancel()
        wire.raw()
        assert wire.at_rest
    assert wire.connection.memory < held + (1 << 20)
    # Those whose slots were needed again are forgotten, the newest are still recognised.
    wire.take(result("name-0"), result("name-9999"))
    assert wire.counts["unmatched_responses"] == 1
    assert wire.counts["late_responses"] == 1
