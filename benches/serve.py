"""The answering process of the stdio scenarios: `python -m benches.serve CONTENDER LOOP`."""

from __future__ import annotations

import sys

from benches import loops
from benches.contender import load

if __name__ == "__main__":
    loops.run(load(sys.argv[1]).serve(), sys.argv[2])
