"""The README's examples run as they stand."""

import ast
import asyncio
import inspect
import os
import re
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.splitlines()[-1].strip()[:40])
def test_example(source, monkeypatch):
    monkeypatch.chdir(README.parent)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(code, {"__name__": "readme"})
    if inspect.isawaitable(outcome):
        asyncio.run(asyncio.wait_for(outcome, 30))


def test_there_are_examples():
    assert len(EXAMPLES) == 7
