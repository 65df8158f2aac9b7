"""Exceptions as values: copied, pickled, shown, whatever they carry."""

from __future__ import annotations

import copy
import pickle

import pytest

import turnout
from turnout import errors
from turnout.json import HugeNumber
from turnout.records import SavedRecord
from wire import Wire, error, progress, result

CLASSES = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, turnout.Error)),
    key=lambda kind: kind.__name__,
)

MADE = {
    "RequestError": lambda: turnout.RequestError(-32602, "no\ud83d", {"a": [1, None]}),
    "RemoteError": lambda: turnout.RemoteError(-32602, "no", {"a": [1, HugeNumber("1e999")]}),
    "LimitExceeded": lambda: turnout.LimitExceeded("max_outbound", 7),
    "DecodeError": lambda: turnout.DecodeError("bad_number", 3),
}

AGAIN = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "old pickle": lambda error: pickle.loads(pickle.dumps(error, protocol=0)),
}


def said(error):
    """Everything that an error says, its record apart."""
    return type(error), str(error), error.args, {k: v for k, v in vars(error).items() if k != "record"}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_copied_and_pickled(kind, again):
    error = MADE.get(kind.__name__, lambda: kind("what happened"))()
    twin = AGAIN[again](error)
    assert twin is not error
    assert said(twin) == said(error)
    assert twin.record is None


class OfAUser(turnout.RequestError):
    """An error whose constructor takes something else than its base's."""

    def __init__(self, tool: str, *, why: str) -> None:
        super().__init__(-32000, f"{tool}: {why}")
        self.tool = tool


@pytest.mark.parametrize("again", AGAIN)
def test_an_error_derived_from_one_can_be_copied_and_pickled(again):
    error = OfAUser("dig", why="raining")
    error.__notes__ = ["by the sea"]
    twin = AGAIN[again](error)
    assert said(twin) == said(error)
    assert (twin.tool, twin.message, twin.__notes__) == ("dig", "dig: raining", ["by the sea"])


def ended():
    """Errors of calls by the way they end."""
    wire = Wire()
    calls = {
        name: wire.call(timeout=5, max_timeout=50)
        for name in ("error", "invalid", "cancelled", "idle", "lost")
    }
    wire.take(progress(calls["error"].id, 0.5, 2, "half"), error(calls["error"].id, -32000, "no", data=[1]))
    wire.take(b'{"jsonrpc":"2.0","id":%d,"error":5}\n' % calls["invalid"].id)
    calls["cancelled"].cancel("enough")
    wire.later(1)
    other = Wire()
    calls["lost"] = other.call()
    other.connection.end("peer_exited", exit_code=-9)
    wire.later(60)
    return {name: call.exception() for name, call in calls.items()}


@pytest.mark.parametrize("name", ["error", "invalid", "cancelled", "idle", "lost"])
def test_an_error_takes_its_record_along(name):
    error = ended()[name]
    assert type(error.record) is turnout.Record
    for twin in (copy.copy(error), copy.deepcopy(error)):
        assert said(twin) == said(error)
        assert twin.record is error.record
    twin = pickle.loads(pickle.dumps(error))
    assert said(twin) == said(error)
    saved = twin.record
    assert type(saved) is SavedRecord
    assert saved.as_dict() == error.record.as_dict()
    for field in error.record.as_dict():
        if field != "legs":
            assert getattr(saved, field) == getattr(error.record, field), field
    assert pickle.loads(pickle.dumps(saved)) == saved == copy.deepcopy(saved)
    assert error.record.outcome in repr(saved)
    with pytest.raises(AttributeError, match="no_such"):
        _ = saved.no_such


def test_a_saved_record_has_its_legs():
    leg = {**ended()["error"].record.as_dict(), "method": "leg"}
    saved = SavedRecord({**leg, "method": "whole", "legs": [leg]})
    assert [type(one) for one in saved.legs] == [SavedRecord]
    assert [one.method for one in saved.legs] == ["leg"]
    assert saved.progress == turnout.Progress(0.5, 2.0, "half")


def test_progress_can_be_made_and_pickled():
    update = turnout.Progress(0.5, message="half")
    assert (update.progress, update.total, update.message) == (0.5, None, "half")
    assert pickle.loads(pickle.dumps(update)) == update == copy.deepcopy(update)


@pytest.mark.parametrize("digits", [1, 30, 5000])
def test_a_peers_code_of_any_length_is_shown(digits):
    wire = Wire()
    call = wire.call()
    wire.take(b'{"jsonrpc":"2.0","id":%d,"error":{"code":%b,"message":"no"}}\n' % (call.id, b"7" * digits))
    caught = call.exception()
    assert type(caught) is turnout.RemoteError
    assert turnout.json.dumps(caught.code) == b"7" * digits
    assert str(caught).startswith("no (")
    repr(caught.code > 0)


def test_a_result_of_any_number_is_no_bare_value_error():
    wire = Wire()
    for number in (b"8" * 5000, b"8" * 1_000_000, b"1e999"):
        call = wire.call()
        wire.take(b'{"jsonrpc":"2.0","id":%d,"result":{"v":%b}}\n' % (call.id, number))
        assert turnout.json.dumps(call.result()) == b'{"v":%b}' % number


def test_an_answer_of_any_kind_is_at_rest_afterwards():
    wire = Wire()
    call = wire.call()
    wire.take(result(call.id))
    assert call.exception() is None
    assert wire.at_rest
