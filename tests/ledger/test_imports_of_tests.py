"""What tests share is in `tests/kit`: no test imports another one."""

from __future__ import annotations

import ast

import pytest

import ledger


def imported_tests(source: str) -> list[str]:
    """The test modules that a module imports, anywhere in it, as it names them."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return [name for name in found if any(part.startswith("test_") for part in name.split("."))]


def test_no_test_imports_another():
    found = {
        path.relative_to(ledger.ROOT).as_posix(): imported_tests(path.read_text())
        for path in ledger.TESTS.rglob("*.py")
    }
    assert len(found) > 100
    assert {path: names for path, names in found.items() if names} == {}


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
