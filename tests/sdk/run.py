"""Runs the official MCP SDK's own tests on turnout's dispatcher: `make test-sdk`.

The tests come from the SDK's source distribution, what they need from its own lock file, both into a cache;
nothing of the SDK is kept in this repository. Which tests run a dispatcher is found out by running all of them
once on the SDK's own. Then these run on the substitute: on both sides, and on one side against the SDK's own.
Those in memory run once more on a turnout peer, to which `native.py` bridges the streams. Those over Streamable HTTP
run once more as they are, with a relay of turnout between clients and servers, which `relayed.py` puts there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from left_out import LEFT_OUT, LEFT_OUT_NATIVE, LEFT_OUT_RELAYED

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
VERSION = "2.3.0"
SIDES = ("both", "client", "server")
STREAMS = "turnout.mcp:Dispatcher"
NATIVE = "native:Bridged"

# What the tests import beside the SDK.
NEEDED = (
    "blockbuster",
    "coverage",
    "dirty-equals",
    "inline-snapshot",
    "logfire",
    "opentelemetry-sdk",
    "pillow",
    "pydantic-settings",
    "pytest",
    "pytest-examples",
    "python-dotenv",
    "trio",
    "typer",
)

# tests/docs checks the tools that build the SDK's documentation; they need much, and run no dispatcher.
IGNORED = "tests/docs"

# Tests that must fail with each fault of broken.py; with the one that is none they must pass.
CANCELLATION = "tests/interaction/lowlevel/test_cancellation.py"
PROGRESS = "tests/interaction/lowlevel/test_progress.py"
CORRELATION = "tests/interaction/lowlevel/test_tools.py"
FAULTS = {
    "intact": (CANCELLATION, PROGRESS, CORRELATION),
    "never_cancels": (CANCELLATION,),
    "answers_after_cancel": (CANCELLATION,),
    "drops_progress": (PROGRESS,),
    "crosses_ids": (CORRELATION, CANCELLATION),
}


class Suite:
    """The SDK's tests in a cache, with an environment to run them in.

    Args:
        cache: where everything that is fetched goes.

    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.tests = cache / f"mcp-{VERSION}"
        self.environment = cache / "venv"
        self.python = self.environment / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.chosen = cache / "chosen.txt"
        self.stock = cache / "stock.json"

    def prepare(self) -> None:
        """Fetch what is missing."""
        self.cache.mkdir(exist_ok=True)
        ready = self.cache / "ready"
        if not ready.exists():
            print(f"fetching the tests of mcp {VERSION}", flush=True)
            if not self.python.exists():
                venv.create(self.environment, with_pip=True)
            self._pip("download", "--no-deps", "--no-binary", "mcp", "--dest", self.cache, f"mcp=={VERSION}")
            with tarfile.open(self.cache / f"mcp-{VERSION}.tar.gz") as archive:
                archive.extractall(self.cache, filter="data")
            constraints = self.cache / "constraints.txt"
            constraints.write_text(_locked(self.tests / "uv.lock"), encoding="utf-8")
            self._pip("install", "--constraint", constraints, f"mcp=={VERSION}", *NEEDED, *_own_needs())
            ready.touch()
        (site,) = self.environment.glob("lib/python*/site-packages")
        (site / "turnout.pth").write_text(f"{_package_folder()}\n", encoding="utf-8")

    def _pip(self, command: str, *arguments: object) -> None:
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([self.python, "-m", "pip", command, *quiet, *map(str, arguments)], check=True)

    def run(
        self, name: str, *options: str, files: tuple[str, ...] = ("tests",), timeout: float = 1800
    ) -> dict[str, Any]:
        """Run tests, and give what came of each.

        Args:
            name: of the log, and of the outcomes, in the cache.
            options: pytest's and the plugin's.
            files: which tests.
            timeout: seconds for the whole run.

        """
        outcomes, log = self.cache / f"{name}.json", self.cache / f"{name}.log"
        outcomes.unlink(missing_ok=True)
        path = os.pathsep.join((str(HERE), str(self.tests / "examples")))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNDEFAULTENCODING": "1"}
        pytest = [self.python, "-m", "pytest", "-q", "-o", "log_cli=false", "--color=no", "-p", "plugin"]
        settings = ["-c", self.tests / "pyproject.toml", "--ignore", IGNORED]
        command = [*pytest, *settings, "--outcomes", outcomes, *options, *files]
        with log.open("w", encoding="utf-8") as written:
            subprocess.run(
                list(map(str, command)),
                cwd=self.tests,
                env=environment,
                stdout=written,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        if not outcomes.exists():
            sys.exit(f"pytest did not get through; see {log}")
        return json.loads(outcomes.read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def baseline(self) -> tuple[str, ...]:
        """Run everything on the SDK's own dispatcher, once; gives the files whose tests run one."""
        if not self.chosen.exists():
            print("running everything once on the SDK's own dispatcher", flush=True)
            self.run("stock")
            told = json.loads(self.stock.read_text(encoding="utf-8"))
            ran = [test for test, end in told.items() if end["ran_on"] and end["outcome"] == "passed"]
            self.chosen.write_text("\n".join(ran), encoding="utf-8")
        told = json.loads(self.stock.read_text(encoding="utf-8"))
        ran = self.chosen.read_text(encoding="utf-8").splitlines()
        ends = Counter(end["outcome"] for end in told.values())
        inside = sum(test.startswith("tests/interaction/") for test in ran)
        print(f"mcp {VERSION} as it is: {ends['passed']} passed, {ends['failed']} failed here")
        print(f"{len(ran)} of them run a dispatcher, {inside} in tests/interaction\n", flush=True)
        return tuple(sorted({test.partition("::")[0] for test in ran}))


def _locked(lock: Path) -> str:
    """Constraints out of the SDK's lock file: every package that it has in one version."""
    package = re.compile(r'^name = "(.+)"\nversion = "(.+)"\nsource = \{ registry', re.MULTILINE)
    found = package.findall(lock.read_text(encoding="utf-8"))
    versions = Counter(name for name, _ in found)
    return "".join(f"{name}=={version}\n" for name, version in found if versions[name] == 1)


def _own_needs() -> list[str]:
    """What turnout itself needs, as pyproject.toml says."""
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'"(.+?)"', listed.group(1)) if listed else []


def _package_folder() -> Path:
    found = importlib.util.find_spec("turnout")
    if found is None or found.origin is None:
        sys.exit("turnout is not installed for this interpreter; run `make build`")
    return Path(found.origin).parents[1]


@dataclass
class Tally:
    """What came of a run: a test counts for the substitute only if an instance of it was made in the test."""

    passed: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, told: dict[str, Any]) -> Tally:
        """Sort the tests of a run by what they ran on and what came of them."""
        tally = cls()
        for test, end in told.items():
            if end["outcome"] == "passed":
                used = [name for name in ("substitute", "stock", "trio") if name in end["ran_on"]]
                tally.passed[" and ".join(used)] += 1
            elif end["outcome"] == "skipped":
                tally.left_out.append(f"{test}\n      {end['reason']}")
            else:
                tally.failed.append(f"{test}\n      {end['reason']}")
        return tally

    @property
    def ours(self) -> int:
        """Tests that passed on the substitute, alone or against the SDK's own."""
        return sum(count for kind, count in self.passed.items() if kind.startswith("substitute"))

    @property
    def theirs(self) -> int:
        """Tests that passed without it: they prove nothing about it."""
        return self.passed.total() - self.ours

    def show(self, side: str) -> None:
        """Print it."""
        print(TITLES[side])
        print(
            f"  {self.ours} passed on turnout's dispatcher, {len(self.failed)} failed,"
            f" {len(self.left_out)} left out; {self.theirs} ran without it"
        )
        for kind, count in sorted(self.passed.items()):
            print(f"    {count} {KINDS.get(kind, kind or 'that made no dispatcher this time')}")
        self._show_others()

    def show_relayed(self) -> None:
        """Print it, of tests on the SDK's own dispatcher behind a relay."""
        print("through a relay over HTTP")
        told = (self.passed.total(), len(self.failed), len(self.left_out))
        print("  {} passed, {} failed, {} left out".format(*told))
        self._show_others()

    def _show_others(self) -> None:
        for test in self.left_out:
            print(f"    left out: {test}")
        for test in self.failed:
            print(f"    FAILED: {test}")
        print(flush=True)


TITLES = {
    "both": "on both sides",
    "client": "as client only",
    "server": "as server only",
    "native": "on a turnout peer, on both sides",
}

KINDS = {
    "substitute": "on turnout's dispatcher alone",
    "substitute and stock": "on turnout's against the SDK's own",
    "substitute and trio": "on turnout's, and on trio on the SDK's own",
    "stock": "without it: no such side in them, so on the SDK's own",
    "trio": "without it: on trio the SDK keeps its own",
}


def run_streams(suite: Suite, dispatcher: tuple[str, ...], side: str, files: tuple[str, ...]) -> Tally:
    """Run the tests on the SDK's streams with the substitute on one side, or both.

    What no other class can pass is not begun: its streams would be collected in the middle of a later test.
    """
    chosen = suite.chosen.read_text(encoding="utf-8").splitlines()
    listed = suite.cache / "chosen-streams.txt"
    listed.write_text("\n".join(test for test in chosen if test not in LEFT_OUT), encoding="utf-8")
    tally = Tally.of(suite.run(side, *dispatcher, "--side", side, "--chosen", str(listed), files=files))
    tally.left_out += [f"{test}\n      {reason}" for test, reason in LEFT_OUT.items()]
    return tally


def run_native(suite: Suite) -> Tally:
    """Run on a turnout peer what needs nothing that a transport attaches to a message: the tests in memory."""
    chosen = suite.chosen.read_text(encoding="utf-8").splitlines()
    contract = "tests/shared/test_dispatcher.py::"
    fit = [
        test for test in chosen if "[in-memory" in test or (test.startswith(contract) and "[jsonrpc" in test)
    ]
    listed = suite.cache / "chosen-native.txt"
    listed.write_text("\n".join(test for test in fit if test not in LEFT_OUT_NATIVE), encoding="utf-8")
    files = tuple(sorted({test.partition("::")[0] for test in fit}))
    tally = Tally.of(
        suite.run("native", "--dispatcher", NATIVE, "--chosen", str(listed), files=files, timeout=600)
    )
    tally.left_out += [f"{test}\n      {LEFT_OUT_NATIVE[test]}" for test in fit if test in LEFT_OUT_NATIVE]
    return tally


def run_relayed(suite: Suite) -> Tally:
    """Run the interaction tests over Streamable HTTP through a relay: what holds directly has to hold behind it."""
    chosen = suite.chosen.read_text(encoding="utf-8").splitlines()
    fit = [test for test in chosen if test.startswith("tests/interaction/") and "[streamable-http-" in test]
    listed = suite.cache / "chosen-relayed.txt"
    listed.write_text("\n".join(test for test in fit if test not in LEFT_OUT_RELAYED), encoding="utf-8")
    files = tuple(sorted({test.partition("::")[0] for test in fit}))
    tally = Tally.of(suite.run("relayed", "-p", "relayed", "--chosen", str(listed), files=files, timeout=900))
    tally.left_out += [f"{test}\n      {LEFT_OUT_RELAYED[test]}" for test in fit if test in LEFT_OUT_RELAYED]
    return tally


def is_noticed(suite: Suite, dispatcher: tuple[str, ...], fault: str) -> tuple[int, int]:
    """Break the dispatcher in one way: how many tests fail, of how many."""
    options = (*dispatcher, "--break", fault, "--chosen", str(suite.chosen), "--maxfail", "3")
    told = suite.run(f"broken-{fault}", *options, files=FAULTS[fault], timeout=300)
    return sum(end["outcome"] == "failed" for end in told.values()), len(told)


def notice_faults(suite: Suite, dispatcher: tuple[str, ...]) -> int:
    """Break the dispatcher on purpose: the tests must notice; gives how many faults they did not."""
    missed = 0
    print("broken on purpose")
    for fault in FAULTS:
        failed, ran = is_noticed(suite, dispatcher, fault)
        right = (failed == 0) == (fault == "intact")
        missed += not right
        verdict = "noticed" if failed else "passes"
        print(f"  {'ok' if right else 'WRONG'}: {fault} {verdict} ({failed} of {ran} tests fail)", flush=True)
    print()
    return missed


def main() -> int:
    """Run what the command line asks for; 0 where everything is as it should be."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--cache", type=Path, default=PROJECT / ".sdk", help="where what is fetched goes")
    asked.add_argument("--dispatcher", default=STREAMS, help="the substitute, as module:Class")
    asked.add_argument("--side", choices=(*SIDES, "all"), default="all", help="which side gets it")
    asked.add_argument("--native", action="store_true", help="run only the part that is on a turnout peer")
    asked.add_argument("--relayed", action="store_true", help="run only the part that is behind a relay")
    asked.add_argument("--no-broken", action="store_true", help="do not break it on purpose")
    options = asked.parse_args()

    suite = Suite(options.cache.resolve())
    suite.prepare()
    files = suite.baseline()
    substitute = ("--dispatcher", options.dispatcher)
    tallies: list[Tally] = []
    sides = SIDES if options.side == "all" else (options.side,)
    only_part = options.native or options.relayed
    everything = options.side == "all" and options.dispatcher == STREAMS and not only_part
    for side in () if only_part else sides:
        tallies.append(run_streams(suite, substitute, side, files))
        tallies[-1].show(side)
    if options.native or everything:
        tallies.append(run_native(suite))
        tallies[-1].show("native")
    failed = 0
    if options.relayed or everything:
        relayed = run_relayed(suite)
        relayed.show_relayed()
        failed = len(relayed.failed)
    missed = None if options.no_broken or only_part else notice_faults(suite, substitute)
    failed += sum(len(tally.failed) for tally in tallies)
    print(f"{sum(tally.ours for tally in tallies)} passed on turnout's dispatcher, {failed} failed")
    if missed is None:
        print("it was not broken on purpose")
    else:
        print(f"{len(FAULTS) - 1} faults tried on it, {missed} not noticed")
    return int(failed > 0 or bool(missed))


if __name__ == "__main__":
    sys.exit(main())
