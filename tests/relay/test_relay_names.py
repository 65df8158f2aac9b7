"""Where the names of what servers list lead, and under which names a list shows an item."""

from __future__ import annotations

import itertools

import pytest

from turnout.relay.routing.naming import NameTable

ONE, TWO = 0, 1


def test_the_longest_prefix_decides_in_whatever_order_the_routes_were_declared():
    routes = [("a_", True, ONE, None), ("a_b_", True, TWO, None)]
    for order in itertools.permutations(routes):
        names = NameTable(order, "nowhere")
        assert names.resolve("a_b_x") == (TWO, "x")
        assert names.resolve("a_x") == (ONE, "x")
        assert names.resolve("x") is None


@pytest.mark.parametrize(
    ("routes", "whole", "offered", "shown"),
    [
        # One that keeps its prefix is shown where it has it, and as what it is.
        ([("a_", False, ONE, None)], "nowhere", "a_x", ["a_x"]),
        ([("a_", False, ONE, None)], "nowhere", "x", []),
        # One whose prefix is stripped is shown with it.
        ([("a_", True, ONE, None)], "nowhere", "x", ["a_x"]),
        ([("a_", True, ONE, None)], ONE, "x", ["a_x", "x"]),
        # Where a handler decides, every name may lead everywhere.
        ([], "host", "x", ["x"]),
        ([("a_", True, ONE, None)], "host", "x", ["a_x", "x"]),
        # What leads to somebody else is not shown as ours.
        ([("a_", False, ONE, None), ("a_b", False, TWO, None)], "nowhere", "a_bx", []),
        ([("b_", True, TWO, None)], ONE, "b_x", []),
        ([], TWO, "x", []),
    ],
)
def test_an_item_is_shown_under_each_name_that_leads_to_it(routes, whole, offered, shown):
    assert NameTable(routes, whole).aliases(ONE, offered) == shown
