"""What is measured between a requester and an answerer.

A scenario is one coroutine: given both ends and a number of operations, it does them and returns what it
measured. Setting up, tearing down, repeating and comparing are not its business.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Literal

from benches import usage
from benches.contender import Ends, Flight
from benches.payloads import ECHO, HANG, PARAMS

Unit = Literal["a second", "us", "bytes"]
"""Operations a second; microseconds for each; bytes for each."""

STEPS_A_REQUEST = 100
LAUNCHED_AT_ONCE = 1_000


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    Args:
        run: returns seconds, or bytes where the unit is bytes; and how many operations that was for.
        ends: which constructor of the contender makes the ends.
        count: operations in a sample; None for as many as fill the time.
        skips: contenders that are left out, as it would take them minutes.
    """

    name: str
    title: str
    unit: Unit
    ends: Literal["memory", "stdio", "sink"]
    run: Callable[[Ends, int], Awaitable[tuple[float, int]]]
    count: int | None = None
    quick_count: int | None = None
    fresh: bool = False
    skips: tuple[str, ...] = ()


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
    slow = ("mcp",)
    big = {"count": 100_000, "quick_count": 10_000, "skips": slow}
    some = {"count": 10_000, "quick_count": 1_000}
    return [
        *rows,
        Scenario("cancel-tasks-10k", "cancel 10,000, each awaited", "us", "memory", cancel_tasks, **some),
        Scenario("cancel-tasks-100k", "cancel 100,000, each awaited", "us", "memory", cancel_tasks, **big),
        Scenario("cancel-calls-10k", "cancel 10,000 nobody awaits", "us", "memory", cancel_calls, **some),
        Scenario("cancel-calls-100k", "cancel 100,000 nobody awaits", "us", "memory", cancel_calls, **big),
        Scenario(
            "memory-both",
            "in flight: both sides, awaited",
            "bytes",
            "memory",
            memory_both,
            fresh=True,
            **some,
        ),
        Scenario(
            "memory-awaited",
            "in flight: requester, awaited",
            "bytes",
            "sink",
            partial(memory, awaited=True),
            fresh=True,
            **some,
        ),
        Scenario(
            "memory-alone",
            "in flight: requester, not awaited",
            "bytes",
            "sink",
            partial(memory, awaited=False),
            fresh=True,
            **some,
        ),
        Scenario(
            "settle-tasks", "disconnect with 100,000 awaited", "us", "sink", settle_tasks, fresh=True, **big
        ),
        Scenario(
            "settle-calls",
            "disconnect with 100,000 not awaited",
            "us",
            "sink",
            settle_calls,
            fresh=True,
            **big,
        ),
    ]


SCENARIOS = {scenario.name: scenario for scenario in _scenarios()}
