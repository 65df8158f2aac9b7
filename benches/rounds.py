"""Rounds: each contender takes a sample in turn, A B C B C A, in processes that idle in between."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from benches.figures import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benches.scenarios import Scenario

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds for one sample, after which its process is killed and the contender is left out."""


class Missing(Exception):
    """A contender cannot do a scenario; the text says why."""


class Worker:
    """The process of one contender, loop and scenario."""

    def __init__(self, contender: str, loop: str, scenario: Scenario) -> None:
        command = [sys.executable, "-m", "benches.worker", contender, loop, scenario.name]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.contender, self.loop = contender, loop
        try:
            self._answer()
        except Missing:
            self.close()
            raise

    def sample(self, wish: dict[str, float]) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["value"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
            raise Missing(f"no answer in {PATIENCE:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Missing(f"it ended with exit code {self._process.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise Missing(answer["missing"])
        return answer


def turned(all_of_them: Sequence[T], number: int) -> list[T]:
    """The same, each round begun by another: who is first may be measured as slower than the rest."""
    begin = number % max(len(all_of_them), 1)
    return [*all_of_them[begin:], *all_of_them[:begin]]


def measure(
    scenario: Scenario, contenders: Sequence[str], loop: str, rounds: int, seconds: float, quick: bool
) -> Iterator[Sample]:
    """All samples of one scenario on one loop; what is missing is said on stderr."""
    wish: dict[str, float] = {"seconds": seconds}
    if scenario.count is not None:
        wish = {"count": scenario.count.quick if quick else scenario.count.full}
    alive = [contender for contender in contenders if contender not in scenario.skips]
    workers: dict[str, Worker] = {}
    try:
        for number in range(rounds):
            for contender in turned(tuple(alive), number):
                try:
                    if contender not in workers:
                        workers[contender] = Worker(contender, loop, scenario)
                    value = workers[contender].sample(wish)
                    if scenario.fresh:
                        workers.pop(contender).close()
                except Missing as why:
                    print(f"{scenario.name}: no {contender} on {loop}: {why}", file=sys.stderr)
                    alive.remove(contender)
                    continue
                yield Sample(scenario.name, contender, loop, number, value)
    finally:
        for worker in workers.values():
            worker.close()
