"""The records of finished requests as JSON lines in a file that is followed by another when it is full."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from turnout.gateway.log import log

if TYPE_CHECKING:
    from pathlib import Path

WARN_EVERY = 1000
"""Of records that could not be written, every how manieth is told of."""


class RecordFile:
    """A binary file for `Records.write`, which `PATH.1` (the newest) to `PATH.N` take the place of as it grows.

    Args:
        path: of the newest.
        max_bytes: bytes after which another is begun; a record is never cut.
        keep: older files that are kept.

    Raises:
        OSError: it cannot be opened.

    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self.lost = 0
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def write(self, line: bytes) -> int:
        """Append one record; one that cannot be written is counted, and stops nothing."""
        try:
            if self._size and self._size + len(line) > self._max_bytes:
                self._rotate()
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._size += len(line)
        except OSError as error:
            if self.lost % WARN_EVERY == 0:
                log.error("records cannot be written to %s: %s", self._path, error.strerror)
            self.lost += 1
        return len(line)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self) -> int:
        # Records name people and tools.
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            newer = self._path if number == 1 else numbered(self._path, number - 1)
            with contextlib.suppress(FileNotFoundError):
                newer.replace(numbered(self._path, number))
        if not self._keep:
            self._path.unlink(missing_ok=True)
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size


def numbered(path: Path, number: int) -> Path:
    """One of the older files; 1 is the newest of them."""
    return path.with_name(f"{path.name}.{number}")


__all__ = ["RecordFile", "numbered"]
