"""The ledger of requirements agrees with the tests: nothing missing, nothing made up, nothing left out."""

from __future__ import annotations

import pytest

import ledger

ROWS = ledger.rows()


def test_every_row_is_there_once():
    counts = {}
    for row in ROWS:
        counts[row.group] = counts.get(row.group, 0) + 1
    assert counts == {
        "CAN": 30, "TMO": 12, "PRG": 26, "RID": 28, "PNG": 14, "TRS": 17, "TRH": 35, "TRM": 25, "SUB": 18,
        "MRT": 6, "BAT": 5, "TSK": 60, "TSX": 63, "X": 11, "K": 6,
    }  # fmt: skip
    for group, count in counts.items():
        width = 1 if group == "K" else 2
        wanted = [f"{group}-{n:0{width}}" if group != "K" else f"K{n}" for n in range(1, count + 1)]
        assert [row.id for row in ROWS if row.group == group] == wanted


def test_every_row_is_proved_or_says_why_not():
    for row in ROWS:
        assert row.state in {"proved", "later", "not ours", "open"}, row
        if row.state != "proved":
            assert len(row.why) > 10, f"{row.id} says {row.state} and not why"


def test_every_named_test_exists():
    known = ledger.python_tests() | ledger.rust_tests()
    for row in ROWS:
        missing = [test for test in row.tests if test not in known]
        assert not missing, f"{row.id} names tests that do not exist: {missing}"


def test_every_test_named_after_a_row_is_listed_there():
    listed = {(row.id, test) for row in ROWS for test in row.tests}
    for test in ledger.python_tests() | ledger.rust_tests():
        for id in ledger.ids_in(test):
            assert (id, test) in listed, (
                f"{test} is named after {id}, which does not list it; run tests/ledger.py"
            )


def test_every_test_named_after_a_row_is_run(request: pytest.FixtureRequest):
    """A test that is skipped everywhere, or deselected by its own file, proves nothing."""
    collected = {ledger.node(item) for item in request.session.items}
    whole = request.config.invocation_params.args
    if any(not str(arg).startswith("-") for arg in whole):
        pytest.skip("only a part of the tests was asked for")
    for row in ROWS:
        for test in row.tests:
            assert "::" not in test or not test.startswith("tests/") or test in collected, (
                f"{row.id}: {test} is not run"
            )
