"""What is measured through a relay: driver -> relay -> fast upstream, each a process, over Unix sockets.

Three measures of each route: CPU of the relay's process for each exchange (a request and its answer, thus
two frames), exchanges a second, and, one at a time, how much longer a call takes than without a relay.
"""

from __future__ import annotations

import itertools
import resource
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benches import usage
from benches.driver import CHUNK, Driver, in_turn
from benches.figures import Sample
from benches.payloads import SIZES
from benches.relay_process import NOT_THERE
from benches.rounds import Missing, turned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

RELAYS = ("turnout", "floor", "handwritten", "fastmcp")
AHEAD = 4
"""Batches that wait for answers at the same time, where there is more than one call in a batch."""
STATELESS = ("floor", "direct")
"""Who holds nothing of a request that is in flight."""
START_TIMEOUT = 20.0
FILES = 20_000
"""Descriptors that the crowd needs in one process, where the system allows as many."""


@dataclass(frozen=True)
class Route:
    """One size of answers, and how many calls share a write."""

    name: str
    size: str
    batch: int
    held: int = 0
    """Requests that stay in flight all the while."""
    clients: int = 1
    """Clients that take turns, a batch each."""

    @property
    def payload(self) -> int:
        """Bytes of an answer, about."""
        return SIZES[self.size.partition(",")[0]]


ROUTES = [
    *(Route(f"relay-{SIZES[size]}-{batch}", size, batch) for size in SIZES for batch in (1, 64)),
    *(Route(f"relay-150-64-held-{held}", f"150 B, {held:,} held", 64, held) for held in (10_000, 100_000)),
    *(Route(f"relay-150-64-clients-{many}", f"150 B, {many:,} clients", 64, 0, many) for many in (64, 4_096)),
]

MEASURES = {
    "cpu": "CPU us each",
    "rate": "exchanges a second",
    "latency": "us more",
    "held": "bytes each held",
    "left": "bytes left of each",
}


_SERIAL = itertools.count()


class Endpoint:
    """A relay's process, or with `relay` None the upstream itself, and a driver connected to it."""

    def __init__(self, relay: str | None, loop: str, upstream: str, size: int, place: Path) -> None:
        self.name = (relay or "direct").partition(".")[0]
        self.drivers: list[Driver] = []
        self.empty = self.held_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.is_relay = relay is not None
        self.listen = upstream
        if relay is None:
            self.drivers.append(Driver(connect(Path(upstream), None)))
            return
        ours, theirs = socket.socketpair()
        listen = place / f"{relay}-{next(_SERIAL)}.sock"
        self.listen = str(listen)
        with theirs:
            command = [sys.executable, "-m", "benches.relay_process", relay, loop, str(listen)]
            if relay == "fastmcp":
                near, far = socket.socketpair()
                command += [str(size), str(theirs.fileno())]
                with far:
                    self._process = subprocess.Popen(
                        command,
                        pass_fds=[theirs.fileno()],
                        stdin=far.fileno(),
                        stdout=far.fileno(),
                        stderr=subprocess.DEVNULL,
                    )
                self.drivers.append(Driver(near))
            else:
                command += [upstream, str(theirs.fileno())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._channel = ours
        try:
            if relay == "fastmcp":
                self.driver.shake_hands()
            else:
                self.drivers.append(Driver(connect(listen, self._process)))
        except BaseException:
            self.close()
            raise

    @property
    def driver(self) -> Driver:
        """The first client."""
        return self.drivers[0]

    def used(self) -> usage.Usage:
        """What the relay has used."""
        return usage.ask(self._channel)

    def crowd(self, clients: int) -> None:
        """Connect more clients."""
        buffer = bytearray(CHUNK)
        self.drivers += [
            Driver(connect(Path(self.listen), self._process), buffer) for _ in range(clients - 1)
        ]

    def close(self) -> None:
        for driver in self.drivers:
            driver.close()
        if self._process is not None:
            self._channel.close()
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def together(routes: Iterable[Route]) -> Iterator[list[Route]]:
    """The routes that are measured in the same rounds: those that differ in what is held and in clients only."""
    groups: dict[tuple[int, int], list[Route]] = {}
    for route in routes:
        groups.setdefault((route.payload, route.batch), []).append(route)
    yield from groups.values()


def measure(
    routes: Sequence[Route], relays: Sequence[str], loop: str, rounds: int, seconds: float
) -> Iterator[Sample]:
    """All samples of routes of one payload, in the same rounds, on one loop; what is missing is said on stderr."""
    size = routes[0].payload
    allow_many_files()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = place / "upstream.sock"
        command = [sys.executable, "-m", "benches.upstream", "uvloop", str(path), str(size)]
        upstream = subprocess.Popen(command)
        stack.callback(upstream.wait)
        stack.callback(upstream.terminate)
        connect(path, upstream).close()
        ends: list[tuple[Route, Endpoint]] = []
        counts: dict[Endpoint, int] = {}
        for route in routes:
            for name in [None, *relays] if route.batch == 1 else relays:
                if name == "fastmcp" and (route.held or route.clients > 1):
                    continue
                try:
                    end = Endpoint(name, loop, str(path), size, place)
                    stack.callback(end.close)
                    counts[end] = _warm_up(end, route, seconds)
                    ends.append((route, end))
                    if route.held and name not in STATELESS:
                        yield Sample(f"{route.name}:held", end.name, loop, 0, end.held_bytes / route.held)
                except (Missing, OSError) as why:
                    print(f"{route.name}: no {name or 'direct way'} on {loop}: {why}", file=sys.stderr)
        for number in range(rounds):
            direct = 0.0
            # The direct way first: the others are compared with it.
            ways = [(route, end) for route, end in ends if not end.is_relay]
            others = [(route, end) for route, end in ends if end.is_relay]
            for route, end in (*ways, *turned(others, number)):
                for what, value in _sample(end, route, counts[end]).items():
                    if not end.is_relay:
                        direct = value if what == "latency" else direct
                        continue
                    measured = value - direct if what == "latency" else value
                    yield Sample(f"{route.name}:{what}", end.name, loop, number, measured)
        for route, end in ends:
            if route.held and end.name not in STATELESS:
                yield Sample(f"{route.name}:left", end.name, loop, 0, _left(end) / route.held)


def _warm_up(end: Endpoint, route: Route, seconds: float) -> int:
    """See that the relay is right, then how fast; the batches that fill a sample."""
    end.driver.check()
    if route.held:
        end.empty = end.used().resident
        end.driver.hold(route.held)
        end.driver.check()
        end.held_bytes = end.used().resident - end.empty
    end.crowd(route.clients)
    count, took = 2, 0.0
    while took < 0.1 and count < 100_000:
        count *= 2
        took = end.driver.one_by_one(count)[0] if route.batch == 1 else _batches(end, route, count)
    return max(2, min(int(count / took * seconds), 400_000 // route.batch))


def _sample(end: Endpoint, route: Route, count: int) -> dict[str, float]:
    exchanges = count * route.batch
    before = end.used().cpu if end.name != "direct" else 0.0
    values: dict[str, float] = {}
    if route.batch == 1:
        took, middle = end.driver.one_by_one(count)
        values["latency"] = middle * 1e6
    else:
        took = _batches(end, route, count)
    values["rate"] = exchanges / took
    if end.name != "direct":
        values["cpu"] = (end.used().cpu - before) / exchanges * 1e6
    return values


def _left(end: Endpoint) -> int:
    """Bytes that the relay has grown by, once what was held is cancelled."""
    end.driver.let_go()
    end.driver.check()
    return end.used().resident - end.empty


def _batches(end: Endpoint, route: Route, count: int) -> float:
    if route.clients > 1:
        return in_turn(end.drivers, count, route.batch, AHEAD)
    return end.driver.batches(count, route.batch, AHEAD)


def allow_many_files() -> None:
    """Raise the limit of this process and its children, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))


def connect(path: Path, process: subprocess.Popen[bytes] | None) -> socket.socket:
    """Connect to a socket whose process may just be starting."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            channel.close()
            if process is not None and process.poll() is not None:
                code = process.returncode
                raise Missing("not there yet" if code == NOT_THERE else f"it ended with {code}") from None
            if time.monotonic() > deadline:
                raise Missing("it does not listen") from None
            time.sleep(0.02)
        else:
            return channel
