"""JSON read into Python objects and written from them: `turnout.json` beside what people have today.

    python -m benches.codec           measure side by side, and print the table
    python -m benches.codec --renew   put it into the README, too

All are asked for the same: bytes in, dicts and lists out, and the other way round. They take turns in one process,
in another order each round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

import turnout.json
from benches import figures, payloads, table
from benches.report import renew

if TYPE_CHECKING:
    from collections.abc import Callable

README = Path(__file__).parent / "README.md"
ROUNDS = 9
SECONDS = 0.05
"""How long one sample takes at least."""


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


READERS: dict[str, Callable[[bytes], Any]] = {
    "turnout": turnout.json.loads,
    "orjson": orjson.loads,
    "msgspec": msgspec.json.Decoder().decode,
    "json": json.loads,
}
WRITERS: dict[str, Callable[[Any], bytes]] = {
    "turnout": turnout.json.dumps,
    "orjson": orjson.dumps,
    "msgspec": msgspec.json.Encoder().encode,
    "json": _compact,
}


def texts() -> dict[str, bytes]:
    """What is read, and written again, by name."""
    tools = [
        {
            "name": f"tool_{number}",
            "description": "Looks things up. " * 30,
            "inputSchema": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": "What to look for."}
                    for name in ("query", "order", "after", "before")
                },
                "required": ["query"],
            },
        }
        for number in range(120)
    ]
    prose = (
        '\u201cGr\u00fc\u00dfe\u201d, \u00e9crit-il \u2014 \u4f60\u597d \U0001f44b\n\t"quoted" C:\\dir ' * 200
    )
    return {
        "a call, 150 B": payloads.request(7),
        "a result, 150 B": payloads.result(150),
        "rows, 20 KB": payloads.result(20_000),
        "an image, 100 KB": payloads.result(100_000),
        "a list of tools, 120 KB": orjson.dumps({"tools": tools}),
        "prose with escapes, 20 KB": orjson.dumps({"text": prose}),
        "numbers, 20 KB": orjson.dumps({"points": [[n, n / 7, -n * 1e-3] for n in range(600)]}),
    }


def sample(work: Callable[[Any], Any], argument: Any) -> float:
    """Microseconds of CPU that one call takes."""
    count, took = 1, 0.0
    while True:
        begun = time.process_time()
        for _ in range(count):
            work(argument)
        took = time.process_time() - begun
        if took >= SECONDS:
            return took / count * 1e6
        count = max(2 * count, int(count * SECONDS / max(took, 1e-9) * 1.1))


def measure(rounds: int = ROUNDS) -> figures.Run:
    """Every text by every contender, read and written."""
    run = figures.begin(rounds, quick=False)
    for title, text in texts().items():
        for verb, works in (("read", READERS), ("write", WRITERS)):
            argument = text if verb == "read" else orjson.loads(text)
            names = list(works)
            for number in range(rounds):
                turn = number % len(names)
                for name in names[turn:] + names[:turn]:
                    value = sample(works[name], argument)
                    run.samples.append(figures.Sample(f"{verb} {title}", name, "", number, value))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benches.codec",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--renew", action="store_true", help="put the table into the README")
    renews = parser.parse_args().renew
    run = measure()
    text = f"{table.codecs(run)}\n\n{table.conditions(run)}"
    print(text)
    if renews and not renew(README, "json", text):
        sys.exit("the README has no markers for the table")


if __name__ == "__main__":
    main()
