"""Settings declared once, as fields of dataclasses: how each is read, what is known of it, and its JSON schema."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from turnout.escape import escaped
from turnout.gateway.variables import VariableError, expand

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from turnout.gateway.document import Value

T = TypeVar("T")

Schema = dict[str, Any]


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line, with the file, the line and the key."""

    def __init__(self, path: Path, line: int | None, key: str, message: str) -> None:
        where = str(path) if line is None else f"{path}:{line}"
        parts = [escaped(where, None), escaped(key, 120), escaped(message, 2000)]
        super().__init__(": ".join(part for part in parts if part))
        self.line, self.key, self.message = line, key, message


@dataclass
class Reading:
    """One reading of one file.

    Attributes:
        path: of the file.
        environ: the variables that its strings may name.
        ignored: the keys of hosts that mean nothing here, with their lines.

    """

    path: Path
    environ: Mapping[str, str]
    ignored: list[tuple[int, str]] = field(default_factory=list)

    def error(self, value: Value, key: str, message: str) -> ConfigError:
        """What is wrong with a value."""
        return ConfigError(self.path, value.line, key, message)


class Kind(Protocol):
    """What values a setting takes."""

    def read(self, value: Value, key: str, reading: Reading) -> Any:
        """Read one.

        Raises:
            ConfigError: it is none.

        """

    def schema(self) -> Schema:
        """What a JSON schema says of it."""


@dataclass(frozen=True)
class Text:
    """A string, in which variables are replaced.

    Args:
        choices: the strings that it may be; none for any.
        pattern: what it looks like; None for anything.
        empty: whether it may be empty.
        what: what it is, for the error; empty for "a string".

    """

    choices: tuple[str, ...] = ()
    pattern: str | None = None
    empty: bool = False
    what: str = ""

    def read(self, value: Value, key: str, reading: Reading) -> str:
        """Read one."""
        if not isinstance(value.data, str):
            raise reading.error(value, key, f"must be {self.what or 'a string'}, not {value.kind}")
        try:
            text = expand(value.data, reading.environ)
        except VariableError as error:
            raise reading.error(value, key, str(error)) from error
        # What a variable has is not shown: it may be a secret.
        if self.choices and text not in self.choices:
            raise reading.error(value, key, f"{value.data!r} is none of: {', '.join(self.choices)}")
        if not text and not self.empty:
            raise reading.error(value, key, "is empty")
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            raise reading.error(value, key, f"must be {self.what}")
        return text

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        return {"type": "string", **({"enum": list(self.choices)} if self.choices else {})}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, value: Value, key: str, reading: Reading) -> bool:
        """Read one."""
        if not isinstance(value.data, bool):
            raise reading.error(value, key, f"must be true or false, not {value.kind}")
        return value.data

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Number:
    """A number of a range.

    Args:
        least: the least.
        most: the greatest.
        whole: whether it is an integer.
        none: what `null` means, for people; empty where it may not be.

    """

    least: float = 0
    most: float = math.inf
    whole: bool = False
    none: str = ""

    def read(self, value: Value, key: str, reading: Reading) -> float | None:
        """Read one."""
        number = value.data
        if number is None and self.none:
            return None
        if isinstance(number, bool) or not isinstance(number, int if self.whole else (int, float)):
            kind = "a whole number" if self.whole else "a number"
            also = f" or null ({self.none})" if self.none else ""
            raise reading.error(value, key, f"must be {kind}{also}, not {value.kind}")
        if not self.least <= number <= self.most:
            most = "" if self.most == math.inf else f" and at most {self.most:g}"
            raise reading.error(value, key, f"must be at least {self.least:g}{most}")
        return number

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        kind = "integer" if self.whole else "number"
        schema: Schema = {"type": [kind, "null"] if self.none else kind, "minimum": self.least}
        return schema if self.most == math.inf else {**schema, "maximum": self.most}


SECONDS = Number(least=0.001, most=1e8)
SECONDS_OR_NEVER = Number(least=0.001, most=1e8, none="never")


@dataclass(frozen=True)
class Many:
    """An array; what is read is a tuple."""

    of: Kind

    def read(self, value: Value, key: str, reading: Reading) -> tuple[Any, ...]:
        """Read one."""
        if not isinstance(value.data, list):
            raise reading.error(value, key, f"must be an array, not {value.kind}")
        return tuple(self.of.read(item, f"{key}[{at}]", reading) for at, item in enumerate(value.data))

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        return {"type": "array", "items": self.of.schema()}


@dataclass(frozen=True)
class Table:
    """An object with names of the user's own; what is read is a tuple of pairs, which is equal to its like.

    Args:
        of: what its values are.
        names: the names that there are; None for any.

    """

    of: Kind
    names: frozenset[str] | None = None

    def read(self, value: Value, key: str, reading: Reading) -> tuple[tuple[str, Any], ...]:
        """Read one."""
        members = members_of(value, key, reading)
        for name, member in members.items():
            if self.names is not None and name not in self.names:
                raise unknown(member, f"{key}.{name}", name, self.names, reading)
        return tuple(
            (name, self.of.read(member, f"{key}.{name}", reading)) for name, member in members.items()
        )

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        if self.names is None:
            return {"type": "object", "additionalProperties": self.of.schema()}
        properties = {name: self.of.schema() for name in sorted(self.names)}
        return {"type": "object", "properties": properties, "additionalProperties": False}


@dataclass(frozen=True)
class Either:
    """A value of a short form, or an object of the long one.

    Args:
        short: what it is where it is no object.
        long: what an object is.
        make: makes of the short form what the long one gives.

    """

    short: Kind
    long: Kind
    make: Any

    def read(self, value: Value, key: str, reading: Reading) -> Any:
        """Read one."""
        if isinstance(value.data, dict):
            return self.long.read(value, key, reading)
        return self.make(self.short.read(value, key, reading))

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        return {"anyOf": [self.short.schema(), self.long.schema()]}


@dataclass(frozen=True)
class Section:
    """An object of settings; what is read is a dataclass.

    Args:
        of: the dataclass, whose fields are made by `setting`.
        foreign: keys of others' that mean nothing here.
        base: what holds where nothing is said; None for the defaults of the fields.

    """

    of: type[Any]
    foreign: frozenset[str] = frozenset()
    base: Any = None

    def read(self, value: Value, key: str, reading: Reading) -> Any:
        """Read one."""
        known = {each.metadata["key"] or each.name: each for each in dataclasses.fields(self.of)}
        found: dict[str, Any] = {}
        for name, member in members_of(value, key, reading).items():
            path = f"{key}.{name}" if key else name
            if name in known:
                found[known[name].name] = known[name].metadata["kind"].read(member, path, reading)
            elif name in self.foreign:
                reading.ignored.append((member.line, path))
            else:
                raise unknown(member, path, name, known, reading)
        if self.base is not None:
            return dataclasses.replace(self.base, **found)
        for name, each in known.items():
            if each.default is dataclasses.MISSING and each.name not in found:
                raise reading.error(value, key, f"{name} is missing")
        return self.of(**found)

    def schema(self) -> Schema:
        """What a JSON schema says of it."""
        fields = dataclasses.fields(self.of)
        properties = {
            each.metadata["key"] or each.name: {
                "description": each.metadata["about"],
                **each.metadata["kind"].schema(),
            }
            for each in fields
        }
        properties.update({name: {"description": "not looked at"} for name in sorted(self.foreign)})
        needed = [each.metadata["key"] or each.name for each in fields if each.default is dataclasses.MISSING]
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**schema, "required": needed} if needed else schema


def setting(
    kind: Kind, about: str, default: Any = dataclasses.MISSING, *, key: str = "", secret: bool = False
) -> Any:
    """Declare a field of a section.

    Args:
        kind: what values it takes.
        about: one sentence for people.
        default: what holds where nothing is said; left out where it has to be said.
        key: how files call it, where that is no name of Python's; empty for the name of the field.
        secret: whether its values are never shown.

    """
    metadata = {"kind": kind, "about": about, "key": key, "secret": secret}
    return field(default=default, metadata=metadata)


def members_of(value: Value, key: str, reading: Reading) -> dict[str, Value]:
    """The members of an object.

    Raises:
        ConfigError: it is none.

    """
    if not isinstance(value.data, dict):
        raise reading.error(value, key, f"must be an object, not {value.kind}")
    return value.data


def unknown(value: Value, path: str, name: str, known: Any, reading: Reading) -> ConfigError:
    """What is wrong with a key that nobody knows."""
    return reading.error(value, path, f"the key {name!r} is unknown; known: {', '.join(sorted(known))}")


__all__ = [
    "SECONDS",
    "SECONDS_OR_NEVER",
    "ConfigError",
    "Either",
    "Flag",
    "Kind",
    "Many",
    "Number",
    "Reading",
    "Schema",
    "Section",
    "Table",
    "Text",
    "members_of",
    "setting",
    "unknown",
]
