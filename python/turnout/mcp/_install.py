"""Installs turnout's dispatcher in the SDK for this process, and removes it."""

from __future__ import annotations

import importlib
import logging
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from turnout.mcp._compat import TESTED, on_asyncio

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("turnout.mcp")

_installed = False
_warned = False


def install(*, strict: bool | None = None, limits: Mapping[str, int] | None = None) -> bool:
    """Make the SDK use turnout wherever it would build its own dispatcher, from now on and in this process.

    Dispatchers that exist stay what they are. On trio, and outside of an event loop, the SDK goes on building
    its own, and the logger `turnout.mcp` says so. Calling it again changes nothing.

    Args:
        strict: as for `turnout.mcp.Dispatcher`.
        limits: likewise.

    Returns:
        True if turnout is in use; False, with a warning and without any change, for a version of the SDK that
        it was not tested with.

    Raises:
        ModuleNotFoundError: the SDK is not installed.

    """
    global _installed  # noqa: PLW0603
    if _installed:
        return True
    try:
        found = version("mcp")
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            "the MCP SDK is not installed; run `pip install turnout[mcp]`", name="mcp"
        ) from None
    if found not in TESTED:
        warnings.warn(
            f"turnout is tested with mcp {', '.join(TESTED)}, not with {found}: the SDK keeps its own dispatcher",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    theirs = importlib.import_module("mcp.shared.jsonrpc_dispatcher").JSONRPCDispatcher
    ours = importlib.import_module("turnout.mcp.dispatch.over_streams").Dispatcher

    def new(cls: type[Any], *args: Any, **options: Any) -> Any:
        if cls is not theirs or not _runs_here():
            return object.__new__(cls)
        return ours(*args, **options, strict=strict, limits=limits)

    theirs.__new__ = new
    _installed = True
    return True


def uninstall() -> bool:
    """Let the SDK build its own dispatcher again; dispatchers that exist stay what they are.

    Returns:
        False where nothing was installed.

    """
    global _installed  # noqa: PLW0603
    if not _installed:
        return False
    theirs = importlib.import_module("mcp.shared.jsonrpc_dispatcher").JSONRPCDispatcher
    # Not `del`: a class that once had a `__new__` of its own refuses arguments without one.
    theirs.__new__ = _as_ever
    _installed = False
    return True


def _as_ever(cls: type[Any], *_args: Any, **_options: Any) -> Any:
    return object.__new__(cls)


def _runs_here() -> bool:
    global _warned  # noqa: PLW0603
    running = on_asyncio()
    if not running and not _warned:
        _warned = True
        log.warning("without an asyncio loop the MCP SDK keeps its own dispatcher; turnout's runs on asyncio")
    return running
