"""A server of few lines and no library, both eras, which may start processes of its own and hold requests.

    python gateway_server.py [legacy|modern]

A request that is held opens a FIFO for reading: it goes on when the test opens the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

ERA = sys.argv[1] if len(sys.argv) > 1 else "modern"
MORE = os.environ.get("MORE_TOOLS", "").split()
TOOLS = ("echo", "hold", "env", "pid", "leave")
SLEEPER = [sys.executable, "-S", "-c", "import time; print(1, flush=True); time.sleep(300)"]

writing = threading.Lock()


def write(message):
    with writing:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def call(name, arguments, meta):
    if name == "echo":
        return arguments.get("text", "")
    if name == "hold":
        update = {"progressToken": meta.get("progressToken"), "progress": 1}
        write({"method": "notifications/progress", "params": update})
        with open(arguments["fifo"]) as fifo:
            return fifo.read()
    if name == "env":
        return os.environ.get(arguments["name"], "")
    if name == "pid":
        return str(os.getpid())
    # A process that outlives whoever started it, in a session of its own if asked to.
    left = subprocess.Popen(
        SLEEPER, start_new_session=arguments["session"], stdin=-3, stdout=subprocess.PIPE, stderr=-3
    )
    # Until it runs, the process table does not say what it is.
    left.stdout.readline()
    return "left"


def answer(number, method, params):
    if method == "tools/call":
        text = call(params["name"], params.get("arguments", {}), params.get("_meta", {}))
        return {"content": [{"type": "text", "text": text}], **COMPLETE}
    if method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in (*TOOLS, *MORE)]
        return {"tools": tools, **({**COMPLETE, "ttlMs": 0, "cacheScope": "public"} if COMPLETE else {})}
    return None


COMPLETE = {"resultType": "complete"} if ERA == "modern" else {}


def handle(number, method, params):
    if method == "server/discover" and ERA == "modern":
        result = {
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "kit", "version": "1"},
            **COMPLETE,
            "ttlMs": 0,
            "cacheScope": "public",
        }
    elif method == "initialize" and ERA == "legacy":
        info = {"name": "kit", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    else:
        result = answer(number, method, params)
    if result is None:
        write({"id": number, "error": {"code": -32601, "message": "Method not found"}})
    else:
        write({"id": number, "result": result})


def main():
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            given = (message["id"], message["method"], message.get("params", {}))
            threading.Thread(target=handle, args=given, daemon=True).start()


main()
