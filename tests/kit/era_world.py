"""A relay between raw ends of chosen revisions: what each of them reads is kept, line for line.

A server here shows everything that its revision has and another one has not; a client asks for all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import turnout
from transport_link import FakeLink

META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"
REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", MODERN)

LEGACY_ONLY = ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
MODERN_ONLY = ("server/discover", "subscriptions/listen")

FORM = {
    "message": "who?",
    "requestedSchema": {"type": "object", "properties": {"who": {"type": "string"}}},
}


class End(FakeLink):
    """One end of a connection, which reads and writes messages.

    Attributes:
        revision: what it speaks.
        read: every message that it was sent, in order.

    """

    def __init__(self, revision):
        super().__init__()
        self.revision = revision
        self.is_modern = revision == MODERN
        self.read = []
        self.transport = None
        self._before = b""
        self.on_data = self._parse

    def _parse(self):
        *lines, self._before = (self._before + bytes(self.data)).split(b"\n")
        self.data.clear()
        for line in lines:
            message = json.loads(line)
            self.read.append(message)
            self.take(message)

    def take(self, message):
        """Act on a message."""

    def write(self, **message):
        self.transport.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def open(self, target):
        self.transport = await target.open(self)


class Server(End):
    """A server of one revision; `silent` methods are never answered."""

    def __init__(self, revision, name="server"):
        super().__init__(revision)
        self.name = name
        self.asked = {}

    def take(self, message):
        method, params = message.get("method"), message.get("params") or {}
        if "id" not in message:
            return
        if method is None:
            self.asked.pop(message["id"])(message)
            return
        meta = params.get("_meta") or {}
        if self.is_modern and f"{META}protocolVersion" not in meta:
            self.fail(message, -32602, "no envelope")
        elif method in (LEGACY_ONLY if self.is_modern else MODERN_ONLY):
            self.fail(message, -32601, "Method not found")
        elif method == "ping":
            self.answer(message, {})
        elif hasattr(self, "on_" + method.replace("/", "_")):
            getattr(self, "on_" + method.replace("/", "_"))(message, params)
        else:
            self.fail(message, -32601, "Method not found")

    def fail(self, message, code, text, **data):
        self.write(
            id=message["id"], error={"code": code, "message": text, **({"data": data} if data else {})}
        )

    def answer(self, message, result, *, ttl=None):
        if self.is_modern:
            hints = {} if ttl is None else {"ttlMs": ttl, "cacheScope": "public"}
            info = {f"{META}serverInfo": {"name": self.name, "version": "1"}}
            result = {"resultType": "complete", **result, **hints}
            result["_meta"] = {**info, **result.get("_meta", {})}
        self.write(id=message["id"], result=result)

    @property
    def capabilities(self):
        able = {
            "tools": {"listChanged": True},
            "prompts": {},
            "resources": {"subscribe": True, "listChanged": True},
            "completions": {},
            "logging": {},
        }
        if self.is_modern:
            return {**able, "extensions": {f"{META}tasks": {}, "x.y/z": {}}}
        return {**able, "tasks": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}}

    def on_initialize(self, message, params):
        revision = min(self.revision, params["protocolVersion"])
        info = {"name": self.name, "version": "1"}
        self.answer(
            message,
            {"protocolVersion": revision, "capabilities": self.capabilities, "serverInfo": info},
        )

    def on_server_discover(self, message, _):
        self.answer(message, {"supportedVersions": [MODERN], "capabilities": self.capabilities}, ttl=60_000)

    def on_tools_list(self, message, _):
        plain = {"name": "plain", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}}}
        if self.is_modern:
            own = {
                "name": "own",
                "inputSchema": {"type": "object", "properties": {"a": True, "b": False}},
                "outputSchema": {"type": "array"},
            }
        else:
            own = {**plain, "name": "own", "execution": {"taskSupport": "optional"}}
        self.answer(message, {"tools": [plain, own]}, ttl=5000)

    def on_prompts_list(self, message, _):
        self.answer(message, {"prompts": [{"name": "p", "arguments": [{"name": "a"}]}]}, ttl=5000)

    def on_resources_list(self, message, _):
        self.answer(message, {"resources": [{"uri": "x:y", "name": "y"}]}, ttl=5000)

    def on_resources_templates_list(self, message, _):
        self.answer(message, {"resourceTemplates": [{"uriTemplate": "x:{y}", "name": "y"}]}, ttl=5000)

    def on_resources_read(self, message, params):
        if params["uri"] == "x:y":
            self.answer(message, {"contents": [{"uri": "x:y", "text": "t"}]}, ttl=5000)
        else:
            code = -32602 if self.is_modern else -32002
            self.fail(message, code, "Resource not found", uri=params["uri"])

    def on_prompts_get(self, message, _):
        text = {"type": "text", "text": "t"}
        self.answer(message, {"messages": [{"role": "user", "content": text}]})

    def on_completion_complete(self, message, _):
        self.answer(message, {"completion": {"values": ["a"], "hasMore": False}})

    def on_resources_subscribe(self, message, params):
        self.answer(message, {})
        self.write(method="notifications/resources/updated", params={"uri": params["uri"]})

    def on_logging_setLevel(self, message, _):
        self.answer(message, {})

    def on_subscriptions_listen(self, message, params):
        meta = {f"{META}subscriptionId": message["id"]}
        wanted = params["notifications"]
        acknowledged = {"notifications": wanted, "_meta": meta}
        self.write(method="notifications/subscriptions/acknowledged", params=acknowledged)
        for uri in wanted.get("resourceSubscriptions", ()):
            self.write(method="notifications/resources/updated", params={"uri": uri, "_meta": meta})

    def on_tools_call(self, message, params):
        getattr(self, "call_" + params["name"], self.call_plain)(message, params)

    def call_plain(self, message, params):
        token = (params.get("_meta") or {}).get("progressToken")
        if token is not None:
            update = {"progressToken": token, "progress": 1, "total": 2, "message": "half"}
            self.write(method="notifications/progress", params=update)
        structured = [1, 2] if self.is_modern else {"a": 1}
        self.answer(message, {"content": [{"type": "text", "text": "t"}], "structuredContent": structured})

    def call_ask(self, message, params):
        if self.is_modern:
            if "inputResponses" in params:
                self.answered(message, params["inputResponses"]["one"])
                return
            asked = {"method": "elicitation/create", "params": {"mode": "form", **FORM}}
            interim = {"resultType": "input_required", "inputRequests": {"one": asked}, "requestState": "s"}
            self.write(id=message["id"], result=interim)
            return
        self.asked["e"] = lambda said: self.answered(message, said.get("result") or said["error"])
        self.write(id="e", method="elicitation/create", params={"_meta": {"x/y": 1}, **FORM})

    def answered(self, message, said):
        self.answer(message, {"content": [{"type": "text", "text": json.dumps(said)}]})


class Client(End):
    """A client of one revision."""

    def __init__(self, revision):
        super().__init__(revision)
        self.methods = {}
        self.capabilities = {"elicitation": {}}
        if not self.is_modern:
            self.capabilities["tasks"] = {"requests": {"elicitation": {"create": {}}}}

    def take(self, message):
        if message.get("method") == "elicitation/create":
            self.write(id=message["id"], result={"action": "accept", "content": {"who": "me"}})

    @property
    def envelope(self):
        return {
            f"{META}protocolVersion": self.revision,
            f"{META}clientInfo": {"name": "client", "version": "1"},
            f"{META}clientCapabilities": self.capabilities,
            f"{META}logLevel": "debug",
        }

    def ask(self, method, params=None, *, meta=None):
        """Write a request; gives its id."""
        number = len(self.methods) + 1
        self.methods[number] = method
        params = dict(params or {})
        meta = {**(self.envelope if self.is_modern else {}), **(meta or {})}
        if meta:
            params["_meta"] = meta
        self.write(id=number, method=method, **({"params": params} if params else {}))
        return number

    async def send(self, method, params=None, *, meta=None):
        """Ask, and wait for the answer."""
        number = self.ask(method, params, meta=meta)
        return await self.answer_to(number)

    async def answer_to(self, number):
        def answers():
            return [
                message for message in self.read if message.get("id") == number and "method" not in message
            ]

        await self.until(answers)
        return answers()[0]

    async def open_connection(self):
        """Open the connection as the revision has it."""
        if self.is_modern:
            return await self.send("server/discover")
        opening = {
            "protocolVersion": self.revision,
            "capabilities": self.capabilities,
            "clientInfo": {"name": "client", "version": "1"},
        }
        answer = await self.send("initialize", opening)
        self.write(method="notifications/initialized")
        return answer

    async def call_and_come_back(self, params):
        """Call a tool that asks, and come back with what it asked for."""
        answer = await self.send("tools/call", params)
        while answer.get("result", {}).get("resultType") == "input_required":
            interim = answer["result"]
            said = {name: {"action": "accept", "content": {"who": "me"}} for name in interim["inputRequests"]}
            again = {**params, "inputResponses": said}
            if "requestState" in interim:
                again["requestState"] = interim["requestState"]
            answer = await self.send("tools/call", again)
        return answer


class Relayed:
    """Clients, a relay, and servers of chosen revisions.

    Args:
        upstreams: how many servers.
        revision: what they speak; a server that speaks both eras is made by `make`.
        options: those of each `Upstream`, and `routes`.

    """

    def __init__(self, revision, *, upstreams=1, make=Server, routes=(), **options):
        self.gateway = turnout.Router(name="gateway")
        self.servers = []
        self._make, self._revision = make, revision
        names = [f"up{number}" for number in range(upstreams)]
        self.relay = self.gateway.relay(
            *(turnout.Upstream(self._target(name), name=name, **options) for name in names), routes=routes
        )
        self.clients = []

    def _target(self, name):
        def target():
            near, far = turnout.memory(name=name)
            server = self._make(self._revision, name)
            self.servers.append(server)
            self.gateway.spawn(server.open(far))
            return near

        return target

    async def client(self, revision, principal=None):
        near, far = turnout.memory(name="client")
        self.relay.attach(await self.gateway.connect(far, era=None), principal=principal)
        client = Client(revision)
        await client.open(near)
        self.clients.append(client)
        return client

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        with contextlib.suppress(turnout.Error):
            await self.gateway.close()
        for end in (*self.clients, *self.servers):
            end.transport.abort()
        await asyncio.sleep(0)
