"""The floors as relay contenders: lines split and handed on, or echoed, and nothing else."""

from __future__ import annotations

from benches.baselines.echo import echo, run


async def relay(listen: str, upstream: str) -> None:
    await run(listen, upstream)


fleet = relay
"""It gives each client an upstream connection of its own, anyway."""


async def echoing(listen: str, _upstream: str) -> None:
    await echo(listen)
