"""One contender on one loop in a process of its own: `python -m benches.worker CONTENDER LOOP SCENARIO`.

Each line on stdin asks for one sample, as JSON: `{"count": n}`, or `{"seconds": s}` for as many operations
as fill that time. Each answer on stdout is `{"value": v, "count": n}`, `{"missing": why}` or, before the
first sample, `{"ready": true}`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

from benches import loops
from benches.contender import Ends, load
from benches.scenarios import SCENARIOS, Scenario

MOST = 2_000_000
"""Operations in one sample, however fast they are."""


async def _open(contender: str, loop: str, scenario: Scenario) -> Ends:
    made = load(contender)
    if scenario.ends == "stdio":
        return await made.stdio([sys.executable, "-m", "benches.serve", contender, loop])
    return await (made.sink() if scenario.ends == "sink" else made.memory())


async def _rate(ends: Ends, scenario: Scenario) -> float:
    """Warm up; operations a second."""
    count = 128
    while True:
        seconds, done = await scenario.run(ends, count)
        if seconds > 0.1 or count >= MOST:
            return done / seconds
        count *= 4


async def _sample(ends: Ends, scenario: Scenario, count: int) -> dict[str, Any]:
    gc.collect()
    measured, done = await scenario.run(ends, count)
    per = measured / done
    value = {"a second": 1 / per if per else 0.0, "us": per * 1e6, "bytes": per}[scenario.unit]
    return {"value": value, "count": done}


async def _work(contender: str, loop: str, scenario: Scenario) -> None:
    ends = await _open(contender, loop, scenario)
    try:
        rate = 0.0
        if scenario.count is None:
            rate = await _rate(ends, scenario)
        elif not scenario.fresh:
            await scenario.run(ends, 500)
        _say({"ready": True})
        for line in sys.stdin:
            wish = json.loads(line)
            count = wish["count"] if "count" in wish else min(int(rate * wish["seconds"]) + 1, MOST)
            _say(await _sample(ends, scenario, count))
    except NotImplementedError as reason:
        _say({"missing": str(reason)})
        return
    finally:
        if scenario.fresh:
            os._exit(0)  # what is left in flight was the point, and dies with us
        await ends.close()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    name, loop, wanted = sys.argv[1:]
    loops.run(_work(name, loop, SCENARIOS[wanted]), loop)
