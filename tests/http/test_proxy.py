"""A server over HTTP behind a forward proxy: passed on, tunnelled through, and proxies that lie."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil

import pytest

import turnout
from certificates import made
from http_scripted import called, scripted
from http_server import serving
from loops import both_loops

CALL = {"name": "echo", "arguments": {"text": "hello"}}
SECRET = "Basic " + base64.b64encode(b"ada:s:cr t").decode()
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The server's context and that of a client who trusts it."""
    return made(tmp_path_factory.mktemp("tls"))


class Forward:
    """A proxy that tunnels, or says what it is told to say; and what it was asked."""

    def __init__(self, answer=None) -> None:
        self.answer = answer
        self.heads: list[list[str]] = []
        self.port = 0
        self._tasks: set[asyncio.Task] = set()

    async def handle(self, reader, writer) -> None:
        """Serve one connection."""
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                self.heads.append(head[:-2])
                if self.answer is not None:
                    await self.answer(reader, writer)
                    return
                host, _, port = head[0].split(" ")[1].rpartition(":")
                there, back = await asyncio.open_connection(host, int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
                try:
                    await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
                finally:
                    back.close()
            finally:
                writer.close()

    @staticmethod
    async def _pump(reader, writer) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def stop(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@contextlib.asynccontextmanager
async def forwarding(answer=None):
    """A proxy that listens."""
    proxy = Forward(answer)
    listening = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.stop()


@pytest.mark.parametrize("credentials", ["", "ada:s%3Acr%20t@"])
@both_loops
async def test_a_proxy_is_told_the_whole_url_and_its_own_credentials(credentials):
    # The server that is written by hand stands for the proxy: it is asked for another one's URL.
    async with scripted() as proxy:
        there = f"http://{credentials}127.0.0.1:{proxy.port}"
        proxy.url = "http://behind.example/mcp?a=b"
        async with called(proxy, proxy=there) as peer:
            call = peer.send("tools/call", CALL)
            asked = await proxy.next("tools/call")
            assert asked.path == "http://behind.example/mcp?a=b"
            assert asked.headers["host"] == "behind.example"
            assert asked.headers.get("proxy-authorization") == (SECRET if credentials else None)
            assert "authorization" not in asked.headers
            asked.write(307, {"Location": "/other"})
            asked = await proxy.next("tools/call")
            assert asked.path == "http://behind.example/other"
            asked.result({"content": [], "resultType": "complete"})
            await call
            assert proxy.connections == 1


@needs_openssl
@pytest.mark.parametrize("credentials", ["", "ada:s%3Acr%20t@"])
@both_loops
async def test_tls_is_tunnelled_and_the_proxy_reads_nothing_but_where_to(credentials, contexts):
    ours, theirs = contexts
    async with serving(tls=ours) as server, forwarding() as proxy, turnout.Router() as router:
        port = server.listener.port
        target = turnout.http(
            f"https://127.0.0.1:{port}/mcp",
            tls=theirs,
            headers={"X-Key": "secret"},
            auth=lambda _: {"Authorization": "Bearer secret"},
            proxy=f"http://{credentials}127.0.0.1:{proxy.port}",
        )
        peer = await router.connect(target)
        for _ in range(3):
            result = await peer.send("tools/call", CALL)
            assert result["content"][0]["text"] == "hello"
        said = [f"proxy-authorization: {SECRET}"] if credentials else []
        assert proxy.heads == [[f"CONNECT 127.0.0.1:{port} HTTP/1.1", f"host: 127.0.0.1:{port}", *said]], (
            "one tunnel serves one request after the other"
        )
        call = peer.send("tools/call", {"name": "wait"})
        await server.began.wait()
        call.cancel()
        await server.was_cancelled.wait()


@needs_openssl
@both_loops
async def test_a_certificate_is_checked_through_a_tunnel_too(contexts):
    ours, _ = contexts
    async with serving(tls=ours) as server, forwarding() as proxy, turnout.Router() as router:
        target = turnout.http(
            f"https://127.0.0.1:{server.listener.port}/mcp", proxy=f"http://127.0.0.1:{proxy.port}"
        )
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await router.connect(target)


def saying(answer: bytes, *, stays: bool = False):
    """A proxy that says this to whatever it is asked."""

    async def answer_so(reader, writer):
        writer.write(answer)
        if stays:
            await reader.read()

    return answer_so


async def endless(reader, writer):
    """A head without an end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"x" * 4000 + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            saying(b"HTTP/1.1 407 X\r\nProxy-Authenticate: Basic\r\n\r\n", stays=True),
            "407: give its credentials",
        ),
        (saying(b"HTTP/1.1 302 X\r\nLocation: https://evil.example/\r\n\r\n", stays=True), "HTTP status 302"),
        (saying(b"HTTP/1.1 503 X\r\n\r\n"), "HTTP status 503"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\x00\x05hello", stays=True), "nobody asked for|refused"),
        (saying(b"HTTP/1.1 200 OK\r\n\r\n"), "(?i)ended|closed|eof|ssl|reset|broken"),
        (saying(b"HTTP/1.1 101 X\r\n\r\n", stays=True), "refused"),
        (saying(b"hello\r\n\r\n", stays=True), "refused"),
        (saying(b""), "closed the connection"),
        (endless, "refused"),
    ],
    ids=["407", "redirect", "503", "ahead", "closes", "switches", "nonsense", "silent", "endless"],
)
@both_loops
async def test_a_proxy_that_lets_nobody_through_is_said_and_followed_nowhere(answer, says):
    async with forwarding(answer) as proxy, turnout.Router() as router:
        target = turnout.http("https://behind.example/mcp", proxy=f"http://ada:secret@127.0.0.1:{proxy.port}")
        with pytest.raises(OSError, match=says) as refused:
            await router.connect(target)
        assert "secret" not in str(refused.value)
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("answer", [saying(b"HTTP/1.1 200", stays=True), saying(b"", stays=True)])
@both_loops
async def test_max_connect_ms_bounds_a_proxy_that_does_not_answer(answer):
    async with forwarding(answer) as proxy, turnout.Router() as router:
        target = turnout.http(
            "https://behind.example/mcp",
            proxy=f"http://127.0.0.1:{proxy.port}",
            limits={"max_connect_ms": 50},
        )
        with pytest.raises(OSError, match="max_connect_ms"):
            await router.connect(target)


@both_loops
async def test_a_proxy_that_is_not_there_is_said():
    async with forwarding() as gone:
        pass
    async with turnout.Router() as router:
        for scheme in ("http", "https"):
            target = turnout.http(
                f"{scheme}://behind.example/mcp", proxy=f"http://ada:secret@127.0.0.1:{gone.port}"
            )
            with pytest.raises(
                OSError, match=f"the proxy http://127.0.0.1:{gone.port} cannot be reached"
            ) as refused:
                await router.connect(target)
            assert "secret" not in str(refused.value)


@both_loops
async def test_a_proxy_that_wants_credentials_says_so_of_each_request():
    async with scripted() as proxy, called(proxy, proxy=f"http://127.0.0.1:{proxy.port}") as peer:
        call = peer.send("tools/call", CALL)
        (await proxy.next("tools/call")).write(407, {"Proxy-Authenticate": "Basic"})
        with pytest.raises(turnout.RemoteError, match="407: give the proxy's credentials in its URL"):
            await call


VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("http://a.example/", {"HTTP_PROXY": "http://p:1"}, ("p", 1)),
        ("http://a.example/", {"http_proxy": "p:1"}, ("p", 1)),
        ("http://a.example/", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "http://q:2"}, ("p", 1)),
        ("https://a.example/", {"ALL_PROXY": "http://p:1"}, ("p", 1)),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example,.example"}, None),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://a.example/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.example"}, ("p", 1)),
        ("https://a.example:8443/", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, None),
        ("https://a.example/", {}, None),
    ],
)
def test_the_environment_is_asked_where_that_is_said_and_nowhere_else(monkeypatch, url, variables, proxy):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = turnout.http(url, proxy="environment").proxy
    assert (None if found is None else (found.host, found.port)) == proxy
    assert turnout.http(url).proxy is None


@pytest.mark.parametrize(
    ("proxy", "options"),
    [
        ("socks5://p:1", {}),
        ("https://p:1", {}),
        ("p:3128", {}),
        ("http://", {}),
        ("http://p/path", {}),
        ("http://p:1?secret", {}),
        ("http://p:1", {"unix": "/run/x"}),
        ("", {}),
    ],
)
def test_mistakes_are_refused_where_they_are_made(proxy, options):
    with pytest.raises(ValueError, match="proxy") as refused:
        turnout.http("https://a.example/mcp", proxy=proxy, **options)
    assert "secret" not in str(refused.value)


def test_s9_a_proxys_credentials_are_in_no_text():
    target = turnout.http("http://a.example/mcp", proxy="http://ada:secret@p:1")
    assert "secret" not in repr(target.proxy) + target.proxy.name + target.name
    assert target == turnout.http("http://a.example/mcp", proxy="http://ada:secret@p:1")
    assert target != turnout.http("http://a.example/mcp")
    with pytest.raises(ValueError, match="written by turnout"):
        turnout.http("https://a.example/mcp", headers={"Proxy-Authorization": "x"})
