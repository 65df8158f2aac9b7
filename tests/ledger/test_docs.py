"""What the pages under docs/ say of the tree is there: files, functions, limits, public names."""

from __future__ import annotations

import importlib
import re

import pytest

import ledger
import turnout

DOCS = ledger.ROOT / "docs"
CONTRIBUTING = ledger.ROOT / "CONTRIBUTING.md"
PAGES = [*sorted(DOCS.glob("*.md")), CONTRIBUTING, ledger.ROOT / "README.md"]
PATH = re.compile(r"`((?:rust|python|tests|benches|examples|docs)/[\w./-]+)`")
STEP = re.compile(r"^\|[^|]*\| `([^`]+\.(?:rs|py))` \| ((?:`\w+`(?:, )?)+) \|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text()
    gone = [path for path in PATH.findall(text) if not (ledger.ROOT / path).exists()]
    assert gone == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_every_function_on_the_way_of_a_message_is_there():
    steps = STEP.findall((DOCS / "architecture.md").read_text())
    assert len(steps) > 30
    gone = [
        f"{path}: {name}"
        for path, names in steps
        for name in re.findall(r"\w+", names)
        if not re.search(rf"\b(?:fn|def) {name}\b", (ledger.ROOT / path).read_text())
    ]
    assert gone == []


def test_the_architecture_says_of_every_limit_where_it_is_kept():
    _, _, bounds = (DOCS / "architecture.md").read_text().partition("\n## What is bounded where\n")
    named = re.findall(r"`(max_\w+)`", bounds.partition("\n## ")[0])
    assert sorted(named) == sorted([*turnout.LIMITS, "max_in_flight", "max_inbound", "max_inbound_bytes"])


# ---- commands ----

COMMANDS = re.findall(
    r"^\| `make ([\w-]+)` \| .+ \| (.+) \| (yes|no) \|$", CONTRIBUTING.read_text(), re.MULTILINE
)


def test_the_table_of_commands_has_every_command_that_make_helps_with():
    helped = re.findall(r"\"make ([\w-]+) ", (ledger.ROOT / "Makefile").read_text())
    parts_of_test = ["test-python", "test-rust"]
    assert sorted(command for command, _, _ in COMMANDS) == sorted([*helped, *parts_of_test])


def test_the_table_of_commands_says_what_ci_runs():
    run = re.findall(r"^make ([\w-]+)$", (ledger.ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {command for command, _, ci in COMMANDS if ci == "yes"} == {*run, "test-python", "test-rust"}


# ---- public names ----

SECTIONS = dict(
    re.findall(r"^## `([\w.]+)`\n(.*?)(?=^## |\Z)", (DOCS / "names.md").read_text(), re.MULTILINE | re.DOTALL)
)
MODULES = (
    "turnout",
    "turnout.relay",
    "turnout.transports",
    "turnout.mcp",
    "turnout.telemetry",
    "turnout.json",
)


def test_the_page_of_names_has_a_section_for_each_public_module():
    assert tuple(SECTIONS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_the_page_of_names_says_of_every_public_name_its_one_job(module):
    if module == "turnout.mcp":
        pytest.importorskip("mcp")
    rows = re.findall(r"^\| (`[^|]+`) \| (.+) \|$", SECTIONS[module], re.MULTILINE)
    named = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(importlib.import_module(module).__all__)
