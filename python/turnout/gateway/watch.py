"""Tells when a file of the configuration may have changed, by watchfiles where that is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from pathlib import Path

DEBOUNCE_MS = 100
"""Changes within this time are one."""

MISSING = (
    "watchfiles is not installed, so a changed file is read at SIGHUP only: pip install 'turnout[gateway]'"
)


def can_watch() -> bool:
    """Whether watchfiles is installed."""
    return importlib.util.find_spec("watchfiles") is not None


class _Until:
    """Says when to stop, in the form that watchfiles asks for; it asks in a thread of its own."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        self.is_set = is_over


async def changes(paths: Iterable[Path], is_over: Callable[[], bool]) -> AsyncIterator[None]:
    """Tell of changes in the directories of files: editors, and volumes, put another file in the place of one.

    Args:
        paths: the files.
        is_over: says when it is to end.

    """
    import watchfiles  # noqa: PLC0415 - an extra

    directories = {path.absolute().parent for path in paths}
    watched = watchfiles.awatch(
        *directories,
        debounce=DEBOUNCE_MS,
        step=DEBOUNCE_MS // 2,
        stop_event=cast("Any", _Until(is_over)),
        recursive=False,
        watch_filter=None,
        raise_interrupt=False,
    )
    async for _ in watched:
        yield


__all__ = ["MISSING", "can_watch", "changes"]
