"""`turnout.mcp.install`: reversible, and only under versions of the SDK that were tested."""

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

import turnout.mcp
from turnout.mcp import _install


def build():
    import anyio

    async def main():
        left, right = anyio.create_memory_object_stream(1)
        with left, right:
            return JSONRPCDispatcher(right, left)

    return asyncio.run(main())


def test_install_takes_the_place_of_the_sdks_dispatcher_and_uninstall_gives_it_back():
    assert turnout.mcp.install() is True
    try:
        made = build()
        assert isinstance(made, turnout.mcp.Dispatcher)
        assert isinstance(made, JSONRPCDispatcher)
    finally:
        assert turnout.mcp.uninstall() is True
    assert type(build()) is JSONRPCDispatcher


def test_install_refuses_a_version_that_was_not_tested(monkeypatch):
    monkeypatch.setattr(_install, "version", lambda name: "99.0")
    with pytest.warns(RuntimeWarning, match=r"tested with mcp 2\.3\.0, not with 99\.0"):
        assert turnout.mcp.install() is False
    assert type(build()) is JSONRPCDispatcher


def test_on_trio_the_sdk_keeps_its_own_dispatcher_and_says_so(monkeypatch, caplog):
    import anyio

    trio = pytest.importorskip("trio", reason="trio is not installed")
    monkeypatch.setattr(_install, "_warned", False)

    async def main():
        left, right = anyio.create_memory_object_stream(1)
        with left, right:
            return [JSONRPCDispatcher(right, left) for _ in range(2)]

    assert turnout.mcp.install() is True
    try:
        assert {type(made) for made in trio.run(main)} == {JSONRPCDispatcher}
        assert [record.name for record in caplog.records] == ["turnout.mcp"]
        assert "asyncio" in caplog.text
    finally:
        turnout.mcp.uninstall()
