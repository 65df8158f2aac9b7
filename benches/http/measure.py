"""Measure serving over HTTP side by side: `python -m benches.http.measure [--rounds N] [--only ROW] [--renew]`.

Each contender has one process, which idles while the others are measured; they take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from benches import figures, table
from benches.figures import Run, Sample
from benches.http import traffic
from benches.http.load import Load, Missing, cpu, resident
from benches.loops import LOOPS
from benches.report import renew
from benches.rounds import turned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
IN_FLIGHT = (1, 64, 1_000)
STREAMS = 2_000
"""Streams that are open and idle."""
CLOSED = 1_000
"""Streams that clients leave, one after the other."""
PAUSE = 0.001
"""Seconds between two of them."""
BY_LOOP = ("raw", "hand", "uvicorn", "turnout", "asgi", "pipe", "relay")
"""Those that are measured on each loop; the others run on the one that they are faster on, or on none of ours."""


@dataclass(frozen=True)
class Row:
    """One thing that is measured, of whom, and in what unit."""

    name: str
    title: str
    unit: str
    contenders: tuple[str, ...]


SERVERS = ("turnout", "raw", "hand", "uvicorn", "mcp", "fastmcp", "go")
STREAMING = ("turnout", "raw", "uvicorn")
RELAYS = ("relay", "pipe", "fastmcp-proxy")
EMBEDDED = ("asgi", "uvicorn")
ROWS = [
    *(Row(f"json-{many}", f"an answer, {many:,} in flight", "CPU us", SERVERS) for many in IN_FLIGHT),
    *(Row(f"rate-{many}", f"answers, {many:,} in flight", "a second", SERVERS) for many in IN_FLIGHT),
    Row("ping-64", "ping in a session, 64 in flight", "CPU us", SERVERS[:2]),
    Row("event", f"an event, {traffic.STEPS} a turn, 64 streams", "CPU us", STREAMING),
    Row("idle", f"an open stream, of {STREAMS:,}", "bytes", STREAMING),
    Row("gone-50", f"client gone, {CLOSED:,} open: seen after, p50", "us", STREAMING),
    Row("gone-99", f"client gone, {CLOSED:,} open: seen after, p99", "us", STREAMING),
    *(Row(f"relay-{many}", f"an answer, {many:,} in flight", "CPU us", RELAYS) for many in IN_FLIGHT),
    *(Row(f"relay-rate-{many}", f"answers, {many:,} in flight", "a second", RELAYS) for many in IN_FLIGHT),
    *(Row(f"asgi-{many}", f"an answer, {many:,} in flight", "CPU us", EMBEDDED) for many in IN_FLIGHT),
    *(Row(f"asgi-rate-{many}", f"answers, {many:,} in flight", "a second", EMBEDDED) for many in IN_FLIGHT),
    Row("asgi-event", f"an event, {traffic.STEPS} a turn, 64 streams", "CPU us", EMBEDDED),
    Row("cancel-50", f"client gone, {CLOSED:,} open: the server knows after, p50", "us", RELAYS[:2]),
    Row("cancel-99", f"client gone, {CLOSED:,} open: the server knows after, p99", "us", RELAYS[:2]),
]
NAMES = {
    "turnout": "turnout",
    "relay": "turnout",
    "asgi": "turnout.asgi",
    "raw": "floor",
    "pipe": "floor",
    "hand": "a task each",
    "uvicorn": "uvicorn",
    "mcp": "mcp",
    "fastmcp": "FastMCP",
    "go": "Go SDK",
    "fastmcp-proxy": "FastMCP proxy",
}


class Server:
    """The process of one contender on one loop."""

    def __init__(self, name: str, loop: str, place: Path) -> None:
        self.name, self.loop = name, loop
        self._file = place / f"{name}-{loop}.times"
        self._others: list[subprocess.Popen[str]] = []
        if name == "go":
            command = [go_server(place)]
        else:
            upstream = str(self._file)
            if name == "pipe":
                upstream = str(place / f"{loop}.sock")
                self._others.append(_start([*_python("far", "uvloop"), upstream]))
            command = [*_python(name, loop), upstream]
        self._process = _start(command)
        self.port = self._process.port  # type: ignore[attr-defined]
        self.id = self._process.pid

    def lost(self, count: int) -> list[int]:
        """The times at which it saw clients go, or its upstream did; waits for so many."""
        seen: list[int] = []
        over = time.monotonic() + 20
        while len(seen) < count and time.monotonic() < over:
            time.sleep(0.05)
            if self.name == "relay":
                seen = (
                    [int(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []
                )
            else:
                process = self._others[0] if self._others else self._process
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                seen += json.loads(process.stdout.readline())
        self._file.unlink(missing_ok=True)
        return sorted(seen)

    def close(self) -> None:
        """End it."""
        for process in (self._process, *self._others):
            process.kill()
            process.wait()


def _python(name: str, loop: str) -> list[str]:
    return [sys.executable, "-m", "benches.http.servers", name, loop]


def _start(command: list[str]) -> subprocess.Popen[str]:
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            process.wait(10)
            complaints.seek(0)
            raise Missing((complaints.read().strip() or "it says no port").splitlines()[-1])
    process.port = int(line)  # type: ignore[attr-defined]
    return process


def go_server(place: Path) -> str:
    """The Go SDK's server, built."""
    go = shutil.which("go")
    if go is None:
        raise Missing("go is not installed")
    binary = place / "go-server"
    if not binary.exists():
        subprocess.run([go, "build", "-o", str(binary), "."], cwd=HERE / "go", check=True)
    return str(binary)


def answers(server: Server, many: int, seconds: float, *, pings: bool = False) -> tuple[float, float]:
    """CPU microseconds an answer, and answers a second."""
    load = Load(server.port, many)
    with contextlib.closing(load):
        request = ping(load, server) if pings else traffic.request("echo")
        answer = load.once(request)
        if traffic.TEXT.encode() not in answer and b'"result":{}' not in answer:
            raise Missing(f"it answers {answer[:200]!r}")
        load.ask(request, seconds / 5)
        before = cpu(server.id)
        count, took = load.ask(request, seconds)
        return (cpu(server.id) - before) / count * 1e6, count / took


def ping(load: Load, server: Server) -> bytes:
    """A request that turnout answers without Python, in a session that this opens."""
    if server.name != "turnout":
        return traffic.post(traffic.PING, f"Mcp-Session-Id: {'x' * 60}\r\n")
    opened = load.once(traffic.post(traffic.INITIALIZE))
    session = opened.partition(b"mcp-session-id: ")[2].partition(b"\r\n")[0].decode()
    headers = f"Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n"
    load.once(traffic.post(traffic.INITIALIZED, headers))
    return traffic.post(traffic.PING, headers)


def events(server: Server, seconds: float) -> float:
    """CPU microseconds that one more event takes on a stream."""
    each = []
    for tool in ("one_step", "steps"):
        with contextlib.closing(Load(server.port, 64)) as load:
            answer = load.once(traffic.request(tool))
            if answer.count(b"data:") != (traffic.STEPS if tool == "steps" else 1) + 1:
                raise Missing("it leaves events out")
            load.ask(traffic.request(tool), seconds / 5)
            before = cpu(server.id)
            count, _ = load.ask(traffic.request(tool), seconds)
            each.append((cpu(server.id) - before) / count)
    return (each[1] - each[0]) / (traffic.STEPS - 1) * 1e6


def idle(server: Server) -> float:
    """Bytes that a stream holds which has nothing to say, in a process that had as many before."""
    with contextlib.closing(Load(server.port, 10)) as load:
        load.leave(traffic.request("wait"))
        load.await_heads()
    server.lost(10)
    before = resident(server.id)
    with contextlib.closing(Load(server.port, STREAMS)) as load:
        load.leave(traffic.request("wait"))
        load.await_heads()
        each = (resident(server.id) - before) / STREAMS
    server.lost(STREAMS)
    return each


def gone(server: Server) -> tuple[float, float]:
    """Microseconds from a client's close until it is known, p50 and p99."""
    load = Load(server.port, CLOSED)
    load.leave(traffic.request("wait"))
    if server.name == "relay":
        time.sleep(1)  # until all are in flight at the upstream: nothing comes back of it
    else:
        load.await_heads()
    closed = load.close_each(PAUSE)
    seen = server.lost(CLOSED)
    if len(seen) != CLOSED:
        raise Missing(f"{CLOSED - len(seen)} clients that went were not seen")
    late = sorted((saw - went) / 1000 for went, saw in zip(closed, seen, strict=True))
    return late[len(late) // 2], late[len(late) * 99 // 100]


def sample(row: str, server: Server, seconds: float) -> Iterator[tuple[str, float]]:
    """What one turn of a contender gives, by the names of rows."""
    kind, _, many = row.rpartition("-")
    if kind == "json":
        each, rate = answers(server, int(many), seconds)
        yield from ((row, each), (f"rate-{many}", rate))
    elif kind == "ping":
        yield row, answers(server, int(many), seconds, pings=True)[0]
    elif row in {"event", "asgi-event"}:
        yield row, events(server, seconds)
    elif kind in {"relay", "asgi"}:
        each, rate = answers(server, int(many), seconds)
        yield from ((row, each), (f"{kind}-rate-{many}", rate))
    elif row == "idle":
        yield row, idle(server)
    elif row in {"gone-50", "cancel-50"}:
        middle, late = gone(server)
        yield from ((row, middle), (row.replace("50", "99"), late))


def measure(rounds: int, seconds: float, only: Sequence[str], loops: Sequence[str]) -> Run:
    """All rows, in rounds."""
    run = figures.begin(rounds, quick=False)
    for loop in loops:
        for row in ROWS:
            if only and not any(fnmatch(row.name, pattern) for pattern in only):
                continue
            if "rate" in row.name or row.name.endswith("99"):
                continue  # comes with the row before
            print(f"{loop}: {row.title}, {row.unit}", file=sys.stderr)
            run.samples.extend(_row(row, loop, rounds, seconds))
    return run


def _row(row: Row, loop: str, rounds: int, seconds: float) -> Iterator[Sample]:
    alive = [name for name in row.contenders if loop == "uvloop" or name in BY_LOOP]
    servers: dict[str, Server] = {}
    with tempfile.TemporaryDirectory() as place:
        try:
            for number in range(rounds):
                for name in turned(tuple(alive), number):
                    values = _turn(row.name, name, loop, servers, Path(place), seconds)
                    if not values:
                        alive.remove(name)
                    for scenario, value in values:
                        yield Sample(scenario, name, loop, number, value)
        finally:
            for server in servers.values():
                server.close()


def _turn(
    row: str, name: str, loop: str, servers: dict[str, Server], place: Path, seconds: float
) -> list[tuple[str, float]]:
    """One turn of a contender; nothing where it cannot do it."""
    try:
        if name not in servers:
            servers[name] = Server(name, loop, place)
        values = list(sample(row, servers[name], seconds))
        if row == "idle":
            servers.pop(name).close()
    except (Missing, OSError) as why:
        print(f"{row}: no {name} on {loop}: {why}", file=sys.stderr)
        return []
    return values


def tables(run: Run, contenders: Sequence[str]) -> str:
    """The rows of these. Ratios above 1 are in favour of the first."""
    first, *others = contenders
    rows = []
    for row in ROWS:
        if row.contenders[0] != first:
            continue
        for loop in LOOPS:
            cells = [run.figure(row.name, name, loop) for name in contenders]
            if not any(cells):
                continue
            pairs = [(first, other) if row.unit == "a second" else (other, first) for other in others]
            ratios = [table._ratio(run.ratio(row.name, *pair, loop)) for pair in pairs]
            rows.append([row.title, row.unit, loop, *map(table._cell, cells), *ratios])
    names = [NAMES[name] for name in contenders]
    return table.markdown(["", "unit", "loop", *names, *(f"to {name}" for name in names[1:])], rows)


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benches.http.measure", description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=0.5, help="length of a timed sample")
    options.add_argument("--only", action="append", metavar="ROW", help="rows, such as 'json-*' or 'idle'")
    options.add_argument("--loop", action="append", choices=LOOPS, help="event loops; both")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    options.add_argument("--renew", action="store_true", help="put the tables into benches/README.md")
    options.add_argument(
        "--from", type=Path, dest="stored", metavar="FILE", help="a stored run; measure nothing"
    )
    wish = options.parse_args()
    run = (
        figures.read(wish.stored)
        if wish.stored
        else measure(wish.rounds, wish.seconds, wish.only or (), wish.loop or LOOPS)
    )
    if wish.json:
        run.write(wish.json)
    parts = {
        "http": f"{tables(run, SERVERS)}\n\n{table.conditions(run)}",
        "http-relays": tables(run, RELAYS),
        "http-embedded": tables(run, EMBEDDED),
    }
    for name, text in parts.items():
        print(text, end="\n\n")
        if wish.renew:
            renew(HERE.parent / "README.md", name, text)


if __name__ == "__main__":
    main()
