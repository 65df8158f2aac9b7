"""Who asks what, and when: drawn once from a seed, so that every relay gets the same.

The shares are those of the model in README.md; the times of tools are a quarter of it, so that 1,000 calls a
second keep some 270 in flight and every run gets its share of the long ones.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

CLIENTS = 256
UPSTREAMS = 10
"""Connections that the clients share."""
RATE = 1_000.0
"""Calls a second, whatever the answers do: nobody waits for one before asking the next."""
SHORTER = 4.0
SLOW = 3
"""Clients that read far less than they ask for, until the plan is over; all of their calls ask for progress."""

LIST = 137_000
SIZES = (1_200, 8_000, 64_000, 500_000)
SIZE_WEIGHTS = (70.0, 25.0, 4.5, 0.5)

How = Literal["notification", "disconnect"]


@dataclass(frozen=True)
class Call:
    """One call of the plan.

    Args:
        at: seconds after the start.
        client: who asks.
        owner: its number, which every payload of it bears.
        tool: milliseconds that the tool takes.
        size: bytes of its answer, about.
        every: milliseconds between two updates of progress; 0 for none.
        cancel: seconds after the start at which the client cancels it; None for never.
        stubborn: whether the tool does not listen to a cancel, and answers.
    """

    at: float
    client: int
    owner: int
    tool: float
    size: int
    every: float = 0.0
    cancel: float | None = None
    stubborn: bool = False


@dataclass(frozen=True)
class Plan:
    """Calls, and the moments at which a client's connection ends, which cancels all it has in flight."""

    seconds: float
    calls: list[Call]
    departures: list[tuple[float, int]]


def id_for(client: int, serial: int) -> int | str:
    """Half of the clients count, three in ten draw UUIDs, and two in ten call everything 1."""
    if client % 10 < 5:
        return serial
    return f"7c9e6679-7425-40de-944b-{client:04x}{serial:08x}" if client % 10 < 8 else 1


def counts(client: int) -> bool:
    """Whether a client's ids tell its calls apart, so that it can cancel one."""
    return client % 10 < 8


def draw(seconds: float, cancelled: float, seed: int = 1) -> Plan:
    """A plan of `seconds`, of whose calls the share `cancelled` is cancelled: three fifths by a notification, the
    others by the end of their client's connection."""
    dice = random.Random(seed)
    calls: list[Call] = []
    at = 0.0
    while (at := at + dice.expovariate(RATE)) < seconds:
        calls.append(_call(dice, at, len(calls) + 1, cancelled * 0.6))
    # A client that leaves takes along what it has in flight, about as many as this.
    each = max(1.0, sum(call.tool for call in calls) / 1e3 / seconds / CLIENTS)
    departures = int(len(calls) * cancelled * 0.4 / each)
    leaving = sorted(
        (dice.uniform(0.5, max(seconds - 0.5, 0.6)), dice.randrange(SLOW, CLIENTS)) for _ in range(departures)
    )
    return Plan(seconds, calls, leaving)


def _call(dice: random.Random, at: float, owner: int, cancelled: float) -> Call:
    client = dice.randrange(CLIENTS)
    if dice.random() < 0.12:
        return Call(at, client, owner, dice.uniform(5, 20) / SHORTER, LIST)
    tool = _tool(dice) / SHORTER
    every = 0.0
    if client < SLOW:
        return Call(at, client, owner, 1_000.0, 64_000, 50.0)
    if dice.random() < 0.15:
        # Updates a second: one in the middle, five at the ninetieth percentile, at most twenty.
        every = 1_000 / min(20.0, dice.lognormvariate(0, 1.26)) / SHORTER
    [size] = dice.choices(SIZES, SIZE_WEIGHTS)
    size = int(size * math.exp(dice.gauss(0, 0.3)))
    cancel = None
    if client >= SLOW and counts(client) and dice.random() < cancelled / 0.8:
        cancel = at + dice.random() * tool / 1e3
    return Call(at, client, owner, tool, size, every, cancel, dice.random() < 0.1)


def _tool(dice: random.Random) -> float:
    pick = dice.random()
    if pick < 0.41:
        return dice.uniform(5, 20)
    if pick < 0.86:
        return min(dice.lognormvariate(math.log(250), 0.9), 10_000)
    return dice.uniform(2_000, 15_000)
