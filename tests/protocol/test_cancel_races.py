"""Cancels, answers, deadlines and ends in every order: one wins, the others leave evidence and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import LEGACY, MODERN, Wire, cancelled, error, outcome, result

OURS = {
    "result": "result",
    "error": "error",
    "cancel": "cancelled",
    "deadline": "idle_timeout",
    "lost": "peer_closed",
    "close": "closed",
}
THEIRS = {
    "cancel": "cancelled",
    "respond": "result",
    "fail": "error",
    "lost": "peer_closed",
    "close": "closed",
}
ENDS = ("lost", "close")


def end(wire, step):
    wire.connection.end("peer_closed" if step == "lost" else "closed")


@pytest.mark.parametrize("revision", [LEGACY[-1], MODERN])
@pytest.mark.parametrize("first", OURS)
def test_can_18_x_07_a_call_of_ours_ends_by_whatever_came_first(revision, first):
    others = [step for step in OURS if step != first]
    for order in itertools.permutations(others, 3):
        order = (first, *order)
        wire = Wire(revision, "client")
        call = wire.call(timeout=1, max_timeout=None)
        for step in order:
            if step in ENDS:
                end(wire, step)
            elif step == "cancel":
                assert call.cancel("stop") is (first == "cancel"), order
            elif step == "deadline":
                wire.later(2)
            else:
                wire.take((result if step == "result" else error)(call.id))
        assert outcome(call) == OURS[first], order
        told = [m for m in wire.written() if m.get("method") == "notifications/cancelled"]
        assert len(told) == (first in ("cancel", "deadline")), order
        late = [
            step
            for step in itertools.takewhile(lambda s: s not in ENDS, order)
            if step in ("result", "error")
        ]
        assert call.record.late_response == (late[0] if late and late[0] != first and first not in ENDS
                                             and first not in ("result", "error") else None), order  # fmt: skip
        wire.connection.end()
        assert wire.at_rest, order


@pytest.mark.parametrize("declines", [False, True])
def test_can_18_can_13_a_request_of_theirs_is_answered_once_or_not_at_all(declines):
    for order in itertools.permutations(THEIRS, 4):
        wire = Wire(role="server")
        asked = wire.ask(1)
        if declines:
            asked.decline_cancel()
        for step in order:
            if step in ENDS:
                end(wire, step)
            elif step == "cancel":
                wire.take(cancelled(1))
            elif step == "respond":
                asked.respond({})
            else:
                asked.fail(-1, "x")
        expected = THEIRS[order[0]]
        if declines and order[0] == "cancel":
            # It works on; the next step that is an end of it is one.
            expected = {"lost": "peer_closed", "close": "closed"}.get(order[1], "declined")
        assert asked.record.outcome == expected, order
        assert len(wire.written()) == (order[0] in ("respond", "fail")), order
        wire.connection.end()
        assert wire.at_rest, order


@pytest.mark.parametrize("seed", range(20))
def test_can_07_can_08_can_09_can_24_every_cancel_names_a_request_of_ours_that_is_in_flight(seed):
    dice = random.Random(seed)
    wire = Wire(MODERN if seed % 2 else LEGACY[-1], "client" if seed % 2 else "either")
    calls, issued, answered, named = [], set(), set(), []

    def note():
        for message in wire.written():
            if message.get("method") == "notifications/cancelled":
                id = message["params"]["requestId"]
                assert id in issued, "named before it was issued, or never issued"
                assert id not in answered
                named.append(id)
            elif message.get("method") == "tools/call":
                issued.add(message["id"])

    for step in range(300):
        act = dice.choice(("send", "send", "cancel", "cancel", "answer", "write", "theirs", "time"))
        if act == "send":
            calls.append(wire.connection.send("tools/call", {}, timeout=dice.choice((1, None))))
        elif act == "write":
            note()
        elif act == "theirs" and not seed % 2:
            wire.take(cancelled(step), b'{"jsonrpc":"2.0","id":%d,"method":"m"}\n' % step)
        elif act == "time":
            wire.later(dice.random())
        elif calls and act == "cancel":
            dice.choice(calls).cancel()
        elif issued and act == "answer":
            note()
            id = dice.choice(sorted(issued))
            wire.take(result(id))
            answered.add(id)
    note()
    assert len(named) == len(set(named))
    assert named


@both_loops
async def test_can_01_x_03_both_sides_cancel_in_one_session():
    async with turnout.Router() as router:
        client, server = await pair(router)
        begun = {name: asyncio.Event() for name in ("tools/call", "sampling/createMessage")}
        stopped = {name: asyncio.Event() for name in begun}

        async def hold(request):
            begun[request.method].set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped[request.method].set()

        server.on_request("tools/call")(hold)
        client.on_request("sampling/createMessage")(hold)
        calls = [client.send("tools/call"), server.send("sampling/createMessage")]
        assert calls[0].id == calls[1].id
        for event in begun.values():
            await event.wait()
        calls[1].cancel("the server changed its mind")
        await stopped["sampling/createMessage"].wait()
        assert not stopped["tools/call"].is_set()
        assert not calls[0].done()
        calls[0].cancel("the client, too")
        await stopped["tools/call"].wait()
        reasons = {r.cancel_reason for r in router.records.query(direction="inbound")}
        assert reasons == {"the server changed its mind", "the client, too"}


@pytest.mark.parametrize("params", [None, {}, {"reason": "no id"}, {"requestId": 1}, {"requestId": 99}])
@pytest.mark.parametrize("revision", [*LEGACY, MODERN])
def test_can_05_can_07_a_cancel_is_not_sent_by_hand(revision, params):
    wire = Wire(revision, "client")
    wire.call()
    with pytest.raises(turnout.NotAllowed, match="by hand"):
        wire.connection.notify("notifications/cancelled", params)
    assert wire.written() == []
