"""Circles of imports, in Python at run time and in the crates; `make lint` runs it, and none may be found.

A package or a parent module does not count as imported by what is in it. The binding of turnout-core to Python has
floors besides: a module of one imports from its own and from those below.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]

BINDING = "rust/python/src"
FLOORS = ("values", "asyncio", "driver", "objects", "connection", "http", "relay", "control", "lib")
"""Of the binding, from the bottom."""

Graph = dict[str, set[str]]


def circles(graph: Graph) -> list[list[str]]:
    """Every set of modules that lead to each other, as Tarjan's algorithm finds them."""
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for imported in graph.get(module, ()):
            if imported not in number:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], number[imported])
        if lowest[module] == number[module]:
            members = path[path.index(module) :]
            del path[path.index(module) :]
            if len(members) > 1:
                found.append(sorted(members))

    for module in graph:
        if module not in number:
            visit(module)
    return found


def of_python(folder: Path) -> Graph:
    """What each module imports when it is imported itself."""
    modules = {_dotted(path.relative_to(folder)): path for path in folder.rglob("*.py")}
    graph: Graph = {}
    for module, path in modules.items():
        graph[module] = {
            found for found in _imported(ast.parse(path.read_text()).body, modules) if found != module
        }
    return graph


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imported(body: Iterable[ast.stmt], modules: Iterable[str]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                if part in modules:
                    yield part
                elif node.module in modules and not alias.name.startswith("_"):
                    yield node.module
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imported(node.orelse, modules)
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            for name in ("body", "orelse", "finalbody"):
                yield from _imported(getattr(node, name, []), modules)


def of_rust(folder: Path) -> Graph:
    """What each module of a crate names of the others, outside of its tests."""
    modules = {
        "::".join(path.relative_to(folder).with_suffix("").parts): path for path in folder.rglob("*.rs")
    }
    graph: Graph = {}
    for module, path in modules.items():
        code = re.sub(r"//.*", "", path.read_text()).split("#[cfg(test)]")[0]
        named = {_module_of(name, modules) for name in _paths(code, module)}
        graph[module] = {
            name for name in named if name and name != module and not module.startswith(f"{name}::")
        }
    return graph


def _paths(code: str, module: str) -> Iterator[str]:
    path = r"[a-z_]\w*(?:::[a-z_]\w*)*"
    yield from re.findall(rf"\bcrate::({path})", code)
    for start, parts in re.findall(r"\buse crate::([a-z_:]*)\{([^}]*)\}", code):
        yield from (start + part for part in re.findall(path, parts))
    parent = module.rpartition("::")[0]
    yield from (f"{parent}::{name}".lstrip(":") for name in re.findall(rf"\bsuper::({path})", code))


def _module_of(name: str, modules: Iterable[str]) -> str:
    while name and name not in modules:
        name = name.rpartition("::")[0]
    return name


def faults() -> list[str]:
    """One line for each circle that may not be."""
    graphs = {"python": of_python(ROOT / "python")}
    graphs |= {crate: of_rust(ROOT / crate) for crate in ("rust/core/src", "rust/http/src", BINDING)}
    return [
        f"{folder}: {len(circle)} modules import each other: {', '.join(circle)}"
        for folder, graph in graphs.items()
        for circle in circles(graph)
    ] + upward(graphs[BINDING])


def upward(graph: Graph) -> list[str]:
    """One line for each import of a higher floor."""

    def floor(module: str) -> int:
        return FLOORS.index(module.partition("::")[0])

    return [
        f"{BINDING}: {module} imports {imported}, which is above it"
        for module in sorted(graph)
        for imported in sorted(graph[module])
        if floor(imported) > floor(module)
    ]


if __name__ == "__main__":
    sys.exit("\n".join(faults()) or None)
