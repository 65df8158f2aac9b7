"""A server of a few lines and no library, so that tests of the command line see each byte.

    python cli_server.py [legacy|modern]

Its tools are the functions below; `wait` is ended by a cancel only, and answers late if asked to.
"""

from __future__ import annotations

import json
import os
import sys
import time

ERA = sys.argv[1] if len(sys.argv) > 1 else "modern"


def write(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(number, text, **more):
    write({"id": number, "result": {"content": [{"type": "text", "text": text}], **more}})


def progress(params, value, total=None, message=None):
    update = {"progressToken": params["_meta"]["progressToken"], "progress": value}
    if total is not None:
        update["total"] = total
    if message is not None:
        update["message"] = message
    write({"method": "notifications/progress", "params": update})


def log(text):
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def steps(number, params):
    total = params["arguments"]["steps"]
    for step in range(1, total + 1):
        progress(params, step, total, f"step {step} \x1b[31m[bold]")
        time.sleep(0.01)  # so that a person, and a test, sees it move
    answer(number, "done", arguments=params["arguments"])


def wait(number, params):
    progress(params, 1, 3, "waiting")
    message = {}
    while message.get("method") != "notifications/cancelled":
        message = json.loads(sys.stdin.readline())
    log(f"cancelled: {message['params'].get('reason')}")
    if params["arguments"].get("late"):
        answer(number, "too late")


def fail(number, params):
    answer(number, "failed", isError=True)


def refuse(number, params):
    write({"id": number, "error": {"code": -32602, "message": "no such thing", "data": {"hint": 1}}})


def crash(number, params):
    progress(params, 1)
    log("\x1b[2Jlast words")
    os._exit(70)


def silent(number, params):
    pass


def control(number, params):
    answer(number, "\x9b31m \u202e \x1b ä")


def odd(number, params):
    """Legal JSON that Python's own reader and writer do not have; what it was given, too."""
    given = json.dumps(params["arguments"])
    values = f'[1e999,{"7" * 5000},"cut \\ud83d",1E5]'
    print(f'{{"jsonrpc":"2.0","id":{number},"result":{{"values":{values},"given":{given}}}}}', flush=True)


TOOLS = {tool.__name__: tool for tool in (steps, wait, fail, refuse, crash, silent, control, odd)}


def main():
    for line in sys.stdin:
        message = json.loads(line, parse_int=lambda digits: int(digits) if len(digits) < 600 else digits)
        number, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if method == "server/discover" and ERA == "modern":
            write({"id": number, "result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}})
        elif method == "initialize":
            info = {"name": "s", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
            write({"id": number, "result": result})
        elif method == "tools/call":
            TOOLS[params["name"]](number, params)
        elif number is not None:
            write({"id": number, "error": {"code": -32601, "message": "Method not found"}})


main()
