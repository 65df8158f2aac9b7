"""What turnout.mcp reaches for inside the SDK and anyio: named in one place, missed by name, and not needed to run."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp import Client

import turnout.mcp
from turnout.mcp import _compat, _sdk
from turnout.mcp.dispatch.queues import Reader, Writer, _has_queues

PACKAGE = Path(turnout.mcp.__file__).parent


def imports_of(tree):
    """What is imported at run time, as (module, name)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        else:
            yield from imports_of(node)


def is_inside(module, name):
    parts = [*module.split("."), name]
    return parts[0] in ("mcp", "mcp_types") and any(part.startswith("_") for part in parts)


PRIVATE = sorted(
    (module, name)
    for module, name in imports_of(ast.parse(Path(_sdk.__file__).read_text()))
    if is_inside(module, name)
)


def test_private_names_of_the_sdk_stand_in_one_place():
    elsewhere = {
        (path.name, module, name)
        for path in PACKAGE.rglob("*.py")
        if path.name != "_sdk.py"
        for module, name in imports_of(ast.parse(path.read_text()))
        if is_inside(module, name)
    }
    assert elsewhere == set()
    assert ("mcp.server.runner", "_has_modern_envelope") in PRIVATE


@pytest.fixture
def untested(monkeypatch):
    """A version of the SDK that nobody has tried."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99.0")
    yield
    monkeypatch.undo()
    importlib.reload(_sdk)


@pytest.mark.parametrize(("module", "name"), PRIVATE)
def test_a_name_that_is_gone_is_said_with_the_versions(module, name, monkeypatch, untested):
    monkeypatch.delattr(importlib.import_module(module), name)
    if f"{module}.{name}" in sys.modules:
        monkeypatch.setitem(sys.modules, f"{module}.{name}", None)
    says = rf"{name}.*; turnout.mcp is tested with mcp 2\.3\.0, and 99\.0 is installed"
    with pytest.raises(ImportError, match=says):
        importlib.reload(_sdk)


def test_a_client_that_connects_otherwise_is_said_with_the_versions(monkeypatch, untested):
    monkeypatch.delitem(Client.__dataclass_fields__, "_connect")
    with pytest.raises(ImportError, match=r"'_connect' in .*; turnout.mcp is tested .* 99\.0"):
        importlib.reload(_sdk)


def test_an_untested_version_is_warned_of_before_anything_is_opened(monkeypatch):
    monkeypatch.setattr(_compat, "version", lambda _: "99.0")

    async def main():
        here, _ = turnout.memory()
        with pytest.warns(RuntimeWarning, match=r"tested with mcp 2\.3\.0, not with 99\.0"):
            async with turnout.mcp.open_dispatcher(here) as dispatcher:
                assert dispatcher.peer.is_open

    anyio.run(main)


def test_the_tested_version_is_the_one_that_is_tested_here():
    assert version("mcp") in _compat.TESTED


def test_what_is_no_server_is_refused_by_its_type():
    async def main():
        here, _ = turnout.memory()
        with pytest.raises(TypeError, match="SimpleNamespace is no Server"):
            await turnout.mcp.serve_target(SimpleNamespace(), here)

    anyio.run(main)


# ---- anyio's queues ----


def stream(**changed):
    members = {"waiting_senders": {}, "waiting_receivers": {}, **changed}
    return SimpleNamespace(_waiters=None, _state=SimpleNamespace(**members))


def test_the_queues_of_this_anyio_are_known():
    write, read = anyio.create_memory_object_stream(1)
    with write, read:
        assert Writer(write)._queue is write._state.waiting_senders
        assert Reader(read)._queue is read._state.waiting_receivers
        assert _has_queues(stream())


@pytest.mark.parametrize(
    "other",
    [
        stream(waiting_senders=[]),
        stream(waiting_receivers=None),
        SimpleNamespace(_state=stream()._state),
        SimpleNamespace(_waiters=None),
    ],
)
def test_queues_that_look_otherwise_are_left_alone(other):
    assert not _has_queues(other)


def test_use_an_sdk_that_is_half_imported_is_told_from_one_of_another_version():
    """Whoever is imported by the SDK, such as a plug-in, comes too early for turnout.mcp."""
    program = (
        "import sys, mcp, mcp.shared._otel\n"
        "del mcp.shared._otel\n"
        "sys.modules['mcp.shared._otel'] = None\n"
        "mcp.__spec__._initializing = True\n"
        "import turnout.mcp\n"
        "try:\n"
        "    turnout.mcp.connect_stdio\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mcp is still being imported, and what it imports needs turnout.mcp"), (
        done.stdout
    )
    assert "is installed" not in done.stdout
