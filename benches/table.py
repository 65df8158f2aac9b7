"""Runs as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.fleet import judge
from benches.fleet import measure as fleet
from benches.loops import LOOPS
from benches.relaying import MEASURES, RELAYS, ROUTES, together
from benches.scenarios import SCENARIOS, SDK_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benches.figures import Figure, Run

NAMES = {
    "turnout": "turnout",
    "mcp": "mcp",
    "dropin": "turnout.mcp",
    "mcp_turnout": "mcp on turnout",
    "client": "Client",
    "client_turnout": "Client on turnout",
    "handwritten": "by hand",
    "bare": "asyncio",
    "floor": "floor",
    "fastmcp": "FastMCP proxy",
    "direct": "no relay",
}
MISSING = "\N{EN DASH}"
HEAD = ("memory-64", "stdio-64", "progress-64", "cancel-tasks-10k", "memory-both")
"""The rows that the README at the top shows."""


def conditions(run: Run) -> str:
    """What the figures hold for."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return f"{run.machine}; {versions}; {run.rounds} interleaved rounds{', quick' if run.quick else ''}."


def routers(run: Run, names: Sequence[str] | None = None, loops: Sequence[str] = LOOPS) -> str:
    """The scenarios between two ends. Ratios above 1 are in turnout's favour."""
    others = ("mcp", "handwritten", "bare")
    head = ["", "unit", "loop", *(NAMES[name] for name in ("turnout", *others))]
    rows = []
    for scenario in SCENARIOS.values():
        if names is not None and scenario.name not in names:
            continue
        for loop in loops:
            figures = [run.figure(scenario.name, name, loop) for name in ("turnout", *others)]
            if not any(figures):
                continue
            ratios = []
            for other in others:
                pair = ("turnout", other) if scenario.unit == "a second" else (other, "turnout")
                ratios.append(_ratio(run.ratio(scenario.name, *pair, loop)))
            rows.append([scenario.title, scenario.unit, loop, *map(_cell, figures), *ratios])
    return markdown([*head, "to mcp", "to by hand", "to asyncio"], rows)


def sdk(run: Run, loops: Sequence[str] = LOOPS) -> str:
    """The official SDK on turnout's transports and on its own. Ratios above 1 are in turnout's favour."""
    pairs = (("mcp_turnout", "mcp"), ("client_turnout", "client"))
    names = [name for pair in pairs for name in pair]
    rows = []
    for scenario in (SCENARIOS[name] for name in SDK_ROWS):
        for loop in loops:
            figures = [run.figure(scenario.name, name, loop) for name in names]
            if not any(figures[:1] + figures[2:]):
                continue
            better = [pair if scenario.unit == "a second" else pair[::-1] for pair in pairs]
            ratios = [_ratio(run.ratio(scenario.name, *pair, loop)) for pair in better]
            rows.append([scenario.title, scenario.unit, loop, *map(_cell, figures), *ratios])
    head = ["", "unit", "loop", *(NAMES[name] for name in names)]
    return markdown([*head, "raw to mcp", "typed to Client"], rows)


def dropin(run: Run, loops: Sequence[str] = LOOPS) -> str:
    """The same scenarios under the official SDK: turnout's dispatcher by the SDK's own."""
    rows = []
    for scenario in SCENARIOS.values():
        for loop in loops:
            figures = [run.figure(scenario.name, name, loop) for name in ("dropin", "mcp")]
            if not all(figures):
                continue
            pair = ("dropin", "mcp") if scenario.unit == "a second" else ("mcp", "dropin")
            ratio = _ratio(run.ratio(scenario.name, *pair, loop))
            rows.append([scenario.title, scenario.unit, loop, *map(_cell, figures), ratio])
    return markdown(["", "unit", "loop", NAMES["dropin"], NAMES["mcp"], "to mcp"], rows)


def relays(run: Run, loops: Sequence[str] = LOOPS) -> str:
    """The scenarios through a relay. Ratios: the floor's cost by turnout's, the hand-written by turnout's."""
    head = ["response", "batch", "measure", "loop", *(NAMES[name] for name in RELAYS)]
    rows = []
    for route in ROUTES:
        for measure, unit in MEASURES.items():
            name = f"{route.name}:{measure}"
            for loop in loops:
                figures = [run.figure(name, relay, loop) for relay in RELAYS]
                if not any(figures):
                    continue
                ratios = []
                for other in ("floor", "handwritten", "fastmcp"):
                    pair = ("turnout", other) if measure == "rate" else (other, "turnout")
                    ratios.append(_ratio(run.ratio(name, *pair, loop)))
                rows.append([route.size, str(route.batch), unit, loop, *map(_cell, figures), *ratios])
    return markdown([*head, "to floor", "to by hand", "to FastMCP"], rows)


def flat(run: Run, loops: Sequence[str] = LOOPS) -> str:
    """CPU an exchange with much in flight, and with many clients, by that with neither, in the same rounds."""
    rows = []
    for routes in together(ROUTES):
        base, *others = (f"{route.name}:cpu" for route in routes)
        for route, name in zip(routes[1:], others, strict=True):
            for loop in loops:
                ratios = [run.growth(relay, name, base, loop) for relay in RELAYS]
                if any(ratios):
                    rows.append([route.size, str(route.batch), loop, *map(_growth, ratios)])
    head = ["CPU to none held, one client", "batch", "loop"]
    return markdown([*head, *(NAMES[name] for name in RELAYS)], rows)


def fleets(run: Run, loops: Sequence[str] = LOOPS) -> str:
    """The fleets: no ratios, since many of the figures ought to be nought."""
    rows = []
    for row in fleet.ROWS:
        for measure, unit in judge.MEASURES.items():
            for loop in loops:
                figures = [run.figure(f"{row.name}:{measure}", relay, loop) for relay in fleet.RELAYS]
                if any(figures):
                    rows.append([row.title, unit, loop, *map(_cell, figures)])
    return markdown(["fleet", "measure", "loop", *(NAMES[name] for name in fleet.RELAYS)], rows)


def codecs(run: Run) -> str:
    """Readers and writers of JSON. Ratios above 1 are in turnout's favour."""
    others = ("orjson", "msgspec", "json")
    rows = []
    for scenario in dict.fromkeys(sample.scenario for sample in run.samples):
        figures = [run.figure(scenario, name, "") for name in ("turnout", *others)]
        ratios = [_ratio(run.ratio(scenario, other, "turnout", "")) for other in others]
        rows.append([scenario, *map(_cell, figures), *ratios])
    head = ["us each", "turnout", *others]
    return markdown([*head, *(f"to {other}" for other in others)], rows)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return MISSING
    value = figure.median
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{shown} ±{abs(figure.spread) * 100:.0f} %"


def _ratio(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}x" if value >= 20 else f"{value:.2g}x"


def _growth(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}x"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
