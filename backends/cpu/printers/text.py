"""The text of one kernel: nested scopes, names in order of first use, and the argument block that goes with it.

A kernel's text holds no size, no address and no stream number: they come from the argument block, described by
:class:`Slot` entries and filled in when sizes are bound. So one text serves every batch size, and layers of different
width share a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.ir.dims import Expr, FloorDiv, Size, Sym, cdiv, from_terms
from graphc.ir.dtypes import DType
from graphc.loops.scalar import Scalar
from graphc.schedule.program import Buffer

from ..shares import Share
from ..slots import Slot

__all__ = ["KernelText", "Printed", "Scope", "Slot"]


@dataclass
class Printed:
    """A finished kernel: its text and what its argument block holds."""

    text: str
    slots: list[Slot]
    units: str = ""
    names: dict[str, Scalar] = field(default_factory=dict)
    """The scalar that each variable holds: its line can be told apart in the text."""
    shares: tuple[Share, ...] | None = None
    """The axes of its units, the slowest first; None where threads share the work in another way."""


@dataclass(eq=False)
class Scope:
    """A block of lines, perhaps with blocks inside; values computed in it are known until it closes."""

    header: str = ""
    axes: frozenset[str] = frozenset()
    lines: list[Any] = field(default_factory=list)
    known: dict[Scalar, str] = field(default_factory=dict)

    def render(self, indent: int) -> list[str]:
        out = [" " * indent + self.header] if self.header else []
        inner = indent + 4 if self.header else indent
        body: list[str] = []
        for line in self.lines:
            body += line.render(inner) if isinstance(line, Scope) else [" " * inner + line]
        if self.header and not body:
            body = [" " * inner + "pass"]
        return out + body


class KernelText:
    """Builds the text of a kernel. ``vars`` maps axis symbols to the Python variables that hold them."""

    def __init__(self, comment: str = ""):
        self.comment = comment
        self.slots: list[Slot] = []
        self._names: dict[Any, str] = {}
        self.prologue: list[str] = []
        self.factories: dict[str, str] = {}
        self.functions: set[str] = set()
        self.constants: dict[str, str] = {}
        self.chain: list[Scope] = [Scope()]
        self.vars: dict[str, str] = {"trip": "trip"}
        self.count = 0
        self.names: dict[str, Scalar] = {}

    # -- names ---------------------------------------------------------------------------------------------------------
    def fresh(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count - 1}"

    def fn(self, name: str) -> str:
        """A machine function that needs no shape."""
        self.functions.add(name)
        return name

    def make(self, factory: str, dtype: DType | str, *shape: int) -> str:
        """The name of a shaped machine function, made once at the top of the file."""
        code = dtype if isinstance(dtype, str) else dtype.code
        name = f"{factory}_{code}" + (f"_{shape[0]}x{shape[1]}" if shape else "")
        args = ", ".join([repr(code), *map(str, shape)])
        self.factories[name] = f"{name} = tiles.{factory}({args})"
        return name

    def literal(self, value: Any, dtype: DType) -> str:
        """The name of a typed constant."""
        if dtype.kind == "b":
            text = "True" if value else "False"
        elif dtype.is_float:
            name = "float32" if dtype.is_storage else dtype.name  # which holds it, and is what it is cast from
            text = f"np.{name}({float(value)!r})" if np.isfinite(value) else f"np.{name}({str(float(value))!r})"
        else:
            text = f"np.{dtype.name}({int(value)})"
        if text not in self.constants:
            self.constants[text] = f"C{len(self.constants)}"
        return self.constants[text]

    def _slot(self, key: Any, slot: Slot, prefix: str, wrap: str = "{}") -> str:
        if key not in self._names:
            name = f"{prefix}{sum(n.startswith(prefix) for n in self._names.values())}"
            self._names[key] = name
            self.prologue.append(f"{name} = " + wrap.format(f"args[{len(self.slots)}]"))
            self.slots.append(slot)
        return self._names[key]

    def pointer(self, buffer: Buffer) -> str:
        key = ("slot", buffer.name) if buffer.space == "slot" else buffer
        return self._slot(("p", key), Slot("address", buffer), "p", f"{self.fn('ptr_' + buffer.type.dtype.code)}({{}})")

    def zeros(self, count: Size, dtype: DType) -> str:
        """A pointer to so many zeros."""
        return self._slot(("z", count, dtype), Slot("zeros", count * dtype.itemsize), "z", f"{self.fn('ptr_' + dtype.code)}({{}})")

    def scratch(self, count: Size, dtype: DType) -> str:
        """A pointer to so many elements for each thread; ``count`` is rounded up to whole cache lines."""
        line = 64 // dtype.itemsize
        count = cdiv(count, line) * line
        p = self._slot(("scratch", dtype), Slot("scratch", count * dtype.itemsize), "t", f"{self.fn('ptr_' + dtype.code)}({{}})")
        return f"{p}, tid * {self.size(count)}"

    def size(self, e: Size) -> str:
        """A size or stride: small powers of two and little numbers stand in the text, the rest in the argument block."""
        if isinstance(e, int) and (0 <= e <= 8 or e in (16, 32, 64)):
            return str(e)
        return self._slot(("s", e), Slot("size", e), "s")

    def number(self, key: Any) -> str:
        return self._slot(("n", len(self.slots), key), Slot("number", key), "n")

    # -- integer expressions -------------------------------------------------------------------------------------------
    def int_expr(self, e: Size) -> str:
        """An index expression over the variables of the axes; everything without an axis becomes one argument."""
        if isinstance(e, int) and e == 0:
            return "0"
        groups: dict[tuple[tuple[Any, int], ...], Size] = {}
        terms = e.terms if isinstance(e, Expr) else (((), e),)
        for mono, coef in terms:
            moving = tuple((b, p) for b, p in mono if self._moves(b))
            still = tuple((b, p) for b, p in mono if not self._moves(b))
            groups[moving] = groups.get(moving, 0) + from_terms([(still, coef)])
        parts = []
        for moving, factor in groups.items():
            words = [self._atom(b) for b, p in moving for _ in range(p)]
            if not words:
                parts.append(
                    self.size(factor)
                    if not (isinstance(factor, int) and factor < 0)
                    else f"({factor})"
                    if factor >= -64
                    else self.size(factor)
                )
            elif factor == 1:
                parts.append(" * ".join(words))
            elif factor == -1:
                parts.append("-" + " * ".join(words))
            else:
                parts.append(
                    " * ".join([*words, self.size(factor) if not (isinstance(factor, int) and -64 <= factor < 0) else f"({factor})"])
                )
        return " + ".join(parts) or "0"

    def _moves(self, atom: Any) -> bool:
        if isinstance(atom, Sym):
            return atom.name in self.vars
        if isinstance(atom, FloorDiv):
            return any(self._moves(b) for side in (atom.num, atom.den) if isinstance(side, Expr) for m, _ in side.terms for b, _p in m)
        return True

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Sym):
            return self.vars[atom.name]
        if isinstance(atom, FloorDiv):
            return f"(({self.int_expr(atom.num)}) // {self.int_expr_atom(atom.den)})"
        return self.scalar_as_int(atom)

    def int_expr_atom(self, e: Size) -> str:
        text = self.int_expr(e)
        return text if text.isidentifier() or text.isdigit() else f"({text})"

    def scalar_as_int(self, s: Scalar) -> str:
        raise NotImplementedError(f"{s!r} in an index")  # given by the emitter

    # -- scopes --------------------------------------------------------------------------------------------------------
    def line(self, text: str, scope: Scope | None = None) -> None:
        """Appends a line to a scope: before its open child, if it has one."""
        target = scope or self.chain[-1]
        if target is self.chain[-1]:
            target.lines.append(text)
        else:
            child = self.chain[self.chain.index(target) + 1]
            target.lines.insert(target.lines.index(child), text)

    def open(self, header: str, axes: frozenset[str] = frozenset()) -> Scope:
        scope = Scope(header, axes)
        self.chain[-1].lines.append(scope)
        self.chain.append(scope)
        return scope

    def close(self) -> None:
        self.chain.pop()

    def render(self) -> str:
        head = ["import numpy as np", "from graphc.backends.cpu.machine import tiles"]
        if self.functions:
            head.append(f"from graphc.backends.cpu.machine.tiles import {', '.join(sorted(self.functions))}")
        lines = [*(f"# {c}" for c in self.comment.splitlines()), *head, ""]
        lines += [self.factories[k] for k in sorted(self.factories)]
        lines += [f"{name} = {text}" for text, name in self.constants.items()]
        lines += ["", "", "def kernel(tid, nthreads, args, trip):"]
        lines += ["    " + p for p in self.prologue]
        body = self.chain[0].render(4)
        return "\n".join(lines + body) + "\n"
