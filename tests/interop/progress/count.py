"""Counts the progress that clients on the TypeScript SDK get: `make test-interop-progress`.

A tool reports five updates in a row and returns; what the client's callback was not called for is lost. A case is a
client (v1, v2 in either era), a server (see `server.py`), a channel, and what else the machine does meanwhile. The
command fails where a server of turnout's delivers less than 99.5 % of them to a client.

    .venv/bin/python tests/interop/progress/count.py --servers native --beside idle --delay off on
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from run import install  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = {"v1": ("v1", "legacy"), "v2": ("v2", "legacy"), "v2-auto": ("v2", "auto")}
SERVERS = ("native", "sdk", "relay", "stock")
CHANNELS = ("stdio", "unix")
BESIDE = {"idle": 0, "busy": 2}
"""Processes that never sleep, beside the client and the server."""

UPDATES = 5
LEAST = 0.995
SECONDS = 300
"""Seconds for one case."""


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextlib.contextmanager
def listening(command: list[str], path: Path) -> Iterator[None]:
    with subprocess.Popen([*command, "--unix", str(path)]) as server:
        try:
            until = time.monotonic() + 30
            while not path.exists():
                if server.poll() is not None or time.monotonic() > until:
                    sys.exit(f"the server did not start: {command}")
                time.sleep(0.05)
            yield
        finally:
            server.kill()


def count(client: str, server: str, channel: str, delay: str, calls: int) -> dict[str, Any]:
    """What one client says of its calls."""
    command = [sys.executable, str(HERE / "server.py"), server]
    if delay == "off":
        command.append("--at-once")
    with contextlib.ExitStack() as stack:
        target = ["stdio", *command]
        if channel == "unix":
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "socket"
            stack.enter_context(listening(command, path))
            target = ["unix", str(path)]
        node = ["node", str(HERE / "client.mjs"), *CLIENTS[client], str(calls), *target]
        done = subprocess.run(node, stdout=subprocess.PIPE, timeout=SECONDS, check=True)
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen


def exists(server: str, channel: str, delay: str) -> bool:
    """Whether there is such a case: the SDK's own transport has no socket, and nothing to switch."""
    return server != "stock" or (channel == "stdio" and delay == "on")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--channels", nargs="+", choices=CHANNELS, default=list(CHANNELS))
    parser.add_argument("--beside", nargs="+", choices=BESIDE, default=list(BESIDE))
    parser.add_argument(
        "--delay", nargs="+", choices=("on", "off"), default=["on"], help="whether answers wait"
    )
    parser.add_argument("--updates", type=int, default=1000, help="in each case")
    options = parser.parse_args()
    install({"ts-client"})
    print("| client | server | channel | beside | answers wait | delivered | call p50, p99 (ms) |")
    print("|---|---|---|---|---|---|---|")
    lost = 0
    cases = itertools.product(
        options.beside, options.clients, options.servers, options.channels, options.delay
    )
    for beside, client, server, channel, delay in cases:
        if not exists(server, channel, delay):
            continue
        with busy(BESIDE[beside]):
            seen = count(client, server, channel, delay, options.updates // UPDATES)
        delivered, expected = seen["delivered"], seen["expected"]
        wait = "-" if server == "stock" else delay
        times = f"{seen['p50']:.2f}, {seen['p99']:.2f}"
        print(
            f"| {client} | {server} | {channel} | {beside} | {wait} | {delivered} of {expected} | {times} |",
            flush=True,
        )
        asked = server != "stock" and delay == "on"
        lost += asked and (delivered < LEAST * expected or seen["disordered"] > 0)
    if lost:
        sys.exit(f"{lost} cases delivered less than {LEAST:.1%}, or in another order")


if __name__ == "__main__":
    main()
