"""Passes bytes between standard input and output and a Unix socket: `bridge.py PATH`.

It is the server of clients that speak over stdio only.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def pump(read: int, write: int) -> None:
    while data := os.read(read, 1 << 16):
        while data:
            data = data[os.write(write, data) :]


def main() -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[1])

    def up() -> None:
        pump(0, server.fileno())
        server.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, daemon=True).start()
    pump(server.fileno(), 1)


if __name__ == "__main__":
    main()
