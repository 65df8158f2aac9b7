"""Runs real clients before real servers, directly and through a relay, and compares.

`make test-interop` has the servers over stdio, `make test-interop-http` over Streamable HTTP.

Everything is a process of its own, as users run it. What each client saw is left in a folder, with what the programs
wrote to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import Difference, Place, Verdict, differences, judge, places
from expected import EXPECTED, NEW_CLIENTS
from matrix import (
    BRIDGE,
    BUILT,
    CLIENTS,
    HERE,
    HTTP_DIRECT,
    HTTP_SERVERS,
    NODE,
    PLANS,
    RELAY,
    SERVERS,
    WAYS,
    Way,
)

import turnout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SECONDS = 120
"""Seconds for one client and all of its cases."""

UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What servers say otherwise each time, such as the name of a session."""

Seen = dict[str, Any]


@contextlib.asynccontextmanager
async def process(*command: str, errors: Path, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a session of its own, ended with all that it started."""
    with errors.open("ab") as stderr:
        started = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True, limit=1 << 24, **options
        )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        await started.wait()


@contextlib.asynccontextmanager
async def serving(*command: str, errors: Path) -> AsyncIterator[str]:
    """A program that serves, and where it says that it does."""
    async with process(*command, errors=errors, stdin=subprocess.PIPE) as started:
        assert started.stdout is not None
        name = (await started.stdout.readline()).decode().strip()
        if not name:
            sys.exit(f"{command[0]} does not serve; see {errors}")
        yield name


class Matrix:
    """All runs, a few at a time.

    Args:
        folder: for what the programs write to standard error.
        sockets: for the sockets, whose paths must be short.
        cases: patterns of the cases that are run.
        jobs: how many clients run at a time.

    """

    def __init__(self, folder: Path, sockets: Path, cases: list[str], jobs: int) -> None:
        self._folder = folder
        self._sockets = sockets
        self._cases = cases
        self._jobs = asyncio.Semaphore(jobs)
        self.seen: dict[Place, Seen] = {}

    async def run(self, wanted: list[Place]) -> None:
        """See everything at these places."""
        by_relay: dict[tuple[str, str], list[Place]] = defaultdict(list)
        tasks = []
        for place in wanted:
            way = WAYS[place.way]
            if way.sharing and way.client != "stdio":
                by_relay[place.server, place.way].append(place)
            else:
                tasks.append(self._alone(place))
        tasks += [self._together(*key, clients) for key, clients in by_relay.items()]
        await asyncio.gather(*tasks)

    @contextlib.asynccontextmanager
    async def _started(self, server: str, way: Way, name: str) -> AsyncIterator[list[str]]:
        """The URL of a server that runs, or how it is started."""
        if way.server == "stdio":
            yield SERVERS[server]
            return
        async with serving(*HTTP_SERVERS[server], errors=self._folder / f"server-{name}.txt") as url:
            yield [url]

    async def _alone(self, place: Place) -> None:
        """A client with a server of its own, or with a relay that starts one."""
        way, name = WAYS[place.way], f"{place.client}-{place.server}-{place.way}"
        async with self._jobs, self._started(place.server, way, name) as server:
            await self._look(place, [*RELAY, way.sharing, way.era, "-", *server] if way.sharing else server)

    async def _together(self, server: str, by: str, clients: list[Place]) -> None:
        """Clients of one relay, one after the other: what one does, another would hear."""
        way, name = WAYS[by], f"{server}-{by}"
        path = "http" if way.client == "http" else str(self._sockets / f"{name}.sock")
        async with self._started(server, way, name) as upstream:
            command = [*RELAY, way.sharing, way.era, path, *upstream]
            async with serving(*command, errors=self._folder / f"relay-{name}.txt") as url:
                for place in clients:
                    async with self._jobs:
                        await self._look(place, [url] if way.client == "http" else [*BRIDGE, path])

    async def _look(self, place: Place, server: list[str]) -> None:
        plans = {
            case: plan
            for case, plan in PLANS[place.server].items()
            if any(fnmatchcase(case, one) for one in self._cases)
        }
        errors = self._folder / f"{place.client}-{place.server}-{place.way}.txt"
        began = time.monotonic()
        command = [*CLIENTS[place.client], json.dumps(plans), *server]
        async with process(*command, errors=errors, stdin=subprocess.DEVNULL) as client:
            assert client.stdout is not None
            seen = {case: {"broken": "not reached"} for case in plans}
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._read(client.stdout, seen), SECONDS)
        self.seen[place] = seen
        broken = sum("broken" in one for one in seen.values())
        took = time.monotonic() - began
        note = f", {broken} broken; see {errors}" if broken else ""
        print(f"  {place.client} before {place.server}, {place.way}: {took:.1f} s{note}", flush=True)

    @staticmethod
    async def _read(stream: asyncio.StreamReader, seen: Seen) -> None:
        async for line in stream:
            told = json.loads(UUID.sub(b"UUID", line))
            seen[told["case"]] = told["seen"]


def compare(seen: dict[Place, Seen], wanted: list[Place]) -> Iterator[Difference]:
    """Each way through the relay against the direct one, and our own server over HTTP against itself over stdio."""
    for place in filter(is_judged, wanted):
        direct = seen[Place(place.client, place.server, WAYS[place.way].against)]
        yield from differences(place, direct, seen[place])


def table(rows: list[tuple[Difference, str]]) -> Iterator[str]:
    """Differences as a table, those of several places in one row."""
    merged: dict[tuple[str, ...], list[Place]] = defaultdict(list)
    for difference, reason in rows:
        merged[difference.path, difference.direct, difference.relayed, reason].append(difference.place)
    for (path, direct, relayed, reason), where in sorted(merged.items()):
        yield f"{path}\n    direct:  {_short(direct)}\n    relayed: {_short(relayed)}"
        for line in _places(where):
            yield f"    {line}"
        if reason:
            yield f"    because: {reason}"


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."


def _places(where: list[Place]) -> Iterator[str]:
    by_pair: dict[tuple[str, str], list[str]] = defaultdict(list)
    for place in where:
        by_pair[place.client, place.server].append(place.way)
    by_ways: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (client, server), ways in sorted(by_pair.items()):
        by_ways[server, tuple(sorted(ways))].append(client)
    for (server, ways), clients in sorted(by_ways.items()):
        yield f"{', '.join(clients)} before {server}: {', '.join(ways)}"


def show(verdict: Verdict, seen: dict[Place, Seen]) -> bool:
    """Print what came of it; whether all is as it should be."""
    broken = [
        (place, case, one["broken"])
        for place, told in seen.items()
        if not WAYS[place.way].sharing
        for case, one in told.items()
        if "broken" in one
    ]
    print("\nExplained differences\n")
    print("\n".join(table([(one, expected.reason) for one, expected in verdict.explained])) or "none")
    print("\nDifferences without a reason\n")
    print("\n".join(table([(one, "") for one in verdict.unexplained])) or "none")
    if verdict.stale:
        print("\nExpected, and not found\n")
    for expected, missing in verdict.stale:
        print(f"{', '.join(expected.path)}: {expected.reason}")
        print("\n".join(f"    {line}" for line in _places(missing)))
    if broken:
        print("\nBroken without the relay\n")
    for place, case, why in broken:
        print(f"{case}: {place.client} before {place.server}: {why}")
    print(
        f"\n{len(seen)} runs; {len(verdict.explained)} differences explained,"
        f" {len(verdict.unexplained)} without a reason, {len(verdict.stale)} reasons stale, {len(broken)} broken"
    )
    return not (verdict.unexplained or verdict.stale or broken)


def install(needed: set[str]) -> None:
    """Fetch and build what clients and servers in TypeScript and Go need, as their lock files have it."""
    if any(name.startswith("go") for name in needed):
        BUILT.mkdir(exist_ok=True)
        subprocess.run(["go", "build", "-o", f"{BUILT}/", "./..."], cwd=HERE / "go", check=True)
    if not any(name.startswith(("ts-", "everything")) for name in needed):
        return
    if not shutil.which("node") or not shutil.which("npm"):
        sys.exit("Node.js 20 or later, with npm, is needed")
    stamp, lock = NODE / ".installed", HERE / "package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        print("installing the TypeScript SDKs", flush=True)
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        subprocess.run(["npm", "ci", *quiet], cwd=HERE, check=True)
        stamp.touch()


def chosen(names: Any, patterns: list[str]) -> list[str]:
    """The names that a pattern fits."""
    found = [name for name in names if any(fnmatchcase(name, one) for one in patterns)]
    if shutil.which("go") or not any(name.startswith("go") for name in found):
        return found
    print("Go is missing: its peers are left out", flush=True)
    return [name for name in found if not name.startswith("go")]


def possible(clients: list[str], servers: list[str], ways: list[str]) -> list[Place]:
    """The places that there are.

    Nobody knows one modern client over HTTP from another, to give each a server of its own.
    """
    return [
        one
        for one in places(clients, servers, ways)
        if not (
            WAYS[one.way].client == "http"
            and WAYS[one.way].sharing == "per_client"
            and one.client in NEW_CLIENTS
        )
    ]


def is_judged(place: Place) -> bool:
    """Whether what is seen there is compared: what others' servers do over HTTP by themselves is theirs."""
    return bool(WAYS[place.way].against) and (place.way != HTTP_DIRECT or place.server == "turnout")


def needs_calling(way: str) -> bool:
    """Whether a relay is the client of a server over HTTP there."""
    return WAYS[way].server == "http" and bool(WAYS[way].sharing)


def with_baselines(wanted: list[Place]) -> list[Place]:
    """These places, and those that they are compared with."""
    found = dict.fromkeys(wanted)
    for place in wanted:
        if is_judged(place):
            found[Place(place.client, place.server, WAYS[place.way].against)] = None
    return list(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for axis in ("clients", "servers", "ways", "cases"):
        parser.add_argument(f"--{axis}", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--upstreams", nargs="+", default=["*"], metavar="PATTERN", help="stdio, http")
    parser.add_argument("--jobs", type=int, default=1 + (os.cpu_count() or 1), help="clients at a time")
    parser.add_argument("--seen", type=Path, default=HERE / ".seen", help="a folder for what was seen")
    options = parser.parse_args()
    clients, servers = chosen(CLIENTS, options.clients), chosen(SERVERS, options.servers)
    ways = [way for way in chosen(WAYS, options.ways) if chosen([WAYS[way].server], options.upstreams)]
    if not hasattr(turnout, "http") and any(needs_calling(way) for way in ways):
        print("turnout.http is missing: no relay calls a server over HTTP", flush=True)
        ways = [way for way in ways if not needs_calling(way)]
    wanted = possible(clients, servers, ways)
    install({*clients, *servers})
    began = time.monotonic()
    shutil.rmtree(options.seen, ignore_errors=True)
    options.seen.mkdir(parents=True)
    # Servers over HTTP outlive this one unless they are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="interop-") as sockets:
        matrix = Matrix(options.seen, Path(sockets), options.cases, options.jobs)
        asyncio.run(matrix.run(with_baselines(wanted)))
    told = [{"place": vars(place), "seen": seen} for place, seen in matrix.seen.items()]
    (options.seen / "seen.json").write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")
    whole = options.cases == ["*"]
    verdict = judge(compare(matrix.seen, wanted), EXPECTED, filter(is_judged, wanted) if whole else ())
    right = show(verdict, matrix.seen)
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(not right)


if __name__ == "__main__":
    main()
