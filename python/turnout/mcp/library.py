"""Which asynchronous library runs here: the SDK knows two, turnout's dispatcher one."""

from __future__ import annotations

import asyncio


def on_asyncio() -> bool:
    """Whether an asyncio loop is running in this thread; False on trio, and outside of any."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
