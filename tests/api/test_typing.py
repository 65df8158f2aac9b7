"""A user's program passes mypy and pyright, both strict: the README's examples, and what people do with calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)

USES = """
import asyncio
import turnout

async def wait_for_calls(peer: turnout.Peer) -> None:
    call = peer.send("tools/list")
    done, _ = await asyncio.wait({call, peer.send("prompts/list")}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(call, *done)
    await asyncio.shield(call)
    await asyncio.wait_for(call, 1)

async def handle(request: turnout.Request) -> None:
    await request.peer.close()
    print(request.peer.name, request.peer.revision)
"""


PYRIGHT = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "reportUnusedVariable": False}
"""An example may show a result that nothing is done with."""


def by_mypy(path: Path) -> list[str]:
    options = ["--strict", "--no-incremental", "--python-version", "3.10", "--config-file", ""]
    return [sys.executable, "-m", "mypy", *options, path.name]


def by_pyright(path: Path) -> list[str]:
    config = path.with_name("pyrightconfig.json")
    config.write_text(json.dumps({**PYRIGHT, "include": [path.name]}))
    return [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]


CHECKERS = {"mypy": by_mypy, "basedpyright": by_pyright}


def as_functions(examples: list[str]) -> str:
    """Each example as the body of an async function, since it awaits; its imports go with it."""
    bodies = (textwrap.indent(example, "    ") for example in examples)
    return "\n".join(f"async def example_{number}() -> None:\n{body}" for number, body in enumerate(bodies))


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("source", [as_functions(EXAMPLES), USES], ids=["readme", "uses"])
def test_use_a_program_passes_strict_type_checkers(source, checker, tmp_path):
    pytest.importorskip(checker, reason="the type checkers come with the development tools")
    path = tmp_path / "program.py"
    path.write_text(source)
    command = CHECKERS[checker](path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_use_a_wrong_program_passes_no_type_checker(checker, tmp_path):
    pytest.importorskip(checker, reason="the type checkers come with the development tools")
    path = tmp_path / "program.py"
    path.write_text("import turnout\n\nturnout.Router().connect(5, name=5, no_such=True)\n")
    command = CHECKERS[checker](path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "no_such" in done.stdout, done.stdout + done.stderr
