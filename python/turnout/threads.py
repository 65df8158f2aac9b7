"""Where handlers that are plain functions run: threads that nobody has to wait for at the end of the program.

The standard library's pool has its threads joined when the interpreter exits, however long what they do takes. A
function cannot be stopped, so that one would keep a server alive after its client is gone (TRS-12, X-09).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections import deque
from concurrent.futures import Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from turnout.records import in_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")

IDLE_TIMEOUT = 10.0
"""Seconds that a thread waits for work before it ends."""


class HandlerThreads(Executor):
    """Runs functions, each in one of a few threads.

    Args:
        most: threads at once; what comes beyond waits for one of them.

    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most if most is not None else min(32, (os.cpu_count() or 1) + 4)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._idle = 0
        self._is_closed = False
        self._on_rest: Callable[[], object] | None = None

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function, when a thread is there for it, in a copy of the context of who asks for it.

        What it sets there is not seen by what the thread runs next, which may be another client's.

        Raises:
            RuntimeError: the threads were shut down, or there is none and the system starts no more.

        """
        future: Future[T] = Future()
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the router is closed")
            self._waiting.append((future, partial(contextvars.copy_context().run, fn, *args, **kwargs)))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._threads < self._most:
                self._start_thread()
        return future

    def _start_thread(self) -> None:
        """Start one more thread, or leave what waits to those that there are."""
        self._threads += 1
        try:
            threading.Thread(target=self._run, name=f"turnout_{self._threads}", daemon=True).start()
        except (RuntimeError, MemoryError):
            # The system has no thread for us; the next one that is asked for may come.
            self._threads -= 1
            if not self._threads:
                self._waiting.pop()
                raise

    async def shut_down(self, timeout: float) -> None:
        """Begin nothing any more, and wait for what is at work.

        Args:
            timeout: seconds to wait at most; what goes on then ends with the program.

        """
        loop, rests = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._is_closed = True
            dropped = tuple(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            self._on_rest = lambda: in_loop(loop, rests.set)
            at_rest = self._threads == self._idle
        for future, _ in dropped:
            future.cancel()
        if at_rest:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rests.wait(), timeout)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            future, work = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
                    future.set_exception(error)
            # What it held is not kept until there is something else to do.
            del item, future, work

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Wait for work; None for a thread that is not needed any more."""
        with self._changed:
            self._idle += 1
            if self._is_closed and self._idle == self._threads and self._on_rest is not None:
                self._on_rest()
            came = self._changed.wait_for(lambda: self._waiting or self._is_closed, IDLE_TIMEOUT)
            self._idle -= 1
            if came and self._waiting:
                return self._waiting.popleft()
            self._threads -= 1
            return None


__all__ = ["HandlerThreads"]
