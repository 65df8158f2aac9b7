"""Mistakes in a call are told where they are made, before anything is sent or opened."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

import turnout
from loops import both_loops


async def pair(router):
    near, far = turnout.memory()
    return await asyncio.gather(router.connect(near, era=None), router.connect(far, era=None))


@pytest.mark.parametrize("name", ["on_request", "on_notification", "rewrite_incoming", "rewrite_outgoing"])
@both_loops
async def test_use_a_decorator_without_its_parentheses_is_refused(name):
    async with turnout.Router() as router:
        with pytest.raises(TypeError, match=f'@{name}\\("tools/call"\\)'):
            getattr(router, name)(print)


@both_loops
async def test_use_a_policy_of_a_relay_without_its_parentheses_is_refused():
    async with turnout.Router() as router:
        relay = router.relay(turnout.stdio("server", name="a"))
        with pytest.raises(TypeError, match=r"policy\.decide takes the name of a method"):
            relay.policy.decide(print)
        with pytest.raises(ValueError, match="timeout must be at least 0 seconds"):
            relay.policy.decide("tools/call", timeout=-1)
        with pytest.raises(TypeError, match=r'@relay.policy.allow\("tool"\)'):
            relay.policy.allow(print)
        with pytest.raises(ValueError, match="at least 0 seconds"):
            relay.policy.allow("tool", timeout=-1)


@both_loops
async def test_use_what_on_event_registers_is_a_function():
    async with turnout.Router() as router:
        with pytest.raises(TypeError, match="on_event takes the listener itself"):
            router.on_event("late")


@both_loops
async def test_use_an_async_filter_of_frames_is_refused():
    async with turnout.Router() as router:
        with pytest.raises(TypeError, match="what rewrite_incoming registers is a plain function"):

            @router.rewrite_incoming("tools/call")
            async def see(method, params):
                return params


@pytest.mark.parametrize("callback", ["shown", 7])
@both_loops
async def test_use_a_progress_callback_is_a_function(callback):
    async with turnout.Router() as router:
        client, _ = await pair(router)
        with pytest.raises(TypeError, match="a progress callback is a function"):
            client.send("work", on_progress=callback)
        assert client.in_flight == (0, 0)


@both_loops
async def test_use_an_async_progress_callback_is_refused():
    """Nothing would await its coroutines, and each update would leave one behind."""

    async def shown(update):
        raise AssertionError(update)

    async with turnout.Router() as router:
        client, server = await pair(router)

        @server.on_request("work")
        async def work(request):
            return {}

        with pytest.raises(TypeError, match=r"call\.progress\(\)"):
            client.send("work", on_progress=shown)
        call = client.send("work")
        with pytest.raises(TypeError, match=r"call\.progress\(\)"):
            call.on_progress(shown)
        assert await call == {}


@pytest.mark.parametrize("era", ["Legacy", "", "2025-11-25"])
def test_use_an_unknown_era_is_refused(on_loop, era):
    async def main():
        async with turnout.Router() as router:
            near, _ = turnout.memory()
            with pytest.raises(ValueError, match="era is one of 'auto', 'legacy', 'modern'"):
                await router.connect(near, era=era)
            assert router.peers == ()

    on_loop(main())
    with pytest.raises(ValueError, match="era is one of"):
        turnout.Upstream(turnout.stdio("server"), era=era)


@pytest.mark.parametrize("target", ["python server.py", None, ("python", "server.py")])
@both_loops
async def test_use_connect_says_what_a_target_is(target):
    async with turnout.Router() as router:
        with pytest.raises(TypeError, match=r"turnout\.stdio\('python', 'server\.py'\)"):
            await router.connect(target)
        assert router.peers == ()


@pytest.mark.parametrize("timeouts", [{"open_timeout": -1}, {"probe_timeout": float("nan")}])
@both_loops
async def test_use_a_timeout_of_connect_is_no_negative_number(timeouts):
    async with turnout.Router() as router:
        near, _ = turnout.memory()
        with pytest.raises(ValueError, match="must be at least 0 seconds"):
            await router.connect(near, **timeouts)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timeout": -1}, ValueError, "timeout must be more than 0 seconds"),
        ({"timeout": float("nan")}, ValueError, "timeout must be more than 0 seconds"),
        ({"max_timeout": 0}, ValueError, "max_timeout must be more than 0 seconds"),
        ({"close_timeout": -0.1}, ValueError, "close_timeout must be at least 0 seconds"),
        ({"timeout": "30"}, TypeError, "timeout is a number of seconds or None, not '30'"),
        ({"eof_timeout": 10**400}, ValueError, "eof_timeout is too large: None stands for no bound"),
        ({"limits": {"typo": 1}}, TypeError, "no limit named .typo."),
        ({"limits": {"max_depth": 0}}, ValueError, "max_depth must be at least 1"),
    ],
    ids=str,
)
def test_use_a_router_refuses_what_no_connection_would_take(options, error, message):
    with pytest.raises(error, match=message):
        turnout.Router(**options)


@both_loops
async def test_use_an_integer_that_no_float_holds_is_infinite():
    async with turnout.Router() as router:
        near, far = await pair(router)
        reported = []

        @far.on_request("work")
        async def work(request):
            reported.extend(
                request.progress(*numbers) for numbers in [(10**400,), (1, 10**400), (-(10**400),)]
            )
            return {"sent": request.progress(1)}

        assert await near.send("work", on_progress=print) == {"sent": "sent"}
        assert reported == ["not_increasing"] * 3
        with pytest.raises(ValueError, match="a timeout is too large: None stands for no bound"):
            near.send("work", timeout=10**400)
        assert turnout.Progress(10**400, total=-(10**400)) == turnout.Progress(math.inf, total=-math.inf)


@pytest.mark.parametrize(
    "options",
    [
        {"sharing": "private"},
        {"pool": 0},
        {"timeout": -1},
        {"max_timeout": 0},
        {"open_timeout": -1},
        {"connect_wait": -1},
        {"list_timeout": -1},
        {"input_timeout": float("nan")},
    ],
    ids=str,
)
def test_use_an_upstream_refuses_what_it_cannot_keep(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        turnout.Upstream(turnout.stdio("server"), **options)


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_use_a_port_that_does_not_exist_is_refused(port):
    with pytest.raises(ValueError, match=f"to 65535, not {port}"):
        turnout.tcp("127.0.0.1", port)
    with pytest.raises(ValueError, match=f"a port is 0 to 65535, not {port}"):
        turnout.listen_tcp("127.0.0.1", port)


def test_use_a_port_is_a_number():
    with pytest.raises(TypeError, match="a port is an integer, not '80'"):
        turnout.tcp("127.0.0.1", "80")
    with pytest.raises(ValueError, match="a port is 1 to 65535, not 0"):
        turnout.tcp("127.0.0.1", 0)


@pytest.mark.parametrize("container", [list, tuple, set, frozenset, iter])
def test_use_observe_takes_any_iterable_of_methods(container):
    connection = turnout.Connection()
    connection.observe(container(["notifications/message"]))
    frames = b'{"jsonrpc":"2.0","method":"notifications/%s"}\n'
    (seen,) = connection.receive_data(frames % b"message" + frames % b"other")
    assert seen.method == "notifications/message"


def test_use_observe_refuses_one_string_for_its_letters():
    with pytest.raises(TypeError, match="observe takes several methods"):
        turnout.Connection().observe("notifications/message")


@both_loops
async def test_use_a_manual_clock_fires_the_deadlines_it_passes():
    clock = turnout.Clock(manual=True)
    async with turnout.Router(clock=clock) as router:
        client, server = await pair(router)

        @server.on_request("wait")
        async def wait(request):
            await asyncio.Event().wait()

        call = client.send("wait", timeout=30)
        clock.advance(29)
        await asyncio.sleep(0)
        assert not call.done()
        clock.advance(2)
        with pytest.raises(turnout.CallTimedOut):
            await asyncio.wait_for(call, 10)


def test_use_a_manual_clock_outlives_the_loops_of_its_connections(on_loop):
    clock = turnout.Clock(manual=True)

    async def main():
        async with turnout.Router(clock=clock) as router:
            await pair(router)

    on_loop(main())
    clock.advance(1)
    assert clock.time() > 0


@both_loops
async def test_use_a_call_that_joins_a_cancelled_scope_ends_with_its_reason():
    async with turnout.Router() as router:
        client, _ = await pair(router)
        scope = turnout.Scope()
        assert scope.cancel("too late") == 0
        call = client.send("work", scope=scope)
        assert call.cancelled()
        assert call.record.cancel_reason == "too late"
        assert scope.calls == ()


@both_loops
async def test_use_a_scope_cancelled_from_another_thread_leaves_no_call_in_flight():
    """Each call joins before the cancel or after it; there is nothing between."""
    async with turnout.Router() as router:
        client, server = await pair(router)

        @server.on_request("work")
        async def work(request):
            await asyncio.Event().wait()

        for _ in range(50):
            scope = turnout.Scope()
            begun = threading.Event()

            def cancel(scope=scope, begun=begun):
                begun.wait(10)
                scope.cancel("from a thread")

            thread = threading.Thread(target=cancel)
            thread.start()
            calls = []
            for number in range(40):
                if number == 5:
                    begun.set()
                calls.append(client.send("work", scope=scope))
            thread.join()
            ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
            assert all(isinstance(end, turnout.CallCancelled) for end in ends)
