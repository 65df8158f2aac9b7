"""Measure everything and renew the tables in both READMEs: `python -m benches.report`.

Takes the options of `benches.run`; `--from FILE` renews them from a run that was stored by `--json`. A file
is changed between its markers `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, and only there.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benches import figures, run, table

HERE = Path(__file__).parent


def renew(path: Path, name: str, text: str) -> bool:
    """Put `text` between the markers of that name; False where the file has none."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    marked = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
    new, found = marked.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", old)
    if found:
        path.write_text(new, encoding="utf-8")
    return bool(found)


def main() -> None:
    parser = run.parser()
    parser.prog, parser.description = "python -m benches.report", __doc__
    parser.add_argument(
        "--from", type=Path, dest="stored", metavar="FILE", help="a stored run; measure nothing"
    )
    arguments = parser.parse_args()
    measured = figures.read(arguments.stored) if arguments.stored else run.measure(arguments)
    conditions = table.conditions(measured)
    parts = {
        "conditions": conditions,
        "routers": table.routers(measured),
        "sdk": table.sdk(measured),
        "dropin": table.dropin(measured),
        "relays": table.relays(measured),
        "flat": table.flat(measured),
        "fleets": table.fleets(measured),
    }
    for name, text in parts.items():
        renew(HERE / "README.md", name, text)
    head = table.routers(measured, names=table.HEAD, loops=["uvloop"])
    if not renew(HERE.parent / "README.md", "head", f"{head}\n\n{conditions}"):
        print("the README at the top has no markers for its table", file=sys.stderr)


if __name__ == "__main__":
    main()
