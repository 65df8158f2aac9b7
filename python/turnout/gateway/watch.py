"""Tells when a file of the configuration may have changed, by watchfiles where that is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

DEBOUNCE_MS = 100
"""Changes within this time are one."""

MISSING = (
    "watchfiles is not installed, so a changed file is read at SIGHUP only: pip install 'turnout[gateway]'"
)


def can_watch() -> bool:
    """Whether watchfiles is installed."""
    return importlib.util.find_spec("watchfiles") is not None


async def changes(paths: Iterable[Path], stop: asyncio.Event) -> AsyncIterator[None]:
    """Tell of changes in the directories of files: editors, and volumes, put another file in the place of one.

    Args:
        paths: the files.
        stop: ends it.

    """
    import watchfiles  # noqa: PLC0415 - an extra

    directories = {path.absolute().parent for path in paths}
    watched = watchfiles.awatch(
        *directories,
        debounce=DEBOUNCE_MS,
        step=DEBOUNCE_MS // 2,
        stop_event=stop,
        recursive=False,
        watch_filter=None,
        raise_interrupt=False,
    )
    async for _ in watched:
        yield


__all__ = ["MISSING", "can_watch", "changes"]
