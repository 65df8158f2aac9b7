"""What a person types after `turnout call`, made into a request or refused in one line."""

from __future__ import annotations

import pytest

from turnout.cli.arguments import ArgumentsError, request


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("tools/list", [], ("tools/list", {})),
        ("ping", [], ("ping", {})),
        ("resources/read", ["uri=file:///x"], ("resources/read", {"uri": "file:///x"})),
        ("resources/read", ['{"uri": "a"}'], ("resources/read", {"uri": "a"})),
        ("crunch", [], ("tools/call", {"name": "crunch", "arguments": {}})),
        ("crunch", ["steps=5"], ("tools/call", {"name": "crunch", "arguments": {"steps": 5}})),
        ("crunch", [' {"steps": 5}'], ("tools/call", {"name": "crunch", "arguments": {"steps": 5}})),
        (
            "t",
            ["a=b=c", "e=", "s=x y"],
            ("tools/call", {"name": "t", "arguments": {"a": "b=c", "e": "", "s": "x y"}}),
        ),
        (
            "t",
            ["n=null", "t=true", 'q="5"', "l=[1,2]", 'o={"a":1}', "f=1e3", "i=" + "9" * 30],
            (
                "tools/call",
                {
                    "name": "t",
                    "arguments": {
                        "n": None,
                        "t": True,
                        "q": "5",
                        "l": [1, 2],
                        "o": {"a": 1},
                        "f": 1000.0,
                        "i": int("9" * 30),
                    },
                },
            ),
        ),
        ("t", ["v=NaN", "w=Infinity", "x=0x10", "y=01", "z={broken"], None),
    ],
)
def test_requests(method, params, expected):
    if expected is None:
        assert request(method, params)[1]["arguments"] == dict(pair.split("=", 1) for pair in params)
    else:
        assert request(method, params) == expected


@pytest.mark.parametrize(
    ("method", "params", "complaint"),
    [
        ("", [], "METHOD is empty"),
        ("t", ["word"], "'word' is neither key=value nor a JSON object"),
        ("t", ["=5"], "neither key=value"),
        ("t", ["a=1", "a=2"], "'a' is given twice"),
        ("t", ["{"], "PARAMS is no JSON: .* at column 2"),
        ("t", ["[1]"], "must be a JSON object"),
        ("t", ["{}", "a=1"], "nothing more to say, but there is 'a=1'"),
        ("t", ['{"a": NaN}'], "PARAMS is no JSON: .* at column 7"),
        ("t", ["[" * 100_000], "PARAMS is no JSON"),
    ],
)
def test_refusals_are_one_line(method, params, complaint):
    with pytest.raises(ArgumentsError, match=complaint) as caught:
        request(method, params)
    assert "\n" not in str(caught.value)


def test_deep_values_are_text():
    deep = "[" * 100_000
    assert request("t", [f"a={deep}"])[1]["arguments"] == {"a": deep}
