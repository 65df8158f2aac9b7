"""Values that `turnout.json` does not write and the SDK does: types of pydantic's, and numbers that are not finite."""

from __future__ import annotations

from typing import Any

import pydantic_core


def to_json(value: Any) -> bytes:
    """A value as the SDK's own transports write it: NaN and infinity become null.

    Raises:
        ValueError: pydantic does not write it either.

    """
    return pydantic_core.to_json(value, inf_nan_mode="null")
