"""Which loops of a kernel may become one more axis of arrays: those whose rounds do not depend on each other."""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from .flow import affine, assigned_in, fixed, flow, names

__all__ = ["COPIES", "Axis", "Parallel", "Stores"]

COPIES = {"copy1": 1, "copy4": 4, "copy8": 8}
"""The asynchronous copies, and their elements."""


class Axis(NamedTuple):
    """A loop that is an axis of arrays: its numbers, and how many axes of inner loops follow."""

    numbers: range
    inner: int


class Stores:
    """Which buffers statements store to; two parameters that are one buffer count as one."""

    def __init__(self, writer: Any):
        self.writer = writer

    def all(self, body: list[ast.stmt]) -> list[str]:
        found = []
        for s in body:
            for n in ast.walk(s):
                if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Subscript):
                    found.append(n.targets[0].value.id)  # type: ignore[attr-defined]
                elif isinstance(n, ast.Call) and ast.unparse(n.func) in ("load4", "store4", *COPIES):
                    found.append(n.args[0].id)  # type: ignore[attr-defined]
        return [self.writer.alias.get(n, n) for n in found]

    def of(self, body: list[ast.stmt]) -> set[str]:
        return set(self.all(body))


class Parallel:
    """Whether the rounds of a loop of fixed length may be computed side by side, as one more axis."""

    def __init__(self, writer: Any):
        self.w = writer

    def may(self, s: ast.For, out: set[str]) -> bool:
        assigned = assigned_in(s.body) | {s.target.id}  # type: ignore[attr-defined]
        if assigned & out or (flow(s.body)[0] - {s.target.id}) & assigned_in(s.body):  # type: ignore[attr-defined]
            return False
        axes = dict(self.w.axes)
        return self.plain(s, axes, outer=len(axes)) and self.apart(s, axes)

    def plain(self, s: ast.stmt, axes: dict[str, Any], outer: int) -> bool:
        """Assignments, conditions and loops of fixed length only."""
        if isinstance(s, ast.For):
            numbers = fixed(s)
            if numbers is None or not len(numbers) or s.target.id in axes:  # type: ignore[attr-defined]
                return False
            axes[s.target.id] = Axis(numbers, 0)  # type: ignore[attr-defined]
            return all(self.plain(x, axes, outer) for x in s.body)
        if isinstance(s, ast.If):
            return all(self.plain(x, axes, outer) for x in s.body + s.orelse)
        calls = {ast.unparse(n.func) for n in ast.walk(s) if isinstance(n, ast.Call)}
        if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):
            return bool(calls & set(COPIES))
        if not isinstance(s, ast.Assign) or "ballot" in calls:
            return False
        return not (isinstance(s.targets[0], ast.Name) and s.targets[0].id in self.w.arrays)

    def apart(self, s: ast.For, axes: dict[str, Any]) -> bool:
        """Each buffer that is stored to is stored to once, and what is loaded from it is what the same round stores there."""
        stores = Stores(self.w).all([s])
        if len(set(stores)) != len(stores):
            return False
        inner = [n for n in ast.walk(s) if isinstance(n, ast.For)]
        own = {n.target.id for n in inner}  # type: ignore[attr-defined]
        for n in ast.walk(s):
            if isinstance(n, ast.Call) and ast.unparse(n.func) in COPIES and self.w.alias.get(ast.unparse(n.args[2])) in stores:
                return False
            if not (isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)):
                continue
            name = n.value.id
            if name not in self.w.arrays:
                return False
            if self.w.arrays[name][0] != "local":
                if isinstance(n.ctx, ast.Load) and self.w.alias.get(name, name) in stores:
                    return False
                continue
            parts = affine(n.slice, axes)
            if parts is None or not names(*parts[0]) <= self.w.steady or any("cuda." in ast.unparse(e) for e in parts[0]):
                return False
            if not self.neighbours(axes, parts[2]):
                return False
            if name in stores:
                target = next(t for x in ast.walk(s) if isinstance(x, ast.Assign) for t in x.targets if isinstance(t, ast.Subscript) and ast.unparse(t.value) == name)
                if ast.dump(target.slice) != ast.dump(n.slice) or {a for a, k in parts[2].items() if k} & own != self.around(s, target) & own:
                    return False
        return True

    def neighbours(self, axes: dict[str, Any], factors: dict[str, int]) -> bool:
        """Whether the rows are neighbours, in the order of the loops."""
        step = 1
        for name in reversed(list(axes)):
            k = factors.get(name, 0)
            if k:
                if k * axes[name].numbers.step != step:
                    return False
                step *= len(axes[name].numbers)
        return True

    def around(self, s: ast.For, target: ast.AST) -> set[str]:
        """The loops of a nest that a store stands in."""
        if not any(n is target for n in ast.walk(s)):
            return set()
        found = {s.target.id}  # type: ignore[attr-defined]
        for x in ast.walk(s):
            if isinstance(x, ast.For) and any(n is target for n in ast.walk(x)):
                found.add(x.target.id)  # type: ignore[attr-defined]
        return found
