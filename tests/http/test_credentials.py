"""Each principal reaches a server over HTTP as itself: `Upstream(credentials=...)`, and how long credentials hold."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import turnout
from http_client import Client, mirrored, modern
from http_scripted import called, scripted, shake_hands
from http_server import serving
from loops import both_loops
from turnout import Challenge, Credentials, Principal
from turnout.protocol.handshake import Implementation, mark_requests
from turnout.transports.http.calling.head import Head

CALL = {"name": "x", "arguments": {}}


class World:
    """A server that knows tokens, a relay before it, and who was asked for credentials."""

    def __init__(self, server, router, relay) -> None:
        self.server = server
        self.router = router
        self.relay = relay
        self.seen: list[tuple[str, str]] = []

    async def client(self, principal):
        """A client of that principal, which has not asked for anything."""
        ours, theirs = turnout.memory()
        attached = await self.router.connect(theirs, era=None)
        self.relay.attach(attached, principal=principal)
        client = await self.clients.connect(ours, era=None)
        mark_requests(client, Implementation("client", "1"))
        return client


@contextlib.asynccontextmanager
async def relayed(credentials, tokens, *, sharing="per_principal", of_server=None, **options):
    """A relay before a server that lets in whose token is in `tokens`, which say whose it is."""
    heads = []

    def authenticate(head):
        heads.append(head)
        known = tokens.get(head.bearer)
        return Challenge(error="invalid_token") if known is None else Principal(known, "server")

    async with (
        serving(authenticate=authenticate, **(of_server or {})) as server,
        turnout.Router() as router,
        turnout.Router() as clients,
    ):
        url = f"http://127.0.0.1:{server.listener.port}/mcp"
        upstream = turnout.Upstream(
            turnout.http(url), name="search", sharing=sharing, credentials=credentials, **options
        )
        world = World(server, router, router.relay(upstream))
        world.clients, world.heads = clients, heads

        async def call(request):
            world.seen.append(request.peer.principal.subject)
            return {"content": []}

        server.router.on_request("tools/call")(call)
        yield world


@pytest.mark.parametrize("kind", ["headers", "credentials", "auth", "coroutine"])
@pytest.mark.parametrize("sharing", ["per_principal", "per_client"])
@both_loops
async def test_each_principal_reaches_the_server_as_itself(sharing, kind):
    asked = []

    def give(principal, upstream):
        asked.append((principal, upstream.name))
        headers = {"Authorization": f"Bearer of-{principal}"}
        if kind == "credentials":
            return Credentials(headers, lifetime=600)
        if kind == "auth":
            return lambda challenge: headers
        return headers

    async def give_later(principal, upstream):
        await asyncio.sleep(0)
        return give(principal, upstream)

    tokens = {"of-ada": "ada there", "of-bob": "bob there"}
    async with relayed(give_later if kind == "coroutine" else give, tokens, sharing=sharing) as world:
        ada, bob, again = await asyncio.gather(*(world.client(name) for name in ("ada", "bob", "ada")))
        for client, name in ((ada, "ada"), (bob, "bob"), (again, "ada"), (bob, "bob")):
            await client.send("tools/call", CALL)
            assert world.seen[-1] == f"{name} there"
        assert sorted(asked) == [("ada", "search"), ("bob", "search")], "each once, whatever it shares"


@both_loops
async def test_aut_the_token_of_a_client_goes_to_no_server():
    def let_in(head):
        return Principal(head.bearer, "here")

    async def give(principal, upstream):
        return {"Authorization": f"Bearer of-{principal.subject}"}

    async with relayed(give, {"of-ada": "ada there"}) as world:
        listener = turnout.listen_http("127.0.0.1", 0, authenticate=let_in)
        await world.router.serve(listener, world.relay.attach)
        client = await Client.connect(listener.port)
        try:
            message = modern("tools/call", CALL)
            said = {**mirrored(message), "Authorization": "Bearer ada", "Cookie": "a=b"}
            assert (await client.ask(message, said)).status == 200
        finally:
            client.close()
        assert world.seen == ["ada there"]
        for head in world.heads:
            assert head.bearer == "of-ada"
            assert "cookie" not in {name.lower() for name, _ in head.headers}


@pytest.mark.parametrize("sharing", ["per_principal", "per_client"])
@both_loops
async def test_a_refusal_asks_once_for_all_calls_of_the_principal(sharing):
    tokens = {"ada-1": "ada", "bob-1": "bob"}
    asked = []

    async def give(principal, upstream):
        asked.append(principal)
        await asyncio.sleep(0)
        return {"Authorization": f"Bearer {principal}-{asked.count(principal)}"}

    async with relayed(give, tokens, sharing=sharing) as world:
        one, two, bob = [await world.client(name) for name in ("ada", "ada", "bob")]
        for client in (one, two, bob):
            await client.send("tools/call", CALL)
        del tokens["ada-1"]
        tokens["ada-2"] = "ada again"
        world.seen.clear()
        calls = [client.send("tools/call", CALL) for client in (one, two, one, two, bob)]
        for call in calls:
            await call
        assert sorted(world.seen) == ["ada again"] * 4 + ["bob"]
        assert sorted(asked) == ["ada", "ada", "bob"]


@both_loops
async def test_credentials_are_asked_for_anew_when_they_hold_no_longer_and_not_before():
    asked = []

    def give(principal, upstream):
        asked.append(principal)
        return Credentials(
            {"Authorization": f"Bearer {len(asked)}"}, lifetime=0.05 if len(asked) == 1 else None
        )

    async with relayed(give, {"1": "first", "2": "second"}) as world:
        ada = await world.client("ada")
        await ada.send("tools/call", CALL)
        while world.seen[-1] == "first":
            await ada.send("tools/call", CALL)
        assert len(asked) == 2
        assert all(head.bearer in ("1", "2") for head in world.heads)
        for _ in range(3):
            await ada.send("tools/call", CALL)
        assert len(asked) == 2, "what says nothing of how long it holds does so until it is refused"


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("a secret"),
        {"Authorization": "Bearer a\r\nX-Admin: 1"},
        {"X-A\n": "b"},
        {"Mcp-Session-Id": "1"},
        {"Authorization": "Bearer \u00fc"},
        "Bearer text",
        None,
        7,
    ],
    ids=lambda fault: (
        type(fault).__name__ if not isinstance(fault, dict) else next(iter(fault.values())).strip()
    ),
)
@both_loops
async def test_a_principal_without_credentials_is_refused_and_disturbs_nobody(fault, caplog):
    def give(principal, upstream):
        if principal == "bob":
            return {"Authorization": "Bearer bob"}
        if isinstance(fault, Exception):
            raise fault
        return fault

    async with relayed(give, {"bob": "bob"}) as world:
        ada, bob = await world.client("ada"), await world.client("bob")
        for _ in range(2):
            with pytest.raises(turnout.RemoteError) as refused:
                await ada.send("tools/call", CALL)
            assert refused.value.data == {"reason": "no_credentials", "sent": False, "upstream": "search"}
            assert "secret" not in str(refused.value)
            await bob.send("tools/call", CALL)
        assert world.seen == ["bob", "bob"]
        assert {head.bearer for head in world.heads} == {"bob"}, "nothing was sent without credentials"
    assert "no credentials for the upstream search" in caplog.text


@both_loops
async def test_a_principal_may_be_told_why_it_has_no_credentials_and_comes_back_with_some():
    linked = set()

    def give(principal, upstream):
        if principal not in linked:
            raise turnout.RequestError(-32050, "link your account first", {"url": "https://x/link"})
        return {"Authorization": "Bearer ada"}

    async with relayed(give, {"ada": "ada"}) as world:
        ada = await world.client("ada")
        for method, params in (("tools/call", CALL), ("server/discover", {})):
            with pytest.raises(turnout.RemoteError) as refused:
                await ada.send(method, params)
            assert (refused.value.code, refused.value.data) == (-32050, {"url": "https://x/link"})
        linked.add("ada")
        await ada.send("tools/call", CALL)
        assert world.seen == ["ada"]


@both_loops
async def test_a_client_without_a_principal_has_credentials_of_its_own_or_none():
    asked = []

    def give(principal, upstream):
        asked.append(principal)
        return {"Authorization": "Bearer anybody"}

    async with relayed(give, {"anybody": "anybody"}) as world:
        for _ in range(2):
            client = await world.client(None)
            await client.send("tools/call", CALL)
        assert asked == [None, None]


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        (turnout.http("http://x/mcp"), {"sharing": "shared"}, "per_principal or per_client"),
        (turnout.http("http://x/mcp"), {"sharing": "pooled"}, "per_principal or per_client"),
        (turnout.http("http://x/mcp", auth=dict), {"sharing": "per_client"}, "auth= already"),
        (turnout.stdio("server"), {"sharing": "per_client"}, "turnout.http"),
        (turnout.unix("/run/x"), {"sharing": "per_principal"}, "turnout.http"),
    ],
)
def test_credentials_are_refused_where_they_cannot_apply(target, options, says):
    with pytest.raises(ValueError, match=says):
        turnout.Upstream(target, credentials=lambda *_: {}, **options)


@pytest.mark.parametrize(
    ("headers", "lifetime"), [({"X": "a\nb"}, None), ({"Host": "x"}, 1), ({}, 0), ({}, -1)]
)
def test_mistakes_in_credentials_are_refused_where_they_are_made(headers, lifetime):
    with pytest.raises(ValueError, match=r"header|lifetime"):
        Credentials(headers, lifetime)


def test_s9_credentials_say_nothing_of_their_values():
    assert "secret" not in repr(Credentials({"Authorization": "Bearer secret"}, 60))


@pytest.mark.parametrize("era", ["modern", "legacy"])
@both_loops
async def test_what_is_sent_behind_the_end_of_a_lifetime_waits_for_one_login(era):
    asked, go_on = [], asyncio.Event()

    async def auth(challenge):
        asked.append(challenge)
        if len(asked) > 1:
            await go_on.wait()
        return Credentials(
            {"Authorization": f"Bearer {len(asked)}"}, lifetime=None if len(asked) > 1 else 3600
        )

    async with scripted() as server, called(server, era=era, auth=auth) as peer:
        peer.link.transport.pool.expire()
        calls = [peer.send("tools/call", CALL) for _ in range(3)]
        cancelled = peer.send("tools/call", CALL)
        while len(asked) < 2:
            await asyncio.sleep(0)
        assert server.asked.empty()
        cancelled.cancel()
        go_on.set()
        for _ in calls:
            request = await server.next("tools/call")
            assert request.headers["authorization"] == "Bearer 2"
            request.result({"content": [], "resultType": "complete"})
        for call in calls:
            await call
        assert asked == [None, None]
        assert server.asked.empty(), "what was cancelled meanwhile was never sent"


@both_loops
async def test_where_the_login_fails_what_waited_for_it_fails_and_the_next_call_tries_again():
    asked = []

    def auth(challenge):
        asked.append(challenge)
        if len(asked) == 2:
            raise KeyError("secret")
        return {"Authorization": f"Bearer {len(asked)}"}

    async with scripted() as server, called(server, auth=auth) as peer:
        peer.link.transport.pool.expire()
        for call in [peer.send("tools/call", CALL) for _ in range(2)]:
            with pytest.raises(turnout.RemoteError) as refused:
                await call
            assert refused.value.data == {"reason": "no_credentials", "sent": False}
        call = peer.send("tools/call", CALL)
        request = await server.next("tools/call")
        assert request.headers["authorization"] == "Bearer 3"
        request.result({"content": [], "resultType": "complete"})
        await call


@both_loops
async def test_a_session_that_is_opened_again_meanwhile_waits_for_the_login_too():
    asked, go_on = [], asyncio.Event()

    async def auth(challenge):
        asked.append(challenge)
        if len(asked) > 1:
            await go_on.wait()
        return {"Authorization": f"Bearer {len(asked)}"}

    async with scripted() as server, called(server, era="legacy", auth=auth) as peer:
        call = peer.send("tools/call", CALL)
        lost = await server.next("tools/call")
        peer.link.transport.pool.expire()
        lost.write(404)
        while len(asked) < 2:
            await asyncio.sleep(0)
        assert server.asked.empty()
        go_on.set()
        await shake_hands(server, "s2")
        while True:
            request = await asyncio.wait_for(server.asked.get(), 20)
            assert request.headers["authorization"] == "Bearer 2"
            if request.verb == "GET":
                request.write(405)
                continue
            assert request.headers["mcp-session-id"] == "s2"
            request.result()
            break
        await call


@both_loops
async def test_what_waits_for_a_login_is_bounded_by_max_connections():
    async def auth(challenge):
        if not first:
            await asyncio.Event().wait()
        first.pop()
        return {}

    first = [1]
    async with scripted() as server, called(server, auth=auth, limits={"max_connections": 2}) as peer:
        peer.link.transport.pool.expire()
        waiting = [peer.send("tools/call", CALL) for _ in range(2)]
        with pytest.raises(turnout.RemoteError, match="max_connections"):
            await peer.send("tools/call", CALL)
        for call in waiting:
            call.cancel()


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
def test_credentials_replace_a_field_of_the_target_however_it_is_spelled(name):
    """Of two, many servers read the first, which is everybody's."""
    head = Head(turnout.http("http://127.0.0.1/mcp", headers={"Authorization": "Bearer shared"}))
    head.say_who_asks(turnout.Credentials({name: "Bearer ada"}))
    assert [value for field, value in head.fields if field.lower() == "authorization"] == [b"Bearer ada"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: turnout.http("http://ada:secret/mcp"),
        lambda: turnout.http("http://127.0.0.1/mcp", proxy="http://ada:secret"),
    ],
    ids=["url", "proxy"],
)
def test_s9_a_url_that_is_wrong_is_not_told_with_its_secrets(make):
    with pytest.raises(ValueError, match="no port from 0 to 65535") as told:
        make()
    assert "secret" not in str(told.value)
    assert told.value.__suppress_context__, "a traceback shows the one that says it"
