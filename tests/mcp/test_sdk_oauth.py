"""The SDK's OAuth provider as `auth=`, against an authorization server that is made of the SDK's own routes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import uvicorn
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.client.auth import OAuthClientProvider
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

import turnout
import turnout.mcp
from loops import both_loops
from turnout.mcp import login

CALLBACK = "http://localhost:3000/callback"
CALL = {"name": "echo", "arguments": {"text": "hello"}}


class Storage:
    """Tokens and the registration, in memory."""

    def __init__(self) -> None:
        self.client = None
        self.tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info


class User:
    """Agrees, and counts how often that was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._location = ""

    async def agree(self, url):
        self.asked += 1
        async with httpx2.AsyncClient(trust_env=False) as client:
            self._location = (await client.get(url)).headers["location"]

    async def come_back(self):
        given = {name: values[0] for name, values in parse_qs(urlsplit(self._location).query).items()}
        return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))


class World:
    """A server that takes tokens of an authorization server."""

    def __init__(self, url, tokens) -> None:
        self.url = url
        self.tokens = tokens
        self.user = User()
        self.storage = Storage()

    def provider(self, user=None):
        """A provider of the SDK's, with a user and a storage."""
        user = user or self.user
        return OAuthClientProvider(
            self.url,
            OAuthClientMetadata(
                client_name="turnout",
                redirect_uris=[AnyHttpUrl(CALLBACK)],
                grant_types=["authorization_code", "refresh_token"],
                response_types=["code"],
            ),
            self.storage if user is self.user else Storage(),
            redirect_handler=user.agree,
            callback_handler=user.come_back,
        )


@contextlib.asynccontextmanager
async def world():
    """An authorization server of the SDK's routes, and a server of ours that sends its clients there."""
    config = uvicorn.Config("", host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    listening = config.bind_socket()
    issuer = f"http://127.0.0.1:{listening.getsockname()[1]}"
    tokens = InMemoryOAuthProvider(
        base_url=issuer, client_registration_options=ClientRegistrationOptions(enabled=True)
    )
    config.app = Starlette(
        routes=create_auth_routes(
            tokens,
            AnyHttpUrl(issuer),
            client_registration_options=ClientRegistrationOptions(enabled=True),
        )
    )
    authorization = uvicorn.Server(config)
    running = asyncio.ensure_future(authorization._serve([listening]))
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
    listener = turnout.listen_http(
        sock=bound,
        authenticate=turnout.mcp.bearer(tokens),
        resource=turnout.ProtectedResource(url, [f"{issuer}/"]),
    )
    try:
        async with turnout.Router() as router:
            turnout.serve_handshake(router, name="server", version="1")

            @router.on_request("tools/list")
            async def listed(request):
                return {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}

            @router.on_request("tools/call")
            async def call(request):
                return {"content": [{"type": "text", "text": request.params["arguments"]["text"]}]}

            await router.serve(listener)
            yield World(url, tokens)
    finally:
        authorization.should_exit = True
        await running
        listening.close()


@both_loops
async def test_the_sdks_provider_logs_in_and_what_is_revoked_is_asked_for_once_more():
    async with world() as here, turnout.Router() as router:
        target = turnout.http(here.url, auth=turnout.mcp.oauth(here.provider()))
        peer = await router.connect(target)
        assert (await peer.send("tools/call", CALL))["content"][0]["text"] == "hello"
        assert here.user.asked == 1
        assert here.storage.tokens is not None
        here.tokens.access_tokens.clear()
        calls = [peer.send("tools/call", CALL) for _ in range(8)]
        for call in calls:
            assert (await call)["content"][0]["text"] == "hello"
        assert here.user.asked == 2, "once for all that were refused"


@both_loops
async def test_connections_share_a_provider_and_what_it_has():
    async with world() as here, turnout.Router() as router:
        auth = turnout.mcp.oauth(here.provider())
        peers = await asyncio.gather(*(router.connect(turnout.http(here.url, auth=auth)) for _ in range(3)))
        for peer in peers:
            await peer.send("tools/call", CALL)
        assert here.user.asked == 1
        here.tokens.access_tokens.clear()
        calls = [peer.send("tools/call", CALL) for peer in peers for _ in range(3)]
        for call in calls:
            await call
        assert here.user.asked == 2


@both_loops
async def test_a_token_is_renewed_when_its_time_is_over_and_nobody_is_asked():
    async with world() as here, turnout.Router() as router:
        provider = here.provider()
        peer = await router.connect(turnout.http(here.url, auth=turnout.mcp.oauth(provider)))
        await peer.send("tools/call", CALL)
        before = here.storage.tokens.access_token
        # As it is when its time has come.
        provider.context.token_expiry_time = 1.0
        shared = peer.link.transport._target.auth
        shared._until = 0.0
        peer.link.transport.pool.expire()
        await peer.send("tools/call", CALL)
        assert here.storage.tokens.access_token != before
        assert here.user.asked == 1, "a refresh token is of use"


@both_loops
async def test_the_sdks_client_takes_its_provider_as_it_is():
    async with world() as here:
        async with turnout.mcp.connect_http(here.url, auth=here.provider()) as client:
            result = await client.call_tool("echo", {"text": "hello"})
            assert result.content[0].text == "hello"
        assert here.user.asked == 1


@both_loops
async def test_each_principal_of_a_relay_logs_in_by_a_provider_of_its_own():
    async with world() as here, turnout.Router() as router, turnout.Router() as clients:
        users = {"ada": User(), "bob": User()}

        def credentials(principal, upstream):
            return turnout.mcp.oauth(here.provider(users[principal]))

        relay = router.relay(
            turnout.Upstream(turnout.http(here.url), sharing="per_principal", credentials=credentials)
        )
        for principal in ("ada", "bob", "ada"):
            ours, theirs = turnout.memory()
            relay.attach(await router.connect(theirs, era=None), principal=principal)
            client = await clients.connect(ours, era="modern")
            assert (await client.send("tools/call", CALL))["content"][0]["text"] == "hello"
        assert (users["ada"].asked, users["bob"].asked) == (1, 1)
        assert len(here.tokens.access_tokens) == 2


def test_a_provider_that_is_not_made_a_login_is_told_what_to_write():
    provider = OAuthClientProvider(
        "http://x/mcp", OAuthClientMetadata(redirect_uris=[AnyHttpUrl(CALLBACK)]), Storage()
    )
    with pytest.raises(TypeError, match=r"turnout\.mcp\.oauth"):
        turnout.http("http://x/mcp", auth=provider)
    with pytest.raises(ValueError, match="give url="):
        turnout.mcp.oauth(object())


class Asks:
    """A provider that asks one URL, and nothing else."""

    def __init__(self, url):
        self.url = url
        self.seen = []

    async def async_auth_flow(self, request):
        yield request
        self.seen.append((yield httpx2.Request("GET", self.url)))
        request.headers["authorization"] = "Bearer x"
        yield request


@contextlib.asynccontextmanager
async def answering(answer: bytes):
    """A server that says this to everybody."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            writer.write(answer)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    finally:
        listening.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:10.0.0.1]"]
)
@both_loops
async def test_a_public_server_sends_nobody_to_a_private_address(host):
    asks = Asks(f"http://{host}:9/secret")
    log_in = turnout.mcp.oauth(asks, "https://8.8.8.8/mcp").presented()
    with pytest.raises(PermissionError, match="private address"):
        await log_in("Bearer")
    assert asks.seen == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (2 << 20), "too long"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * (2 << 20)),
            "too long",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "cannot be asked"),
        (b"nonsense\r\n\r\n", "cannot be asked"),
        (b"", "cannot be asked"),
    ],
    ids=["long", "bomb", "cut", "nonsense", "silent"],
)
@both_loops
async def test_an_authorization_server_that_lies_fails_the_login(answer, says):
    async with answering(answer) as url:
        log_in = turnout.mcp.oauth(Asks(url), url).presented()
        with pytest.raises(ConnectionError, match=says):
            await log_in("Bearer")


@both_loops
async def test_a_redirect_is_the_providers_to_follow():
    async with answering(b"HTTP/1.1 302 X\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n") as url:
        asks = Asks(url)
        given = await turnout.mcp.oauth(asks, url).presented()("Bearer")
        assert given.headers == {"authorization": "Bearer x"}
        (seen,) = asks.seen
        assert seen.status_code == 302
        assert str(seen.next_request.url) == f"{url}there"
    assert login.MOST_BYTES < 2 << 20
