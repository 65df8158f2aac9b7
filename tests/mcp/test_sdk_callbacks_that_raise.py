"""What callbacks of the SDK's sessions may raise: everything else that came with it is taken (S4)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import wire
from raising import EXCEPTIONS, EXITS, Bang, run
from sdk_native import played as native
from sdk_streams import emptied
from sdk_streams import played as streams
from turnout import mcp

pytestmark = [
    pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda kind: kind.__name__),
]


def callbacks(kind, bang):
    """Callbacks of a session, of which one raises; `on_progress` beside them."""

    async def on_request(ctx, method, params):
        if kind == "request" and method == "bad":
            bang()
        return {"method": method}

    async def on_notify(ctx, method, params):
        if kind == "notification" and method == "bad":
            bang()

    def intercept(method, params):
        if kind == "intercept" and method == "bad":
            bang()
        return False

    async def on_progress(*_):
        if kind == "progress":
            bang()

    return on_request, on_notify, intercept, on_progress


@pytest.mark.parametrize("kind", ["request", "notification", "intercept", "progress"])
def test_s4_what_shares_a_read_with_a_callback_of_a_session_on_our_transports(loop_kind, raised, kind):
    bang = Bang(raised)
    on_request, on_notify, intercept, on_progress = callbacks(kind, bang)

    async def main():
        async with native(on_request, on_notify, intercept) as (dispatcher, other):
            calls = [
                asyncio.ensure_future(
                    dispatcher.send_raw_request("ask", {}, {"on_progress": on_progress} if n == 1 else {})
                )
                for n in range(3)
            ]
            ids = [(await other.read())["id"] for _ in calls]
            other.send(
                wire.result(ids[0], {"n": 0}),
                wire.request("bad", "bad"),
                wire.notification("bad"),
                wire.progress(ids[1], 1),
                wire.result(ids[1], {"n": 1}),
                wire.request("good", "good"),
                wire.result(ids[2], {"n": 2}),
            )
            assert [await call for call in calls] == [{"n": n} for n in range(3)]
            answers = {}
            while len(answers) < 2:
                answer = await other.read()
                answers[answer["id"]] = answer
            assert answers["good"]["result"] == {"method": "good"}
            assert ("error" in answers["bad"]) is (kind == "request")
            assert dispatcher.peer.is_open
            while dispatcher.peer.in_flight != (0, 0):
                await asyncio.sleep(0)

    _, _, exits = run(loop_kind, main())
    assert bang.calls == 1
    assert exits == ([bang.error] if issubclass(raised, EXITS) else [])


def test_s4_what_waits_behind_an_inline_request_is_handed_over_whatever_a_callback_raises(loop_kind, raised):
    bang = Bang(raised)
    seen = []

    async def on_request(ctx, method, params):
        return {}

    async def on_notify(ctx, method, params):
        seen.append(method)

    def intercept(method, params):
        if method == "bad":
            bang()
        return False

    async def main():
        inline = {"inline_methods": frozenset({"inline"})}
        async with native(on_request, on_notify, intercept, **inline) as (_, other):
            other.send(wire.request(1, "inline"), wire.notification("bad"), wire.request(2, "last"))
            assert [(await other.read())["id"] for _ in range(2)] == [1, 2]

    _, _, exits = run(loop_kind, main())
    assert bang.calls == 1
    assert exits == ([bang.error] if issubclass(raised, EXITS) else [])


@contextlib.contextmanager
def ended_by(error):
    """Take an exception that came out of task groups; None for none."""
    try:
        yield
    except BaseException as raised:
        leaves = [raised]
        while isinstance(leaves[0], BaseException) and hasattr(leaves[0], "exceptions"):
            leaves = [*leaves[1:], *leaves[0].exceptions]
        if error is None or leaves != [error]:
            raise


@pytest.mark.parametrize(
    "kind", ["request", "notification", "intercept", "progress", "transport", "transport of a request"]
)
def test_s4_what_shares_a_read_with_a_callback_of_a_session_on_the_sdks_streams(loop_kind, raised, kind):
    """A handler that raises what is no `Exception` ends `run()`, as the SDK has it: nobody waits for ever then."""
    bang = Bang(raised)
    on_request, on_notify, intercept, on_progress = callbacks(kind, bang)
    ends_run = kind in ("request", "notification", "progress") and not issubclass(
        raised, (Exception, asyncio.CancelledError)
    )

    def build(_):
        if next(built, None) == kind:
            bang()

    built = iter(["transport", "transport of a request"])

    async def main():
        with ended_by(bang.error if ends_run else None):
            async with streams(
                on_request, on_notify=on_notify, intercept=intercept, transport_builder=build
            ) as (dispatcher, peer):
                calls = [
                    asyncio.ensure_future(
                        dispatcher.send_raw_request("ask", {}, {"on_progress": on_progress} if n == 1 else {})
                    )
                    for n in range(3)
                ]
                ids = [(await peer.hears()).id for _ in calls]
                await peer.answers(ids[0], {"n": 0})
                await peer.tells("bad")
                await peer.asks("bad", "bad")
                await peer.reports(ids[1], 1)
                await peer.answers(ids[1], {"n": 1})
                await peer.asks("good", "good")
                await peer.answers(ids[2], {"n": 2})
                ends = await asyncio.gather(*calls, return_exceptions=True)
                assert all(
                    end == {"n": n} or (ends_run and isinstance(end, mcp.Lost)) for n, end in enumerate(ends)
                )
                if not ends_run:
                    answers = {}
                    while len(answers) < 2:
                        answer = await peer.hears()
                        answers[answer.id] = answer
                    assert answers["good"].result == {"method": "good"}
                    fails = kind in ("request", "transport of a request")
                    assert hasattr(answers["bad"], "error") is fails
                await emptied(dispatcher)

    _, _, exits = run(loop_kind, main())
    assert bang.calls == 1
    assert exits[:1] == ([bang.error] if issubclass(raised, EXITS) else [])
