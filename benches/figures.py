"""Samples, and what may be said of them: medians, spreads, and ratios within one round."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = ("turnout", "mcp", "fastmcp", "orjson", "msgspec", "uvloop")


@dataclass(frozen=True)
class Sample:
    """One measured value of one contender in one round."""

    scenario: str
    contender: str
    loop: str
    round: int
    value: float


@dataclass(frozen=True)
class Figure:
    """What the rounds agree on."""

    median: float
    spread: float
    """Half the distance from the least to the greatest, as a part of the median."""


@dataclass
class Run:
    """Everything measured side by side in one run, and on what."""

    rounds: int
    quick: bool
    machine: str
    versions: dict[str, str]
    samples: list[Sample] = field(default_factory=list)

    def figure(self, scenario: str, contender: str, loop: str) -> Figure | None:
        """The figure of one cell; None where it was not measured."""
        values = list(self._rounds(scenario, contender, loop).values())
        if not values:
            return None
        middle = median(values)
        return Figure(middle, (max(values) - min(values)) / 2 / middle if middle else 0.0)

    def ratio(self, scenario: str, over: str, under: str, loop: str) -> float | None:
        """The median of `over` divided by `under` within each round; None where either is missing."""
        return _ratio(self._rounds(scenario, over, loop), self._rounds(scenario, under, loop))

    def growth(self, contender: str, scenario: str, base: str, loop: str) -> float | None:
        """What one contender takes for a scenario by what it takes for another that was measured in the same rounds."""
        return _ratio(self._rounds(scenario, contender, loop), self._rounds(base, contender, loop))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def _rounds(self, scenario: str, contender: str, loop: str) -> dict[int, float]:
        wanted = (scenario, contender, loop)
        return {
            sample.round: sample.value
            for sample in self.samples
            if (sample.scenario, sample.contender, sample.loop) == wanted
        }


def _ratio(tops: dict[int, float], bottoms: dict[int, float]) -> float | None:
    ratios = [tops[number] / bottoms[number] for number in tops if bottoms.get(number)]
    return median(ratios) if ratios else None


def read(path: Path) -> Run:
    """A run as `Run.write` left it."""
    stored = json.loads(path.read_text())
    stored["samples"] = [Sample(**sample) for sample in stored["samples"]]
    return Run(**stored)


def begin(rounds: int, quick: bool) -> Run:
    """An empty run on this machine."""
    return Run(rounds, quick, _machine(), dict(_versions(SHOWN)))


def _machine() -> str:
    cores = os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cores} cores, {platform.machine()}{_processor()}, {platform.system()}, {python}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((f" ({line.partition(': ')[2]})" for line in lines if line.startswith("model name")), "")


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
