"""`Dispatcher`: the dispatcher on the SDK's own streams."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, cast

from mcp.shared.jsonrpc_dispatcher import TransportT
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext

import turnout.mcp
from turnout._native import Flights
from turnout.mcp.dispatch.dispatcher import SessionDispatcher
from turnout.mcp.dispatch.streams import StreamsBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.jsonrpc_dispatcher import PeerCancelMode
    from mcp.shared.message import MessageMetadata, SessionMessage
    from mcp_types import RequestId

    from turnout._native import Ledger
    from turnout.mcp.dispatch.backend import InboundRequest
    from turnout.mcp.pending import PendingCall
    from turnout.records import Records

_numbers = itertools.count(1)

DUPLEX = TransportContext(kind="jsonrpc", can_send_request=True)
ONE_WAY = TransportContext(kind="jsonrpc", can_send_request=False)


class Dispatcher(SessionDispatcher[TransportT], Generic[TransportT]):
    """A `JSONRPCDispatcher` that keeps what is in flight in turnout's tables. It runs on asyncio.

    Args:
        read_stream: messages of the peer, and the transport's exceptions.
        write_stream: messages for the peer.
        transport_builder: makes each message's `TransportContext` of its metadata; None for one that takes the
            transport's word on whether requests can be sent back.
        peer_cancel_mode: `"interrupt"` stops the handler of a request that the peer cancels, `"signal"` only
            sets `ctx.cancel_requested`; either way the request is not answered (CAN-13).
        raise_handler_exceptions: raise what a handler raised out of `run()`, once it was answered.
        inline_methods: requests that are handled before the next message is read.
        on_stream_exception: awaited with each exception of the transport; None drops them.
        strict: None keeps to the specification wherever the SDK's own tests do not pin the contrary: progress
            that is no finite number is dropped, callbacks are called in order and, unless they take longer
            than a second, before the result. True keeps to it everywhere: progress grows and ends with the
            result, ids are compared by type and value, and a request whose id is in flight is refused. False
            does as the SDK.
        name: what records call the other end; None for `streams-1`, `streams-2` and so on.
        limits: `max_outbound`, `max_inbound`, `max_id_bytes`, `max_text_bytes`, `max_pending_progress` and
            `max_remembered` by name; None, or a name left out, for the default.
        records: where finished records go; None for `turnout.mcp.records`.

    """

    def __init__(
        self,
        read_stream: ReadStream[SessionMessage | Exception],
        write_stream: WriteStream[SessionMessage],
        *,
        transport_builder: Callable[[MessageMetadata], TransportT] | None = None,
        peer_cancel_mode: PeerCancelMode = "interrupt",
        raise_handler_exceptions: bool = False,
        inline_methods: frozenset[str] = frozenset(),
        on_stream_exception: Callable[[Exception], Awaitable[None]] | None = None,
        strict: bool | None = None,
        name: str | None = None,
        limits: Mapping[str, int] | None = None,
        records: Records | None = None,
    ) -> None:
        self.records = turnout.mcp.records if records is None else records
        flights = Flights(
            f"streams-{next(_numbers)}" if name is None else name,
            ledger=self.records.ledger,
            limits=None if limits is None else dict(limits),
            takes_duplicates=not strict,
            progress_must_increase=bool(strict),
            takes_any_number=strict is False,
            declines_cancels=peer_cancel_mode == "signal",
        )
        self.records.attach(flights)
        build = cast("Callable[[MessageMetadata], TransportT]", transport_builder or _transport_context)
        self._streams: StreamsBackend[TransportT] = StreamsBackend(
            read_stream,
            write_stream,
            flights,
            build_transport=build,
            peer_cancel_mode=peer_cancel_mode,
            strict=strict,
        )
        super().__init__(
            self._streams,
            raise_handler_exceptions=raise_handler_exceptions,
            inline_methods=inline_methods,
            on_stream_exception=on_stream_exception,
        )
        self._flights = flights

    # ---- what is in flight: the names are a Peer's ----

    @property
    def name(self) -> str:
        """What records call the other end."""
        return self._flights.name

    @property
    def ledger(self) -> Ledger:
        """Where finished records go."""
        return self._flights.ledger

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests in flight: ours, the peer's."""
        return self._flights.in_flight

    @property
    def is_over(self) -> bool:
        """Whether the streams ended, or `run()` did."""
        return self._flights.is_over

    @property
    def memory(self) -> int:
        """Bytes held by the tables."""
        return self._flights.memory

    def entries(self) -> dict[str, int]:
        """Entries in every table that a request can leave behind: all 0 when nothing is in flight (X-08)."""
        handlers = self._streams.work_budget.count
        return {
            **self._flights.entries(),
            "handlers": handlers,
            "background": len(self._background) - handlers,
        }

    def counters(self) -> dict[str, int]:
        """What it counts, beside outcomes."""
        counters = self._flights.counters()
        for name, count in self._streams.counted.items():
            counters[name] += count
        return counters

    @property
    def _pending(self) -> Mapping[RequestId, PendingCall]:
        """Requests of ours, for those who look where the SDK keeps them."""
        return MappingProxyType(self._flights.outbound())

    @property
    def _in_flight(self) -> Mapping[RequestId, InboundRequest]:
        """Requests of the peer, likewise."""
        return MappingProxyType(self._flights.inbound())


def _transport_context(metadata: MessageMetadata) -> TransportContext:
    if isinstance(metadata, ServerMessageMetadata) and not metadata.can_send_request:
        return ONE_WAY
    return DUPLEX
