"""Runs the official SDK's own tests on another dispatcher: a pytest plugin, loaded by `-p plugin`.

The SDK's class stays where it is and is asked for an instance as before; only what comes of that changes.
So every place that builds a dispatcher is covered, and nothing of the SDK or of its tests is edited.
"""

from __future__ import annotations

import importlib
import json
import linecache
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import broken
import pytest
import sniffio
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("turnout")
    group.addoption("--dispatcher", default="", help="module:Class that stands in for the SDK's own")
    group.addoption("--side", default="both", choices=("both", "client", "server"), help="which side gets it")
    group.addoption("--break", dest="fault", default="", help="make it misbehave, by a name in broken.py")
    group.addoption("--chosen", default="", help="a file with the tests to run, one id a line")
    group.addoption("--outcomes", default="", help="a file for what came of every test, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Substitution(config), "turnout-substitution")


class Substitution:
    """Hands out the substitute, and keeps what came of each test and which classes it ran on."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.side: str = config.getoption("--side")
        self.test = ""
        self.used: dict[str, Counter[str]] = {}
        self.outcomes: dict[str, tuple[str, str]] = {}
        substitute = _load(config.getoption("--dispatcher"))
        fault = config.getoption("fault")
        if fault and substitute is None:
            substitute = _twin()
        if substitute is not None:
            JSONRPCDispatcher.register(substitute)
        self.make = getattr(broken, fault)(substitute) if fault else substitute
        JSONRPCDispatcher.__new__ = self._new

    def _new(self, cls: type[Any], *args: Any, **options: Any) -> Any:
        used = self.used.setdefault(self.test, Counter())
        if sniffio.current_async_library_cvar.get() == "trio":
            used["trio"] += 1
            return object.__new__(cls)
        if self.make is None or self.side not in ("both", _side(sys._getframe(1))):
            used["stock"] += 1
            return object.__new__(cls)
        used["substitute"] += 1
        return self.make(*args, **options)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if path := config.getoption("--chosen"):
            chosen = set(Path(path).read_text(encoding="utf-8").splitlines())
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
            items[:] = [item for item in items if item.nodeid in chosen]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test = item.nodeid
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.outcomes.get(report.nodeid, ("passed", ""))
        if report.outcome != "passed" and before[0] in ("passed", "skipped"):
            self.outcomes[report.nodeid] = (report.outcome, _reason(report))
        else:
            self.outcomes[report.nodeid] = before

    def pytest_sessionfinish(self) -> None:
        if path := self.config.getoption("--outcomes"):
            told = {
                test: {"outcome": outcome, "reason": reason, "ran_on": dict(self.used.get(test, {}))}
                for test, (outcome, reason) in self.outcomes.items()
            }
            Path(path).write_text(json.dumps(told, indent=1), encoding="utf-8")


def _load(name: str) -> type[Any] | None:
    if not name:
        return None
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def _twin() -> type[Any]:
    """The SDK's class once more: its instances are handed out by `_new` without a second `__init__`."""
    copied = {name: value for name, value in vars(JSONRPCDispatcher).items() if name != "__dict__"}
    return type(JSONRPCDispatcher)("Twin", JSONRPCDispatcher.__bases__, copied)


def _side(frame: FrameType) -> str:
    """Which end is being built: the SDK's own modules say it, tests say it by the name they give."""
    while frame.f_globals.get("__name__") in ("typing", __name__) and frame.f_back is not None:
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "")
    for side in ("client", "server"):
        if module.startswith(f"mcp.{side}."):
            return side
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    named = re.match(r"\s*(?:async with )?\w*(client|server)", line)
    return named.group(1) if named else "client"


def _reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.splitlines()[0][:200] if crash is not None and crash.message else str(report.when)
