"""What proves the relay: a test for each race, and for each field report that is ours.

A test proves a race by bearing its number, as `race_07_...`, in Python or in Rust; a report, by bearing the name of
its thread. The lists stand here, so that nothing is missing without somebody having said why.
"""

from __future__ import annotations

import re

import pytest

import ledger

RACES = {
    1: "a response and a cancel cross",
    2: "a cancel before its request is registered",
    3: "a cancel while the request is queued",
    4: "a cancel during the write",
    5: "progress after the terminal message",
    6: "a deadline and a response together",
    7: "the end of file and a response in one read",
    8: "the end of file and a new request",
    9: "the same id twice in flight",
    10: "an id used again after its answer, and a delayed cancel",
    11: "a client that leaves",
    12: "an answer to a server's request after the flight ended",
    13: "the end of a listen, and a notification of it",
    14: "a slow client and a fast upstream",
    15: "Python code that raises or blocks",
    16: "a fork, or a worker started again",
    17: "a client detached with requests in flight",
}

RACE_PARTS_ELSEWHERE = {
    2: "the ring for cancels that precede their request on another POST: with Streamable HTTP",
    16: "a worker started again behind a load balancer: there are no workers here",
}
"""Of races, which all have a test, what is not ours yet."""

REPORTS = {
    1: ("anthropics/claude-ai-mcp#539",),
    2: ("modelcontextprotocol/python-sdk#3060", "modelcontextprotocol/python-sdk#3137"),
    3: ("cloudflare/agents#1632",),
    4: ("modelcontextprotocol/typescript-sdk#1483", "modelcontextprotocol/typescript-sdk#CVE-2026-25536"),
    5: ("PrefectHQ/fastmcp#4124",),
    6: ("Kuadrant/mcp-gateway#422",),
    7: ("IBM/mcp-context-forge#5393",),
    8: ("IBM/mcp-context-forge#4302",),
    9: ("IBM/mcp-context-forge#4205",),
    10: ("IBM/mcp-context-forge#1918",),
    11: ("PrefectHQ/fastmcp#1068",),
    12: ("sandialabs/atlas-ui-3#295",),
    13: ("stacklok/toolhive#5939", "stacklok/toolhive#5117"),
    14: ("anthropics/claude-code#47765", "modelcontextprotocol/typescript-sdk#2580"),
    15: ("twentyhq/twenty#24559",),
    16: ("modelcontextprotocol/rust-sdk#857",),
    17: ("modelcontextprotocol/python-sdk#2999",),
    18: ("agentgateway/agentgateway#431",),
    19: ("agentgateway/agentgateway#2982",),
    20: ("mcp-hangar/mcp-hangar#651",),
}

REPORTS_ELSEWHERE = {
    17: "a POST whose reply is suppressed still has to be ended: Streamable HTTP only, and tested when that comes",
}

PARTS_ELSEWHERE = {
    7: "throughput with workers behind a load balancer (#4557): there are no workers here; principals are race 16",
    16: "a legacy HTTP stream that closes is no cancel, since it can be resumed: with Streamable HTTP",
    20: "a 404 for a session id ends its epoch: with Streamable HTTP; here, the loss of a stream does",
}
"""Of reports that have a test, what is not ours yet."""

TESTS = ledger.python_tests() | ledger.rust_tests()


def named(part: str) -> list[str]:
    """The tests whose names have that part."""
    found = re.compile(rf"(?<![a-z0-9]){part}(?![0-9])")
    return [test for test in TESTS if found.search(test.rpartition("::")[2])]


def spelled(thread: str) -> str:
    """A thread, as a test's name spells it."""
    return re.sub(r"[^a-z0-9]+", "_", thread.lower())


@pytest.mark.parametrize("number", range(1, 17))
def test_each_race_has_a_test_of_its_name(number):
    assert named(f"race_{number:02d}"), RACES[number]


@pytest.mark.parametrize("number", range(1, 21))
def test_each_field_report_has_a_test_of_its_name(number):
    for thread in REPORTS[number]:
        assert (number in REPORTS_ELSEWHERE) != bool(named(f"test_{spelled(thread)}")), thread


def test_no_test_bears_the_number_of_a_race_that_is_none():
    numbers = {int(n) for test in TESTS for n in re.findall(r"(?<![a-z0-9])race_(\d\d)(?!\d)", test)}
    assert numbers <= set(RACES)
