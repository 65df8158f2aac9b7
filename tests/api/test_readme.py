"""The README's examples run as they stand."""

import ast
import asyncio
import inspect
import os
import re
import sys
from pathlib import Path

import pytest

import turnout

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.splitlines()[-1].strip()[:40])
def test_example(source, monkeypatch):
    if "turnout.mcp" in source:
        pytest.importorskip("mcp", reason="the official SDK is an optional extra")
    monkeypatch.chdir(README.parent)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(code, {"__name__": "readme"})
    if inspect.isawaitable(outcome):
        asyncio.run(asyncio.wait_for(outcome, 30))


def test_there_are_examples():
    assert len(EXAMPLES) == 8


def test_trm_24_every_transport_says_how_it_cancels_and_what_survives_it():
    (section,) = re.findall(r"^## Transports.*?(?=^## )", README.read_text(), re.DOTALL | re.MULTILINE)
    words = " ".join(section.split())
    for word in ("notifications/cancelled", "tasks/cancel", "the end of the channel", "is a task"):
        assert word in words
    for name in ("Child processes", "standard streams", "Unix and TCP sockets", "pairs in memory"):
        assert name in words


def test_every_choice_stands_in_the_readme_with_what_it_decides():
    rules = (README.parent / "rust" / "core" / "src" / "rules.rs").read_text()
    fields = re.search(r"pub struct Choices \{(.*?)\n\}", rules, re.DOTALL)[1]
    choices = set(re.findall(r"pub (\w+):", fields))
    table = [line for line in README.read_text().splitlines() if re.match(r"\| K[1-6] \|", line)]
    assert [line[2:4] for line in table] == ["K1", "K2", "K3", "K4", "K5", "K6"]
    named = {word for line in table for word in re.findall(r"`(\w+)`", line.split("|")[-2])}
    assert named == choices - {"answer_ping"}  # for hosts, and no disagreement of the texts
    for choice in choices:
        turnout.ProtocolOptions(**{choice: True}).apply(turnout.Connection())


def test_every_limit_stands_in_the_readme_with_its_default():
    rows = re.findall(r"^\| `(max_\w+)` \| (\d+) \| ", README.read_text(), re.MULTILINE)
    assert {name: int(value) for name, value in rows} == dict(turnout.LIMITS)
    assert len(rows) == len(turnout.LIMITS)
