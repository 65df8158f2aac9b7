"""Every order of events that a machine can think of: send, answer, progress, cancel, time, close and start again.

`HYPOTHESIS_PROFILE=long` looks longer, and elsewhere each time; otherwise each run takes the same ways.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import turnout
from machine_ends import End
from wire import REVISIONS, cancelled, frame, progress, result

settings.register_profile(
    "default",
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    max_examples=300,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "long",
    settings.get_profile("default"),
    derandomize=False,
    max_examples=5000,
    stateful_step_count=120,
)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SIDES = st.sampled_from([0, 1])
PICKS = st.integers(0, 63)
SECONDS = st.sampled_from([None, 1.0, 5.0, 30.0])

NOISE = (
    b"noise\n", b"{\n", b"\xff\n", b"\n", frame(id="x", result={}), frame(id=9 * 10**15, result={}), result("one"),
    frame(id=None, error={"code": 1, "message": "m"}), cancelled("nobody"), cancelled(10**30), cancelled(None),
    progress("nobody", 1), progress(1.5, 1), progress(9 * 10**15, 1), frame(method="notifications/progress"),
    frame(method="notifications/cancelled", params={}), frame(method="notifications/nobody/knows"),
)  # fmt: skip
"""What can be matched with nothing: none of it may move anything (X-05)."""


class Flights(RuleBasedStateMachine):
    """Two ends, each asking the other, their streams in between cut anywhere and stopped at any time."""

    @initialize(revision=st.sampled_from(REVISIONS))
    def begin(self, revision):
        self.revision, self.numbers, self.steps = revision, 0, 0.0
        self.clock = turnout.Clock(manual=True)
        self.again()

    def again(self):
        self.ledgers = [turnout.Ledger(), turnout.Ledger()]
        self.ends = [
            End(name, self.clock, ledger, self.revision)
            for name, ledger in zip("ab", self.ledgers, strict=True)
        ]
        self.ends[0].other, self.ends[1].other = reversed(self.ends)

    def open_calls(self, side):
        return [asked for asked in self.ends[side].asked if asked.is_open]

    def handled(self, side):
        return self.ends[side].handled

    @staticmethod
    def pick(among, at):
        return among[at % len(among)] if among else None

    # ---- our requests ----

    @rule(side=SIDES, timeout=SECONDS, max_timeout=SECONDS)
    def send(self, side, timeout, max_timeout):
        self.numbers += 1
        self.ends[side].send(self.numbers, timeout=timeout, max_timeout=max_timeout)

    @rule(side=SIDES, token=st.sampled_from([1, 2, 3, "1", "t", "\u20ac", 7]))
    def send_with_a_token_of_its_own(self, side, token):
        self.numbers += 1
        self.ends[side].send(self.numbers, timeout=30, max_timeout=None, token=token)

    @rule(side=SIDES, at=PICKS)
    def send_for_a_request(self, side, at):
        parent = self.pick(self.handled(side), at)
        if parent is not None:
            self.numbers += 1
            self.ends[side].send(self.numbers, timeout=30, max_timeout=None, parent=parent)

    @rule(side=SIDES, at=PICKS)
    def cancel(self, side, at):
        asked = self.pick(self.ends[side].asked, at)
        if asked is not None:
            was_open = asked.is_open
            asked.cancelled |= was_open
            assert asked.call.cancel("why") is was_open

    # ---- the bytes ----

    @rule(side=SIDES)
    def write(self, side):
        self.ends[side].write()

    @rule(side=SIDES, share=st.sampled_from([0.3, 0.7, 1.0, 1.0, 1.0]))
    def read(self, side, share):
        end = self.ends[side]
        end.read(int(len(end.other.on_the_way) * share + 0.5))

    @rule(side=SIDES, noise=st.sampled_from(NOISE))
    def make_noise(self, side, noise):
        end = self.ends[side]
        if not end.on_the_way or end.on_the_way.endswith(b"\n"):
            end.on_the_way += noise

    @rule(side=SIDES)
    def congest(self, side):
        end = self.ends[side]
        end.congested = not end.congested
        if end.congested:
            end.connection.pause_writing()
        else:
            end.connection.resume_writing()

    # ---- the other end's requests ----

    @rule(side=SIDES, at=PICKS, fails=st.booleans())
    def answer(self, side, at, fails):
        asked = self.pick(self.handled(side), at)
        if asked is None:
            return
        may = asked.is_handled
        if may:
            asked.answer = "error" if fails else "result"
        request = asked.request
        done = request.fail(-5, asked.name) if fails else request.respond({"for": asked.name})
        assert done is may, "CAN-13: answered once, and never after a cancel"

    @rule(side=SIDES, at=PICKS, grows=st.booleans())
    def report(self, side, at, grows):
        asked = self.pick(self.handled(side), at)
        if asked is None:
            return
        self.steps += 1
        if not grows and asked.reported:
            told = asked.request.progress(asked.reported[-1])
            assert told == ("not_increasing" if asked.is_handled else "over")
            return
        # On the way to the peer or not, the value is this request's alone.
        told = asked.request.progress(self.steps)
        assert told in ({"sent", "coalesced"} if asked.is_handled else {"over"})
        if told != "over":
            asked.reported.append(self.steps)

    # ---- time, and the end ----

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 10.0, 40.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)
        for end in self.ends:
            end.connection.expire()
            end.check_due()

    @precondition(lambda self: self.numbers % 5 == 4)
    @rule(side=SIDES, outcome=st.sampled_from(["closed", "peer_closed", "peer_exited"]))
    def end(self, side, outcome):
        self.ends[side].connection.end(outcome)
        assert self.open_calls(side) == []

    @precondition(lambda self: all(end.connection.is_over for end in self.ends))
    @rule()
    def start_again(self):
        self.settle_books()
        self.again()

    # ---- what holds after every step ----

    @invariant()
    def everything_is_accounted_for(self):
        for end in getattr(self, "ends", ()):
            end.check()

    @invariant()
    def what_was_written_makes_sense(self):
        for end in getattr(self, "ends", ()):
            end.check_written()

    def settle_books(self):
        for end, ledger in zip(self.ends, self.ledgers, strict=True):
            end.connection.end("closed")
            end.check()
            assert end.connection.in_flight == (0, 0)
            assert not any(end.connection.entries().values()), "X-08"
            assert sum(ledger.outcomes().values()) == len(end.asked) + len(end.handled), "one record each"
            kept = {record.as_dict()["id"] for record in ledger.records() if record.direction == "outbound"}
            assert kept == {asked.call.id for asked in end.asked}

    def teardown(self):
        if hasattr(self, "ends"):
            self.settle_books()


def test_x_01_x_02_x_03_x_05_x_06_x_07_x_08_x_10_x_11_hold_in_any_order():
    run_state_machine_as_test(Flights, settings=PROFILE)
