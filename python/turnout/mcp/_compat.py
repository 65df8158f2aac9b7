"""Checks that the SDK's version is tested, and that asyncio is running."""

from __future__ import annotations

import asyncio
import warnings
from importlib.metadata import version

# Versions of the SDK whose own tests pass on our dispatcher (`make test-sdk`).
TESTED = ("2.3.0",)


def on_asyncio() -> bool:
    """Whether an asyncio loop is running in this thread; False on trio, and outside of any."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def check_library() -> None:
    """Refuse to start where turnout's transports cannot run, and warn where nobody has tried.

    Raises:
        RuntimeError: the event loop is not asyncio's.

    """
    if (found := version("mcp")) not in TESTED:
        warnings.warn(
            f"turnout.mcp is tested with mcp {', '.join(TESTED)}, not with {found}",
            RuntimeWarning,
            stacklevel=3,
        )
    if not on_asyncio():
        raise RuntimeError(
            "turnout's transports run on asyncio; on trio use the SDK's stdio_client and stdio_server"
        )
