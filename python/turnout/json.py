r"""JSON as Python objects and back: one reader and one writer for all of turnout, exact both ways.

| JSON | Python |
|---|---|
| an object, an array | `dict`, `list`; of a key that comes twice, the last one |
| a string | `str`; half of a surrogate pair (`"\ud83d"`) is that one code point, and is written as the same escape |
| an integer | `int`, up to `MAX_INT_DIGITS` digits |
| a number with a fraction or an exponent | the nearest `float` |
| `1e999`, and an integer of more digits | `HugeNumber`, a `float` that is infinite and keeps its text |
| `true`, `false`, `null` | `True`, `False`, `None` |

Written are these types and those derived from them, `tuple`, members of any other `enum.Enum` by their value,
instances of dataclasses by their fields (but for those whose name begins with an underscore), `datetime.datetime`,
`date` and `time` in ISO 8601, and `uuid.UUID`. Everything else raises `EncodeError`: NaN and infinity too, which JSON
does not have, keys that are no `str`, and what nests deeper than 128 levels.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re
import uuid
from typing import TYPE_CHECKING, Any

from turnout._native import dumps, items, loads, members, with_member
from turnout.errors import DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

MAX_INT_DIGITS = 10_000
"""Digits of the longest integer that is read as an `int`, and written from one.

Conversions take time that grows faster than the digits: Python refuses more than 4,300 of them by itself, turnout
converts some more in pieces. Beyond this the text is kept, and nothing is converted.
"""

_SURE_DIGITS = 600
"""Digits that Python converts under every setting of `sys.set_int_max_str_digits`."""

_BITS_OF_A_DIGIT = 3.3219280948873626

_FIRST_TOO_LONG = 10**MAX_INT_DIGITS

_INFINITY = float("inf")

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class HugeNumber(float):
    """A number of JSON's that no `int` or `float` of turnout's holds: `1e999`, or an integer of 10,001 digits.

    It compares and computes as infinity, and is written as it was read. `decimal.Decimal(number.text)` or
    `int(number.text)` make more of it, under their own limits.

    Args:
        text: the number as JSON spells it.

    Raises:
        ValueError: it is no number of JSON's, or one that a `float` holds.

    """

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        """Make the infinity."""
        if _NUMBER.fullmatch(text) is None:
            raise ValueError("a HugeNumber is made of a JSON number")
        number = super().__new__(cls, text)
        if number not in (_INFINITY, -_INFINITY):
            raise ValueError("a float holds this number")
        number._text = text
        return number

    @property
    def text(self) -> str:
        """The number as it stood in the JSON text."""
        return self._text

    def __repr__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (self._text,)


def joined(members: Mapping[str, bytes]) -> bytes:
    """An object of members whose values are JSON, each of which stays as it is: what `members` takes apart.

    Args:
        members: the values by their keys.

    """
    return b"{%b}" % b",".join(b"%b:%b" % (dumps(key), value) for key, value in members.items())


def _huge(text: str) -> HugeNumber:
    """Make the number of a text that was checked; the native part calls it, and a text may be full of them."""
    number = float.__new__(HugeNumber, -_INFINITY if text.startswith("-") else _INFINITY)
    number._text = text  # noqa: SLF001
    return number


def _integer(digits: str) -> int | HugeNumber:
    """The integer that `digits` spell, a sign included; the native part calls it for long ones."""
    if len(digits.lstrip("-")) > MAX_INT_DIGITS:
        return _huge(digits)
    return -_joined(digits[1:]) if digits.startswith("-") else _joined(digits)


def _joined(digits: str) -> int:
    if len(digits) <= _SURE_DIGITS:
        return int(digits)
    low = len(digits) // 2
    return int(_joined(digits[:-low]) * 10**low + _joined(digits[-low:]))


def _digits(number: int) -> str:
    """Spell an integer; the native part calls it for those beyond 64 bits."""
    # What a derived class makes of itself does not matter.
    number = int.__add__(number, 0)
    if not -_FIRST_TOO_LONG < number < _FIRST_TOO_LONG:
        raise EncodeError(
            f"an int of more than {MAX_INT_DIGITS} digits is not written; send a turnout.json.HugeNumber"
        )
    return f"-{_split(-number)}" if number < 0 else _split(number)


def _split(number: int) -> str:
    if number.bit_length() <= _SURE_DIGITS * _BITS_OF_A_DIGIT:
        return str(number)
    low = int(number.bit_length() / _BITS_OF_A_DIGIT) // 2
    above, below = divmod(number, 10**low)
    return _split(above) + _split(below).zfill(low)


def _plain(value: object) -> Any:
    """What is written in place of a value that is of none of Python's plain types; the native part calls it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    raise EncodeError(f"JSON has nothing for a value of the type {type(value).__qualname__}")


__all__ = [
    "MAX_INT_DIGITS",
    "DecodeError",
    "EncodeError",
    "HugeNumber",
    "dumps",
    "items",
    "joined",
    "loads",
    "members",
    "with_member",
]
