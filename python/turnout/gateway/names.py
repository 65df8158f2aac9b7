"""The names that clients see of the tools of all servers, as a client of the gateway's own is told them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import turnout

if TYPE_CHECKING:
    from turnout.gateway.plan import Plan

LONGEST = 64
"""Characters of the name of a tool that every host takes; some cut what is longer, and call nothing by it."""

MAX_PAGES = 100
"""Pages of a list that are read."""

TIMEOUT = 10.0
"""Seconds to list."""


async def too_long(relay: turnout.Relay, plan: Plan) -> list[str]:
    """Tools whose names are too long by their prefix.

    Servers that are private to a client are not started for it: where there is one, nothing is looked at.

    Args:
        relay: whose servers are connected.
        plan: what the relay runs.

    Raises:
        turnout.Error: the list could not be read.

    """
    prefixes = tuple(naming.names for naming in plan.namings if naming.names)
    if not prefixes or any(
        upstream.sharing in ("per_client", "per_principal") for upstream in plan.upstreams
    ):
        return []
    near, far = turnout.memory()
    async with turnout.Router(name="turnout gateway", timeout=TIMEOUT, records=1) as router:
        served = await relay.router.connect(far, era=None, name="turnout gateway")
        relay.attach(served, principal=plan.principal_of(None))
        client = await router.connect(near, era="modern")
        names: list[str] = []
        params: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await client.send("tools/list", params, max_timeout=TIMEOUT)
            names += named(page)
            cursor = page.get("nextCursor") if isinstance(page, dict) else None
            if not isinstance(cursor, str):
                break
            params = {"cursor": cursor}
    return [name for name in names if len(name) > LONGEST and name.startswith(prefixes)]


def named(page: object) -> list[str]:
    """The names in a page of a list, whatever a server made of it."""
    tools = page.get("tools") if isinstance(page, dict) else None
    names = [tool.get("name") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [name for name in names if isinstance(name, str)]


__all__ = ["LONGEST", "named", "too_long"]
