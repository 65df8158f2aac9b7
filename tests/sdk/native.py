"""The dispatcher on a turnout peer in the place of the SDK's own: the SDK's streams are bridged to a peer's bytes.

The SDK builds its dispatcher on streams of `SessionMessage`; a turnout peer speaks in bytes. What lies between the two
here is what lies between them on stdio: every message is written as JSON, and what a transport attaches to it is lost.
Tests of what is attached (HTTP's streams, headers, contexts) prove nothing here, and fail; `run.py --native` runs the
others.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from turnout import Router
from turnout.mcp import NativeDispatcher
from turnout.mcp.dispatch.session_peer import SessionPeer

if TYPE_CHECKING:
    from mcp.shared.dispatcher import OnNotify, OnNotifyIntercept, OnRequest


class Written:
    """A peer's transport: what is written waits in a stream.

    Args:
        send: takes the bytes.

    """

    takes_views = False
    delays_answers = False

    def __init__(self, send: Any) -> None:
        self._send = send

    def write(self, data: bytes) -> None:
        """Take bytes."""
        with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._send.send_nowait(bytes(data))

    async def close(self) -> None:
        """Nothing comes behind this."""
        self._send.close()

    def abort(self) -> None:
        """Likewise."""
        self._send.close()


class Bridged(NativeDispatcher):
    """A `NativeDispatcher` with the arguments of the SDK's own.

    Args:
        read_stream: messages of the peer.
        write_stream: messages for the peer.
        options: the SDK's; those of `NativeDispatcher` count.

    """

    def __init__(self, read_stream: Any, write_stream: Any, **options: Any) -> None:
        own = ("raise_handler_exceptions", "inline_methods")
        # Without the limit a router reads the machine's memory, from files; the SDK's tests allow that to nobody.
        router = Router(timeout=None, max_timeout=None, limits={"max_total_bytes": 1 << 30})
        peer = router.adopt(SessionPeer, "bridged", "streams")
        super().__init__(peer, **{name: options[name] for name in own if name in options})
        self.on_stream_exception = options.get("on_stream_exception")
        self._read, self._write = read_stream, write_stream
        self._out, self._written = anyio.create_memory_object_stream[bytes](float("inf"))
        peer.link.use(Written(self._out))

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: Any = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run, and carry messages both ways."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._carry_in)
                tasks.start_soon(self._carry_out)
                try:
                    await super().run(on_request, on_notify, on_notify_intercept, task_status=task_status)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self.peer.close()
                    self._out.close()
                    with anyio.move_on_after(1, shield=True):
                        await self._drain()
                    tasks.cancel_scope.cancel()
        finally:
            self._written.close()

    async def _carry_in(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._read:
            try:
                async for item in self._read:
                    if isinstance(item, Exception):
                        await self.tell_exception(item)
                        continue
                    text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    # Never inside a task: a peer's transport calls from callbacks of the loop.
                    loop.call_soon(self.peer.link.feed, text.encode() + b"\n")
            except anyio.ClosedResourceError:
                pass
        loop.call_soon(self.peer.link.lost, None)

    async def _carry_out(self) -> None:
        async with self._write:
            await self._drain()

    async def _drain(self) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            while True:
                for line in (await self._written.receive()).splitlines():
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                    await self._write.send(SessionMessage(message))
