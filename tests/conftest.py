"""What tests share: both event loops, and the ledger of requirements at the end of a whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import ledger
from transport_link import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

RAN = pytest.StashKey[set]()


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on each event loop; what the loop complains of fails the test."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return lambda main: run(request.param, main)


def is_whole(config: pytest.Config) -> bool:
    """True where nothing narrows the run down, in the process that hears of every test."""
    if hasattr(config, "workerinput"):
        return False
    chosen = ("keyword", "markexpr", "deselect", "lf", "stepwise", "collectonly", "ignore", "ignore_glob")
    everything = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    return everything and not any(getattr(config.option, name, None) for name in chosen)


def pytest_configure(config: pytest.Config) -> None:
    """Note which tests ran to their end, in this process or in one of several."""
    config.pluginmanager.register(Passed(config.stash.setdefault(RAN, set())))


class Passed:
    """Collects the names of tests that passed; with several processes it is the first that hears of all."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._names.add(report.nodeid.split("[", 1)[0])


def _left_out(config: pytest.Config) -> list[str]:
    return [*ledger.not_run(ledger.rows(), config.stash.get(RAN, set()))]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a whole run that left out a test which the ledger names."""
    if is_whole(session.config) and session.exitstatus == pytest.ExitCode.OK and _left_out(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """End a whole run with the state of every requirement."""
    if not is_whole(config):
        return
    terminalreporter.section("requirements, by group and state of their sides")
    for line in (*ledger.summary(ledger.rows()), *_left_out(config)):
        terminalreporter.write_line(line)
