"""Errors on the wire: which codes we send, each for what it means, and none that the protocol keeps for itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import turnout
from loops import both_loops
from transport_link import pair
from wire import MODERN, REVISIONS, Wire, frame, notification, request

ROOT = Path(__file__).parents[2]
DEFINED = {
    -32700: "not JSON",
    -32600: "not a request",
    -32601: "no such method",
    -32602: "wrong params",
    -32603: "a fault of ours",
    -32020: "a header that says something else than the message",
    -32021: "a capability that the client lacks",
    -32022: "unsupported protocol version",
}


def codes(wire):
    return [message["error"]["code"] for message in wire.written()]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{\n", -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":tru}}\n', -32700),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}\n', -32700),
        (b"[]\n", -32600),
        (b"7\n", None),
        (b'{"jsonrpc":"1.0","id":1,"method":"m"}\n', -32600),
        (frame(id=None, method="m"), -32600),
        (frame(id=1, method=7), -32600),
        (frame(id=1, method="m", params=3), -32600),
        (request("only"), -32600),
        (request("more"), -32603),
        (notification("notifications/cancelled", {"requestId": {}}), None),
    ],
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_rid_22_each_refusal_has_the_code_that_means_it(revision, bad, code):
    wire = Wire(revision, "server", limits={"max_inbound": 1})
    wire.ask("only")
    wire.take(bad)
    assert codes(wire) == ([] if code is None else [code])


@both_loops
async def test_rid_22_tsk_31_a_handler_that_raises_is_a_fault_of_ours_and_says_no_more():
    async with turnout.Router() as router:
        near, far = await pair(router)

        @far.on_request("raises")
        async def raises(request):
            raise RuntimeError("the password is 1234")

        for method, code in (("raises", -32603), ("missing", -32601)):
            with pytest.raises(turnout.RemoteError) as caught:
                await near.send(method)
            assert caught.value.code == code
            assert "1234" not in str(caught.value)


def test_rid_21_rid_23_rid_25_rid_26_no_other_code_stands_in_the_sources():
    found = {}
    for folder, pattern in (
        ("python/turnout", "*.py"),
        ("rust/core/src", "*.rs"),
        ("rust/python/src", "*.rs"),
    ):
        for path in (ROOT / folder).rglob(pattern):
            for line in path.read_text().splitlines():
                if not line.lstrip().startswith(("//", "#")) and "codes" not in line:
                    for code in re.findall(r"-32\d{3}\b", line):
                        found.setdefault(int(code), set()).add(path.name)
    documented = {-32000, -32099}  # the range, in a docstring of errors.py
    # What earlier revisions called an error; the table says what the modern one calls it instead.
    renamed = {-32002: {"codes.rs"}, -32042: {"codes.rs"}}
    assert found.keys() - documented - renamed.keys() <= DEFINED.keys()
    assert {code: found[code] for code in renamed} == renamed
    assert all(found[code] == {"errors.py"} for code in documented)


@pytest.mark.parametrize("revision", REVISIONS)
def test_rid_08_rid_09_rid_10_rid_11_what_we_answer_has_the_shape_it_must_have(revision):
    wire = Wire(revision, "server")
    wire.ask(1).respond({})
    wire.ask(2).fail(-5, "no")
    wire.ask(3).fail(5, "", {"why": 1})
    good, *bad = wire.written()
    assert ("result" in good, "error" in good) == (True, False)
    for message in bad:
        assert "result" not in message
        assert type(message["error"]["code"]) is int
        assert type(message["error"]["message"]) is str
    asked = wire.ask(4)
    for code, message in (("x", "m"), (1.5, "m"), (None, "m"), (1, None), (1, 7)):
        with pytest.raises(TypeError):
            asked.fail(code, message)
    assert wire.written() == []
    assert asked.fail(2**53 - 1, "exact as a double") is True


@both_loops
async def test_rid_27_tsx_59_a_modern_server_knows_no_method_that_its_revision_took_away():
    async with turnout.Router() as router:
        near, far = await pair(router)
        near.set_rules(MODERN, "client")
        far.set_rules(MODERN, "server")
        for method in ("ping", "tasks/result", "tasks/list", "no/such"):
            with pytest.raises(turnout.RemoteError) as caught:
                await near.send(method)
            assert caught.value.code == -32601
