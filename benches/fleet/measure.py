"""The fleet before each relay in turn, in processes of their own: tools -> relay -> clients, over Unix sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import loops, relaying
from benches.figures import Sample
from benches.fleet.clients import Account, Fleet
from benches.fleet.judge import judge, messages
from benches.fleet.plan import CLIENTS, Call, Plan, draw
from benches.rounds import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benches.relaying import Endpoint

RELAYS = ("turnout", "floor", "handwritten", "direct")
CROWD = 10_000
"""Calls in flight when all clients die, and when memory is weighed."""
FOREVER = 3_600_000.0
"""Milliseconds that such a call takes."""
QUIET = 0.5
"""Seconds after which nothing more is on its way."""
PATIENCE = 30.0
"""Seconds for calls to reach the server, and for it to say what it noted."""


@dataclass(frozen=True)
class Row:
    """One kind of fleet.

    Args:
        cancelled: the share of calls that is cancelled.
    """

    name: str
    title: str
    cancelled: float


ROWS = [
    Row("fleet", "agents, 5 % cancelled", 0.05),
    Row("fleet-storm", "agents, 20 % cancelled", 0.2),
]


class Tools:
    """The server's process."""

    def __init__(self, path: Path) -> None:
        self._asking, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "benches.fleet.tools", str(path), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._asking.settimeout(PATIENCE)

    def take(self) -> dict[str, dict[str, Any]]:
        """What it noted since this was asked last."""
        notes: dict[str, dict[str, Any]] = self._ask(b"!")
        return notes

    def count(self) -> tuple[int, int]:
        """Calls that began since then, and how many of them were cancelled."""
        began, cancelled = self._ask(b"?")
        return began, cancelled

    def _ask(self, question: bytes) -> Any:
        self._asking.sendall(question)
        data = b""
        while not data.endswith(b"\n"):
            data += self._asking.recv(1 << 20)
        return json.loads(data)

    def close(self) -> None:
        self._asking.close()
        self._process.terminate()
        self._process.wait()


def measure(row: Row, relays: Sequence[str], loop: str, rounds: int, seconds: float) -> Iterator[Sample]:
    """All samples of one kind of fleet on one loop; what is missing is said on stderr."""
    relaying.allow_many_files()
    plan = draw(seconds, row.cancelled)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = place / "tools.sock"
        tools = Tools(path)
        stack.callback(tools.close)
        relaying.connect(path, None).close()
        ends: list[Endpoint] = []
        for name in relays:
            try:
                end = _endpoint(name, loop, path)
            except (Missing, OSError) as why:
                print(f"{row.name}: no {name} on {loop}: {why}", file=sys.stderr)
                continue
            stack.callback(end.close)
            ends.append(end)
        for number in range(rounds):
            for end in list(ends):
                try:
                    values = sample(end, tools, plan)
                    with closing(_endpoint(end.name, loop, path)) as fresh:
                        values |= loops.run(_die(fresh, tools), "uvloop")
                except (Missing, OSError) as why:
                    print(f"{row.name}: {end.name} on {loop} failed: {why}", file=sys.stderr)
                    ends.remove(end)
                    continue
                for what, value in values.items():
                    yield Sample(f"{row.name}:{what}", end.name, loop, number, value)


def sample(end: Endpoint, tools: Tools, plan: Plan) -> dict[str, float]:
    """One run of a plan."""
    gc.collect()
    tools.take()
    return loops.run(_play(end, tools, plan), "uvloop")


def _endpoint(name: str, loop: str, tools: Path) -> Endpoint:
    relay = None if name == "direct" else f"{name}.fleet"
    return relaying.Endpoint(relay, loop, str(tools), 0, tools.parent)


async def _play(end: Endpoint, tools: Tools, plan: Plan) -> dict[str, float]:
    account = Account()
    fleet = Fleet(end.listen, account)
    await fleet.connect()
    before = end.used().cpu if end.is_relay else 0.0
    await fleet.play(plan)
    after = end.used().cpu if end.is_relay else 0.0
    notes = tools.take()
    fleet.leave()
    values = judge(account, notes)
    if end.is_relay:
        values["cpu"] = (after - before) / messages(account, notes) * 1e6
    return values


async def _die(end: Endpoint, tools: Tools) -> dict[str, float]:
    """10,000 calls in flight, of 256 clients that vanish at once, and the memory of a new process throughout."""
    fleet = Fleet(end.listen, Account())
    await fleet.connect()
    await asyncio.sleep(QUIET)
    tools.take()
    empty = end.used().resident if end.is_relay else 0
    for number in range(CROWD):
        fleet.clients[number % CLIENTS].ask(Call(0.0, number % CLIENTS, 10_000_000 + number, FOREVER, 150))
        if number % CLIENTS == 0:
            await asyncio.sleep(0)
    until = time.monotonic() + PATIENCE
    while tools.count()[0] < CROWD:
        if time.monotonic() > until:
            raise Missing(f"of {CROWD} calls only {tools.count()[0]} reached the server")
        await asyncio.sleep(0.05)
    full = end.used().resident if end.is_relay else 0
    start = time.monotonic()
    fleet.leave()
    heard = -1
    while heard < (heard := tools.count()[1]) < CROWD:
        await asyncio.sleep(QUIET)
    notes = tools.take().values()
    last = max((note["cancelled"] for note in notes if "cancelled" in note), default=start)
    values = {"died": (last - start) * 1e3, "orphans": float(CROWD - heard)}
    if end.is_relay:
        await asyncio.sleep(QUIET)
        values["held"] = (full - empty) / CROWD
        values["left"] = (end.used().resident - empty) / CROWD
    return values
