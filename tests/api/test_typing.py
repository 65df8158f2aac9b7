"""A user's program passes a strict type checker: the README's examples, and what people do with calls."""

from __future__ import annotations

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


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--python-version", "3.10"]
    return subprocess.run(
        [*command, "--config-file", "", path.name],
        capture_output=True,
        text=True,
        cwd=path.parent,
        check=False,
    )


def as_functions(examples: list[str]) -> str:
    """Each example as the body of an async function, since it awaits; its imports go with it."""
    bodies = (textwrap.indent(example, "    ") for example in examples)
    return "\n".join(f"async def example_{number}() -> None:\n{body}" for number, body in enumerate(bodies))


@pytest.mark.parametrize("source", [as_functions(EXAMPLES), USES], ids=["readme", "uses"])
def test_use_a_program_passes_mypy_strict(source, tmp_path):
    pytest.importorskip("mypy", reason="the type checker comes with the development tools")
    path = tmp_path / "program.py"
    path.write_text(source)
    done = checked(path)
    assert done.returncode == 0, done.stdout + done.stderr
