"""The table of suspended exchanges by itself: every event in every state, and walks over many exchanges."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from turnout.relay.mrtr.suspended import (
    AWAY,
    COUNTED,
    TRANSITIONS,
    Event,
    State,
    SuspendedExchange,
    SuspendedExchanges,
)

REACH = {
    State.WORKING: (),
    State.SUSPENDED: (Event.ASK,),
    State.ANSWERED: (Event.ASK, Event.ANSWER),
    State.ENDED: (Event.ANSWER,),
}
"""The events that lead to each state."""


def exchange_of(server="server", client="client"):
    return SuspendedExchange(None, server, client, None, None, {})


def test_r5_every_event_in_every_state():
    for state, event in itertools.product(State, Event):
        table, exchange = SuspendedExchanges(), exchange_of()
        table.add(exchange)
        for step in REACH[state]:
            assert table.apply(exchange, step)
        assert exchange.state is state
        handle, counted = exchange.handle, table.counters()
        after = TRANSITIONS.get((state, event))
        assert table.apply(exchange, event) == (after is not None)
        assert exchange.state is (after or state)
        if after is None:
            assert (exchange.handle, table.counters()) == (handle, counted), "no effect at all"


def test_r5_nothing_happens_to_an_exchange_that_has_ended():
    assert not any(state is State.ENDED for state, _ in TRANSITIONS)


def test_r5_a_handle_is_found_by_its_client_only_and_once():
    table, exchange = SuspendedExchanges(), exchange_of()
    table.add(exchange)
    table.apply(exchange, Event.ASK)
    handle = exchange.handle
    assert table.find("client", handle) is exchange
    assert table.find("other", handle) is None
    table.apply(exchange, Event.RETURN)
    assert table.find("client", handle) is None
    table.apply(exchange, Event.ASK)
    assert exchange.handle != handle


def test_r5_a_question_belongs_to_the_newest_exchange_whose_client_waits():
    table = SuspendedExchanges()
    assert table.asking("server") is None
    first, second, third = exchanges = [exchange_of() for _ in range(3)]
    for exchange in exchanges:
        table.add(exchange)
    assert table.asking("server") is third
    table.apply(third, Event.ASK)
    assert table.asking("server") is second
    for exchange in (first, second):
        table.apply(exchange, Event.ASK)
    assert table.asking("server") is third, "nobody waits: the newest is asked once more"
    table.apply(third, Event.ANSWER)
    assert table.asking("server") is second, "one that was answered has nothing to ask"
    for exchange in (first, second):
        table.apply(exchange, Event.ANSWER)
    assert table.asking("server") is None


class Walk(RuleBasedStateMachine):
    """Exchanges of several clients and servers, and what is known of them beside the table."""

    def __init__(self):
        super().__init__()
        self.table = SuspendedExchanges()
        self.exchanges = []
        self.counted = dict.fromkeys(COUNTED.values(), 0)

    @rule(server=st.sampled_from("st"), client=st.sampled_from("abc"))
    def add(self, server, client):
        self.exchanges.append(exchange_of(server, client))
        self.table.add(self.exchanges[-1])

    @precondition(lambda self: self.exchanges)
    @rule(index=st.integers(0, 20), event=st.sampled_from(Event))
    def happens(self, index, event):
        exchange = self.exchanges[index % len(self.exchanges)]
        if self.table.apply(exchange, event) and event in COUNTED:
            self.counted[COUNTED[event]] += 1

    @invariant()
    def a_handle_is_out_while_a_client_is_away(self):
        away = [one for one in self.exchanges if one.state in AWAY]
        assert all((one.handle is not None) == (one in away) for one in self.exchanges)
        assert len({one.handle for one in away}) == len(away)
        for client in "abc":
            assert set(self.table.away(client)) == {one for one in away if one.client == client}
        assert all(self.table.find(one.client, one.handle) is one for one in away)

    @invariant()
    def what_has_ended_is_not_there(self):
        assert len(self.table) == sum(one.state is not State.ENDED for one in self.exchanges)
        if all(one.state is State.ENDED for one in self.exchanges):
            assert not self.table._by_handle
            assert not self.table._by_server

    @invariant()
    def the_counters_are_those_of_what_happened(self):
        assert self.table.counters() == self.counted


TestWalk = Walk.TestCase
