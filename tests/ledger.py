"""Reads the ledger of requirements (requirements.toml); run as a script, it brings the lists up to date.

A test proves a row by bearing its id in its name: `test_can_13_...` in Python, `can_13_...` in Rust. What is
written by hand in the ledger, the text of a row and why it is not proved here, is kept.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILE = TESTS / "requirements.toml"
GROUPS = ("can", "tmo", "prg", "rid", "png", "trs", "trh", "trm", "sub", "mrt", "bat", "tsk", "tsx", "x")
_ID = re.compile(rf"(?<![a-z0-9])({'|'.join(GROUPS)})_(\d\d)(?!\d)|(?<![a-z0-9])k([1-6])(?![a-z0-9])")


@dataclass
class Row:
    """One requirement."""

    id: str
    text: str = ""
    state: str = "proved"
    why: str = ""
    tests: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        return "K" if self.id.startswith("K") else self.id.partition("-")[0]


def rows() -> list[Row]:
    """The rows of the ledger; its small part of TOML is read here, since 3.10 has no reader."""
    found: list[Row] = []
    for line in FILE.read_text().splitlines():
        if line.startswith("["):
            found.append(Row(line.strip("[]").strip('"')))
        elif line.startswith("    "):
            found[-1].tests.append(line.strip().strip(",").strip('"'))
        elif " = " in line and not line.startswith("#"):
            name, _, value = line.partition(" = ")
            if name in {"text", "state", "why"}:
                setattr(found[-1], name, value.strip('"'))
    return found


def ids_in(test: str) -> list[str]:
    """The rows that a test is named after."""
    name = test.rpartition("::")[2]
    return [f"{m[1].upper()}-{m[2]}" if m[1] else f"K{m[3]}" for m in _ID.finditer(name)]


def python_tests() -> set[str]:
    """Every test function, as `tests/test_x.py::test_y`."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found.add(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def rust_tests() -> set[str]:
    """Every test function of the core, as `rust/core/src/x.rs::y`."""
    found = set()
    for folder in ("rust/core/src", "rust/core/tests"):
        for path in (ROOT / folder).glob("*.rs"):
            for name in re.findall(r"#\[test\](?:\s*#\[.*\])*\s*fn (\w+)", path.read_text()):
                found.add(f"{path.relative_to(ROOT).as_posix()}::{name}")
    return found


def node(item: object) -> str:
    """The name of a collected test, without its parameters."""
    return f"{Path(item.path).relative_to(ROOT).as_posix()}::{item.originalname}"  # type: ignore[attr-defined]


def write(ledger: list[Row]) -> None:
    """Write the ledger."""
    lines = [
        "# Every requirement that touches what is in flight, and what proves it. `python tests/ledger.py`",
        "# fills in the tests; the rest is written by hand. States: proved; later (Streamable HTTP is not",
        "# here yet); not ours (another layer's business); open (ours, and missing).",
    ]
    for row in ledger:
        lines += ["", f'["{row.id}"]', f'text = "{row.text}"', f'state = "{row.state}"']
        if row.why:
            lines.append(f'why = "{row.why}"')
        if row.tests:
            lines += ["tests = [", *(f'    "{test}",' for test in row.tests), "]"]
    FILE.write_text("\n".join(lines) + "\n")


def summary() -> list[str]:
    """Counts by group and state."""
    states = ("proved", "later", "not ours", "open")
    table: dict[str, dict[str, int]] = {}
    for row in rows():
        group = table.setdefault(row.group, dict.fromkeys(states, 0))
        group[row.state] += 1
    table["all"] = {state: sum(group[state] for group in table.values()) for state in states}
    lines = [f"{'':6}" + "".join(f"{state:>10}" for state in states)]
    return lines + [
        f"{name:6}" + "".join(f"{group[state]:10}" for state in states) for name, group in table.items()
    ]


def main() -> None:
    """Bring the lists of tests up to date."""
    tests = sorted(python_tests() | rust_tests())
    ledger = rows()
    for row in ledger:
        row.tests = [test for test in tests if row.id in ids_in(test)]
        if row.tests and row.state == "open":
            row.state, row.why = "proved", ""
        elif not row.tests and row.state == "proved":
            row.state, row.why = "open", "no test is named after it yet"
    write(ledger)


if __name__ == "__main__":
    main()
