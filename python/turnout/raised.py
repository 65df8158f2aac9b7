"""What callbacks raise, told to their loop, so that everybody else's messages of the same read are still taken."""

from __future__ import annotations

import asyncio
import logging

from turnout.escape import escaped

log = logging.getLogger("turnout")

EXITS = (KeyboardInterrupt, SystemExit)
"""What ends a program, wherever it is raised."""

_exits: dict[asyncio.AbstractEventLoop, BaseException] = {}
"""The exits that are about to end their loops."""


def report_exception(loop: asyncio.AbstractEventLoop, error: BaseException, callback: object = None) -> None:
    """Tell a loop what a callback raised; from any thread.

    An exit ends the loop on its next turn, when what the present turn began is done. Of several only the first does:
    the others would end the clean-up that follows.

    Args:
        loop: the loop that is told.
        error: what was raised.
        callback: what raised it; None where that is not known.

    """
    if isinstance(error, EXITS):
        _exit_by(loop, error)
        return
    context = {"message": "turnout: a callback raised", "exception": error}
    if callback is not None:
        context["callback"] = callback
    if loop.is_running() and loop is not _running():
        loop.call_soon_threadsafe(loop.call_exception_handler, context)
        return
    try:
        loop.call_exception_handler(context)
    except EXITS as error:
        _exit_by(loop, error)


def cannot_send(method: str, fault: BaseException) -> None:
    """Log why the error that was raised for a request cannot be sent; the native part calls it."""
    log.error("the error raised for %s cannot be sent as it is", escaped(method), exc_info=fault)


def _exit_by(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    for closed in [known for known in tuple(_exits) if known.is_closed()]:
        _exits.pop(closed, None)
    if loop in _exits:
        return
    _exits[loop] = error
    try:
        loop.call_soon_threadsafe(_exit, loop)
    except RuntimeError:
        # The loop is closed, and nobody is left to be ended.
        _exits.pop(loop, None)
        raise error from None


def _exit(loop: asyncio.AbstractEventLoop) -> None:
    raise _exits.pop(loop)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


__all__ = ["EXITS", "cannot_send", "report_exception"]
