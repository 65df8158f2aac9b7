"""The native part names internals of Python and asyncio in one file, whose header says why it needs each."""

from __future__ import annotations

import re

import pytest

import internals
from turnout._native import HandlerCoroutine, Waiter

OTHERS = [path for path in sorted(internals.RUNTIME.rglob("*.rs")) if path != internals.FILE]
CODE = re.sub(r"^//!.*$", "", internals.FILE.read_text(), flags=re.MULTILINE)


def code_of(path):
    return re.sub(r"//.*", "", path.read_text())


def names_of(class_):
    return {name for name in vars(class_) if not name.startswith("__")}


def test_every_row_says_why_and_what_happens_without():
    rows = [row for table in internals.tables().values() for row in table]
    assert len(rows) > 30
    assert [row for row in rows if len(row) != 3 or not all(len(cell) > 3 for cell in row)] == []


def test_the_classes_that_asyncio_asks_have_the_names_of_the_header():
    assert names_of(Waiter) == internals.names("What asyncio asks of `Waiter`")
    assert names_of(HandlerCoroutine) == internals.names("What is asked of `HandlerCoroutine`")


def test_the_header_lists_what_the_file_asks_for():
    asked = internals.names("What we ask of loops")
    for name in asked:
        assert re.search(rf'"{name}"', CODE), name
    keywords_and_modules = {
        "asyncio",
        "collections.abc",
        "contextvars",
        "os",
        "loop",
        "name",
        "context",
        "register",
    }
    of_python = {"__name__", "value", "send", "throw", "close", "cr_frame", "cr_code"}
    assert set(re.findall(r'"([\w.]+)"', CODE)) - keywords_and_modules - of_python == asked


def test_the_header_lists_the_c_functions_that_the_file_calls():
    called = set(re.findall(r"ffi::(Py\w+_\w+)\(", CODE)) - {"Py_None"}
    assert called == internals.names("C symbols")


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(internals.RUNTIME)))
def test_no_other_file_calls_c_or_names_what_the_header_lists(path):
    code = code_of(path)
    assert "ffi::Py" not in code.replace("std::ffi::", "")
    literals = set(re.findall(r'"(\w+)"', code))
    assert literals & (internals.names("What we ask of loops") | {"asyncio"}) == set()
