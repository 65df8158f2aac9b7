"""What a run came to: the clients' account joined with the server's notes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.fleet.plan import SLOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benches.fleet.clients import Account, Seen

MEASURES = {
    "cancel-p50": "cancel, us to the server, p50",
    "cancel-p99": "cancel, us to the server, p99",
    "leave-p50": "disconnect, us to the server, p50",
    "leave-p99": "disconnect, us to the server, p99",
    "unheard": "cancels that were too late or never came, %",
    "wasted": "ms a tool works on after its cancel, mean",
    "after-cancel": "answers given after a cancel",
    "progress-p50": "progress, us to the client, p50",
    "progress-p99": "progress, us to the client, p99",
    "lost": "updates that a client who reads did not see, %",
    "coalesced": "updates that a slow client did not see, %",
    "late": "updates after the answer",
    "crossed": "payloads at the wrong client",
    "unanswered": "calls without an answer",
    "call-p50": "us that a call takes beyond its tool, p50",
    "call-p99": "us that a call takes beyond its tool, p99",
    "cpu": "CPU us of the relay for each message",
    "died": "all clients vanish: ms until the server heard of the last call",
    "orphans": "of 10,000 calls, those it never heard of",
    "held": "bytes for each of 10,000 in flight",
    "left": "bytes left for each, when all are over",
}
"""What is measured, as the table says it."""


def judge(account: Account, notes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The measures of one run that a plan gives."""
    joined = [(seen, notes.get(str(owner), {})) for owner, seen in account.seen.items()]
    quick = [(seen, note) for seen, note in joined if seen.call.client >= SLOW]
    slow = [(seen, note) for seen, note in joined if seen.call.client < SLOW]
    values: dict[str, float] = {}
    for name, how in (("cancel", "notification"), ("leave", "disconnect")):
        delays = [
            note["cancelled"] - seen.cancelled
            for seen, note in quick
            if seen.how == how and seen.cancelled is not None and "cancelled" in note
        ]
        values |= _percentiles(name, delays)
    # What had ended when the client cancelled it needs no cancel.
    owed = [
        (seen.cancelled, note)
        for seen, note in quick
        if seen.cancelled is not None
        and "began" in note
        and note.get("ended", seen.cancelled) >= seen.cancelled
    ]
    unheard = [note for _, note in owed if "cancelled" not in note]
    values["unheard"] = _share(len(unheard), len(owed))
    obeyed = [(at, note) for at, note in owed if "ended" in note or "cancelled" in note]
    wasted = [max(0.0, note.get("cancelled", note.get("ended")) - at) for at, note in obeyed]
    values["wasted"] = sum(wasted) / len(wasted) * 1e3 if wasted else 0.0
    values["after-cancel"] = sum(
        seen.answered is not None and "cancelled" in note and note.get("ended", 0.0) > note["cancelled"]
        for seen, note in joined
    )
    values |= _percentiles("progress", [delay for seen, _ in quick for delay in seen.delays])
    values["lost"] = _unseen(quick)
    values["coalesced"] = _unseen(slow)
    values["late"] = sum(seen.after_end for seen, _ in joined)
    values["crossed"] = account.crossed
    values["unanswered"] = sum(seen.answered is None and seen.cancelled is None for seen, _ in quick)
    values |= _percentiles(
        "call", [seen.answered - seen.asked - seen.call.tool / 1e3 for seen, _ in quick if seen.answered]
    )
    return values


def messages(account: Account, notes: dict[str, dict[str, Any]]) -> int:
    """How many messages the relay had to carry, about: calls, answers, progress and cancels."""
    progress = sum(note["progress"] for note in notes.values())
    ends = sum("ended" in note or "cancelled" in note for note in notes.values())
    return len(account.seen) + progress + ends


def _unseen(joined: Iterable[tuple[Seen, dict[str, Any]]]) -> float:
    """Of calls that ended well: updates that were sent and did not reach the client."""
    ended = [(seen, note) for seen, note in joined if seen.answered is not None]
    sent = sum(note["progress"] for _, note in ended)
    return _share(sent - sum(seen.progress for seen, _ in ended), sent)


def _share(part: int, whole: int) -> float:
    return part / whole * 100 if whole else 0.0


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ranked = sorted(seconds)
    return {
        f"{name}-p50": ranked[len(ranked) // 2] * 1e6,
        f"{name}-p99": ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)] * 1e6,
    }
