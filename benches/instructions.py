"""Instructions per operation of the core, by callgrind: the same on a busy machine as on an idle one.

    python -m benches.instructions           print them beside the committed baseline
    python -m benches.instructions --accept  make them the baseline

Each operation runs at two counts; the difference leaves what one operation costs, without start and end.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from benches import table

HERE = Path(__file__).parent
BASELINE = HERE / "instructions.json"
FEW, MANY = 1_920, 5_760
SECONDS = 120
"""No run takes longer, whatever happens."""


def build() -> Path:
    """Build the example that holds the operations; gives its binary."""
    command = ["cargo", "build", "--release", "--package", "turnout-core", "--example", "ops"]
    done = subprocess.run(
        [*command, "--message-format", "json"], cwd=HERE.parent, stdout=subprocess.PIPE, check=True
    )
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    return Path(next(message["executable"] for message in reversed(messages) if message.get("executable")))


def collected(binary: Path, name: str, count: int) -> int:
    """Instructions of one run."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        str(binary),
        name,
        str(count),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise ValueError(f"callgrind said nothing of {name}")
    return int(found[1])


def measure(binary: Path) -> dict[str, float]:
    """Instructions of one operation, by name."""
    names = subprocess.run([binary], capture_output=True, text=True, check=True).stdout.split()
    return {
        name: round((collected(binary, name, MANY) - collected(binary, name, FEW)) / (MANY - FEW), 1)
        for name in names
    }


def difference(now: float, before: float | None) -> str:
    """How far a figure moved, for people."""
    return "new" if before is None else f"{now / before - 1:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accept", action="store_true", help="make the figures the baseline")
    asked = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: install it to count instructions")
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    counts = measure(build())
    lines = [
        [
            name,
            f"{count:,.0f}",
            f"{baseline[name]:,.0f}" if name in baseline else "-",
            difference(count, baseline.get(name)),
        ]
        for name, count in counts.items()
    ]
    print(table.markdown(("operation", "instructions", "baseline", "difference"), lines))
    if asked.accept:
        BASELINE.write_text(json.dumps(counts, indent=2) + "\n")


if __name__ == "__main__":
    main()
