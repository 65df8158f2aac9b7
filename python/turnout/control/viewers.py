"""Viewers: each is told what changed since it was last told, at most ten times a second; nothing is queued for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import report
from turnout.records import plain

if TYPE_CHECKING:
    from typing_extensions import Self

    from turnout.control.figures import Figures
    from turnout.control.flights import Flights, Redact
    from turnout.control.rows import Row

MAX_VIEWERS = 16
"""Viewers at once."""

INTERVAL = 0.1
"""Seconds between two looks, at least."""

MOST_OF_THE_TIME = 0.05
"""The part of the loop's time that looking may take: where a look takes long, there are fewer of them."""

FIGURES_INTERVAL = 1.0
"""Seconds between two times that viewers are told figures."""

SILENCE = 15.0
"""Seconds after which a viewer of whom nothing changed is told so: a proxy would take the connection for dead."""


class Viewers:
    """Everybody who looks at one router.

    Args:
        flights: what is looked at.
        figures: the figures beside it.
        redact: what a row or a record becomes before it is told; None hides it.
        about: what viewers are told of the service.

    """

    def __init__(
        self, flights: Flights, figures: Figures, redact: Redact | None, about: dict[str, Any]
    ) -> None:
        self._flights = flights
        self._figures = figures
        self._redact = redact
        self._about = about
        self._looked = asyncio.Condition()
        self._looking: asyncio.Task[None] | None = None
        self._count = 0
        self._shared: tuple[tuple[int, int, bool], bytes] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return self._count >= MAX_VIEWERS

    def redacted(self, told: dict[str, Any]) -> dict[str, Any] | None:
        """What a row or a record becomes; one that cannot be redacted is hidden."""
        if self._redact is None:
            return told
        try:
            made = self._redact(told)
        except Exception as error:  # noqa: BLE001 - it is the embedder's
            report(error, self._redact)
            return None
        return None if made is None else plain(dict(made))

    def look(self) -> None:
        """Look now, where nobody else does."""
        if self._looking is None:
            self._flights.look()
            self._figures.look()

    def snapshot(self) -> dict[str, Any]:
        """All that is in flight, as it was last looked at."""
        return {
            **self._about,
            "now": time.time(),
            "figures": self._figures.as_dict(self._flights),
            "rows": self._rows(self._flights.rows),
        }

    def _rows(self, rows: list[Row]) -> list[dict[str, Any]]:
        return [row for row in (self.redacted(row.as_dict()) for row in rows) if row is not None]

    def follow(self) -> Following:
        """What one viewer is told: events of a stream, the first and those after a lapse with everything."""
        return Following(self)

    @property
    def generation(self) -> int:
        """Which look was the last."""
        return self._flights.generation

    async def wait_for_another(self, seen: int) -> None:
        """Wait until there was another look than `seen`."""
        async with self._looked:
            await self._looked.wait_for(lambda: self._flights.generation != seen)

    def message(self, since: int, *, with_figures: bool) -> bytes:
        """What is new since a look; most viewers share it."""
        key = (since, self._flights.generation, with_figures)
        if self._shared is None or self._shared[0] != key:
            self._shared = (key, self._made(since, with_figures=with_figures))
        return self._shared[1]

    def _made(self, since: int, *, with_figures: bool) -> bytes:
        found = self._flights.changed_since(since)
        if found is None:
            return event("snapshot", self.snapshot())
        changed, over = found
        if not changed and not over and not with_figures:
            return b""
        told: dict[str, Any] = {"now": time.time(), "rows": self._rows(changed)}
        told["over"] = [{"handle": row.handle, "outcome": row.record.outcome} for row in over]
        if with_figures:
            told["figures"] = self._figures.as_dict(self._flights)
        return event("delta", told)

    # ---- looking ----

    def join(self) -> None:
        """Look from now on, for one viewer more."""
        self._count += 1
        if self._looking is None:
            self._figures.start()
            self._flights.look()
            self._looking = asyncio.get_running_loop().create_task(self._look())

    def leave(self) -> None:
        """Look for one viewer less."""
        self._count -= 1
        if self._count == 0:
            self.close()

    def close(self) -> None:
        """Look no more."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            self._figures.stop()
            self._flights.forget()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self._flights.look()
                self._figures.look()
            except Exception as error:  # noqa: BLE001 - the next look may fare better
                report(error, self._look)
            async with self._looked:
                self._looked.notify_all()
            await asyncio.sleep(max(INTERVAL, (loop.time() - began) / MOST_OF_THE_TIME))


class Following:
    """The events that one viewer is told, until it is closed.

    Args:
        viewers: of the router that it looks at.

    """

    # No generator: that of 3.10 cannot be closed once a step of it was cancelled.
    def __init__(self, viewers: Viewers) -> None:
        self._viewers = viewers
        self._seen: int | None = None
        self._figures_at = 0.0
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        viewers, loop = self._viewers, asyncio.get_running_loop()
        if self._is_closed or (self._seen is None and viewers.is_full):
            # Others may have begun between the question and the answer.
            raise StopAsyncIteration
        if self._seen is None:
            viewers.join()
            self._seen, self._figures_at = viewers.generation, loop.time()
            return event("snapshot", viewers.snapshot())
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(viewers.wait_for_another(self._seen), SILENCE)
            since, self._seen = self._seen, viewers.generation
            if since == self._seen:
                return b": nothing is new\n\n"
            with_figures = loop.time() - self._figures_at >= FIGURES_INTERVAL
            if with_figures:
                self._figures_at = loop.time()
            message = viewers.message(since, with_figures=with_figures)
            if message:
                return message

    async def aclose(self) -> None:
        """Tell it no more."""
        if not self._is_closed and self._seen is not None:
            self._viewers.leave()
        self._is_closed = True


def event(name: str, data: dict[str, Any]) -> bytes:
    """One event of a stream; JSON has no line ends."""
    return b"event: " + name.encode() + b"\ndata: " + json.dumps(data) + b"\n\n"


__all__ = ["MAX_VIEWERS", "Viewers"]
