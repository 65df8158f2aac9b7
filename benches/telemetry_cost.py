"""What telemetry costs: exchanges a second through a relay with everything on, and with nothing, in turns.

    python -m benches.telemetry_cost [--rounds 12] [--seconds 1] [--sample 0.05]

Clients, the relay and a server are processes of their own; 64 requests are in flight. Each round has both, one after
the other in the same relay, so that whatever else the machine does touches both alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import turnout

IN_FLIGHT = 64


async def serve(path: str) -> None:
    """Be the server: a tool in Python."""
    async with turnout.Router(name="server") as router:
        turnout.serve_handshake(router, name="server", version="1", capabilities={"tools": {}})

        @router.on_request("tools/call")
        async def call(request):
            return {"content": [{"type": "text", "text": request.params["arguments"]["text"]}]}

        await router.serve(turnout.listen_unix(path))
        await asyncio.Event().wait()


async def relay(path: str, upstream: str, sample: float, *, metrics: bool) -> None:
    """Be the relay, whose telemetry the notification `telemetry` switches."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    from turnout import telemetry

    class Nowhere(SpanExporter):
        def export(self, spans):
            return SpanExportResult.SUCCESS

    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(Nowhere()))
    meters = MeterProvider([InMemoryMetricReader()])
    running: list = []
    async with turnout.Router(name="relay") as router:
        made = router.relay(turnout.Upstream(turnout.unix(upstream), name="server"))
        await made.start()

        def accepted(peer: turnout.Peer) -> None:
            made.attach(peer)

        control = turnout.Router(name="control")

        @control.on_request("telemetry")
        async def switch(request):
            while running:
                running.pop().close()
            if request.params["on"]:
                given = {"tracer_provider": tracing, "meter_provider": meters, "sample": sample}
                running.append(telemetry.opentelemetry(router, made, metrics=metrics, **given))
                running.append(telemetry.prometheus(router, made))
            return {"cpu": time.process_time()}

        await router.serve(turnout.listen_unix(path), accepted)
        await control.serve(turnout.listen_unix(path + ".control"))
        await asyncio.Event().wait()


async def measure(client: turnout.Peer, seconds: float) -> float:
    """Exchanges a second."""
    params = {"name": "echo", "arguments": {"text": "hello"}}
    until = time.perf_counter() + seconds
    done = 0

    async def ask() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await client.send("tools/call", params)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began)


async def run(rounds: int, seconds: float, sample: float, *, metrics: bool) -> dict[str, object]:
    """Measure; gives the medians."""
    with tempfile.TemporaryDirectory() as directory:
        server, middle = str(Path(directory, "s")), str(Path(directory, "r"))
        module = [sys.executable, "-m", "benches.telemetry_cost"]
        started = [await asyncio.create_subprocess_exec(*module, "--serve", server)]
        await _wait_for(server)
        given = ["--relay", middle, server, "--sample", str(sample), *(() if metrics else ["--no-metrics"])]
        started.append(await asyncio.create_subprocess_exec(*module, *given))
        await _wait_for(middle + ".control")
        rates: dict[bool, list[float]] = {True: [], False: []}
        cpu: dict[bool, list[float]] = {True: [], False: []}
        try:
            async with turnout.Router() as router:
                client = await router.connect(turnout.unix(middle))
                control = await router.connect(turnout.unix(middle + ".control"), era=None)
                await measure(client, seconds)
                for number in range(rounds):
                    for on in (True, False) if number % 2 else (False, True):
                        before = (await control.send("telemetry", {"on": on}))["cpu"]
                        rate = await measure(client, seconds)
                        after = (await control.send("telemetry", {"on": on}))["cpu"]
                        rates[on].append(rate)
                        cpu[on].append((after - before) / (rate * seconds) * 1e6)
        finally:
            for process in started:
                process.kill()
                await process.wait()
    off, on = statistics.median(rates[False]), statistics.median(rates[True])
    lost = [1 - each / other for each, other in zip(rates[True], rates[False], strict=True)]
    return {
        "in_flight": IN_FLIGHT,
        "sample": sample,
        "metrics": metrics,
        "rounds": rounds,
        "off_per_second": round(off),
        "on_per_second": round(on),
        "lost": round(statistics.median(lost), 3),
        "relay_cpu_us_off": round(statistics.median(cpu[False]), 1),
        "relay_cpu_us_on": round(statistics.median(cpu[True]), 1),
    }


async def _wait_for(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.05)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--sample", type=float, default=0.05)
    parser.add_argument("--no-metrics", action="store_true", help="OpenTelemetry has spans only")
    parser.add_argument("--serve", metavar="PATH")
    parser.add_argument("--relay", nargs=2, metavar="PATH")
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
    elif given.relay:
        asyncio.run(relay(*given.relay, given.sample, metrics=not given.no_metrics))
    else:
        print(
            json.dumps(
                asyncio.run(run(given.rounds, given.seconds, given.sample, metrics=not given.no_metrics)),
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
