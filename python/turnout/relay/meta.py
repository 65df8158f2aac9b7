"""What of a peer's `_meta` goes on in a message that Python makes of it: nothing whose meaning ends at that peer.

The native part does the same with what it passes on itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout import json
from turnout._native import ERA_KEYS
from turnout.protocol import handshake
from turnout.relay.features.listing import members_of

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = frozenset({"progressToken", f"{handshake.META}subscriptionId", f"{handshake.META}related-task"})
"""The keys of what is one side's own: a request of it, a subscription, a task. What stands there names another one,
if any, on the other side."""


def going_on(params: Mapping[str, bytes], *, keeps_envelope: bool) -> dict[str, bytes]:
    """Give the params of a peer's message as the relay sends them to another peer.

    Args:
        params: the params, as they stand.
        keeps_envelope: whether both peers are of the era that has one; it never reaches the other, and a connection
            adds its own.

    """
    if "_meta" not in params:
        return dict(params)
    unwanted = OWN if keeps_envelope else OWN | ERA_KEYS
    meta = {key: value for key, value in members_of(params["_meta"]).items() if key not in unwanted}
    return {**params, "_meta": json.joined(meta)}


__all__ = ["going_on"]
