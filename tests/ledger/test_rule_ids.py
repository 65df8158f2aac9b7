"""Every rule that the tree cites is on a page: docs/relay-rules.md, or the ledger of requirements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = ledger.ROOT / "docs" / "relay-rules.md"
FOLDERS = ("benches", "docs", "examples", "python", "rust", "tests")
FOREIGN = {"node_modules", "target", "__pycache__", "corpus"}

WORDS = ("race", "section", "invariant")
NO_RULES = {"AVX2", "C0", "C1", "SSE2", "UTF-8", "UTF-16", "WTF-8"}
"""What looks like an id and is a name of something else."""

ID = r"[A-Z]{1,3}-?\d{1,2}"
IDS = re.compile(rf"(?<![\w-]){ID}(?![\w-])")
NUMBERED = re.compile(rf"\b({'|'.join(WORDS)})s? (\d+(?:(?:, | and | to )\d+)*)", re.IGNORECASE)
IN_STRINGS = re.compile(rf"\"({ID}): |\(({ID}(?:(?:, | to | and ){ID})*)\)")
"""In a message: at its begin, or in parentheses."""

AT_THE_BEGIN = re.compile(r"(?:test_)?((?:[a-z]\d{1,2}_)*)")
IN_NAMES = re.compile(rf"(?<![a-z0-9])({'|'.join(WORDS)})_(\d+)")


def rules(text: str | None = None) -> list[str]:
    """The ids that the page has."""
    text = PAGE.read_text() if text is None else text
    heads = [f"section {number}" for number in re.findall(r"^## Section (\d+): ", text, re.MULTILINE)]
    return heads + re.findall(r"^\| ([A-Z]\d+|(?:race|invariant) \d+) \| ", text, re.MULTILINE)


def files() -> Iterator[Path]:
    """What people read of the tree."""
    yield from ledger.ROOT.glob("*.md")
    for folder in FOLDERS:
        for path in (ledger.ROOT / folder).rglob("*"):
            if path.suffix in {".md", ".py", ".pyi", ".rs"} and not FOREIGN & set(path.parts):
                yield path


def cited_in(name: str) -> Iterator[str]:
    """The rules that a test is named after; rows of the ledger are the ledger's to check."""
    begin = AT_THE_BEGIN.match(name)
    yield from begin[1].upper().split("_")[:-1] if begin else ()
    for word, number in IN_NAMES.findall(name):
        yield f"{word} {int(number)}"


def cited(path: Path, text: str) -> Iterator[str]:
    """The rules that a file cites: in prose, in comments, in messages, and in names of tests."""
    if path.suffix == ".md":
        yield from _in_prose(text)
        return
    prose = _prose_of_rust(text) if path.suffix == ".rs" else _prose_of_python(text)
    # Code in backticks is no citation.
    yield from _in_prose(re.sub(r"`[^`\n]*`", "", prose))
    for alone, several in IN_STRINGS.findall(text):
        yield from _ids_in(alone or several)
    names = r"\bfn (\w+)" if path.suffix == ".rs" else r"\bdef (test_\w+)"
    for name in re.findall(names, text):
        yield from cited_in(name)


def _ids_in(text: str) -> Iterator[str]:
    return (id for id in IDS.findall(text) if id not in NO_RULES)


def _in_prose(text: str) -> Iterator[str]:
    yield from _ids_in(text)
    for word, numbers in NUMBERED.findall(text):
        yield from (f"{word.lower()} {number}" for number in re.findall(r"\d+", numbers))


def _prose_of_rust(text: str) -> str:
    return "\n".join(line.partition("//")[2] for line in text.splitlines())


def _prose_of_python(text: str) -> str:
    return "\n".join([*re.findall(r'"""(.*?)"""', text, re.DOTALL), *re.findall(r"#.*", text)])


def test_every_rule_that_is_cited_is_on_a_page():
    known = {*rules(), *ledger.all_ids()}
    unknown = [
        f"{path.relative_to(ledger.ROOT)}: {id}"
        for path in files()
        if path.name != "test_rule_ids.py"
        for id in dict.fromkeys(cited(path, path.read_text()))
        if id not in known
    ]
    assert unknown == [], (
        "cite a rule of docs/relay-rules.md or a row of the ledger, or say the reason in words"
    )


def test_an_id_has_one_meaning():
    ids = [*rules(), *ledger.all_ids()]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("rule", ["F1", "S9", "race 16", "section 1", "section 16", "invariant 6", "G12"])
def test_the_page_is_read(rule):
    assert rule in rules()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("x.rs", "/// Once (F1), as in races 1 and 6.\nlet P9 = 1; // CAN-13", {"F1", "CAN-13", "race 1", "race 6"}),
        ("x.rs", 'assert!(true, "U1: landed (S2, S3)");', {"U1", "S2", "S3"}),
        ("x.rs", "fn s1_u2_race_07_can_13_x() {}", {"S1", "U2", "race 7"}),
        ("x.py", '"""A rule (U1); `P7` is none."""\n# Section 10.\nA9 = "A9"', {"U1", "section 10"}),
        ("x.py", "async def test_s4_s5_section_13_x(): ...\ndef s9_helper(): ...", {"S4", "S5", "section 13"}),
        ("x.md", "Rule `U1`, in UTF-8.", {"U1"}),
    ],
)  # fmt: skip
def test_citations_are_found(tmp_path, name, text, found):
    assert set(cited(tmp_path / name, text)) == found
