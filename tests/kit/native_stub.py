"""The texts of the native part, as its stub has them."""

from __future__ import annotations

import ast
from pathlib import Path

STUB = Path(__file__).parents[2] / "python" / "turnout" / "_native.pyi"


def texts() -> dict[str, str | None]:
    """Each function, class and member of the stub, with its docstring."""
    found: dict[str, str | None] = {}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.get_docstring(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = ast.get_docstring(node)
            methods = [member for member in node.body if isinstance(member, ast.FunctionDef)]
            found |= {f"{node.name}.{method.name}": ast.get_docstring(method) for method in methods}
    return found


def parameters(name: str) -> list[str]:
    """The parameters of a function or a method, `self` left out."""
    scope: list[ast.stmt] = ast.parse(STUB.read_text()).body
    for part in name.split("."):
        node = next(node for node in scope if getattr(node, "name", None) == part)
        assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
        scope = node.body
    assert isinstance(node, ast.FunctionDef)
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.kwarg]
    return [
        argument.arg for argument in named if argument is not None and argument.arg not in ("self", "cls")
    ]
