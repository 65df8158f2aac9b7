"""The tables alone, from Python: what goes in and comes out, errors by name, and nothing that holds on (X-08)."""

import gc
import weakref

import pytest

import turnout
from limit_sides import sides
from turnout._native import Clock, Flights, Ledger


class Slot:
    """Whatever hangs on a request."""


def test_rid_04_ids_are_minted_or_taken_and_slots_come_back():
    flights = Flights()
    one, other = Slot(), Slot()
    assert flights.open("work", one) == 1
    assert flights.open("work", other, False, "listen-1") == "listen-1"
    assert flights.outbound() == {1: one, "listen-1": other}
    with pytest.raises(ValueError, match="request id 'listen-1' is already in flight"):
        flights.open("work", Slot(), False, "listen-1")
    assert flights.claim("listen-1", False) is other
    assert flights.claim("listen-1", False) is None
    assert flights.claim(None, True) is None
    assert flights.claim(1, True) is one
    assert flights.counters()["unmatched_responses"] == 2
    assert flights.ledger.outcomes()["error"] == 1


@pytest.mark.parametrize(
    "request_id", ["", "7", 'a "quoted" one', "é\n", "\ud800", -1, 0, 2**53, 10**30, "x" * 200]
)
def test_x_02_any_id_of_pythons_is_its_own(request_id):
    flights = Flights()
    slot = Slot()
    flights.begin(request_id, "work", request_id, slot)
    assert flights.handling(request_id) is slot
    for other in ("7 ", 7, "\ud801", 10**30 + 1):
        assert flights.handling(other) is None
    assert len(flights.inbound()) == 1
    assert flights.finish(request_id, slot, "result")
    (record,) = flights.ledger.records()
    if request_id not in ("\ud800", 10**30):
        assert record.id == record.token == request_id


class Count(int):
    def __str__(self):
        return '1,"forged":2'

    __repr__ = __str__


@pytest.mark.parametrize("number", [5, 2**53, 10**30])
def test_j5_an_id_is_the_number_that_it_is_whatever_its_class_makes_of_itself(number):
    flights = Flights()
    slot = Slot()
    flights.begin(Count(number), "work", None, slot)
    assert flights.handling(number) is slot


def test_errors_are_named():
    flights = Flights(limits={"max_outbound": 1, "max_inbound": 1, "max_id_bytes": 8})
    flights.open("work", Slot())
    with pytest.raises(turnout.LimitExceeded) as caught:
        flights.open("work", Slot())
    assert caught.value.limit == "max_outbound"
    with pytest.raises(turnout.LimitExceeded) as caught:
        flights.begin("much too long", "work", None, Slot())
    assert caught.value.limit == "max_id_bytes"
    flights.begin(1, "work", None, Slot())
    with pytest.raises(ValueError, match="request id 1 is already in flight"):
        flights.begin(1, "work", None, Slot())
    with pytest.raises(turnout.LimitExceeded) as caught:
        flights.begin(2, "work", None, Slot())
    assert caught.value.limit == "max_inbound"
    with pytest.raises(ValueError, match='no handler ends by "boredom"'):
        flights.finish(1, Slot(), "boredom")
    with pytest.raises(ValueError, match="does not end a request"):
        flights.abandon(1, "result")
    with pytest.raises(ValueError, match="does not end a connection"):
        flights.end("result")
    with pytest.raises(TypeError, match="there is no limit named"):
        Flights(limits={"max_everything": 1})
    with pytest.raises(TypeError):
        flights.handling(1.5)
    flights.end()
    with pytest.raises(turnout.ConnectionClosed):
        flights.open("work", Slot())


def test_can_20_times_come_from_the_clock_that_was_given():
    clock, ledger = Clock(manual=True), Ledger()
    flights = Flights("the peer", "streams", clock=clock, ledger=ledger)
    slot = Slot()
    flights.begin("a", "work", "t", slot)
    clock.advance(1)
    assert flights.report("a", slot, 1, 2, "half")
    clock.advance(1)
    assert flights.cancel("a", "no more") is slot
    assert flights.cancel("a") is None
    clock.advance(1)
    assert flights.finish("a", slot, "stopped")
    (record,) = ledger.records()
    assert (record.peer, record.transport, record.token) == ("the peer", "streams", "t")
    assert record.last_progress - record.created == pytest.approx(1)
    assert record.cancel_requested - record.created == pytest.approx(2)
    assert record.cleanup_duration == pytest.approx(1)
    assert record.progress.message == "half"
    assert flights.in_flight == (0, 0)


def test_who_follows_hears_of_cancels_or_of_everything_once():
    flights = Flights()
    heard = []
    slot = Slot()

    def one_of_each():
        heard.clear()
        flights.claim(flights.open("answered", slot), False)
        flights.abandon(flights.open("abandoned", slot), "cancelled", "why")
        flights.begin(1, "cancelled", None, slot)
        flights.cancel(1)
        flights.finish(1, slot, "stopped")
        flights.begin(1, "done", None, slot)
        flights.finish(1, slot, "result")
        return heard

    flights.follow_records(lambda records: heard.extend(record.method for record in records))
    assert one_of_each() == ["abandoned", "cancelled"]
    flights.follow_records(lambda records: heard.extend(record.method for record in records), every=True)
    assert one_of_each() == ["answered", "abandoned", "cancelled", "done"]
    flights.open("ours", slot)
    flights.begin(1, "theirs", None, slot)
    heard.clear()
    assert flights.end("peer_closed") == [slot]
    assert heard == ["ours", "theirs"]
    flights.follow_records(None)


def test_who_follows_is_asked_whether_cancels_are_wanted_before_they_are_told():
    flights = Flights()
    wants, heard = [], []

    def cancelled(method):
        flights.abandon(flights.open(method, Slot()), "cancelled")
        return heard

    def tell(records):
        heard.extend(record.method for record in records)

    flights.follow_records(tell, wanted=lambda: bool(wants))
    assert cancelled("nobody asked") == []
    wants.append("now")
    assert cancelled("wanted") == ["wanted"]
    wants.clear()
    flights.follow_records(tell, every=True, wanted=lambda: bool(wants))
    assert cancelled("every one") == ["wanted", "every one"]


def test_a_follower_may_ask_the_tables_it_hears_from():
    flights = Flights()
    seen = []
    flights.follow_records(lambda records: seen.append((flights.in_flight, flights.outbound())), every=True)
    flights.claim(flights.open("work", Slot()), False)
    assert seen == [((0, 0), {})]


def test_x_08_slots_that_hold_on_to_their_tables_are_collected():
    flights = Flights()
    slot = Slot()
    slot.flights = flights
    flights.open("work", slot)
    flights.begin(1, "work", None, slot)
    flights.follow_records(lambda _, flights=flights: None)
    gone = weakref.ref(slot)
    del slot, flights
    gc.collect()
    assert gone() is None


def test_x_08_a_slot_is_let_go_with_its_request():
    flights = Flights()
    slots = [Slot() for _ in range(4)]
    gone = [weakref.ref(slot) for slot in slots]
    flights.claim(flights.open("work", slots[0]), False)
    flights.abandon(flights.open("work", slots[1]), "cancelled")
    flights.begin(1, "work", None, slots[2])
    flights.finish(1, slots[2], "result")
    flights.open("work", slots[3])
    flights.end()
    slots.clear()
    assert [ref() for ref in gone] == [None] * 4


def test_what_it_holds_can_be_read():
    flights = Flights("someone")
    assert (flights.name, flights.transport, flights.max_inbound) == ("someone", "streams", 1 << 17)
    assert flights.entries() == {"outbound": 0, "inbound": 0}
    flights.open("work", Slot())
    assert repr(flights) == '<Flights "someone" open, 1 out and 0 in flight>'
    assert flights.memory > 0
    flights.end()
    assert flights.is_over
    assert "over" in repr(flights)
    assert flights.clock.time() > 0


@sides
def test_max_remembered_below_at_and_above(over):
    flights = Flights(limits={"max_remembered": 3})
    late = [flights.open("work", Slot()) for _ in range(3 + over)]
    for request_id in late:
        flights.abandon(request_id, "cancelled")
    assert [flights.claim(request_id, False) for request_id in late] == [None] * len(late)
    # The oldest made room: what comes for it was never asked for, as far as anybody knows.
    counts = flights.counters()
    assert (counts["late_responses"], counts["unmatched_responses"]) == (3 + min(over, 0), max(over, 0))
