"""Tests share what is in `tests/kit`, never another test, and say in one way that they run on both loops."""

from __future__ import annotations

import ast

import pytest

import ledger

SOURCES = {path.relative_to(ledger.ROOT).as_posix(): path.read_text() for path in ledger.TESTS.rglob("*.py")}


def imported_tests(source: str) -> list[str]:
    """The test modules that a module imports, anywhere in it, as it names them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return [name for name in found if any(part.startswith("test_") for part in name.split("."))]


def nested_mains(source: str) -> list[str]:
    """The tests that only hand a nested coroutine function to a fixture; `@both_loops` says the same."""
    found = []
    for test in ast.walk(ast.parse(source)):
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
            *before, main, end = [None, *test.body]
            is_alone = len(before) <= 1 + bool(ast.get_docstring(test))
            if (
                is_alone
                and isinstance(main, ast.AsyncFunctionDef)
                and ast.unparse(end) == f"on_loop({main.name}())"
            ):
                found.append(test.name)
    return found


def own_loops(source: str) -> list[str]:
    """The parametrizations by a kind of loop; the fixture `loop_kind` has the only one."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    return [
        ast.unparse(call)
        for call in calls
        if ast.unparse(call.func).endswith("parametrize") and "loop_kind" in ast.unparse(call.args[0])
    ]


@pytest.mark.parametrize("found", [imported_tests, nested_mains, own_loops])
def test_every_test_has_the_shape_of_the_others(found):
    assert len(SOURCES) > 100
    assert {path: found(source) for path, source in SOURCES.items() if found(source)} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import test_x", ["test_x"]),
        ("from test_x import call as asked", ["test_x.call"]),
        ("from .relay import test_x", ["relay.test_x"]),
        ("def it():\n    import os, relay.test_x as x", ["relay.test_x"]),
        ("import unittest, pytest\nfrom relay_world import World", []),
    ],
)
def test_imports_of_tests_are_found(source, names):
    assert imported_tests(source) == names


def test_nested_mains_are_found():
    nested = (
        "def test_it(on_loop):\n    '''It.'''\n    async def main():\n        pass\n    on_loop(main())\n"
    )
    assert nested_mains(nested) == ["test_it"]
    assert nested_mains(nested + "    assert True\n") == []
    assert nested_mains(nested.replace("'''It.'''", "path = 1")) == []
    assert nested_mains("async def test_it():\n    pass\n") == []


def test_loops_that_a_module_names_itself_are_found():
    own = "pytest.mark.parametrize('loop_kind', ['asyncio', 'uvloop'])"
    assert own_loops(f"@{own}\ndef test_it(): pass") == [own]
    assert own_loops("@pytest.mark.parametrize('kind', ['tcp', 'unix'])\ndef test_it(): pass") == []
