"""What tests share: both event loops, nothing left in flight, and the ledger of requirements after a whole run."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import hypothesis  # noqa: F401 - it asks who refers to what, and would find nothing once that is frozen
import pytest

import leaks
import ledger
from loops import LOOP_KINDS, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

FAILED = pytest.StashKey[bool]()

ran: set[str] = set()
"""The tests that ran to their end, in whatever process."""

leaks.watch()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line(
        "markers",
        "unwatched(reason): what it leaves is not looked at, and nothing of it is kept till its end",
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which a connection of its is open, or anything in flight, or any table not empty."""
    leaks.made.begin(notes=request.node.get_closest_marker("unwatched") is None)
    yield
    left = leaks.made.left()
    leaks.made.begin(notes=False)
    if not request.node.stash.get(FAILED, False):
        assert not left, "\n".join(left)


@pytest.fixture(params=LOOP_KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of event loop."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


@pytest.fixture
def on_loop(loop_kind: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on each event loop; what the loop complains of fails the test."""
    return lambda main: run(loop_kind, main)


def pytest_collection_finish() -> None:
    """Leave what was imported out of garbage collections: tests that collect would walk all of it each time."""
    gc.collect()
    gc.freeze()


def is_whole(config: pytest.Config) -> bool:
    """True where nothing narrows the run down."""
    chosen = ("keyword", "markexpr", "deselect", "lf", "stepwise", "collectonly", "ignore", "ignore_glob")
    everything = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    if hasattr(config, "workerinput"):
        # One of several processes, which takes a part.
        return False
    return everything and not any(getattr(config.option, name, None) for name in chosen)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Note which tests failed: what they leave is no news."""
    report = yield
    if report.when == "call" and not report.passed:
        item.stash[FAILED] = True
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note which tests ran to their end; with pytest-xdist, the process that starts the others hears of theirs."""
    if report.when == "call" and report.passed:
        ran.add(report.nodeid.partition("[")[0])


def _left_out() -> list[str]:
    return [*ledger.not_run(ledger.rows(), ran)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a whole run that left out a test which the ledger names."""
    if is_whole(session.config) and session.exitstatus == pytest.ExitCode.OK and _left_out():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """End a whole run with the state of every requirement."""
    if not is_whole(config):
        return
    terminalreporter.section("requirements, by group and state of their sides")
    for line in (*ledger.summary(ledger.rows()), *_left_out()):
        terminalreporter.write_line(line)
