"""Callbacks that raise, one exception each, and a loop that is ended by exits and then goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any, TypeVar

from loops import LIMIT, new_loop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

EXITS = (KeyboardInterrupt, SystemExit)

EXCEPTIONS = (RuntimeError, asyncio.CancelledError, GeneratorExit, *EXITS)
"""What a callback may raise: of the ordinary kind, of those that `except Exception` lets pass, and exits."""


class Bang:
    """A callback that raises the first time that it is called.

    Args:
        kind: the class of the exception.

    Attributes:
        error: the exception.
        calls: how many times it was called.

    """

    def __init__(self, kind: type[BaseException]) -> None:
        self.error = kind("bang")
        self.calls = 0

    def __call__(self, *_: object, **__: object) -> None:
        self.calls += 1
        if self.calls == 1:
            raise self.error


def run(loop_kind: str, main: Coroutine[Any, Any, T]) -> tuple[T, list[BaseException], list[BaseException]]:
    """Run a test to its end, whatever ends the loop meanwhile.

    Returns:
        What the test returned, the exceptions that the loop's exception handler was told of, and the exits.

    """
    loop = new_loop(loop_kind)
    told: list[BaseException] = []
    exits: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: told.append(context.get("exception") or context["message"]))
    try:
        task = loop.create_task(asyncio.wait_for(main, LIMIT))
        while True:
            try:
                result = loop.run_until_complete(task)
                # An exit that is still under way is one, too.
                with contextlib.suppress(RuntimeError):
                    # uvloop says that it was stopped where an exit came with the end of the test.
                    loop.run_until_complete(asyncio.sleep(0))
                loop.run_until_complete(asyncio.sleep(0))
                break
            except EXITS as error:
                exits.append(error)
                assert len(exits) < 9, "the loop is ended again and again"
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        del task
        gc.collect()
    finally:
        loop.close()
    return result, told, exits
