"""The contract between scenarios and what they measure.

A contender is a module under `benches.contenders` with four functions; scenarios see nothing else of it.
What it cannot do, or cannot do yet, raises NotImplementedError with the reason, and the table shows a dash.
"""

from __future__ import annotations

import abc
import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

CONTENDERS = ("turnout", "mcp", "dropin", "handwritten", "bare")
SDK = ("mcp", "mcp_turnout", "client", "client_turnout")
"""The official SDK on its own transports and on turnout's: raw requests, then `Client.call_tool`."""

Request = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Served:
    """What the answering side counts, where it lives in this process."""

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0
        self._goal: tuple[str, int, asyncio.Future[None]] | None = None

    def hang(self) -> asyncio.Future[None]:
        """What every contender's `HANG` handler awaits: only a cancel ends it. One object, no frame."""
        self._count("started")
        forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        forever.add_done_callback(self._over)
        return forever

    def _over(self, _: asyncio.Future[None]) -> None:
        self._count("stopped")

    def reset(self) -> None:
        self.started = self.stopped = 0

    async def until(self, counter: str, goal: int) -> None:
        """Wait until a counter stands at `goal`."""
        if getattr(self, counter) < goal:
            done = asyncio.get_running_loop().create_future()
            self._goal = (counter, goal, done)
            await done

    def _count(self, counter: str) -> None:
        value = getattr(self, counter) + 1
        setattr(self, counter, value)
        if self._goal is not None and self._goal[:2] == (counter, value):
            self._goal[2].set_result(None)
            self._goal = None


class Flight(Protocol):
    """A request in flight that no task awaits."""

    def done(self) -> bool: ...

    def exception(self) -> BaseException | None: ...


class Ends(abc.ABC):
    """Both ends of one connection, seen from the requesting side."""

    request: Request
    """Send and await the decoded result: the contender's own call, with nothing wrapped around it."""

    request_raw: Request | None = None
    """The same, without decoding the result; None where there is no such thing."""

    def __init__(self) -> None:
        self.served = Served()

    @abc.abstractmethod
    async def follow(self, count: int) -> int:
        """Ask for `STEPS` with `count` steps; the number of updates that reached the caller's code."""

    def launch(self, method: str, params: dict[str, Any]) -> Flight:
        """Send, and let nobody await it."""
        raise NotImplementedError("a request exists only while a task awaits it")

    def cancel(self, flight: Flight) -> None:
        """Cancel what `launch` gave."""
        raise NotImplementedError("a request exists only while a task awaits it")

    async def lose(self) -> None:
        """Let the requesting side see the end of the channel (only asked of a `sink`)."""
        raise NotImplementedError

    @abc.abstractmethod
    async def close(self) -> None: ...


class Contender(Protocol):
    """What a module under `benches.contenders` offers."""

    async def memory(self) -> Ends:
        """Both ends in this process and loop."""
        ...

    async def sink(self) -> Ends:
        """The requesting end alone: what it writes goes nowhere."""
        ...

    async def stdio(self, command: list[str]) -> Ends:
        """The answering end in a child process started by `command`."""
        ...

    async def serve(self) -> None:
        """Be that child."""
        ...


def load(name: str) -> Contender:
    """The contender of that name."""
    known = {*CONTENDERS, *SDK}
    if name not in known:
        raise LookupError(f"no contender {name!r}: one of {', '.join(sorted(known))}")
    return cast("Contender", importlib.import_module(f"benches.contenders.{name}"))
