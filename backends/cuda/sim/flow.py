"""What the text of a kernel says of its variables: who is read and set where, loops over literals, indices that are sums of axes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from .interpret import TYPES

__all__ = ["affine", "assigned_in", "fixed", "flow", "height", "live", "live_behind", "names"]

MODULES = {"np", "cuda", "libdevice"}


def once(f: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps what is found about a node of a tree with the node."""

    def found(node: Any) -> Any:
        kept = node.__dict__.setdefault("_found", {})
        if f not in kept:
            kept[f] = f(node)
        return kept[f]

    return found


@once
def read(node: ast.AST) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)) - MODULES


def names(*nodes: ast.AST) -> set[str]:
    """The variables that are read."""
    return {name for node in nodes for name in read(node)}


def assigned_in(body: list[ast.stmt]) -> set[str]:
    return {n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def flow(body: list[ast.stmt]) -> tuple[set[str], set[str]]:
    """The variables whose values from before statements a thread may read in them, and those that it assigns in any case."""
    needs: set[str] = set()
    sets: set[str] = set()
    for s in body:
        more, done = flow_of(s)
        needs |= more - sets
        sets |= done
    return needs, sets


@once
def flow_of(s: ast.stmt) -> tuple[set[str], set[str]]:
    if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name):
        return names(s.value), {s.targets[0].id}
    if isinstance(s, ast.If):
        (needs, sets), (others, also) = flow(s.body), flow(s.orelse)
        return names(s.test) | needs | others, sets & also
    if isinstance(s, ast.For):
        return names(s.iter) | (flow(s.body)[0] - {s.target.id}), set()  # type: ignore[attr-defined]
    if isinstance(s, ast.While):
        return names(s.test) | flow(s.body)[0], set()
    return names(s), set()


def live(s: ast.stmt, out: set[str]) -> set[str]:
    """The variables whose values may still be read in front of a statement, given those behind it."""
    needs, sets = flow_of(s)
    return needs | (out - sets)


def live_behind(s: ast.For | ast.While, out: set[str]) -> set[str]:
    """What may be read at the end of a loop's round."""
    return out | flow(s.body)[0] | (names(s.test) if isinstance(s, ast.While) else set())


def fixed(s: ast.stmt) -> range | None:
    """The numbers of a loop over literals."""
    if not (isinstance(s, ast.For) and isinstance(s.iter, ast.Call) and all(isinstance(a, ast.Constant) for a in s.iter.args)):
        return None
    return range(*(a.value for a in s.iter.args))  # type: ignore[attr-defined]


def height(s: ast.stmt) -> int:
    """How many loops stand inside each other."""
    inner = max((height(x) for x in ast.iter_child_nodes(s) if isinstance(x, ast.stmt)), default=0)
    return inner + isinstance(s, ast.For)


def affine(e: ast.expr, axes: Mapping[str, Any]) -> tuple[list[ast.expr], int, dict[str, int]] | None:
    """An index as other terms, a number, and a factor for each axis; None where it is no such sum."""
    if isinstance(e, ast.Constant) and isinstance(e.value, int):
        return [], e.value, {}
    if isinstance(e, ast.Name):
        return ([], 0, {e.id: 1}) if e.id in axes else ([e], 0, {})
    if isinstance(e, ast.Call) and ast.unparse(e.func) in TYPES and len(e.args) == 1:
        return affine(e.args[0], axes)
    if isinstance(e, ast.BinOp) and isinstance(e.op, ast.Add):
        x, y = affine(e.left, axes), affine(e.right, axes)
        if x is None or y is None:
            return None
        return x[0] + y[0], x[1] + y[1], {n: x[2].get(n, 0) + y[2].get(n, 0) for n in {*x[2], *y[2]}}
    if isinstance(e, ast.BinOp) and isinstance(e.op, ast.Mult) and isinstance(e.right, ast.Constant):
        x = affine(e.left, axes)
        if x is not None and not x[0] and isinstance(e.right.value, int):
            return [], x[1] * e.right.value, {n: k * e.right.value for n, k in x[2].items()}
    return None if names(e) & set(axes) else ([e], 0, {})
