"""Runs a Python program with turnout under the MCP SDK: `python -m turnout.mcp [--strict | --lenient] COMMAND`.

--strict keeps to the specification also where the SDK's own tests pin the contrary, --lenient does as the SDK.
COMMAND is what follows `python` on a command line (`server.py ...`, `-m package ...`), with or without the
`python`, or the name of a command that is a Python script (`fastmcp run server.py`).
"""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

from turnout.mcp._install import install

USAGE = 2
NOT_FOUND = 127
STRICT = {"--strict": True, "--lenient": False}


def main() -> int | str | None:
    """Install, then be the program."""
    words = sys.argv[1:]
    strict = STRICT.get(words[0]) if words else None
    if strict is not None:
        words = words[1:]
    if not words or words[0] in ("-h", "--help"):
        print(__doc__, file=sys.stderr)  # noqa: T201
        return 0 if words else USAGE
    if _is_python(words[0]):
        words = words[1:]
    if words[:1] == ["-m"] and len(words) > 1:
        install(strict=strict)
        sys.argv = words[1:]
        sys.path[0] = str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return None
    script = _script(words[0]) if words else None
    if script is None:
        print(f"turnout: {words[0] if words else ''!r} is no Python program", file=sys.stderr)  # noqa: T201
        return NOT_FOUND
    install(strict=strict)
    sys.argv = [str(script), *words[1:]]
    sys.path[0] = str(script.resolve().parent)
    runpy.run_path(str(script), run_name="__main__")
    return None


def _is_python(word: str) -> bool:
    return re.fullmatch(r"python(\d+(\.\d+)?)?(\.exe)?", Path(word).name) is not None


def _script(word: str) -> Path | None:
    """The file of a program: a path, a folder or archive with a `__main__`, or a command on the path."""
    path = Path(word)
    if path.exists():
        return path
    found = shutil.which(word)
    if found is None:
        return None
    with Path(found).open("rb") as file:
        head = file.read(200)
    return Path(found) if head.startswith(b"#!") and b"python" in head else None


if __name__ == "__main__":
    sys.exit(main())
