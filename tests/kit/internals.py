"""What the native part's asyncio runtime leans on, as the header of its `internals.rs` lists it."""

from __future__ import annotations

import re
from pathlib import Path

RUNTIME = Path(__file__).parents[2] / "rust" / "python" / "src"
FILE = RUNTIME / "asyncio" / "internals.rs"


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table of the header, by its heading."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in FILE.read_text().splitlines():
        if not line.startswith("//!"):
            break
        text = line.removeprefix("//!").strip()
        if text.startswith("#"):
            heading = text.lstrip("# ")
        elif text.startswith("| `"):
            found.setdefault(heading, []).append([cell.strip() for cell in text.strip("|").split(" | ")])
    return found


def names(heading: str) -> set[str]:
    """The names in the first column of the table whose heading begins so."""
    rows = next(rows for title, rows in tables().items() if title.startswith(heading))
    return {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
