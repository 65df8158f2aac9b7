"""The three sides of a limit that every test of one has."""

from __future__ import annotations

import pytest

sides = pytest.mark.parametrize("over", [-1, 0, 1], ids=["below", "at", "above"])
"""How far a test named `test_..._<limit>_below_at_and_above` goes over the limit; `test_limits.py` looks for it."""
