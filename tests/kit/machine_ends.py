"""Two connections and the two streams of bytes between them, with a plain account of what has to be true of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import turnout

TIMES = 1e-6
"""Seconds by which two times may differ that were rounded on different ways."""


@dataclass
class Asked:
    """A request as both ends see it: the call on one, and once it has arrived, the request on the other."""

    call: turnout.Call
    name: str
    epoch: float
    timeout: float | None
    max_timeout: float | None
    own_token: bool = False
    parent: Asked | None = None
    ended: list[str] = field(default_factory=list)
    heard: list[float] = field(default_factory=list)
    heard_at_end: int | None = None
    cancelled: bool = False
    request: turnout.Request | None = None
    reported: list[float] = field(default_factory=list)
    answer: Any = None
    children: list[Asked] = field(default_factory=list)

    @property
    def record(self) -> turnout.Record:
        return self.call.record

    @property
    def is_open(self) -> bool:
        return self.record.outcome is None

    @property
    def is_answered(self) -> bool:
        return self.record.outcome in {"result", "error"} or self.record.late_response is not None

    @property
    def is_handled(self) -> bool:
        return self.request is not None and self.request.record.outcome is None


class End:
    """One end: its connection, its calls, what it was asked, and the bytes that left it."""

    def __init__(self, name: str, clock: turnout.Clock, ledger: turnout.Ledger, revision: str) -> None:
        self.name = name
        self.connection = turnout.Connection(name, clock=clock, ledger=ledger)
        self.connection.set_rules(revision)
        self.clock = clock
        self.asked: list[Asked] = []
        self.handled: list[Asked] = []
        self.on_the_way = bytearray()
        self.left = bytearray()
        self.congested = False
        self.faults: list[str] = []
        self.other: End

    def send(
        self,
        number: int,
        *,
        timeout: float | None,
        max_timeout: float | None,
        token: int | str | None = None,
        parent: Asked | None = None,
    ) -> Asked | None:
        """Send a request with a name of its own; None where the token was refused."""
        name = f"{self.name}{number}"
        params: dict[str, Any] = {"name": name}
        if token is not None:
            params["_meta"] = {"progressToken": token}
        live = [asked.record.token for asked in self.asked if asked.is_open]
        asker = self.connection if parent is None else parent.request
        try:
            call = asker.send("tools/call", params, timeout=timeout, max_timeout=max_timeout)
        except turnout.NotAllowed:
            assert token is not None
            # A number of ours may come back as a string of its digits, so that one is taken, too.
            # What is late for a call that was cancelled must not reach the next one with the same token.
            kept = [asked for asked in self.asked if not asked.is_answered]
            ids = [name for asked in kept for name in (asked.call.id, asked.record.token)]
            assert str(token) in map(str, ids), "X-11"
            return None
        except turnout.ConnectionClosed:
            assert self.connection.is_over
            return None
        # no two live requests of one end share a token.
        assert all(type(used) is not type(call.record.token) or used != call.record.token for used in live)
        epoch = call.record.created - self.clock.time()
        asked = Asked(call, name, epoch, timeout, max_timeout, own_token=token is not None, parent=parent)
        call.on_progress(lambda update: self.hear(asked, update.progress))
        call.add_done_callback(lambda call: self.take_end(asked))
        self.asked.append(asked)
        if parent is not None:
            parent.children.append(asked)
        return asked

    def hear(self, asked: Asked, value: float) -> None:
        self.hold(not asked.ended, "X-06: progress after the end")
        self.hold(value in asked.reported, "X-11: progress of another request")
        self.hold(not asked.heard or value > asked.heard[-1], "X-06: progress out of order")
        asked.heard.append(value)

    def take_end(self, asked: Asked) -> None:
        self.hold(not asked.ended, "X-07: ended twice")
        asked.ended.append(asked.record.outcome)
        asked.heard_at_end = len(asked.heard)

    def hold(self, holds: object, what: str) -> None:
        """Note what does not hold: what a callback raises reaches nobody."""
        if not holds:
            self.faults.append(what)

    def write(self) -> None:
        """Let the transport take what waits, once."""
        if self.congested:
            return
        taken = self.connection.data_to_send()
        self.on_the_way += taken
        self.left += taken

    def read(self, count: int) -> None:
        """Take that many bytes of what the other end wrote."""
        arrived = bytes(self.other.on_the_way[:count])
        del self.other.on_the_way[:count]
        for delivery in self.connection.receive_data(arrived):
            if isinstance(delivery, turnout.Request):
                self.take_request(delivery)

    def take_request(self, request: turnout.Request) -> None:
        name = request.params["name"]
        (asked,) = (asked for asked in self.other.asked if asked.name == name)
        assert asked.request is None, "X-01: one request arrived twice"
        assert (request.id, request.progress_token) == (asked.call.id, asked.record.token)
        asked.request = request
        self.handled.append(asked)

    # ---- what has to be true at any moment ----

    def check(self) -> None:
        assert self.faults == []
        for asked in self.asked:
            self.check_call(asked)
        for asked in self.handled:
            self.check_request(asked)
        ids = [asked.call.id for asked in self.asked]
        assert ids == sorted(set(ids)), "X-01: an id was used again"
        ours = sum(asked.is_open for asked in self.asked)
        theirs = sum(asked.is_handled for asked in self.handled)
        assert self.connection.in_flight == (ours, theirs)
        entries = self.connection.entries()
        assert entries["outbound"] == ours
        assert entries["inbound"] == entries["ids"] == theirs
        # A caller's own token is remembered until the answer has come, late or not.
        assert entries["tokens"] <= sum(asked.own_token and not asked.is_answered for asked in self.asked), (
            "X-08"
        )
        assert ours or entries["deadlines"] == 0, "X-08"

    def check_call(self, asked: Asked) -> None:
        record = asked.record
        assert asked.ended == [] if asked.is_open else asked.ended == [record.outcome], "X-07"
        assert asked.call.done() is not asked.is_open
        assert (record.ended is None) is asked.is_open
        if asked.is_open:
            assert record.cancelled_by is None
            return
        assert asked.heard_at_end == len(asked.heard), "X-06"
        assert record.progress_accepted == len(asked.heard)
        assert record.created <= record.ended + TIMES
        by = {"cancelled": "caller", "idle_timeout": "timeout", "max_timeout": "timeout"}
        assert record.cancelled_by == by.get(record.outcome)
        if record.outcome == "result":
            assert asked.call.result()["for"] == asked.name, "X-03: the answer of another request"
            assert asked.answer == "result"
            # Whatever its handler reported last stands before the result; only what was coalesced is missing.
            assert asked.reported == [] or asked.heard[-1] == asked.reported[-1], "X-06"
        elif record.outcome == "error":
            assert asked.answer == "error"
            assert asked.call.exception().message == asked.name
        elif record.outcome == "cancelled":
            with_its_parent = asked.parent is not None and asked.parent.request.cancelled
            assert asked.cancelled or with_its_parent, "X-07: cancelled by nobody"
        elif record.outcome == "idle_timeout":
            alive = max(record.created, record.last_progress or 0)
            assert record.ended - alive >= asked.timeout - TIMES
        elif record.outcome == "max_timeout":
            assert record.ended - record.created >= asked.max_timeout - TIMES
        else:
            assert self.connection.is_over
        if record.written is None:
            assert not record.cancel_written, "CAN-02: a cancel for what was never sent"

    def check_request(self, asked: Asked) -> None:
        request, record = asked.request, asked.request.record
        # `peer_silent`: the rest of a frame that was read in part did not come within `max_frame_ms`.
        lost = {"peer_closed", "peer_exited", "peer_silent", "closed"}
        assert request.cancelled is (record.outcome in {"cancelled", *lost})
        if record.outcome == "cancelled":
            assert record.cancelled_by == "peer"
            assert not asked.is_open, "X-03: a cancel that its caller never sent"
        if record.outcome in {"result", "error"}:
            assert asked.answer == record.outcome
        if request.cancelled:
            assert not any(child.is_open for child in asked.children), "X-10"

    def check_due(self) -> None:
        """After `expire`: whatever was overdue is over."""
        for asked in self.asked:
            if asked.is_open:
                record = asked.record
                now = asked.epoch + self.clock.time()
                alive = max(record.created, record.last_progress or 0)
                assert asked.timeout is None or now - alive < asked.timeout + TIMES
                assert asked.max_timeout is None or now - record.created < asked.max_timeout + TIMES

    # ---- what has to be true of everything that was ever written ----

    def check_written(self) -> None:
        answered, cancelled, requested, moved = set(), set(), set(), {}
        for line in self.left.splitlines():
            message = json.loads(line)
            method = message.get("method")
            if method is None and message.get("id") is None:
                assert message["error"]["code"] in {-32700, -32600}  # the other end was told of noise
            elif method is None:
                assert message["id"] not in answered, "two answers to one request"
                answered.add(message["id"])
            elif method == "notifications/cancelled":
                id = message["params"]["requestId"]
                assert id in requested, "CAN-02: a cancel for what was never sent"
                assert id not in cancelled, "two cancels of one request"
                cancelled.add(id)
            elif method == "notifications/progress":
                token, value = message["params"]["progressToken"], message["params"]["progress"]
                (asked,) = (asked for asked in self.handled if value in asked.reported)
                assert asked.record.token == token
                assert asked.call.id not in answered, "PRG-11: progress after the answer"
                assert moved.get(asked.name, 0) < value, "PRG-07"
                moved[asked.name] = value
            elif method == "tools/call":
                requested.add(message["id"])
        for asked in self.asked:
            assert (asked.call.id in requested) is (asked.record.written is not None)
            assert asked.call.id not in cancelled or asked.record.cancel_written
            if not self.connection.pending_bytes:
                assert (asked.call.id in cancelled) is asked.record.cancel_written
        for asked in self.handled:
            has_answer = asked.request.record.outcome in {"result", "error"}
            assert asked.call.id not in answered or has_answer, "CAN-13"
            if not self.connection.pending_bytes:
                assert (asked.call.id in answered) is has_answer
