"""What a router tells Prometheus, read by a real parser of the text format."""

from __future__ import annotations

import pytest

import turnout
import wire
from loops import both_loops
from relay_world import World, call
from transport_link import FakeLink
from turnout.telemetry.labels import METHODS, OTHER, Bounded

prometheus_client = pytest.importorskip("prometheus_client")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from turnout import telemetry  # noqa: E402


def samples(page):
    """What stands in a page: the value of each sample by its name and its labels."""
    media_type, body = page.text()
    assert media_type.startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def value(page, name, **labels):
    return samples(page).get((name, tuple(sorted(labels.items()))), 0)


@both_loops
async def test_every_request_and_its_leg_is_measured_once():
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client(principal="ada")
            for _ in range(3):
                await client.send("tools/call", call(who="x"))
            common = {
                "mcp_method_name": "tools/call",
                "network_transport": "inproc",
                "gen_ai_tool_name": "echo",
            }
            await world.until(
                lambda: value(page, "mcp_server_operation_duration_seconds_count", **common) == 3
            )
            assert value(page, "mcp_client_operation_duration_seconds_count", **common) == 3
            assert value(page, "mcp_server_operation_duration_seconds_bucket", **common, le="300.0") == 3
            assert value(page, "turnout_outcomes_total", outcome="result", principal="ada") == 4


@both_loops
async def test_gauges_say_what_is_in_flight_and_what_waits():
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client()
            calls = [client.send("tools/call", call(wait=True)) for _ in range(5)]
            await world.until(lambda: world.handled == 5)
            assert value(page, "turnout_in_flight", direction="inbound") == 5
            assert value(page, "turnout_in_flight", direction="outbound") == 5
            assert value(page, "turnout_queue") == 0
            for each in calls:
                each.cancel()
            await world.quiet()
            assert value(page, "turnout_in_flight", direction="inbound") == 0


@both_loops
async def test_what_waits_for_an_upstream_that_is_not_there_is_queued():
    async with World() as world:

        def missing():
            raise FileNotFoundError("not yet")

        routes = [turnout.Route("echo", "prompts/get"), turnout.Route("gone", "tools/call")]
        relay = world.build(world.upstream(), turnout.Upstream(missing, name="gone"), routes=routes)
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client()
            sent = client.send("tools/call", call(who="x"))
            await world.until(lambda: relay.queued == 1)
            assert value(page, "turnout_queue") == 1
            sent.cancel()
            await world.until(lambda: relay.queued == 0)
            assert value(page, "turnout_queue") == 0


@both_loops
async def test_a_cancel_is_no_error_and_says_how_long_it_took():
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client()
            sent = client.send("tools/call", call(wait=True))
            await world.until(lambda: world.handled == 1)
            sent.cancel()
            ended = {"outcome": "cancelled", "cancelled_by": "peer"}
            await world.until(lambda: value(page, "turnout_outcomes_total", **ended))
            assert value(page, "turnout_cancel_latency_seconds_count", cancelled_by="caller") == 1
            labels = {
                "mcp_method_name": "tools/call",
                "network_transport": "inproc",
                "gen_ai_tool_name": "echo",
            }
            assert value(page, "mcp_client_operation_duration_seconds_count", **labels) == 1
            await world.quiet()


@both_loops
async def test_what_comes_late_is_counted_by_its_kind():
    async with World() as world:
        near, far = turnout.memory()
        peer = await world.gateway.connect(near, era=None)
        link = FakeLink()
        link.transport = await far.open(link)
        with telemetry.prometheus(world.gateway) as page:
            sent = peer.send("slow")
            await link.until(lambda: link.lines)
            sent.cancel()
            await link.until(lambda: len(link.lines) == 2)
            link.transport.write(wire.progress(sent.record.id, 1) + wire.result(sent.record.id))
            link.transport.write(b"no message\n" + wire.result(77))
            for kind in ("progress", "response", "unmatched", "refused"):
                await world.until(lambda kind=kind: value(page, "turnout_late_total", kind=kind))
                assert value(page, "turnout_late_total", kind=kind) == 1
            assert value(page, "turnout_cancel_settle_seconds_count") == 1


@both_loops
async def test_a_session_is_measured_when_it_ends():
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client()
            await client.send("tools/call", call(who="x"))
            await client.close()
            name = "mcp_server_session_duration_seconds_count"
            await world.until(lambda: value(page, name, network_transport="inproc"))
            await relay.close()
            name = "mcp_client_session_duration_seconds_count"
            await world.until(lambda: value(page, name, network_transport="inproc"))
            assert value(page, name, network_transport="inproc") == 1


@both_loops
async def test_labels_are_bounded_whatever_peers_call_their_tools():
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay, max_labels=2) as page:
            client = await world.client()
            for number in range(20):
                await client.send("tools/call", {"name": f'tool\n"{number}', "arguments": {"who": "x"}})
            with pytest.raises(turnout.RemoteError):
                await client.send(f"made/up{number}")
            await world.until(lambda: value(page, "turnout_outcomes_total", outcome="result") >= 20)
            await world.until(lambda: value(page, "turnout_outcomes_total", outcome="error"))
            tools = {dict(labels).get("gen_ai_tool_name") for _, labels in samples(page)} - {None}
            assert tools == {'tool\n"0', 'tool\n"1', OTHER}
            methods = {dict(labels).get("mcp_method_name") for _, labels in samples(page)} - {None}
            assert methods <= METHODS | {OTHER}
            assert OTHER in methods


@both_loops
async def test_s9_no_name_of_a_client_takes_the_page_away():
    """Half of a surrogate pair cannot be written by any exporter."""
    async with World() as world:
        relay = world.build()
        with telemetry.prometheus(world.gateway, relay) as page:
            client = await world.client()
            await client.send("tools/call", {**call(who="x"), "name": "zz\ud800"})
            await world.until(lambda: b'gen_ai_tool_name="zz?"' in page.text()[1])


def test_what_is_beyond_the_bound_is_other_and_what_is_long_is_cut():
    bounded = Bounded(1)
    assert (bounded("x" * 1000), bounded("b"), bounded("x" * 1000)) == ("x" * 200, OTHER, "x" * 200)
    with pytest.raises(ValueError, match="max_labels"):
        telemetry.prometheus(turnout.Router(), max_labels=-1)


@both_loops
async def test_the_page_is_an_asgi_application_too():
    async with World() as world:
        with telemetry.prometheus(world.gateway) as page:
            sent = []

            async def send(message):
                sent.append(message)

            async def receive():
                return {"type": "lifespan.startup"}

            openmetrics = [(b"accept", b"application/openmetrics-text")]
            await page({"type": "http", "headers": openmetrics}, receive, send)
            head, body = sent
            assert head["status"] == 200
            assert dict(head["headers"])[b"content-type"].startswith(b"application/openmetrics-text")
            assert body["body"].endswith(b"# EOF\n")


@both_loops
async def test_one_that_is_closed_counts_no_more_and_leaves_its_registry():
    async with World() as world:
        relay = world.build()
        registry = prometheus_client.CollectorRegistry()
        page = telemetry.prometheus(world.gateway, relay, registry=registry)
        assert list(registry.collect())
        page.close()
        assert list(registry.collect()) == []
        client = await world.client()
        assert (await client.send("tools/call", call(who="x")))["who"] == "x"
        telemetry.prometheus(world.gateway, relay, registry=registry).close()
