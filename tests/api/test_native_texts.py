"""`help()` of the native part shows what its stub says: the texts stand there only, and name every argument."""

from __future__ import annotations

import inspect
import types

import pytest

import native_stub
import turnout
from turnout import _native

TEXTS = native_stub.texts()
PUBLIC = [
    name
    for name in turnout.__all__
    if getattr(_native, name, None) in getattr(getattr(turnout, name), "__mro__", ())
]
METHODS = [
    name
    for name in TEXTS
    if name.partition(".")[0] in PUBLIC
    and inspect.isroutine(getattr(getattr(_native, name.partition(".")[0]), name.partition(".")[2], None))
    and not name.partition(".")[2].startswith("_")
]


def native(name):
    """The object that the stub declares under a name, and not what it inherits; None where it declares no more."""
    class_name, _, member = name.partition(".")
    holder = getattr(_native, class_name, None)
    found = vars(holder).get(member) if member and holder else holder
    return found.__func__ if isinstance(found, staticmethod) else found


@pytest.mark.parametrize("name", [name for name in TEXTS if TEXTS[name] and not name.endswith("._Joinable")])
def test_the_text_at_run_time_is_the_stubs(name):
    assert inspect.cleandoc(native(name).__doc__) == TEXTS[name]


def test_nothing_has_a_text_that_the_stub_does_not_have():
    # Of the interpreter's own slots the interpreter has a text.
    slots = types.WrapperDescriptorType, types.BuiltinFunctionType
    silent = {name: native(name) for name in TEXTS if not TEXTS[name] and "." in name}
    texts = {
        name: thing.__doc__
        for name, thing in silent.items()
        # A protocol of the stub's is no class at run time; None has a text from 3.13 on.
        if thing is not None and not isinstance(thing, slots)
    }
    assert {name for name, text in texts.items() if text is not None} == set()


@pytest.mark.parametrize("name", METHODS)
def test_help_of_a_public_method_names_every_argument(name):
    text = native(name).__doc__
    parameters = native_stub.parameters(name)
    assert text
    assert [parameter for parameter in parameters if f"\n    {parameter}: " not in text] == []
    assert not parameters or "\nArgs:\n" in text


def test_most_methods_are_checked():
    assert len(METHODS) > 60


@pytest.mark.parametrize("name", ["send", "notify", "set_rules"])
def test_a_peer_says_what_its_connection_says(name):
    assert inspect.getdoc(getattr(turnout.Peer, name)) == inspect.getdoc(getattr(turnout.Connection, name))
