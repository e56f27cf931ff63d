"""Who may import whom: frontend -> core <- backends, and what `import graphc` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.packaging.folders import sources

HEAVY = ("numba", "llvmlite")
# files whose text is compiled by itself, like that of an emitted kernel: relative imports would lead nowhere
STANDALONE = {f"graphc.backends.cpu.machine.{name}" for name in ("driver_code", "entry_code", "timed_code")}
RULES = {  # folder of the module -> what it may never import, at any depth of the file
    "graphc": ("graphc.frontend", "graphc.backends"),
    "graphc.frontend": ("graphc.backends",),
    "graphc.backends": ("graphc.frontend",),
}


@dataclass(frozen=True)
class Import:
    """One name that a module imports: absolute, with the line, and whether importing the module runs it."""

    name: str
    line: int
    relative: bool
    eager: bool


def folder_of(module: str) -> str:
    """The folder a module lives in, as the package it is installed as."""
    for package in ("graphc.frontend", "graphc.backends"):
        if module == package or module.startswith(package + "."):
            return package
    return "graphc"


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def imports(module: str, text: str, is_package: bool) -> Iterator[Import]:
    """Every import in the source text of a module; those for type checkers only are left out."""

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            eager = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child, eager)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, False, eager)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".") if is_package else module.split(".")[:-1]
                parts = parts[: len(parts) - (node.level - 1)]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, bool(node.level), eager)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager)

    yield from visit(ast.parse(text), True)


def all_imports() -> dict[str, list[Import]]:
    return {
        name: list(imports(name, path.read_text(encoding="utf-8"), path.name == "__init__.py"))
        for name, path in sources().items()
    }


def violations(module: str, found: list[Import]) -> list[str]:
    """The sentences about what a module must not do; empty when it keeps the rules."""
    here = folder_of(module)
    said = []
    for item in found:
        where = f"{module}:{item.line} imports {item.name}"
        for banned in RULES[here]:
            if within(item.name, banned):
                said.append(f"{where}: {here} must not import {banned}")
        if here != "graphc.backends" and item.eager and item.name.split(".")[0] in HEAVY:
            said.append(f"{where} when it is imported; only backends may")
        if within(item.name, "graphc"):
            same = folder_of(item.name) == here
            if same and not item.relative and module not in STANDALONE:
                said.append(f"{where}: inside one folder imports are relative")
            if not same and item.relative:
                said.append(f"{where}: across folders imports say graphc.<...>")
        if item.name.split(".")[0] in ("frontend", "backends"):
            said.append(f"{where}: the folder is installed as graphc.{item.name.split('.')[0]}")
    return said


@pytest.mark.parametrize("module", sorted(sources()))
def test_module_keeps_the_import_rules(module: str):
    path = sources()[module]
    found = list(imports(module, path.read_text(encoding="utf-8"), path.name == "__init__.py"))
    assert not violations(module, found), "\n".join(violations(module, found))


def module_graph() -> dict[str, set[str]]:
    """module -> the modules of the project that importing it imports, packages on the way not counted."""
    known = set(sources())
    graph: dict[str, set[str]] = {}
    for module, found in all_imports().items():
        edges = set()
        for item in found:
            if not item.eager:
                continue
            name = item.name
            if name not in known:  # `from x import y` where y is no module
                name = name.rpartition(".")[0]
            if name in known and name != module:
                edges.add(name)
        graph[module] = edges
    return graph


def cycle(graph: dict[str, set[str]]) -> list[str] | None:
    """One cycle of the graph as a path that ends where it began, or None."""
    done: set[str] = set()
    for start in sorted(graph):
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph[start])))]
        path = [start]
        while stack:
            node, rest = stack[-1]
            for following in rest:
                if following in path:
                    return [*path[path.index(following) :], following]
                if following not in done:
                    stack.append((following, iter(sorted(graph.get(following, ())))))
                    path.append(following)
                    break
            else:
                done.add(node)
                stack.pop()
                path.pop()
    return None


def test_no_circular_imports():
    found = cycle(module_graph())
    assert found is None, " -> ".join(found or [])


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("graphc.ir.node", "import graphc.frontend.nn", "must not import graphc.frontend"),
        ("graphc.ir.node", "def f():\n    from graphc.backends import cpu", "must not import graphc.backends"),
        ("graphc.ir.node", "import numba", "only backends may"),
        ("graphc.frontend.nn", "from ..backends import cpu", "must not import graphc.backends"),
        ("graphc.backends.cpu", "from graphc import frontend", "must not import graphc.frontend"),
        ("graphc.ir.node", "from graphc.errors import ShapeError", "inside one folder"),
        ("graphc.frontend.module", "from ..errors import ShapeError", "across folders"),
        ("graphc.ir.node", "import frontend.nn", "installed as graphc.frontend"),
    ],
)
def test_the_lint_finds(module: str, text: str, said: str):
    assert said in "\n".join(violations(module, list(imports(module, text, False))))


def test_the_lint_allows():
    text = textwrap.dedent("""
        from typing import TYPE_CHECKING
        from .node import Node
        from ..errors import ShapeError
        if TYPE_CHECKING:
            import numba
        def f():
            import numba
    """)
    for module, source in (("graphc.ir.graph", text), ("graphc.frontend.nn.linear", "import graphc")):
        assert not violations(module, list(imports(module, source, False)))


def test_the_cycle_search_finds():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


def run(code: str, cwd: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_import_is_light(tmp_path: Path):
    code = "import graphc, sys; print([m for m in ('numba', 'llvmlite', 'scipy', 'sklearn') if m in sys.modules])"
    assert run(code, tmp_path).strip() == "[]"


def test_folders_are_not_top_level_imports(tmp_path: Path):
    code = "import importlib.util as u; print([n for n in ('frontend', 'backends') if u.find_spec(n)])"
    assert run(code, tmp_path).strip() == "[]"


def test_the_modules_that_graphc_shows_can_be_imported_by_their_short_names():
    code = """
    import graphc.nn.functional as F
    import graphc.optim.schedules as schedules
    from graphc.data import DataLoader
    from graphc.nn import Linear
    import graphc, graphc.frontend.nn as real, graphc.frontend.optim as optim
    assert F is real.functional and Linear is graphc.nn.Linear and graphc.nn is real and schedules is optim.schedules
    assert real.__spec__.name == real.__name__ == "graphc.frontend.nn"
    for name in ("graphc.nn.nothing", "graphc.nothing", "graphc.compile.nothing"):
        try:
            __import__(name)
        except ModuleNotFoundError:
            continue
        raise AssertionError(name)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
