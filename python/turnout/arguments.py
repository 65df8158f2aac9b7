"""Checks of what callers pass in: a mistake is told where it is made, with what to write instead."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def require_method(decorator: str, method: object) -> None:
    """Refuse what is no method's name, as where a decorator's parentheses are missing.

    Raises:
        TypeError: it is no string.

    """
    if not isinstance(method, str):
        raise TypeError(f'{decorator} takes the name of a method first: @{decorator}("tools/call")')


def require_one_of(what: str, value: object, allowed: Collection[object]) -> None:
    """Refuse a value that is not among those allowed.

    Raises:
        ValueError: it is not; the message names the values.

    """
    if value not in allowed:
        names = ", ".join(repr(each) for each in allowed)
        raise ValueError(f"{what} is one of {names}, not {value!r}")


def require_seconds(what: str, value: float | None, *, least: float = 0.0, above: bool = False) -> None:
    """Refuse a duration that is negative, not a number, or no number of seconds at all.

    Args:
        what: the argument's name, for the error.
        value: the duration in seconds; None stands for no bound and passes.
        least: the smallest duration.
        above: whether the smallest duration itself is refused, too.

    Raises:
        TypeError: it is no number.
        ValueError: it is out of range, or NaN.

    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} is a number of seconds or None, not {value!r}")
    if isinstance(value, int) and value > sys.float_info.max:
        raise ValueError(f"{what} is too large: None stands for no bound")
    if not (value > least if above else value >= least):
        raise ValueError(
            f"{what} must be {'more than' if above else 'at least'} {least:g} seconds, not {value}"
        )


def require_port(value: object, *, least: int) -> None:
    """Refuse what is no TCP port.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not from `least` to 65535.

    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a port is an integer, not {value!r}")
    if not least <= value <= 65535:
        raise ValueError(f"a port is {least} to 65535, not {value}")


def require_plain(what: str, function: Any, instead: str) -> None:
    """Refuse what cannot be called, and an async function where a plain one is called.

    Args:
        what: what the function is for, for the error.
        function: the function.
        instead: what to do where work is asynchronous.

    Raises:
        TypeError: calling it fails, or makes a coroutine that nobody runs.

    """
    if not callable(function):
        raise TypeError(f"{what} is a function, not {function!r}")
    if is_async(function):
        raise TypeError(f"{what} is a plain function; {instead}")


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - its type decides, not whether it is there
    )


def require_progress_callback(function: Any) -> None:
    """Refuse a progress callback that would never run; the native part asks.

    Raises:
        TypeError: it cannot be called, or is async.

    """
    require_plain("a progress callback", function, "iterate over call.progress() in a task for async work")
