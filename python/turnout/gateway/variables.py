"""Variables of the environment in the strings of a configuration: `${NAME}`, `${NAME:-default}`, `${env:NAME}`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM = re.compile(
    r"(?P<escape>\$\$\{)|\$\{input:(?P<input>[^}]*)\}|\$\{(?:env:)?(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}",
    re.ASCII,
)
"""Nothing else expands: `$HOME` and `${x%y}` belong to a shell that an argument may be for."""

MASK = "***"
"""What stands in place of a secret."""


class Expanded(str):
    """A string in which variables were replaced; what is printed of it is how it stands in the file.

    Attributes:
        source: with the names of the variables, and no value of any.

    """

    __slots__ = ("source",)
    source: str


class VariableError(ValueError):
    """A variable that is not there."""


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Replace the variables in a string.

    Args:
        text: as it stands in the file; `$${` is `${`.
        environ: the variables. As in shells, a default stands for one that is empty, too.

    Raises:
        VariableError: one is not set, or is asked of a person.

    """
    is_expanded = False

    def value(found: re.Match[str]) -> str:
        nonlocal is_expanded
        if found["escape"]:
            return "${"
        if found["input"] is not None:
            raise VariableError(
                f"${{input:{found['input']}}} asks a person, and here is none; name a variable of the environment"
            )
        name, default = found["name"], found["default"]
        is_expanded = True
        known = environ.get(name)
        if default is not None:
            return known or default
        if known is None:
            raise VariableError(f"the variable {name} is not set")
        return known

    result = _FORM.sub(value, text)
    if "\0" in result:
        raise VariableError("a variable has a NUL")
    if not is_expanded:
        return result
    expanded = Expanded(result)
    expanded.source = _FORM.sub(_without_default, text)
    return expanded


def _without_default(found: re.Match[str]) -> str:
    return found[0] if not found["default"] else f"${{{found['name']}:-{MASK}}}"


__all__ = ["MASK", "Expanded", "VariableError", "expand"]
