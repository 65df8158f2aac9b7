"""Where control endpoints are: sockets of one directory, which only our own user enters."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "turnout"

SUFFIX = ".sock"


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """The directory of control sockets: under `XDG_RUNTIME_DIR`, or where that is not set, one of ours under `/tmp`.

    Args:
        environ: the variables; None for those of the process.

    """
    base = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR")
    if base and Path(base).is_absolute():
        return Path(base) / FOLDER
    return Path(tempfile.gettempdir()) / f"{FOLDER}-{os.getuid()}"


def own_socket(environ: Mapping[str, str] | None = None) -> Path:
    """The path of this process's own socket; its directory is made.

    Raises:
        OSError: the directory cannot be made, or is not ours alone.

    """
    where = folder(environ)
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours_alone(where):
        raise PermissionError(f"{where} is not a directory of ours alone; remove it, or say another path")
    return where / f"{os.getpid()}{SUFFIX}"


def _is_ours_alone(where: Path) -> bool:
    found = where.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def served(environ: Mapping[str, str] | None = None) -> list[Path]:
    """The sockets that somebody serves: one of a process that was killed is left behind."""
    return [path for path in sockets(environ) if _is_served(path)]


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


def sockets(environ: Mapping[str, str] | None = None) -> list[Path]:
    """The sockets that are there, whether anybody serves them or not; none of a directory that others may enter."""
    where = folder(environ)
    try:
        if not _is_ours_alone(where):
            return []
        return sorted(path for path in where.iterdir() if path.suffix == SUFFIX and path.is_socket())
    except OSError:
        return []


__all__ = ["folder", "own_socket", "served", "sockets"]
