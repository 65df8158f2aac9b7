"""What a transport is given to write: bytes, or a view of large ones where it says that it takes views."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops


class Written:
    """A connection that writes into a list."""

    def __init__(self, *, takes_views: bool):
        self.connection = turnout.Connection()
        self.given: list[bytes | memoryview] = []
        loop = asyncio.get_running_loop()
        self.connection.attach(loop, self.given.append, takes_views=takes_views)

    def notify(self, text: str) -> bytes | memoryview:
        """What the transport is given for a notification with the text in it."""
        self.connection.notify("notifications/message", {"level": "info", "data": text})
        self.connection.flush()
        return self.given[-1]


@both_loops
async def test_only_large_writes_are_views_and_only_where_they_are_taken():
    views, copies = Written(takes_views=True), Written(takes_views=False)
    assert isinstance(views.notify("little"), bytes)
    view, copy = views.notify("x" * 100_000), copies.notify("x" * 100_000)
    assert isinstance(view, memoryview)
    assert isinstance(copy, bytes)
    assert view == copy


@both_loops
async def test_a_view_shows_the_same_bytes_for_as_long_as_it_is_held():
    written = Written(takes_views=True)
    held = {letter: written.notify(letter * 100_000) for letter in "ABC"}
    parts = {letter: view[50_000:] for letter, view in held.items()}
    held.clear()
    written.given.clear()
    for letter in "DEFGHIJK":
        written.notify(letter * 100_000)
    for letter, part in parts.items():
        assert bytes(part).count(letter.encode()) > 50_000


@both_loops
async def test_nobody_writes_into_a_view():
    view = Written(takes_views=True).notify("x" * 100_000)
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 0


@pytest.mark.parametrize("size", [10_000, 3_000_000])
@both_loops
async def test_large_answers_come_whole_from_a_reader_that_is_slower(tmp_path, size):
    """More at a time than a socket takes: what was not sent at once is kept by the loop's transport."""
    letters = "abcdefghijklmnop"

    async with turnout.Router() as router:

        @router.on_request("letters")
        async def answer(request: turnout.Request) -> dict[str, str]:
            return {"text": request.params["letter"] * size}

        path = str(tmp_path / "s")
        await router.serve(turnout.listen_unix(path))
        peer = await router.connect(turnout.unix(path), era=None)
        calls = [peer.send("letters", {"letter": letter}) for letter in letters]
        for letter, call in zip(letters, calls, strict=True):
            assert (await call)["text"] == letter * size
