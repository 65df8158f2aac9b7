"""What tests share: both event loops, and the ledger of requirements at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from transport_link import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on each event loop; what the loop complains of fails the test."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return lambda main: run(request.param, main)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """End a run with the state of every requirement."""
    import ledger

    terminalreporter.section("requirements, by group and state")
    for line in ledger.summary():
        terminalreporter.write_line(line)
