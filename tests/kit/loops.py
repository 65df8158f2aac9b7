"""The event loops that tests run on: asyncio's own and uvloop's, each with a bound on the time of a test."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

LOOP_KINDS = ("asyncio", "uvloop")

LIMIT = 120
"""Seconds after which a test that hangs fails."""


def both_loops(test: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., None]:
    """Make a test of a coroutine function: it runs on each event loop, and what the loop complains of fails it.

    The function names the fixtures and parameters that it wants, as every test does; `loop_kind` is the loop's kind.
    A plain test, which does something before or after the loop runs, asks for `on_loop` or `loop_kind` itself.
    """
    wanted = inspect.signature(test)

    @functools.wraps(test)
    def run_test(on_loop: Callable[[Any], Any], **arguments: Any) -> None:
        on_loop(test(**arguments))

    own = inspect.Parameter("on_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run_test.__signature__ = wanted.replace(parameters=[own, *wanted.parameters.values()])  # type: ignore[attr-defined]
    return run_test


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """An event loop of the kind, one of `LOOP_KINDS`."""
    if kind == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    # In debug mode it warns of callbacks that take long, as on a busy machine all do; no test is about that.
    loop.slow_callback_duration = LIMIT
    return loop


def run(kind: str, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of that kind; whatever the loop complains of fails the test."""
    loop = new_loop(kind)
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        result = loop.run_until_complete(asyncio.wait_for(main, LIMIT))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    assert not complaints, complaints
    return result
