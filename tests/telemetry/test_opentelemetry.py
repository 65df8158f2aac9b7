"""Spans and metrics of OpenTelemetry's, by its SDK in memory; trace context crosses a relay."""

from __future__ import annotations

import pytest

import turnout
from loops import both_loops
from relay_world import World, call

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from turnout import telemetry

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"


class Traced(World):
    """A world whose gateway is traced; `seen` has the params that came to its servers."""

    def __init__(self, **options):
        super().__init__()
        self.options = options
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracing = TracerProvider()
        self.tracing.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.metrics = MeterProvider([self.reader])
        self.seen = []

        @self.servers.rewrite_incoming("tools/call")
        def see(_, params):
            self.seen.append(params)

    def trace(self):
        self.telemetry = telemetry.opentelemetry(
            self.gateway,
            self.relay,
            tracer_provider=self.tracing,
            meter_provider=self.metrics,
            **self.options,
        )

    async def spans(self, count):
        await self.until(lambda: len(self.exporter.get_finished_spans()) >= count)
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.kind.name)

    def points(self, name):
        """The data points of a metric, with their attributes."""
        data = self.reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    async def __aexit__(self, *_):
        await super().__aexit__()
        self.telemetry.close()
        self.tracing.shutdown()
        self.metrics.shutdown()


def ids(span):
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def context_of(params):
    return params["_meta"]["traceparent"].split("-")


def with_meta(**meta):
    return {**call(who="x"), "_meta": meta}


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_trace_goes_from_its_caller_through_both_spans_to_the_server(era):
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client(era)
        world.exporter.clear()
        meta = {"traceparent": SAMPLED, "tracestate": "vendor=1", "baggage": "user=ada"}
        await client.send("tools/call", with_meta(**meta))
        below, above = [span for span in await world.spans(2) if span.name == "tools/call echo"]
        assert (below.kind, above.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
        assert ids(above)[0] == ids(below)[0] == TRACE
        assert f"{above.parent.span_id:016x}" == CALLER
        assert below.parent.span_id == above.context.span_id
        [seen] = world.seen
        assert context_of(seen) == ["00", *ids(below), "01"]
        assert (seen["_meta"]["tracestate"], seen["_meta"]["baggage"]) == ("vendor=1", "user=ada")
        assert seen["arguments"] == {"who": "x"}


@pytest.mark.parametrize(
    "params",
    [
        call(who="x"),
        {**call(who="x"), "_meta": {}},
        {**call(who="x"), "_meta": {"other": [1, {"traceparent": "no"}]}},
        {**call(who="x"), "_meta": {"traceparent": "nonsense"}},
        {**call(who="x"), "_meta": {"traceparent": 7}},
        {**call(who="x"), "_meta": {"traceparent": f"00-{'0' * 32}-{CALLER}-01"}},
    ],
)
@both_loops
async def test_a_trace_begins_here_where_nobody_began_one(params):
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        world.exporter.clear()
        await client.send("tools/call", params)
        below, above = await world.spans(2)
        assert above.parent is None
        assert below.parent.span_id == above.context.span_id
        [seen] = world.seen
        assert context_of(seen) == ["00", *ids(below), "01"]
        rest = {**params.get("_meta", {})}
        rest.pop("traceparent", None)
        assert {name: seen["_meta"][name] for name in rest} == rest


@both_loops
async def test_a_request_without_params_gets_a_context_and_keeps_its_id():
    async with Traced() as world:
        world.build()
        world.trace()
        seen = []

        @world.servers.on_request("prompts/list")
        async def listed(request):
            seen.append(request.params)
            return {"prompts": []}

        client = await world.client()
        assert (await client.send("prompts/list", progress=False))["prompts"] == []
        assert seen[0]["_meta"]["traceparent"].startswith("00-")


@both_loops
async def test_what_its_caller_does_not_sample_has_no_span_and_goes_on_as_it_came():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        await client.send("tools/call", with_meta(traceparent=UNSAMPLED))
        await client.send("tools/call", with_meta(traceparent=SAMPLED))
        names = [span.name for span in await world.spans(2)]
        assert names.count("tools/call echo") == 2
        assert [params["_meta"]["traceparent"] == UNSAMPLED for params in world.seen] == [True, False]


@both_loops
async def test_s9_what_a_span_says_can_be_exported_whatever_a_client_writes():
    async with Traced(sample=1.0) as world:
        world.build()
        world.trace()
        client = await world.client()
        world.exporter.clear()
        await client.send("tools/call", {**call(who="x"), "name": "zz\ud800"})
        for span in await world.spans(2):
            assert span.name == "tools/call zz?"
            assert span.attributes["gen_ai.tool.name"] == "zz?"
            assert all(value.encode() for value in span.attributes.values() if isinstance(value, str))


@both_loops
async def test_with_a_sample_of_none_only_callers_begin_traces():
    async with Traced(sample=0.0) as world:
        world.build()
        world.trace()
        client = await world.client()
        await client.send("tools/call", call(who="x"))
        await client.send("tools/call", with_meta(traceparent=SAMPLED))
        spans = await world.spans(2)
        assert {ids(span)[0] for span in spans} == {TRACE}
        assert "traceparent" not in world.seen[0]["_meta"]
        # Metrics are of all of them.
        [point] = [
            point
            for point in world.points("mcp.server.operation.duration")
            if point.attributes["mcp.method.name"] == "tools/call"
        ]
        assert point.count == 2


@both_loops
async def test_a_span_says_what_the_conventions_ask_for():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client(principal="ada")
        world.exporter.clear()
        sent = client.send("tools/call", call(who="x"), request_id="seven")
        await sent
        below, above = await world.spans(2)
        assert above.attributes == {
            "mcp.method.name": "tools/call",
            "gen_ai.tool.name": "echo",
            "gen_ai.operation.name": "execute_tool",
            "jsonrpc.request.id": "seven",
            "network.transport": "inproc",
            "turnout.peer": "client",
            "turnout.principal": "ada",
            "turnout.outcome": "result",
        }
        assert below.attributes["turnout.peer"] == "echo"
        assert above.status.status_code is StatusCode.UNSET
        assert above.start_time <= below.start_time <= below.end_time <= above.end_time


@both_loops
async def test_a_cancel_is_an_event_of_a_span_and_no_error():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        world.exporter.clear()
        sent = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 1)
        sent.cancel("enough")
        await world.until(lambda: world.telemetry._spans._held)
        world.telemetry.close()
        below, above = await world.spans(2)
        assert [event.name for event in below.events] == ["cancel.requested", "cancel.written"]
        assert [event.name for event in above.events] == ["cancel.requested"]
        assert above.events[0].attributes == {"turnout.cancelled_by": "peer", "reason": "enough"}
        for span in (below, above):
            assert span.status.status_code is StatusCode.UNSET
            assert "error.type" not in span.attributes
        await world.quiet()


@both_loops
async def test_an_answer_that_comes_late_is_an_event_of_the_leg():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        world.exporter.clear()
        sent = client.send("tools/call", call(wait=True))
        await world.until(lambda: world.handled == 1)
        [server] = world.servers.peers
        # A server that does not hear of the cancel, and answers when its handler is stopped.
        server.rewrite_incoming("notifications/cancelled")(lambda *_: turnout.DROP)
        sent.cancel()
        await world.until(lambda: world.relay.in_flight == 0)
        [handler] = server.connection.handler_tasks()
        handler.cancel()
        below, _ = await world.spans(2)
        names = ["cancel.requested", "cancel.written", "late.response"]
        assert [event.name for event in below.events] == names
        assert below.events[2].attributes == {"turnout.late": "error"}
        assert below.events[2].timestamp >= below.end_time


@both_loops
async def test_a_deadline_is_an_error_of_its_own_name():
    async with Traced() as world:
        world.build(world.upstream(timeout=0.05))
        world.trace()
        client = await world.client()
        world.exporter.clear()
        with pytest.raises(turnout.RemoteError, match="in time"):
            await client.send("tools/call", call(wait=True))
        world.telemetry.close()
        below, above = await world.spans(2)
        assert below.attributes["error.type"] == "idle_timeout"
        assert below.status.status_code is StatusCode.ERROR
        assert above.attributes["error.type"] == "error"


@both_loops
async def test_metrics_have_the_names_of_the_conventions():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        await client.send("tools/call", call(who="x", steps=3), on_progress=lambda _: None)
        await client.close()
        await world.until(lambda: world.points("mcp.server.session.duration"))
        [point] = [
            point
            for point in world.points("mcp.client.operation.duration")
            if point.attributes["mcp.method.name"] == "tools/call"
        ]
        assert point.attributes["gen_ai.tool.name"] == "echo"
        assert point.explicit_bounds[0] == 0.001
        assert {point.attributes["direction"] for point in world.points("turnout.in_flight")} == {
            "inbound",
            "outbound",
        }
        assert world.points("turnout.outcomes")[0].attributes == {"outcome": "result"}
        assert world.points("turnout.progress.gap")


@both_loops
async def test_spans_are_had_without_metrics():
    async with Traced(metrics=False) as world:
        world.build()
        world.trace()
        client = await world.client()
        await client.send("tools/call", call(who="x"))
        assert await world.spans(2)
        assert world.points("turnout.outcomes") == []


@both_loops
async def test_one_that_is_closed_traces_no_more():
    async with Traced() as world:
        world.build()
        world.trace()
        client = await world.client()
        world.telemetry.close()
        world.exporter.clear()
        await client.send("tools/call", with_meta(traceparent=SAMPLED))
        assert world.seen[0]["_meta"]["traceparent"] == SAMPLED
        await world.quiet()
        assert world.exporter.get_finished_spans() == ()


def test_a_sample_is_a_share():
    router = turnout.Router()
    for sample in (-0.1, 1.1):
        with pytest.raises(ValueError, match="sample is a share"):
            telemetry.opentelemetry(router, sample=sample)
