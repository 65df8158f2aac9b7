"""Functions of the host that decide about a request of a relay, each in its own time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnout._native import INTERNAL_ERROR
from turnout.arguments import is_async
from turnout.errors import STOPPING, RequestError
from turnout.handlers import for_a_thread
from turnout.raised import EXITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


async def decide(
    what: str, function: Callable[..., Any], *arguments: Any, threads: Executor, timeout: float | None
) -> Any:
    """Let a function decide: an async one in the loop, a plain one in a thread. A cancel stops an async one.

    Args:
        what: what it is, one word for the error.
        function: decides.
        arguments: about what.
        threads: where a plain function runs; one that blocks keeps its thread.
        timeout: seconds to decide; None for any time.

    Raises:
        RequestError: it did not decide in time, or is not going to.
        Exception: whatever it raises.

    """
    loop = asyncio.get_running_loop()
    deciding: asyncio.Future[Any]
    if is_async(function):
        deciding = loop.create_task(function(*arguments))
    else:
        deciding = loop.run_in_executor(threads, for_a_thread(function), *arguments)
    deciding.add_done_callback(_retrieve_exception)
    try:
        decided, _ = await asyncio.wait((deciding,), timeout=timeout)
    finally:
        deciding.cancel()
    if not decided:
        data = {"reason": f"{what}_timeout", "sent": False}
        raise RequestError(INTERNAL_ERROR, f"a {what} did not decide in time", data)
    if deciding.cancelled():
        raise RequestError(INTERNAL_ERROR, f"the {what} was cancelled")
    try:
        return deciding.result()
    except EXITS:
        # It ends the loop already, out of a task of its own.
        raise RequestError(INTERNAL_ERROR, STOPPING) from None


def _retrieve_exception(deciding: asyncio.Future[Any]) -> None:
    """Take what came too late; nobody waits for it any more."""
    if not deciding.cancelled():
        deciding.exception()


__all__ = ["decide"]
