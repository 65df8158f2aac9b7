"""An event loop whose clock is the test's: where it would sleep, the time is already there."""

from __future__ import annotations

import asyncio
import functools
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

import turnout

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


MOST_TURNS = 100_000
"""Turns of the loop after which a test that never ends fails."""


class SkippingLoop(asyncio.SelectorEventLoop):
    """Never sleeps: when nothing is left to do but to wait for a timer, its clock stands at that timer.

    To sleep for a moment is therefore to wait until everything else that can happen has happened.

    What waits for anything but a timer or the loop itself has no place here: a process, or a thread, in which
    turnout runs handlers and filters that are no coroutines.

    """

    def __init__(self) -> None:
        super().__init__(_Skipping(self))
        self.now = 0.0
        self.clock = turnout.Clock(manual=True)
        """For a router, whose deadlines go by the same time then."""

    def time(self) -> float:
        """Seconds since the loop was made, by its own clock."""
        return self.now


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self._turns += 1
        assert self._turns < MOST_TURNS, "the test goes round and round"
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits, and nothing would ever happen"
            self._loop.now += timeout
            self._loop.clock.advance(timeout)
        return ready


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test; one that waits for what never comes fails at once, as does what the loop complains of."""
    loop = SkippingLoop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        result = loop.run_until_complete(main)
    finally:
        loop.close()
    assert not complaints, complaints
    return result


def on_skipping_loop(test: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., None]:
    """Make a test of a coroutine function, which runs on a loop that skips the time."""

    @functools.wraps(test)
    def run_test(**arguments: Any) -> None:
        run(test(**arguments))

    return run_test
