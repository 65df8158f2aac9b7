"""The event loops that everything runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

LOOPS = ("asyncio", "uvloop")


def run(main: Coroutine[Any, Any, T], loop: str) -> T:
    """Run `main` on the loop of that name."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)
