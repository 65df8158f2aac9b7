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


WRONG = "import turnout\n\nturnout.Router().connect(5, name=5, no_such=True)\n"
"""A program that no type checker may pass, so that a checker that looks at nothing is found out."""

PYRIGHT = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "reportUnusedVariable": False}
"""An example may show a result that nothing is done with."""


def by_mypy(folder: Path) -> list[str]:
    options = ["--strict", "--no-incremental", "--python-version", "3.10", "--config-file", ""]
    return [sys.executable, "-m", "mypy", *options, *(path.name for path in folder.glob("*.py"))]


def by_pyright(folder: Path) -> list[str]:
    (folder / "pyrightconfig.json").write_text(json.dumps({**PYRIGHT, "include": ["."]}))
    return [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]


CHECKERS = {"mypy": by_mypy, "basedpyright": by_pyright}


def as_functions(examples: list[str]) -> str:
    """Each example as the body of an async function, since it awaits; its imports go with it."""
    bodies = (textwrap.indent(example, "    ") for example in examples)
    return "\n".join(f"async def example_{number}() -> None:\n{body}" for number, body in enumerate(bodies))


@pytest.mark.parametrize("checker", CHECKERS)
def test_use_programs_pass_strict_type_checkers(checker, tmp_path):
    pytest.importorskip(checker, reason="the type checkers come with the development tools")
    for name, source in {"readme": as_functions(EXAMPLES), "uses": USES, "wrong": WRONG}.items():
        (tmp_path / f"{name}.py").write_text(source)
    command = CHECKERS[checker](tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    failed = set(re.findall(r"(\w+)\.py:\d+.*\berror: ", done.stdout))
    assert (done.returncode, failed) == (1, {"wrong"}), done.stdout + done.stderr
