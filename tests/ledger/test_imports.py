"""The check of circles of imports finds them, and finds none here."""

from __future__ import annotations

import imports


def test_there_is_no_circle_of_imports():
    assert imports.faults() == []


def test_a_circle_of_imports_is_found_in_python(tmp_path):
    for name, code in {
        "a": "import b",
        "b": "try:\n    from c import x\nexcept ImportError:\n    pass",
        "c": "import a",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import e",
        "e": "def f():\n    import d",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert imports.circles(imports.of_python(tmp_path)) == [["a", "b", "c"]]


def test_a_circle_of_imports_is_found_in_rust(tmp_path):
    (tmp_path / "one").mkdir()
    for name, code in {
        "one": "use crate::one::part::Part;",
        "one/part": "use crate::two::{Two, deep::er};",
        "two": "fn f() { super::one::part::g() }",
        "three": "// crate::four\nuse crate::two;\n#[cfg(test)]\nmod tests { use crate::four; }",
        "four": "use crate::three;",
    }.items():
        (tmp_path / f"{name}.rs").write_text(code)
    assert imports.circles(imports.of_rust(tmp_path)) == [["one::part", "two"]]


def test_an_import_of_a_higher_floor_is_found():
    graph = {"lib": {"relay"}, "driver::face": {"driver", "values::json"}, "driver": {"objects::call"}}
    assert imports.upward(graph) == [f"{imports.BINDING}: driver imports objects::call, which is above it"]
