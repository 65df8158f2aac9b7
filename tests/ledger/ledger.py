"""Reads and checks the ledger of requirements (requirements.toml); run as a script, it brings the tests up to date.

A test proves a row by bearing its id in its name: `test_can_13_...` in Python, `can_13_...` in Rust. The ledger
says for each side which tests do: the requester, the receiver, the relay between them, and Streamable HTTP
where it asks for something of its own. A side without tests says in one sentence why.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
FILE = Path(__file__).with_name("requirements.toml")
ROWS = {
    "CAN": 30, "TMO": 12, "PRG": 26, "RID": 28, "PNG": 14, "TRS": 17, "TRH": 35, "TRM": 25, "SUB": 18, "MRT": 6,
    "AUT": 10, "BAT": 5, "TSK": 60, "TSX": 63, "X": 11, "K": 6,
}  # fmt: skip
"""How many rows each group has."""

SIDES = ("requester", "receiver", "relay", "http")
STATES = ("proved", "later", "not ours", "open")
WAIVER = re.compile(r"(later|not ours|open): (.{10,})")
HTTP = "later: streamable http"
GROUPS = "|".join(name.lower() for name in ROWS if name != "K")
NAMED = re.compile(rf"(?<![a-z0-9])({GROUPS})_(\d\d)(?!\d)|(?<![a-z0-9])k([1-6])(?![a-z0-9])")


@dataclass
class Row:
    """One requirement."""

    id: str
    text: str = ""
    binds: tuple[str, ...] = ()
    sides: dict[str, list[str] | str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return "K" if self.id.startswith("K") else self.id.partition("-")[0]

    @property
    def tests(self) -> list[str]:
        """Every test that it names, on whichever side."""
        return [test for tests in self.sides.values() if isinstance(tests, list) for test in tests]

    def state(self, side: str) -> str:
        tests = self.sides[side]
        return "proved" if isinstance(tests, list) else tests.partition(":")[0]


def all_ids() -> list[str]:
    """The ids that the ledger has to have, in order."""
    return [f"K{n}" if group == "K" else f"{group}-{n:02}" for group, n in _numbers()]


def _numbers() -> Iterator[tuple[str, int]]:
    return ((group, n) for group, count in ROWS.items() for n in range(1, count + 1))


def rows(text: str | None = None) -> list[Row]:
    """The rows of the ledger; its small part of TOML is read here, since 3.10 has no reader."""
    found: list[Row] = []
    tests: list[str] = []
    for line in (FILE.read_text() if text is None else text).splitlines():
        if line.startswith("["):
            found.append(Row(line.strip("[]").strip('"')))
        elif line.startswith("    "):
            tests.append(line.strip().strip(",").strip('"'))
        elif " = " in line and not line.startswith("#"):
            name, _, value = line.partition(" = ")
            value = value.strip('"')
            if name == "text":
                found[-1].text = value
            elif name == "binds":
                found[-1].binds = tuple(value.split(", "))
            else:
                tests = []
                found[-1].sides[name] = tests if value == "[" else value
    return found


def ids_in(test: str) -> list[str]:
    """The rows that a test is named after."""
    name = test.rpartition("::")[2]
    return [f"{m[1].upper()}-{m[2]}" if m[1] else f"K{m[3]}" for m in NAMED.finditer(name)]


def python_tests() -> set[str]:
    """Every test function, as `tests/test_x.py::test_y`."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found.add(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def rust_tests() -> set[str]:
    """Every test function of the crates that an ordinary run takes in, as `rust/core/src/x.rs::y`."""
    found = set()
    for folder in ("rust/core/src", "rust/core/tests", "rust/http/tests"):
        for path in (ROOT / folder).rglob("*.rs"):
            for name in runnable(path.read_text()):
                found.add(f"{path.relative_to(ROOT).as_posix()}::{name}")
    return found


def runnable(source: str) -> list[str]:
    """Test functions in a Rust file, without those that are ignored or belong to the model checker."""
    source = source.partition("#[cfg(all(test, loom))]")[0]
    attributes = re.findall(r"#\[test\]((?:\s*#\[[^\n]*\])*)\s*fn (\w+)", source)
    return [name for more, name in attributes if "ignore" not in more]


# ---- the check ----


def faults(ledger: list[Row], known: Collection[str]) -> Iterator[str]:
    """What is wrong with the ledger, one sentence each.

    Args:
        ledger: its rows.
        known: every test there is.

    """
    ids = [row.id for row in ledger]
    yield from (f"{id} is missing" for id in all_ids() if id not in ids)
    yield from (f"{id} is there {ids.count(id)} times" for id in dict.fromkeys(ids) if ids.count(id) > 1)
    yield from (f"{id} is no requirement" for id in dict.fromkeys(ids) if id not in all_ids())
    listed = {(row.id, test) for row in ledger for test in row.tests}
    for row in ledger:
        yield from _faults_of(row, known)
    for test in sorted(known):
        for id in ids_in(test):
            if (id, test) not in listed:
                yield f"{test} is named after {id}, which does not list it; run tests/ledger/ledger.py"


def _faults_of(row: Row, known: Collection[str]) -> Iterator[str]:
    if len(row.text) < 10:
        yield f"{row.id} does not say what it asks for"
    if not row.binds or not set(row.binds) <= set(SIDES):
        yield f"{row.id} does not say whom it binds"
    yield from (f"{row.id} says nothing of the {side}" for side in row.binds if side not in row.sides)
    for side, tests in row.sides.items():
        if side not in SIDES:
            yield f"{row.id} has a side that does not exist: {side}"
        elif isinstance(tests, str):
            if not WAIVER.fullmatch(tests):
                yield f"{row.id} does not say why nothing proves it for the {side}: {tests!r}"
        elif not tests:
            yield f"{row.id} lists no test for the {side}"
        else:
            yield from (f"{row.id} names a test that does not exist: {t}" for t in tests if t not in known)


def not_run(ledger: list[Row], ran: Collection[str]) -> Iterator[str]:
    """The Python tests that the ledger names and that a whole run left out, skipped or saw fail."""
    for row in ledger:
        for test in dict.fromkeys(row.tests):
            if test.startswith("tests/") and test not in ran:
                yield f"{row.id}: {test} was not run"


def summary(ledger: list[Row]) -> list[str]:
    """Counts by group and state: a row counts once for each side that it says something of."""
    table: dict[str, dict[str, int]] = {}
    for row in ledger:
        group = table.setdefault(row.group, dict.fromkeys(("rows", *STATES), 0))
        group["rows"] += 1
        for side in row.sides:
            group[row.state(side)] += 1
    total = dict.fromkeys(("rows", *STATES), 0)
    for group in table.values():
        for name, count in group.items():
            total[name] += count
    table["all"] = total
    head = f"{'':6}" + "".join(f"{name:>10}" for name in total)
    return [
        head,
        *(f"{name:6}" + "".join(f"{n:10}" for n in group.values()) for name, group in table.items()),
    ]


# ---- bringing it up to date ----


def place(row: Row, test: str) -> list[str]:
    """The sides that a new test most likely speaks of; a person looks it over."""
    file = test.partition("::")[0].rpartition("/")[2]
    if "relay" in file:
        return ["relay"]
    if "calling" in file or file == "posts.rs":
        # A place that says why it has no tests of HTTP's client has them now.
        later = [side for side, said in row.sides.items() if isinstance(said, str) and said.startswith(HTTP)]
        return later or ["requester"]
    # Where HTTP's client is not named it is the server that is tested.
    if "/http/" in test and "client" not in file and "receiver" in row.binds:
        return ["receiver"]
    for word, side in (("_sent", "requester"), ("_received", "receiver")):
        if word in file and "progress" in file:
            return ["receiver" if side == "requester" else "requester"]
        if word in file:
            return [side]
    # A side that says why it has no tests keeps its word: the test is about the other end of the same request.
    unsaid = [
        side for side in row.binds if isinstance(row.sides.get(side, []), list) or row.state(side) == "open"
    ]
    return unsaid or ["requester" if "receiver" in row.binds else "receiver"]


def update(ledger: list[Row], known: Collection[str]) -> Iterator[str]:
    """Drop tests that are gone, list those that are new; says what it did."""
    for row in ledger:
        for side, tests in row.sides.items():
            if isinstance(tests, list):
                kept = [test for test in tests if test in known]
                row.sides[side] = kept or "open: no test is named after it yet"
        for test in sorted(known):
            if row.id not in ids_in(test) or test in row.tests:
                continue
            for side in place(row, test):
                before = row.sides.get(side)
                row.sides[side] = sorted([*(before if isinstance(before, list) else []), test])
                yield f"{row.id}, {side}: {test}" + (f" (was {before!r})" if isinstance(before, str) else "")


def write(ledger: Iterable[Row]) -> None:
    """Write the ledger."""
    lines = [
        "# Every requirement that touches what is in flight, and what proves it, for each side that has to do with",
        "# it. `binds` is whom the protocol's text binds; `http` is what Streamable HTTP asks beside. A side has its",
        "# tests, or says why not: later (with Streamable HTTP), not ours (another layer's business), open (missing).",
        "# `python tests/ledger/ledger.py` adds new tests and drops old ones; look over where it put them.",
    ]
    for row in ledger:
        lines += ["", f'["{row.id}"]', f'text = "{row.text}"', f'binds = "{", ".join(row.binds)}"']
        for side in SIDES:
            tests = row.sides.get(side)
            if isinstance(tests, str):
                lines.append(f'{side} = "{tests}"')
            elif tests:
                lines += [f"{side} = [", *(f'    "{test}",' for test in tests), "]"]
    FILE.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Bring the lists of tests up to date."""
    ledger = rows()
    for line in update(ledger, python_tests() | rust_tests()):
        print(line)
    write(ledger)


if __name__ == "__main__":
    main()
