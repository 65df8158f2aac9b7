"""The bytes that all connections of this process may hold together, whatever the router."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from turnout._native import LIMITS, set_max_total_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "max_total_bytes"

SHARE = 4
"""Which part of the memory connections may hold where nobody says so: one of so many."""


def machine_bytes(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may have: the machine's, or less where a control group says so.

    Args:
        root: where the file systems of the kernel are mounted.

    Returns:
        the number; None where the system does not tell.

    """
    return min(_limits(root), default=None)


def default_bytes(root: Path = Path("/")) -> int:
    """What connections may hold where nobody says so: a quarter of the memory, 1 GiB at most."""
    memory = machine_bytes(root)
    return LIMITS[NAME] if memory is None else max(1, min(LIMITS[NAME], memory // SHARE))


def _limits(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemTotal":
            yield from (kilobytes * 1024 for kilobytes in _number(value.removesuffix("kB")))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = top / path.strip().lstrip("/")
        # In a container the path may be the host's, of which only the top is seen.
        for folder in (group, *group.parents):
            for value in _lines(folder / name):
                yield from _number(value)
            if folder == top:
                break


def _number(text: str) -> Iterator[int]:
    with contextlib.suppress(ValueError):
        yield int(text)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


class _Bound:
    """What holds for the process: the default, until a router says another number."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self, most: int | None) -> None:
        """Set the number; None leaves what holds."""
        if most is not None:
            set_max_total_bytes(most)
        elif not self._is_set:
            set_max_total_bytes(default_bytes())
        self._is_set = True


bound = _Bound()

__all__ = ["bound", "default_bytes", "machine_bytes"]
