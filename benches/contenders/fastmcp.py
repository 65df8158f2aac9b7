"""FastMCP's proxy as a relay contender. It speaks over its stdin and stdout, which the driver gives it."""

from __future__ import annotations

import sys

from benches.baselines import sdk


async def relay(_listen: str, upstream: str) -> None:
    """`upstream` is the size of the answers: the proxy starts its upstream itself."""
    await sdk.proxy([sys.executable, "-m", "benches.upstream", "uvloop", "-", upstream])
