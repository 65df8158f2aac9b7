"""What is measured between a requester and an answerer.

A scenario is one coroutine: given both ends and a number of operations, it does them and returns what it
measured. Setting up, tearing down, repeating and comparing are not its business.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from benches import usage
from benches.payloads import ECHO, HANG, PARAMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benches.contender import Ends, Flight

Unit = Literal["a second", "us", "bytes"]
"""Operations a second; microseconds for each; bytes for each."""

STEPS_A_REQUEST = 100
LAUNCHED_AT_ONCE = 1_000


class Count(NamedTuple):
    """Operations in a sample."""

    full: int
    quick: int


SOME = Count(10_000, 1_000)
MANY = Count(100_000, 10_000)
WEIGHED = Count(10_000, 10_000)
"""Fewer, and what is allocated once would weigh in."""


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Args:
        run: returns seconds, or bytes where the unit is bytes; and how many operations that was for.
        ends: which constructor of the contender makes the ends.
        count: operations in a sample; None for as many as fill the time.
        fresh: whether each sample needs a process that did nothing before.
    """

    name: str
    title: str
    unit: Unit
    ends: Literal["memory", "stdio", "sink"]
    run: Callable[[Ends, int], Awaitable[tuple[float, int]]]
    count: Count | None = None
    fresh: bool = False

    @property
    def skips(self) -> tuple[str, ...]:
        """Contenders that are left out, as it would take them minutes."""
        return ("mcp", "dropin") if self.count == MANY else ()


async def round_trips(ends: Ends, count: int, *, in_flight: int, raw: bool = False) -> tuple[float, int]:
    """Requests answered at once by an async handler, so many at a time."""
    request = ends.request_raw if raw else ends.request
    if request is None:
        raise NotImplementedError("results are always decoded")
    each = max(count // in_flight, 1)

    async def ask() -> None:
        for _ in range(each):
            await request(ECHO, PARAMS)

    start = perf_counter()
    await asyncio.gather(*[ask() for _ in range(in_flight)])
    return perf_counter() - start, each * in_flight


async def progress(ends: Ends, count: int, *, in_flight: int) -> tuple[float, int]:
    """Updates that reached the requester's code, the handlers sending as fast as they can."""
    each = max(count // in_flight // STEPS_A_REQUEST, 1)
    seen = 0

    async def follow() -> None:
        nonlocal seen
        for _ in range(each):
            updates = await ends.follow(STEPS_A_REQUEST)
            seen += updates

    start = perf_counter()
    await asyncio.gather(*[follow() for _ in range(in_flight)])
    return perf_counter() - start, seen


async def cancel_calls(ends: Ends, count: int) -> tuple[float, int]:
    """Requests nobody awaits: from the first cancel until the last handler has been cancelled."""
    ends.served.reset()
    flights = await _launch(ends, count)
    await ends.served.until("started", count)
    start = perf_counter()
    for flight in flights:
        ends.cancel(flight)
    await ends.served.until("stopped", count)
    return perf_counter() - start, count


async def cancel_tasks(ends: Ends, count: int) -> tuple[float, int]:
    """Requests each awaited by a task: from the first cancel until tasks and handlers are all over."""
    ends.served.reset()
    tasks = await _await_all(ends, count)
    await ends.served.until("started", count)
    start = perf_counter()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await ends.served.until("stopped", count)
    return perf_counter() - start, count


async def memory(ends: Ends, count: int, *, awaited: bool) -> tuple[float, int]:
    """Resident bytes for each request in flight; needs a process that did nothing else before."""
    gc.collect()
    before = usage.own().resident
    kept = await (_await_all if awaited else _launch)(ends, count)
    gc.collect()
    after = usage.own().resident
    assert len(kept) == count
    return after - before, count


async def memory_both(ends: Ends, count: int) -> tuple[float, int]:
    """The same with the handlers, each a task in this process, included."""
    gc.collect()
    before = usage.own().resident
    tasks = await _await_all(ends, count)
    await ends.served.until("started", count)
    gc.collect()
    after = usage.own().resident
    assert len(tasks) == count
    return after - before, count


async def settle_calls(ends: Ends, count: int) -> tuple[float, int]:
    """From the end of the channel until every request nobody awaits has its outcome."""
    flights = await _launch(ends, count)
    start = perf_counter()
    await ends.lose()
    while not (flights[0].done() and flights[-1].done()):
        await asyncio.sleep(0)
    elapsed = perf_counter() - start
    assert all(flight.exception() is not None for flight in flights)
    return elapsed, count


async def settle_tasks(ends: Ends, count: int) -> tuple[float, int]:
    """From the end of the channel until every awaiting task is over."""
    tasks = await _await_all(ends, count)
    start = perf_counter()
    await ends.lose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    elapsed = perf_counter() - start
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    return elapsed, count


async def _launch(ends: Ends, count: int) -> list[Flight]:
    flights: list[Flight] = []
    for number in range(count):
        flights.append(ends.launch(HANG, PARAMS))
        if number % LAUNCHED_AT_ONCE == 0:
            await asyncio.sleep(0)
    await _quiet()
    return flights


async def _await_all(ends: Ends, count: int) -> list[asyncio.Task[None]]:
    async def ask() -> None:
        await ends.request(HANG, PARAMS)

    tasks: list[asyncio.Task[None]] = []
    for number in range(count):
        tasks.append(asyncio.create_task(ask()))
        if number % LAUNCHED_AT_ONCE == 0:
            await asyncio.sleep(0)
    await _quiet()
    return tasks


async def _quiet() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def _scenarios() -> list[Scenario]:
    rows: list[Scenario] = []
    for in_flight in (1, 64, 1024):
        trips = partial(round_trips, in_flight=in_flight)
        title = f"round trips in memory, {in_flight:,} in flight"
        rows.append(Scenario(f"memory-{in_flight}", title, "a second", "memory", trips))
    trips = partial(round_trips, in_flight=64, raw=True)
    rows.append(Scenario("memory-64-raw", "the same at 64, results left raw", "a second", "memory", trips))
    for in_flight in (1, 64, 1024):
        trips = partial(round_trips, in_flight=in_flight)
        title = f"round trips over stdio, {in_flight:,} in flight"
        rows.append(Scenario(f"stdio-{in_flight}", title, "a second", "stdio", trips))
    for in_flight in (1, 64):
        updates = partial(progress, in_flight=in_flight)
        title = f"progress updates, {in_flight} in flight"
        rows.append(Scenario(f"progress-{in_flight}", title, "a second", "memory", updates))
    tasks, calls = "each awaited", "nobody awaits"
    rows += [
        Scenario("cancel-tasks-10k", f"cancel 10,000, {tasks}", "us", "memory", cancel_tasks, SOME),
        Scenario("cancel-tasks-100k", f"cancel 100,000, {tasks}", "us", "memory", cancel_tasks, MANY),
        Scenario("cancel-calls-10k", f"cancel 10,000, {calls}", "us", "memory", cancel_calls, SOME),
        Scenario("cancel-calls-100k", f"cancel 100,000, {calls}", "us", "memory", cancel_calls, MANY),
        Scenario("settle-tasks", f"disconnect with 100,000, {tasks}", "us", "sink", settle_tasks, MANY, True),
        Scenario("settle-calls", f"disconnect with 100,000, {calls}", "us", "sink", settle_calls, MANY, True),
    ]
    awaited, alone = partial(memory, awaited=True), partial(memory, awaited=False)
    rows += [
        Scenario(
            "memory-both", f"in flight, both sides, {tasks}", "bytes", "memory", memory_both, WEIGHED, True
        ),
        Scenario("memory-awaited", f"in flight, requester, {tasks}", "bytes", "sink", awaited, WEIGHED, True),
        Scenario("memory-alone", f"in flight, requester, {calls}", "bytes", "sink", alone, WEIGHED, True),
    ]
    return rows


SCENARIOS = {scenario.name: scenario for scenario in _scenarios()}

SDK_ROWS = ("stdio-1", "stdio-64", "memory-64", "progress-64", "cancel-tasks-10k", "memory-both")
"""What the official SDK is measured by on turnout's transports."""
