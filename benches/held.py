"""Memory that hostile peers make a server hold: ten that never read, or forty with a frame that does not end.

    python -m benches.held [--peers TIMES] [--total BYTES]

The server, a process of its own, answers 1 MB to each request over a Unix socket. Printed are the most that the process
had resident, what it has when that changes no more, and what became of its connections. `--total` sets
`max_total_bytes`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import turnout

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1 << 20
SECONDS = 120
"""No peer goes on for longer, whatever happens."""

NEVER_READ, UNFINISHED = 10, 40


async def serve(path: str, total: int) -> None:
    """Answer at length until stdin ends, and say then how many are connected and what was closed."""
    limits = {"max_total_bytes": total} if total else None
    answer = {"text": "x" * MEGABYTE}
    async with turnout.Router(limits=limits) as router:

        @router.on_request("much")
        async def much(_: turnout.Request) -> dict[str, str]:
            return answer

        await router.serve(turnout.listen_unix(path))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        usage = turnout.memory_usage() if hasattr(turnout, "memory_usage") else {}
        print(json.dumps({"connected": len(router.peers), **usage}), flush=True)


def resident(pid: int, name: str) -> float:
    """Megabytes that a process has resident: now (`VmRSS`) or at most (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def settle(pid: int) -> None:
    """Wait until what a process has resident does not change for 2 s."""
    before = -1.0
    for _ in range(SECONDS // 2):
        now = resident(pid, "VmRSS")
        if abs(now - before) < 1:
            return
        before = now
        time.sleep(2)


def ask_and_never_read(peer: socket.socket) -> bool:
    """Ask once; false where no more is taken."""
    return _send(peer, b'{"jsonrpc":"2.0","id":%d,"method":"much"}\n' % time.perf_counter_ns())


def go_on_with_a_frame(peer: socket.socket) -> bool:
    """Send 1 MB of a frame that does not end."""
    return _send(peer, b"x" * MEGABYTE)


def _send(peer: socket.socket, data: bytes) -> bool:
    try:
        peer.sendall(data)
    except OSError:
        return False
    return True


def measure(count: int, rounds: int, act: Callable[[socket.socket], bool], total: int) -> str:
    """Let so many peers act in turn, so many times each; gives what the server held."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        path = str(Path(directory) / "s")
        command = [sys.executable, "-m", "benches.held", "--serve", path, "--total", str(total)]
        server = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert server.stdin is not None
        assert server.stdout is not None
        stack.callback(server.kill)
        server.stdout.readline()
        before = resident(server.pid, "VmRSS")
        peers = []
        for _ in range(count):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(2)
            peer.connect(path)
            peers.append(peer)
        until = time.monotonic() + SECONDS
        for _ in range(rounds):
            peers = [peer for peer in peers if act(peer)]
            if not peers or time.monotonic() > until:
                break
        settle(server.pid)
        most, now = resident(server.pid, "VmHWM"), resident(server.pid, "VmRSS")
        server.stdin.write("\n")
        server.stdin.flush()
        said = server.stdout.readline().strip()
    return f"{most - before:,.0f} MB at most, {now - before:,.0f} MB in the end; {said}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, default=1, help="so many times as many peers")
    parser.add_argument("--total", type=int, default=0, help="max_total_bytes; 0 for the default")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(asked.serve, asked.total))
        return
    never, unfinished = NEVER_READ * asked.peers, UNFINISHED * asked.peers
    print(f"{never} peers that never read: {measure(never, 300, ask_and_never_read, asked.total)}")
    # A frame may have 64 MiB.
    print(f"{unfinished} unfinished frames: {measure(unfinished, 63, go_on_with_a_frame, asked.total)}")


if __name__ == "__main__":
    main()
