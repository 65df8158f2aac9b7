"""A JSON text with comments, where every value knows its line: what configuration files are.

No library of the standard's or of others' tells where a value stands, so this reads the text itself. It takes what VS
Code takes: `//` and `/* */`, and a comma behind the last member. It refuses keys that come twice.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TypeAlias

MAX_DEPTH = 32
"""How deep values may nest."""

MAX_NUMBER = 32
"""Characters of the longest number."""

_BLANK = re.compile(r"(?:[ \t\r\n]|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_]+")

_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        data: what it is; members and items are values themselves.
        line: where it stands, or where its key does.

    """

    data: Data
    line: int

    @property
    def kind(self) -> str:
        """What it is, for people."""
        if self.data is None or isinstance(self.data, bool):
            return json.dumps(self.data)
        kinds: dict[type, str] = {dict: "an object", list: "an array", str: "a string"}
        return kinds.get(type(self.data), "a number")


Data: TypeAlias = "dict[str, Value] | list[Value] | str | int | float | bool | None"


class DocumentError(ValueError):
    """The text is no JSON.

    Attributes:
        line: where.

    """

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse(data: bytes) -> Value:
    """Read a whole text.

    Args:
        data: UTF-8, with or without a byte order mark.

    Raises:
        DocumentError: it is no JSON, or no UTF-8.

    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(data.count(b"\n", 0, error.start) + 1, "the file is not UTF-8") from error
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to, self._line = 0, 1

    def document(self) -> Value:
        value = self._value(0)
        if self._peek():
            raise self._error(f"{self._shown()} stands behind the end")
        return value

    def _value(self, depth: int) -> Value:
        char = self._peek()
        line = self._line_here()
        if depth > MAX_DEPTH:
            raise self._error(f"values nest deeper than {MAX_DEPTH} levels")
        if char == "{":
            return Value(self._object(depth), line)
        if char == "[":
            return Value(self._array(depth), line)
        if char == '"':
            return Value(self._string(), line)
        if char == "-" or char.isdecimal():
            return Value(self._number(), line)
        word = _WORD.match(self._text, self._at)
        if word is not None and word[0] in _WORDS:
            self._at = word.end()
            return Value(_WORDS[word[0]], line)
        raise self._error(f"a value is missing before {self._shown()}")

    def _object(self, depth: int) -> dict[str, Value]:
        members: dict[str, Value] = {}
        self._at += 1
        while self._peek() != "}":
            if self._peek() != '"':
                raise self._error(f"a key in double quotes is missing before {self._shown()}")
            line = self._line_here()
            key = self._string()
            if key in members:
                raise DocumentError(line, f"the key {json.dumps(key)} comes twice")
            self._expect(":")
            members[key] = Value(self._value(depth + 1).data, line)
            self._separator("}")
        self._at += 1
        return members

    def _array(self, depth: int) -> list[Value]:
        items: list[Value] = []
        self._at += 1
        while self._peek() != "]":
            items.append(self._value(depth + 1))
            self._separator("]")
        self._at += 1
        return items

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self._error("a string does not end on its line")
        try:
            string: str = json.loads(found[0])
            string.encode()
        except UnicodeEncodeError as error:
            raise self._error("a string has half of a surrogate pair") from error
        except ValueError as error:
            raise self._error("a string has an escape that JSON does not have") from error
        if "\0" in string:
            raise self._error("a string has a NUL")
        self._at = found.end()
        return string

    def _number(self) -> int | float:
        found = _NUMBER.match(self._text, self._at)
        if found is None or len(found[0]) > MAX_NUMBER:
            raise self._error("a number is none, or too long")
        number = json.loads(found[0])
        if isinstance(number, float) and not math.isfinite(number):
            raise self._error("a number is too great")
        self._at = found.end()
        return number  # type: ignore[no-any-return]

    def _separator(self, end: str) -> None:
        if self._peek() != end:
            self._expect(",")

    def _expect(self, char: str) -> None:
        if self._peek() != char:
            raise self._error(f"{char!r} is missing before {self._shown()}")
        self._at += 1

    def _peek(self) -> str:
        """The next character that means something; empty at the end."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None  # noqa: S101 - it matches the empty text, too
        self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _shown(self) -> str:
        return (
            repr(self._text[self._at : self._at + 1]) if self._at < len(self._text) else "the end of the file"
        )

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line

    def _error(self, message: str) -> DocumentError:
        return DocumentError(self._line_here(), message)


__all__ = ["MAX_DEPTH", "Data", "DocumentError", "Value", "parse"]
