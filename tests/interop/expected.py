"""The differences between direct and through the relay that are expected, each with its reason.

`make test-interop` fails for a difference that no entry covers, and for an entry that a place it names does not
show. The first entry that covers a difference counts.
"""

from compare import Expected

EXPECTED: tuple[Expected, ...] = ()
