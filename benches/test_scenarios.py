"""The scenarios between two ends as pytest-benchmark sees them: one contender after the other, by name.

The interleaved table of `python -m benches.run` is what to compare by; this is for `--benchmark-compare`
of one contender with itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benches.contender import CONTENDERS, SDK, Ends, load
from benches.loops import LOOPS
from benches.scenarios import SCENARIOS, SDK_ROWS, Scenario

COUNTS = dict.fromkeys((*SDK, "dropin"), 500)
ROWS = [row for row in SCENARIOS.values() if row.ends == "memory" and row.unit != "bytes"]
CELLS = [
    pytest.param(contender, row, id=f"{row.name}-{contender}")
    for row in ROWS
    for contender in dict.fromkeys((*CONTENDERS, *(SDK if row.name in SDK_ROWS else ())))
    if contender not in row.skips
]


def _new_loop(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        loop: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()


@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize(("contender", "row"), CELLS)
def test_scenario(benchmark: Any, contender: str, row: Scenario, loop_name: str) -> None:
    count = row.count.quick if row.count else COUNTS.get(contender, 10_000)
    loop = _new_loop(loop_name)
    asked: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()

    async def answer(done: asyncio.Future[Any], ends: Ends) -> None:
        try:
            done.set_result(await row.run(ends, count))
        except Exception as why:
            done.set_exception(why)

    async def live() -> None:
        # Task groups must be left in the task that entered them: one task opens, works and closes.
        ends = await load(contender).memory()
        while (done := await asked.get()) is not None:
            await answer(done, ends)
        await ends.close()

    def sample() -> None:
        done = loop.create_future()
        asked.put_nowait(done)
        loop.run_until_complete(done)

    life = loop.create_task(live())
    try:
        benchmark.extra_info["operations"] = count
        benchmark.pedantic(sample, rounds=3, warmup_rounds=1)
    except NotImplementedError as why:
        pytest.skip(str(why))
    finally:
        asked.put_nowait(None)
        loop.run_until_complete(life)
        loop.close()
