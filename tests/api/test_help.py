"""What `help()` shows of the classes that users meet, and what they are made of."""

from __future__ import annotations

import asyncio
import pydoc

import pytest

import turnout
from loops import both_loops

HOOKS = ["on_request", "on_notification", "on_event", "rewrite_incoming", "rewrite_outgoing"]


def help_of(thing):
    return pydoc.plain(pydoc.render_doc(thing))


@pytest.mark.parametrize("holder", [turnout.Router, turnout.Peer, turnout.Relay])
@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_a_method_of_its_class_with_a_text(holder, name):
    assert "Register" in help_of(getattr(holder, name))


def test_help_of_send_shows_arguments_units_errors_and_sections():
    shown = help_of(turnout.Peer.send)
    for words in ("timeout: seconds", "notify_peer:", "Raises:", "LimitExceeded", "TMO-03", "CAN-01"):
        assert words in shown


def test_a_peer_and_a_relay_have_their_native_objects_and_are_none():
    assert not issubclass(turnout.Peer, turnout.Connection)
    assert turnout.Relay.__mro__[1:] == (turnout.Router.__mro__[1], object)


@both_loops
async def test_sending_by_a_peer_is_its_connections_own_method():
    async with turnout.Router() as router:
        peer = await router.connect(turnout.memory()[0], era=None)
        assert peer.send == peer.connection.send
        assert peer.notify == peer.connection.notify


@both_loops
async def test_a_connection_without_a_host_says_that_it_needs_one():
    reported = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
    request = b'{"jsonrpc":"2.0","id":1,"method":"m"}\n'
    connection = turnout.Connection()
    connection.attach(loop, lambda _: None)
    connection.feed(request)
    assert [text.endswith("make it with Connection(host=...)") for text in reported] == [True]
    # By hand it needs none.
    assert [taken.id for taken in turnout.Connection().receive_data(request)] == [1]


@both_loops
async def test_a_request_belongs_to_the_peer_of_its_host():
    class Host:
        peer = "whoever"

        def deliver(self, delivery):
            delivered.append(delivery)

    delivered = []
    connection = turnout.Connection(host=Host())
    connection.feed(b'{"jsonrpc":"2.0","id":1,"method":"m"}\n')
    assert [request.peer for request in delivered] == ["whoever"]
    connection.end("closed")
