"""Legal JSON of every kind, read and written exactly (J5, J6); `rust/core/tests/reader.rs` has it against serde."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pickle
import sys
import threading
import uuid
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnout
from turnout.json import MAX_INT_DIGITS, HugeNumber, dumps, loads

DEEPEST = 128

# ---- any legal text ----

numbers = st.one_of(
    st.integers().map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(
        ["-0", "-0.0", "1e999", "-1E+400", "1e-999", "5e-324", "1.7976931348623157e308", "1" * 5000]
    ),
)
escapes = st.sampled_from(
    [r"\ud83d", r"\ude00", r"\ud83d\ude00", r"\uDFFF", r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t"]
    + [rf"\u{code:04x}" for code in (0, 0x1F, 0x41, 0x2028, 0xFFFF)]
)
plain = st.text(
    st.characters(min_codepoint=0x20, exclude_characters='"\\', exclude_categories=["Cs"]), max_size=20
)
strings = st.lists(escapes | plain, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
space = st.sampled_from(["", " ", "\t", "\n", "\r\n "])


def joined(parts: list[str], brackets: str, gap: str) -> str:
    return f"{brackets[0]}{gap}{f'{gap},{gap}'.join(parts)}{gap}{brackets[1]}"


texts = st.recursive(
    numbers | strings | st.sampled_from(["true", "false", "null"]),
    lambda inner: (
        st.builds(joined, st.lists(inner, max_size=5), st.just("[]"), space)
        | st.builds(
            joined, st.lists(st.builds("{}:{}".format, strings, inner), max_size=5), st.just("{}"), space
        )
    ),
    max_leaves=20,
)


class Spelled(str):
    """A number that the oracle leaves as it stands."""

    __slots__ = ()


def oracle(text: str | bytes) -> object:
    """What Python's own reader makes of a text, but for numbers, which it only finds."""
    return json.loads(text, parse_int=Spelled, parse_float=Spelled)


def same(value: object, spelled: object) -> bool:
    """Whether a value is exactly what the oracle found."""
    if isinstance(spelled, Spelled):
        if isinstance(value, HugeNumber):
            return value.text == spelled
        if isinstance(value, int):
            return decimal.Decimal(value) == decimal.Decimal(spelled) and set(spelled) <= set("-0123456789")
        return isinstance(value, float) and value.hex() == float(spelled).hex()
    if isinstance(spelled, dict):
        return (
            type(value) is dict
            and list(value) == list(spelled)
            and all(same(value[key], member) for key, member in spelled.items())
        )
    if isinstance(spelled, list):
        return (
            type(value) is list
            and len(value) == len(spelled)
            and all(same(item, other) for item, other in zip(value, spelled, strict=True))
        )
    return type(value) is type(spelled) and value == spelled


@settings(max_examples=200)
@given(texts, space, space)
def test_any_legal_text_is_read_and_written_exactly(text, before, behind):
    value = loads(before + text + behind)
    assert same(value, oracle(text))
    written = dumps(value)
    assert same(value, oracle(written))
    assert dumps(loads(written)) == written
    assert all(byte >= 0x20 for byte in written)


@settings(max_examples=200)
@given(st.text(st.sampled_from('[]{}:,"\\ \n-+.0123456789eEtrufalsn\x00dé\ud83d'), max_size=20))
def test_what_is_no_json_is_refused(text):
    def refuse(constant):
        raise ValueError(constant)

    try:
        # Of bytes, Python's reader takes UTF-16 as well.
        expected = json.loads(text.encode().decode(), parse_constant=refuse)
    except ValueError:
        with pytest.raises(turnout.DecodeError) as refused:
            loads(text)
        assert 0 <= refused.value.offset <= len(text.encode("utf-8", "replace"))
    else:
        assert loads(text) == expected


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
everything = st.characters(codec=None)
values = st.recursive(
    scalars | st.text(everything),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(everything), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


def listed(value: object) -> object:
    """The value with every tuple as a list, and every pair of surrogates as the one character that JSON reads."""
    if isinstance(value, dict):
        return {listed(key): listed(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [listed(item) for item in value]
    return json.loads(json.dumps(value)) if isinstance(value, str) else value


@settings(max_examples=200)
@given(values)
def test_values_come_back_as_they_were(value):
    written = dumps(value)
    assert loads(written) == listed(value) == json.loads(written)


# ---- numbers ----


@pytest.mark.parametrize(
    "digits", [1, 18, 19, 20, 600, 601, 4300, 4301, 5000, MAX_INT_DIGITS - 1, MAX_INT_DIGITS]
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_are_exact_up_to_their_limit(digits, sign):
    text = sign + "7" * digits
    number = loads(text)
    assert type(number) is int
    seventh = (10**digits - 1) // 9
    assert number == int(f"{sign}7") * seventh
    assert dumps(number) == text.encode()
    assert dumps([number]) == f"[{text}]".encode()


@pytest.mark.parametrize("digits", [601, MAX_INT_DIGITS - 1, MAX_INT_DIGITS])
def test_the_largest_integer_that_is_read_is_written(digits):
    for text in ("9" * digits, "-" + "9" * digits):
        assert dumps(loads(text)) == text.encode()
    if digits == MAX_INT_DIGITS:
        for number in (10**MAX_INT_DIGITS, -(10**MAX_INT_DIGITS)):
            with pytest.raises(turnout.EncodeError, match="10000 digits"):
                dumps(number)


@pytest.mark.parametrize("zeros", [601, 700, 5000, MAX_INT_DIGITS - 1])
def test_zeros_inside_an_integer_stay(zeros):
    for number in (10**zeros - 1, 10**zeros, 10**zeros + 1, 10**zeros + 10 ** (zeros // 2)):
        assert loads(dumps(number)) == number
        assert loads(dumps(-number)) == -number


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python has no such limit")
def test_integers_do_not_depend_on_pythons_limit():
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert dumps(loads("3" * 5000)) == b"3" * 5000
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        "-1e999",
        "1E+400",
        "1" * (MAX_INT_DIGITS + 1),
        "-" + "9" * 1_000_000,
        "1e" + "9" * 100_000,
        "9" * 400 + ".0",
    ],
    ids=range(7),
)
def test_numbers_that_python_has_not_keep_their_text(text):
    number = loads(text)
    assert type(number) is HugeNumber
    assert number == (-math.inf if text.startswith("-") else math.inf)
    assert number.text == str(number) == text
    assert dumps({"a": [number]}) == b'{"a":[%b]}' % text.encode()
    for twin in (pickle.loads(pickle.dumps(number)), copy.copy(number), copy.deepcopy(number)):
        assert (type(twin), twin.text) == (HugeNumber, text)
    with pytest.raises(AttributeError):
        number.text = "1,2"


@pytest.mark.parametrize(
    "text", ["1", "1e3", "inf", "nan", "1e999,1", " 1e999", "1e999\n", "+1e999", "", "0x" + "f" * 999]
)
def test_a_huge_number_is_made_of_nothing_else(text):
    with pytest.raises(ValueError, match=r"HugeNumber|a float holds"):
        HugeNumber(text)


class Otherwise(HugeNumber):
    """A number that says something else."""

    text = '1,"injected":2'


def test_what_is_written_of_a_huge_number_is_a_number():
    with pytest.raises(turnout.EncodeError, match="no number"):
        dumps([Otherwise("1e999")])


def test_longer_integers_are_not_written_by_themselves():
    with pytest.raises(turnout.EncodeError, match="10000 digits"):
        dumps(10 ** (MAX_INT_DIGITS + 10))
    assert dumps(HugeNumber("1" + "0" * MAX_INT_DIGITS)) == b"1" + b"0" * MAX_INT_DIGITS


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: [x], lambda x: {"a": {"b": (1, x)}}], ids=["", "list", "dict"]
)
def test_what_is_no_number_is_refused(number, wrap):
    with pytest.raises(turnout.EncodeError, match="NaN"):
        dumps(wrap(number))


# ---- types ----


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):
    YES = "yes"


class Status(int, enum.Enum):
    """Its members are numbers, whatever they are said to be worth."""

    def __new__(cls, code, text):
        member = int.__new__(cls, code)
        member._value_ = (code, text)
        return member

    GONE = 410, "gone"


class Millimetres(int):
    def __repr__(self):
        return "mm"

    __str__ = __repr__


class Text(str):
    __slots__ = ()

    def encode(self, *_):
        return b"something else"


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Point:
    x: int
    y: object = None
    _hidden: int = 7


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("name",)
    name: str


NAME = uuid.UUID(int=5)
NOON = dt.datetime(2026, 7, 28, 12, 0, 0, 250_000)  # noqa: DTZ001 - written without a zone


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": (2, [])}, '{"b":1,"a":[2,[]]}'),
        (collections.OrderedDict(a=1), '{"a":1}'),
        (collections.defaultdict(list, a=1), '{"a":1}'),
        ([True, False, None], "[true,false,null]"),
        (Colour.RED, '"red"'),
        ([Level.HIGH, Word.YES], '[3,"yes"]'),
        ({"a": Status.GONE}, '{"a":410}'),
        ({Text("k"): Text("v"), Word.YES: 1}, '{"k":"v","yes":1}'),
        (Millimetres(4), "4"),
        (Millimetres(2**70), str(2**70)),
        (Pair(1, 2), "[1,2]"),
        (Point(1, Point(2)), '{"x":1,"y":{"x":2,"y":null}}'),
        (Slotted("n"), '{"name":"n"}'),
        (NOON, '"2026-07-28T12:00:00.250000"'),
        (NOON.replace(tzinfo=dt.timezone.utc), '"2026-07-28T12:00:00.250000+00:00"'),
        ([NOON.date(), NOON.time()], '["2026-07-28","12:00:00.250000"]'),
        (NAME, f'"{NAME}"'),
        (1.0, "1.0"),
        (1e16, "1e+16"),
        (-0.0, "-0.0"),
        ("\ud83d\ude00", r'"\ud83d\ude00"'),
        ("a\ud83d€\x7f\u2028", '"a\\ud83d€\x7f\u2028"'),
        ({"\udfff": 1}, r'{"\udfff":1}'),
        ({Text("\udfff"): Text("a\ud83d")}, r'{"\udfff":"a\ud83d"}'),
        ('"\\\x00\x1f\n', r'"\"\\\u0000\u001f\n"'),
    ],
)
def test_what_is_written(value, expected):
    written = dumps(value)
    assert json.loads(written) == json.loads(expected)
    assert written == expected.encode() or isinstance(value, float)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({1, 2}, "set"),
        (b"{}", "bytes"),
        (bytearray(b"1"), "bytearray"),
        (object(), "object"),
        (1j, "complex"),
        (decimal.Decimal("1.5"), "Decimal"),
        (Point, "type"),
        (ValueError("secret"), "ValueError"),
        ({1: 2}, "key of an object is a str, not int"),
        ({None: 2}, "not NoneType"),
        ({("secret",): 2}, "not tuple"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}], ids=["", "inside"])
def test_what_is_not(value, complaint, wrap):
    with pytest.raises(turnout.EncodeError, match=complaint) as refused:
        dumps(wrap(value))
    assert "secret" not in str(refused.value)
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize(
    "make", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"a": inner}, Point]
)
def test_depth_has_a_limit_both_ways(make):
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = make(value)
        return value

    if make is not Point:
        assert loads(dumps(nested(DEEPEST))) == json.loads(json.dumps(nested(DEEPEST)))
        text = json.dumps(nested(DEEPEST + 1))
        with pytest.raises(turnout.DecodeError) as refused:
            loads(text)
        assert refused.value.reason == "max_depth"
    with pytest.raises(turnout.EncodeError, match="contains itself"):
        dumps(nested(DEEPEST + 1))
    with pytest.raises(turnout.EncodeError, match="contains itself"):
        dumps(nested(100_000 if make is not Point else 300))


def test_what_contains_itself_is_refused():
    ring: list[object] = [1]
    ring.append({"a": ring})
    with pytest.raises(turnout.EncodeError, match="contains itself"):
        dumps(ring)


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000_000, '{"a":' * 1_000_000, "[" * 1_000_000 + "]" * 1_000_000, '"' + "\\" * 999_999],
    ids=range(4),
)
def test_bombs_are_refused(text):
    with pytest.raises(turnout.DecodeError):
        loads(text)


@pytest.mark.parametrize(
    "data", [b'{"a":1}', bytearray(b'{"a":1}'), memoryview(b'{"a":1}'), '{"a":1}', ' {\n"a":1}']
)
def test_what_is_read(data):
    assert loads(data) == {"a": 1}


def test_s2_texts_of_the_hosts_may_have_line_ends_of_all_kinds():
    assert loads('{\r\n"a" :\r[1,\r2]\r}\r\n') == {"a": [1, 2]}
    assert turnout.json.members(b'{"a":\r1,\r"b":"\\r"}') == [("a", b"1"), ("b", rb'"\r"')]
    assert turnout.json.items(b"[1,\r2\r]") == [b"1", b"2"]
    assert turnout.json.with_member(b'{\r"a":1}', "a", b"2") == b'{ "a":2}'
    with pytest.raises(turnout.DecodeError, match="control_character"):
        loads('"\r"')


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'"\xff"', "invalid_utf8"),
        (b'"\xed\xa0\xbd"', "invalid_utf8"),
        ('"\ud83d"', "invalid_utf8"),
        (b"", "unexpected_end"),
        (b"1 2", "trailing_bytes"),
        (b"NaN", "not_json"),
        (b"01", "bad_number"),
        (b'"\n"', "control_character"),
        (rb'"\x"', "bad_escape"),
        (rb'"\ud83"', "bad_escape"),
        (b"\xef\xbb\xbf1", "not_json"),
    ],
)
def test_refusals_say_why_and_where(data, reason):
    with pytest.raises(turnout.DecodeError) as refused:
        loads(data)
    assert refused.value.reason == reason
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("data", [None, 5, [b"1"]])
def test_only_texts_are_read(data):
    with pytest.raises(TypeError):
        loads(data)


def test_keys_are_told_apart_however_many_there_are():
    members = {f"{'k' * (n % 70)}{n}": n for n in range(5000)}
    for _ in range(2):
        assert loads(dumps(members)) == members
    assert loads('{"a":1,"b":2,"a":3}') == {"a": 3, "b": 2}


class Restless:
    """A value whose spelling changes the object that it stands in."""

    def __init__(self, change):
        self.change = change

    @property
    def __dataclass_fields__(self):
        self.change()
        return {}


@pytest.mark.parametrize("kind", ["grow", "shrink", "list"])
def test_what_changes_while_it_is_written_harms_nobody(kind):
    holder: dict[str, object] = {str(n): n for n in range(50)}
    items: list[object] = list(range(50))
    change = {
        "grow": lambda: holder.update({f"more {n}": n for n in range(1000)}),
        "shrink": holder.clear,
        "list": items.clear,
    }[kind]
    if kind == "list":
        items.insert(1, Restless(change))
        value: object = items
    else:
        holder = {"first": Restless(change), **holder}
        value = holder
    written = dumps(value)
    assert json.loads(written) is not None


def test_threads_read_and_write_at_once():
    values = [{f"key {n}": [n, float(n), str(n)] for n in range(first, first + 300)} for first in range(8)]
    wrong = []

    def work(value):
        for _ in range(50):
            if loads(dumps(value)) != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
