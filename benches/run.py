"""Measure side by side, and print the tables: `python -m benches.run [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatch
from pathlib import Path

from benches import figures, relaying, rounds, table
from benches.contender import CONTENDERS, SDK
from benches.fleet import measure as fleet
from benches.loops import LOOPS
from benches.scenarios import SCENARIOS, SDK_ROWS


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="python -m benches.run", description=__doc__)
    options.add_argument("--quick", action="store_true", help="few, short rounds, for CI")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    options.add_argument("--rounds", type=int, help="rounds; 5, or 2 with --quick")
    options.add_argument("--seconds", type=float, help="length of a timed sample; 0.5, or 0.1 with --quick")
    options.add_argument(
        "--only", action="append", metavar="NAME", help="scenarios, such as 'memory-*', 'relay-*' or 'fleet*'"
    )
    options.add_argument("--loop", action="append", choices=LOOPS, help="event loops; both")
    options.add_argument("--contender", action="append", help="contenders, relays included; all")
    return options


def measure(arguments: argparse.Namespace) -> figures.Run:
    """Do what the command line says."""
    quick = arguments.quick
    run = figures.begin(arguments.rounds or (2 if quick else 5), quick)
    seconds = arguments.seconds or (0.1 if quick else 0.5)

    def wanted(name: str) -> bool:
        return not arguments.only or any(fnmatch(name, pattern) for pattern in arguments.only)

    def chosen(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if not arguments.contender or name in arguments.contender]

    for loop in arguments.loop or LOOPS:
        for scenario in filter(lambda one: wanted(one.name), SCENARIOS.values()):
            print(f"{loop}: {scenario.title}", file=sys.stderr)
            more = SDK if scenario.name in SDK_ROWS else ()
            contenders = chosen(tuple(dict.fromkeys((*CONTENDERS, *more))))
            samples = rounds.measure(scenario, contenders, loop, run.rounds, seconds, quick)
            run.samples.extend(samples)
        for routes in relaying.together(filter(lambda one: wanted(one.name), relaying.ROUTES)):
            sizes = "; ".join(route.size for route in routes)
            print(f"{loop}: through a relay, {sizes}, {routes[0].batch} a batch", file=sys.stderr)
            run.samples.extend(relaying.measure(routes, chosen(relaying.RELAYS), loop, run.rounds, seconds))
        for row in filter(lambda one: wanted(one.name), fleet.ROWS):
            print(f"{loop}: through a relay, {row.title}", file=sys.stderr)
            length = 2.0 if quick else 8.0
            run.samples.extend(fleet.measure(row, chosen(fleet.RELAYS), loop, run.rounds, length))
    if arguments.json:
        run.write(arguments.json)
    return run


def main() -> None:
    run = measure(parser().parse_args())
    print(
        table.conditions(run),
        table.routers(run),
        table.sdk(run),
        table.dropin(run),
        table.relays(run),
        table.flat(run),
        table.fleets(run),
        sep="\n\n",
    )


if __name__ == "__main__":
    main()
