"""Streams that are asked for: that of the server's own messages, and those that are resumed."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.transports.http.calling.refusals import METHOD_NOT_ALLOWED

if TYPE_CHECKING:
    from turnout._native import HttpPool, HttpPost

LOGGER = logging.getLogger("turnout.http")

RETRY = 1.0
"""Seconds after which a stream is opened again whose server says nothing else, and the most that it has to stand."""

LEAST_RETRY = 0.05
"""Seconds after which it is at the soonest, whatever a server says; twice as many for each that stood for less than
`RETRY`, up to that."""

MOST_RETRY = 30.0
"""Seconds after which it is at the latest, and the most that a server may ask for."""

MOST_RESUMES = 10
"""How often in a row a stream is resumed that brings nothing."""


@dataclass
class Resumes:
    """How a stream was resumed.

    Attributes:
        count: how often in a row without anything new.
        short: how often in a row it stood for less than `RETRY`.
        last_event_id: behind which event.
        stands_since: when it was opened last, in the loop's time; infinite while it is not open.

    """

    count: int = 0
    short: int = 0
    last_event_id: str = ""
    stands_since: float = math.inf


class Streams:
    """The streams of one connection, by the requests that they are of; 0 for that of the server's own messages.

    Args:
        name: what logs call the server.
        pool: opens them.

    """

    def __init__(self, name: str, pool: HttpPool) -> None:
        self._name = name
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._resumes: dict[int, Resumes] = {}
        self._has_own = True

    def prune(self) -> None:
        """Forget those of requests that nobody waits for any more."""
        for number in [it for it in self._resumes if it and not self._pool.awaits(it)]:
            del self._resumes[number]
            self._stop_timer(number)

    def close(self) -> None:
        """Open none any more."""
        self._has_own = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def opened(self, number: int) -> None:
        """Take note that one stands."""
        self._resumes.setdefault(number, Resumes()).stands_since = self._loop.time()

    def ended(self, number: int, last_event_id: str, retry_ms: int | None) -> None:
        """Have one go on that ended."""
        if not (self._has_own or number):
            return
        resumes = self._resumes.setdefault(number, Resumes())
        # A proxy cuts what stands long, whatever it brings.
        stood = self._loop.time() - resumes.stands_since
        stood_long = stood >= MOST_RETRY
        is_in_vain = resumes.last_event_id == last_event_id and not stood_long
        resumes.count = resumes.count + 1 if is_in_vain else 1
        resumes.short = resumes.short + 1 if stood < RETRY else 0
        resumes.last_event_id, resumes.stands_since = last_event_id, math.inf
        if resumes.count > MOST_RESUMES:
            del self._resumes[number]
            if number:
                self._pool.lose(number, "its stream was resumed in vain")
            else:
                self._has_own = False
            return
        wait = RETRY if retry_ms is None else min(retry_ms / 1000, MOST_RETRY)
        # Whatever it brings each time: a server may not have us ask as fast as it answers.
        least = min(LEAST_RETRY * 2 ** min(max(resumes.short - 1, 0), 10), RETRY)
        wait = min(max(wait, least) * 2 ** min(resumes.count - 1, 5), MOST_RETRY)
        self._stop_timer(number)
        self._timers[number] = self._loop.call_later(wait, self._listen, number, last_event_id)

    def refused(self, post: HttpPost, status: int) -> None:
        """Act on a status that is no success."""
        if post.number:
            self._pool.lose(
                post.number, f"the server answered with HTTP status {status} as its stream was resumed"
            )
        else:
            # Whatever it says, it is not asked again in this session: most say 405, some anything else.
            self._has_own = False
            level = logging.DEBUG if status == METHOD_NOT_ALLOWED else logging.INFO
            LOGGER.log(level, "%s: no stream of its own messages (HTTP status %d)", self._name, status)

    def lost(self, post: HttpPost, why: str) -> None:
        """Act on one that could not be had."""
        if post.number:
            self._pool.lose(post.number, why)
        else:
            self._has_own = False

    def listen(self) -> None:
        """Ask for the server's own messages, in a session that is open now."""
        # The stream of the session before is of no use, and what was refused there may be offered here.
        self._has_own = True
        self._resumes.pop(0, None)
        self._listen(0, "")

    def _stop_timer(self, number: int) -> None:
        timer = self._timers.pop(number, None)
        if timer is not None:
            timer.cancel()

    def _listen(self, number: int, last_event_id: str) -> None:
        self._stop_timer(number)
        self._pool.listen(number, last_event_id)


__all__ = ["Streams"]
