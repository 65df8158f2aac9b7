"""Callbacks of a connection without a loop: an exit is raised by who called, when everything is done (S4)."""

from __future__ import annotations

import sys

import pytest

from raising import EXCEPTIONS, EXITS, Bang
from wire import Wire, cancelled, progress, request, result

pytestmark = pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda kind: kind.__name__)


@pytest.fixture
def complaints(monkeypatch):
    """What callbacks without a loop raised."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(report.exc_value))
    return reported


def raises(bang, act):
    """Act: an exit comes out of it. Gives what came of it, or None for an exit."""
    if not isinstance(bang.error, EXITS):
        return act()
    with pytest.raises(type(bang.error)) as caught:
        act()
    assert caught.value is bang.error
    return None


def check(bang, complaints):
    assert complaints == ([] if isinstance(bang.error, EXITS) else [bang.error])


@pytest.mark.parametrize("kind", ["done", "progress", "records", "cancel", "child"])
def test_s4_a_read_is_taken_whole_and_what_it_gives_is_not_lost(raised, kind, complaints):
    wire, bang = Wire(), Bang(raised)
    first, last = wire.call(), wire.call()
    doomed = wire.ask("doomed")
    frames = []
    if kind == "done":
        first.add_done_callback(bang)
    elif kind == "progress":
        first.on_progress(bang)
        frames = [progress(first.id, 1)]
    elif kind == "records":
        wire.connection.follow_records(bang, every=True)
    elif kind == "cancel":
        doomed.on_cancel(bang)
        frames = [cancelled("doomed")]
    else:
        doomed.send("child").add_done_callback(bang)
        wire.raw()
        frames = [cancelled("doomed")]
    given = raises(
        bang, lambda: wire.take(request("a"), *frames, result(first.id), result(last.id), request("b"))
    )
    if given is None:
        given = wire.take()
    assert [asked.id for asked in given] == ["a", "b"]
    assert wire.take() == []
    assert (first.done(), last.done()) == (True, True)
    for asked in (*given, doomed):
        asked.respond({})
    wire.connection.follow_records(None)
    check(bang, complaints)
    wire.raw()
    if kind == "child":
        wire.take(result(3))
    assert wire.at_rest
    assert wire.answers


@pytest.mark.parametrize("way", ["expire", "end", "cancel", "respond", "fail", "late callback"])
def test_s4_what_else_ends_requests_ends_all_of_them(raised, way, complaints):
    wire, bang = Wire(), Bang(raised)
    calls = [wire.call(timeout=1) for _ in range(3)]
    asked = wire.ask("a")
    if way in ("respond", "fail"):
        wire.connection.follow_records(bang, every=True)
    elif way != "late callback":
        for call in calls:
            call.add_done_callback(bang)
    if way == "expire":
        raises(bang, lambda: wire.later(2))
    elif way == "end":
        raises(bang, lambda: wire.connection.end("closed"))
    elif way == "cancel":
        raises(bang, lambda: calls[0].cancel())
    elif way == "respond":
        raises(bang, lambda: asked.respond({}))
        wire.connection.follow_records(None)
        assert wire.written() == [{"jsonrpc": "2.0", "id": "a", "result": {}}]
    elif way == "fail":
        raises(bang, lambda: asked.fail(-32000, "no"))
        wire.connection.follow_records(None)
        assert wire.written()[0]["error"] == {"code": -32000, "message": "no"}
    else:
        wire.take(result(calls[0].id))
        raises(bang, lambda: calls[0].add_done_callback(bang))
    if way in ("expire", "end"):
        assert all(call.done() for call in calls)
    check(bang, complaints)
    wire.connection.end("closed")
    assert wire.connection.in_flight == (0, 0)


def test_s4_a_call_inside_a_callback_raises_its_own_exit_only(raised, complaints):
    """The exit of a call that a callback makes comes out of that call; what other callbacks raised does not."""
    wire, outer, inner = Wire(), Bang(raised), Bang(raised)
    first, second, third = (wire.call() for _ in range(3))
    second.add_done_callback(inner)
    seen = []

    def cancels(_):
        try:
            seen.append(second.cancel())
        except BaseException as error:
            seen.append(error)

    first.add_done_callback(outer)
    third.add_done_callback(cancels)
    raises(outer, lambda: wire.take(result(first.id), result(third.id)))
    assert seen == ([inner.error] if isinstance(inner.error, EXITS) else [True])
    assert complaints == ([] if isinstance(inner.error, EXITS) else [outer.error, inner.error])
    wire.take(result(second.id))
    assert wire.at_rest
