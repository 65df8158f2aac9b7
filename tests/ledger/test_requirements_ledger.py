"""The ledger of requirements agrees with the tests: nothing missing, nothing made up, nothing left out."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest

import ledger
from ledger import Row

ROWS = ledger.rows()
KNOWN = ledger.python_tests() | ledger.rust_tests()


def faults(rows=ROWS, known=KNOWN):
    return list(ledger.faults(rows, known))


def row(id):
    return next(row for row in ROWS if row.id == id)


@pytest.fixture
def changed():
    """A copy of the ledger to be broken, by id."""
    return {row.id: row for row in copy.deepcopy(ROWS)}


def test_the_ledger_is_as_it_should_be():
    assert faults() == []


def test_nothing_is_open():
    assert [(row.id, side) for row in ROWS for side in row.sides if row.state(side) == "open"] == []


def test_later_means_streamable_http():
    for row in ROWS:
        for side, tests in row.sides.items():
            assert row.state(side) != "later" or tests.startswith(ledger.HTTP), row.id


def test_writing_it_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "FILE", tmp_path / "copy.toml")
    ledger.write(ROWS)
    assert (tmp_path / "copy.toml").read_text() == (ledger.TESTS / "ledger" / "requirements.toml").read_text()
    assert list(ledger.update(copy.deepcopy(ROWS), KNOWN)) == []


# ---- the check itself ----


def test_a_missing_row_is_found(changed):
    del changed["CAN-13"], changed["K3"]
    assert faults(list(changed.values()))[:2] == ["CAN-13 is missing", "K3 is missing"]


def test_a_row_too_many_is_found(changed):
    rows = [*changed.values(), changed["TMO-04"], Row("CAN-31", "a row of nobody's", ("relay",))]
    assert faults(rows)[:2] == ["TMO-04 is there 2 times", "CAN-31 is no requirement"]


def test_a_ghost_is_found(changed):
    changed["CAN-13"].sides["receiver"].append("tests/test_ghost.py::test_can_13_was_never_written")
    assert faults(list(changed.values())) == [
        "CAN-13 names a test that does not exist: tests/test_ghost.py::test_can_13_was_never_written"
    ]


def test_a_test_that_nobody_lists_is_found():
    new = "tests/test_new.py::test_can_13_k6_is_new"
    assert faults(known=KNOWN | {new}) == [
        f"{new} is named after CAN-13, which does not list it; run tests/ledger/ledger.py",
        f"{new} is named after K6, which does not list it; run tests/ledger/ledger.py",
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda row: row.sides.pop("receiver"), "says nothing of the receiver"),
        (lambda row: row.sides.update(receiver=[]), "lists no test for the receiver"),
        (lambda row: row.sides.update(receiver="not ours"), "does not say why nothing proves it for the receiver"),
        (lambda row: row.sides.update(receiver="not ours: no"), "does not say why nothing proves it for the receiver"),
        (lambda row: row.sides.update(receiver="proved: believe me, it is"), "does not say why"),
        (lambda row: row.sides.update(sender=["x"]), "has a side that does not exist: sender"),
        (lambda row: setattr(row, "binds", ()), "does not say whom it binds"),
        (lambda row: setattr(row, "text", ""), "does not say what it asks for"),
    ],
)  # fmt: skip
def test_a_row_that_says_too_little_is_found(changed, change, fault):
    change(changed["CAN-12"])
    found = [line for line in faults(list(changed.values())) if "is named after" not in line]
    assert len(found) == 1
    assert found[0].startswith("CAN-12 ")
    assert fault in found[0]


def test_a_test_that_was_not_run_is_found():
    ran = set(KNOWN)
    assert list(ledger.not_run(ROWS, ran)) == []
    gone = next(test for test in row("CAN-13").tests if test.startswith("tests/"))
    ran.discard(gone)
    assert f"CAN-13: {gone} was not run" in list(ledger.not_run(ROWS, ran))


def test_a_rust_test_that_no_ordinary_run_takes_in_proves_nothing():
    source = """
    #[test]
    fn can_01_runs() {}
    #[test]
    #[ignore]
    fn can_02_is_ignored() {}
    #[test]
    #[should_panic]
    fn can_03_runs_too() {}
    #[cfg(all(test, loom))]
    mod models {
        #[test]
        fn can_04_is_the_model_checkers() {}
    }
    """
    assert ledger.runnable(source) == ["can_01_runs", "can_03_runs_too"]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("tests/test_x.py::test_can_13_k6_tsx_02_x", ["CAN-13", "K6", "TSX-02"]),
        ("rust/core/src/x.rs::x_01_y", ["X-01"]),
        ("tests/test_can_13.py::test_nothing", []),
        ("tests/test_x.py::test_go_sdk_1259_trs_140_mask_10", []),
    ],
)
def test_names_are_read(name, ids):
    assert ledger.ids_in(name) == ids


def test_new_tests_are_placed_and_old_ones_dropped():
    row = Row(
        "CAN-13", "a text that is long enough", ("receiver",), {"receiver": ["tests/a.py::test_can_13_gone"]}
    )
    known = {
        "tests/test_relay_x.py::test_can_13_r",
        "tests/protocol/test_cancel_received.py::test_can_13_new",
    }
    assert len(list(ledger.update([row], known))) == 2
    assert row.sides == {
        "receiver": ["tests/protocol/test_cancel_received.py::test_can_13_new"],
        "relay": ["tests/test_relay_x.py::test_can_13_r"],
    }


RUN = """
import sys
import pytest, ledger
ledger.rows = lambda: [ledger.Row("CAN-13", "text", ("receiver",), {{"receiver": {tests}}})]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *{arguments}]))
"""


@pytest.mark.parametrize(
    ("tests", "arguments", "code", "says"),
    [
        (["test_it.py::test_can_13_runs"], [], 0, "CAN"),
        (
            ["test_it.py::test_can_13_runs", "test_it.py::test_can_13_is_skipped"],
            [],
            1,
            "is_skipped was not run",
        ),
        (
            ["test_it.py::test_can_13_runs", "test_it.py::test_can_13_is_skipped"],
            ["-k", "runs"],
            0,
            "1 passed",
        ),
    ],
)
def test_a_whole_run_fails_over_a_named_test_that_is_skipped(tmp_path, tests, arguments, code, says):
    folder = tmp_path / "tests"
    folder.mkdir()
    parts = (
        "conftest.py",
        "kit/leaks.py",
        "ledger/ledger.py",
        "kit/loops.py",
        "ledger/requirements.toml",
    )
    for name in parts:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((ledger.TESTS / name).read_bytes())
    (folder / "test_it.py").write_text(
        "import pytest\ndef test_can_13_runs(): pass\n"
        "@pytest.mark.skip\ndef test_can_13_is_skipped(): pass\n".replace("\\\n", "\n")
    )
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntestpaths = tests\npythonpath = tests tests/kit tests/ledger\n"
    )
    source = RUN.format(tests=[f"tests/{test}" for test in tests], arguments=arguments)
    command = [sys.executable, "-c", source]
    environment = {"PYTHONPATH": os.pathsep.join(str(folder / name) for name in ("", "kit", "ledger"))}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout
