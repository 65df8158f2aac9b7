"""A router as one would write it in an afternoon: dicts, futures, orjson, a task for each request.

It validates nothing, keeps no deadlines and no records. That is what makes it the honest bar for speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

Write = Callable[[bytes], object]
OnProgress = Callable[[float, float | None], object]
Handler = Callable[["Router", Any, Any], Awaitable[Any]]


class Lost(ConnectionError):
    """The other end went away."""


class Failed(Exception):
    """The other end answered with an error."""


class Router:
    """One connection: `feed` it what was read; it calls `write` once per loop turn."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.write: Write
        self._loop = asyncio.get_running_loop()
        self._handlers = handlers
        self._rest = b""
        self._out: list[bytes] = []
        self._last_id = 0
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._progress: dict[int, OnProgress] = {}
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    # ---- asking ----

    def send(
        self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> tuple[int, asyncio.Future[Any]]:
        self._last_id = call_id = self._last_id + 1
        if on_progress is not None:
            params = {**params, "_meta": {"progressToken": call_id}}
            self._progress[call_id] = on_progress
        call = self._calls[call_id] = self._loop.create_future()
        self._post({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        return call_id, call

    async def request(
        self, method: str, params: dict[str, Any], on_progress: OnProgress | None = None
    ) -> Any:
        call_id, call = self.send(method, params, on_progress)
        try:
            return await call
        except asyncio.CancelledError:
            self.cancel(call_id, "the caller was cancelled")
            raise

    def cancel(self, call_id: int, reason: str) -> bool:
        call = self._calls.pop(call_id, None)
        if call is None:
            return False
        self._progress.pop(call_id, None)
        call.cancel()
        params = {"requestId": call_id, "reason": reason}
        self._post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        return True

    # ---- answering ----

    def progress(self, token: Any, progress: float, total: float | None = None) -> None:
        params = {"progressToken": token, "progress": progress, "total": total}
        self._post({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    async def _handle(self, request_id: Any, handler: Handler, params: Any) -> None:
        try:
            result = await handler(self, request_id, params)
            self._post({"jsonrpc": "2.0", "id": request_id, "result": result})
        except asyncio.CancelledError:
            pass  # whoever cancelled waits for no answer
        except Exception as error:
            body = {"code": -32603, "message": str(error)}
            self._post({"jsonrpc": "2.0", "id": request_id, "error": body})
        finally:
            del self._tasks[request_id]

    # ---- the wire ----

    def feed(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._receive(orjson.loads(line))

    def _receive(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            call = self._calls.pop(message["id"], None)
            self._progress.pop(message["id"], None)
            if call is None or call.done():
                return
            if "result" in message:
                call.set_result(message["result"])
            else:
                call.set_exception(Failed(message["error"]["message"]))
        elif "id" in message:
            request_id = message["id"]
            work = self._handle(request_id, self._handlers[method], message.get("params"))
            self._tasks[request_id] = self._loop.create_task(work)
        elif method == "notifications/progress":
            params = message["params"]
            if (follow := self._progress.get(params["progressToken"])) is not None:
                follow(params["progress"], params.get("total"))
        elif method == "notifications/cancelled" and (
            (task := self._tasks.get(message["params"]["requestId"])) is not None
        ):
            task.cancel()

    def lost(self) -> None:
        calls, self._calls = self._calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(Lost("the connection is over"))
        for task in list(self._tasks.values()):
            task.cancel()

    def _post(self, message: dict[str, Any]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    def _flush(self) -> None:
        out, self._out = self._out, []
        self.write(b"".join(out))
