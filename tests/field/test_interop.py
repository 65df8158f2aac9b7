"""The matrix of real clients by real servers: how it judges, and some pairs of it that PyPI alone is enough for.

All of it: `make test-interop`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INTEROP = Path(__file__).parents[1] / "interop"
sys.path.append(str(INTEROP))

from compare import Difference, Expected, Place, differences, judge  # noqa: E402 - a folder, no package

HERE = Place("a-client", "a-server", "stdio-shared")
THERE = Place("a-client", "a-server", "unix-shared")


def found(direct, relayed):
    return [(one.path, one.direct, one.relayed) for one in differences(HERE, direct, relayed)]


def test_what_is_equal_is_no_difference():
    assert found({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}) == []


def test_a_difference_names_its_path_and_both_values():
    direct = {"tools": {"list": {"echo": {"title": "Echo"}, "old": {}}, "calls": [1, 2]}}
    relayed = {"tools": {"list": {"echo": {"title": "echo"}, "new": 1}, "calls": [1, 3]}}
    assert found(direct, relayed) == [
        ("tools.calls[1]", "2", "3"),
        ("tools.list.echo.title", '"Echo"', '"echo"'),
        ("tools.list.new", "(absent)", "1"),
        ("tools.list.old", "{}", "(absent)"),
    ]


def test_an_error_in_place_of_a_result_is_one_difference():
    assert found(
        {"call": {"content": [], "isError": False}}, {"call": {"error": -32601, "message": "no"}}
    ) == [("call", '{"content": [], "isError": false}', '{"error": -32601, "message": "no"}')]


def test_lists_of_other_lengths_are_one_difference():
    assert found([1, 2], [1]) == [("", "[1, 2]", "[1]")]


def test_a_difference_without_a_reason_is_told():
    one = Difference(HERE, "tools.list[0].ttlMs", "(absent)", "0")
    told = judge([one], [Expected(("tools.*.cacheScope",), ("*",), "why")], [])
    assert told.unexplained == [one]
    assert told.explained == []
    other_value = Expected(("tools.list[0].ttlMs",), ("1",), "why")
    assert judge([one], [other_value], []).unexplained == [one]
    other_place = Expected(("tools.list[0].ttlMs",), ("0",), "why", ways=("unix-*",))
    assert judge([one], [other_place], []).unexplained == [one]


def test_a_difference_has_the_first_reason_that_covers_it():
    one = Difference(HERE, "tools.list[0].ttlMs", "(absent)", "0")
    first, second = (
        Expected(("tools.list[0].ttlMs",), ("0",), "first"),
        Expected(("tools.*",), ("*",), "second"),
    )
    told = judge([one], [first, second], [HERE])
    assert told.explained == [(one, first)]
    assert told.unexplained == []
    assert told.stale == [(second, [HERE])]


def test_a_reason_that_a_place_does_not_show_is_stale():
    one = Difference(HERE, "opening.version", '"1"', '"2"')
    expected = Expected(("opening.version",), ('"2"',), "why")
    assert judge([one], [expected], [HERE]).stale == []
    assert judge([one], [expected], [HERE, THERE]).stale == [(expected, [THERE])]
    assert judge([], [expected], [HERE]).stale == [(expected, [HERE])]


@pytest.mark.parametrize(
    ("client", "way"),
    [
        ("official-auto", "stdio-per-client"),
        ("fastmcp", "stdio-shared"),
        ("official-auto", "http-to-http-shared"),
        ("fastmcp", "stdio-to-http-per-client"),
    ],
)
def test_a_real_client_of_the_newest_revision_before_a_real_server_of_the_old_ones(client, way, tmp_path):
    pytest.importorskip("mcp", reason="the official SDK is an optional extra")
    if client == "fastmcp":
        pytest.importorskip("fastmcp", reason="FastMCP is not installed: pip install --group fastmcp")
    chosen = ("--clients", client, "--servers", "official-legacy", "--ways", way, "--seen", tmp_path)
    ran = subprocess.run(
        [sys.executable, INTEROP / "run.py", *chosen],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 runs" in ran.stdout
