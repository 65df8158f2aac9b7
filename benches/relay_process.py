"""A relay in a process of its own: `python -m benches.relay_process NAME LOOP LISTEN UPSTREAM FD`.

What it uses is asked over the socket FD. Exit code 3 says that the contender has no relay yet.
"""

from __future__ import annotations

import importlib
import sys

from benches import loops, usage

NOT_THERE = 3


def main() -> None:
    name, loop, listen, upstream, channel = sys.argv[1:]
    usage.answer(int(channel))
    module, _, function = name.partition(".")
    contender = importlib.import_module(f"benches.contenders.{module}")
    try:
        loops.run(getattr(contender, function or "relay")(listen, upstream), loop)
    except NotImplementedError as why:
        print(f"{name}: {why}", file=sys.stderr)
        sys.exit(NOT_THERE)


if __name__ == "__main__":
    main()
