"""The text of one kernel: nested blocks, parameters, names, index arithmetic and scalar values.

No size, address or stream number stands in the text: they are parameters, described by :class:`Param` and given at launch.
Index arithmetic is int32: whatever Numba computes in 64 bits is converted back at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.errors import CompileError
from graphc.ir.dims import Expr, FloorDiv, Size, Sym, coefficient, from_terms, lower, substitute, symbols
from graphc.ir.dtypes import DType, int32
from graphc.ir.node import Node
from graphc.loops.build import TRIP
from graphc.loops.nest import Axis, Nest, Write
from graphc.loops.scalar import Scalar, operands, postorder
from graphc.schedule.program import Buffer

from .instructions import device_functions, instruction, literal, stored_type

__all__ = ["VECTOR", "Block", "KernelText", "Param", "Printed", "Team", "multiple"]

VECTOR = 4
"""Elements of one vector access: 16 bytes of float32."""


@dataclass(frozen=True)
class Param:
    """One parameter: its name in the text, its type, and what fills it: a buffer, a size, a number or the trip of a repeat."""

    name: str
    kind: str  # "buffer" | "size" | "number" | "trip"
    dtype: DType
    value: Any


@dataclass(frozen=True)
class Team:
    """Who works at a point: "thread", "warp", "block" (all of its threads), "column" (eight threads of a block, each of another
    warp), "share" (a warp that owns a range of points and looks at everything that may fall into it) or "tile" (a block, where the points are tiles). A block has ``threads`` threads and works at ``points`` points at once."""

    name: str
    threads: int
    points: int


@dataclass
class Printed:
    """A finished kernel: its text, what fills its parameters, how many points it has, and who works at one."""

    text: str
    params: list[Param]
    points: Size
    team: Team
    names: dict[str, Scalar] = field(default_factory=dict)
    """The scalar that each variable holds: its line can be told apart in the text."""


@dataclass(eq=False)
class Block:
    """Lines under a header, perhaps with blocks inside; what is computed in it is known until it closes."""

    header: str = ""
    axes: frozenset[str] = frozenset()
    lines: list[Any] = field(default_factory=list)
    known: dict[Any, str] = field(default_factory=dict)

    def render(self, indent: int) -> list[str]:
        out = [" " * indent + self.header]
        for line in self.lines or ["pass"]:
            out += line.render(indent + 4) if isinstance(line, Block) else [" " * (indent + 4) + line]
        return out


class KernelText:
    """Builds the kernel of a nest. Every value is printed once, in the outermost block that knows what it needs."""

    def __init__(self, nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "", vector: str = "", origins: Mapping[Scalar, Scalar] | None = None):
        """``vector`` is the axis of four neighbours that one thread takes together, if the nest has one (:mod:`.split`)."""
        self.nest = nest
        self.buffers = buffers
        self.comment = comment
        self.params: dict[Any, Param] = {}
        self.blocks: list[Block] = [Block()]
        axes = (*nest.outer, *nest.inner, *(nest.contract.k if nest.contract is not None else ()))
        self.vars = {a.name: f"i{n}" for n, a in enumerate(axes)}
        self.ranges = dict(nest.ranges)
        self.vector = vector
        if vector:
            self.vars[vector], self.ranges[vector] = "e", VECTOR
        self.origins = origins or {}
        self.counts = {"v": 0, "j": 0, "l": 0, "t": 0}
        self.names: dict[str, Scalar] = {}
        self.device: set[str] = set()
        self.arrays: list[str] = []
        self.waiting: list[str] = []
        self.loads_from = 1
        """The number of the outermost block in which memory may be read: threads without a point touch none."""

    # -- parameters ------------------------------------------------------------------------------------------------------
    def _param(self, key: Any, kind: str, prefix: str, dtype: DType, value: Any) -> str:
        if key not in self.params:
            number = sum(p.kind == kind for p in self.params.values())
            self.params[key] = Param(prefix if kind == "trip" else f"{prefix}{number}", kind, dtype, value)
        return self.params[key].name

    def pointer(self, node: Node) -> str:
        b = self.buffers[node]
        key = ("slot", b.name) if b.space == "slot" else b  # an update in place is the same memory
        return self._param(key, "buffer", "p", stored_type(b.type.dtype), b)

    def var(self, name: str) -> str:
        """The variable of a symbol; the trip number of a repeat is a parameter."""
        return self._param("trip", "trip", "trip", int32, None) if name == TRIP else self.vars[name]

    def size(self, e: Size) -> str:
        """A size: tiny ones stand in the text, the others are parameters."""
        if isinstance(e, int) and 0 <= e <= 8:
            return str(e)
        return self._param(("size", e), "size", "s", int32, e)

    def typed(self, e: Size) -> str:
        """A typed size: one literal among the bounds of a range would make it count in 64 bits."""
        text = self.size(e)
        return f"np.int32({text})" if text.isdigit() else text

    def array(self, space: str, size: int, dtype: DType) -> str:
        """The name of a new array that the block shares, or that is the thread's own."""
        name = f"{'l' if space == 'local' else 't'}{self.counts['l' if space == 'local' else 't']}"
        self.counts[name[0]] += 1
        self.arrays.append(f"{name} = cuda.{space}.array({size}, np.{stored_type(dtype)}" + (", alignment=16)" if space == "shared" else ")"))
        return name

    # -- blocks ----------------------------------------------------------------------------------------------------------
    def line(self, text: str, block: Block | None = None) -> None:
        """Appends a line: in a block that is still open, before the block that is open inside it."""
        target = block or self.blocks[-1]
        at = self.blocks.index(target)
        if at + 1 < len(self.blocks):
            target.lines.insert(target.lines.index(self.blocks[at + 1]), text)
        else:
            target.lines.append(text)

    def open(self, header: str, *axes: Axis) -> Block:
        block = Block(header, frozenset(a.name for a in axes))
        self.blocks[-1].lines.append(block)
        self.blocks.append(block)
        return block

    def close(self, count: int = 1) -> None:
        for _ in range(count):
            self.blocks.pop()

    def open_vector(self) -> None:
        """The loop over the four elements of a vector access."""
        self.open(f"for e in range({VECTOR}):", Axis(self.vector, VECTOR))

    def close_vector(self) -> None:
        """Ends it, and stores what it has made."""
        self.close()
        for line in self.waiting:
            self.line(line)
        self.waiting.clear()

    def _aligned(self, e: Size) -> Size | None:
        """The address of the first of four elements that one access may take; None where it has to be one by one."""
        if not self.vector or coefficient(e, self.vector) != 1:
            return None
        base = substitute(e, {self.vector: 0})
        return base if multiple(base, VECTOR) else None

    def _find(self, key: Any) -> str | None:
        return next((b.known[key] for b in reversed(self.blocks) if key in b.known), None)

    def _place(self, names: set[str], needs: tuple[Scalar, ...], least: int) -> Block:
        """The outermost block, from number ``least``, that knows axes and values."""
        depth = min(least, len(self.blocks) - 1)
        for i, block in enumerate(self.blocks):
            if block.axes & names or any(s in block.known for s in needs):
                depth = max(depth, i)
        return self.blocks[depth]

    def name(self, key: Any, text: str, block: Block, prefix: str = "v") -> str:
        name = f"{prefix}{self.counts[prefix]}"
        self.counts[prefix] += 1
        self.line(f"{name} = {text}", block)
        block.known[key] = name
        return name

    # -- index expressions -----------------------------------------------------------------------------------------------
    def index(self, e: Size) -> str:
        """An int32 index: a variable, a parameter or a small number; anything longer gets a name."""
        if isinstance(e, int) and e >= 0:
            return self.size(e)
        if not isinstance(e, int) and len(e.terms) == 1 and e.terms[0][1] == 1 and len(e.terms[0][0]) == 1:
            (base, power), = e.terms[0][0]
            if power == 1 and isinstance(base, Sym) and self._moves(base):
                return self.var(base.name)
        found = self._find(e)
        if found is not None:
            return found
        text = f"np.int32({self.raw(e)})"
        needs = tuple(_scalars(e))
        return self.name(e, text, self._place(symbols(e), needs, 1 if needs else 0), "j")

    def raw(self, e: Size) -> str:
        """An index expression as a sum; what no loop changes is one parameter a term."""
        groups: dict[Any, Size] = {}
        for mono, coef in e.terms if isinstance(e, Expr) else (((), e),):
            moving = tuple((b, p) for b, p in mono if self._moves(b))
            still = tuple((b, p) for b, p in mono if not self._moves(b))
            groups[moving] = groups.get(moving, 0) + from_terms([(still, coef)])
        text = ""
        for moving, factor in groups.items():
            sign, size = ("-", -factor) if _negative(factor) else ("+", factor)
            words = [self._atom(b) for b, p in moving for _ in range(p)]
            if size != 1 or not words:
                words.append(self.size(size))
            term = " * ".join(words)
            text += f" {sign} {term}" if text else term if sign == "+" else f"-{term}"
        return text or "0"

    def _moves(self, atom: Any) -> bool:
        if isinstance(atom, Sym):
            return atom.name in self.vars or atom.name == TRIP
        if isinstance(atom, FloorDiv):
            return any(self._moves(b) for e in (atom.num, atom.den) if isinstance(e, Expr) for m, _ in e.terms for b, _p in m)
        return True

    def _atom(self, atom: Any) -> str:
        if isinstance(atom, Sym):
            return self.var(atom.name)
        if isinstance(atom, Scalar):
            return self.value(atom)
        key = ("//", atom.num, atom.den)
        found = self._find(key)
        if found is not None:
            return found
        needs = (*_scalars(atom.num), *_scalars(atom.den))
        block = self._place(symbols(atom.num) | symbols(atom.den), needs, 1 if needs else 0)
        return self.name(key, self._quotient(atom.num, atom.den), block, "j")

    def _quotient(self, num: Size, den: Size) -> str:
        """Rounded down: a shift, an unsigned 32-bit division where no operand is negative, else 64 bits (slow on GPUs)."""
        if isinstance(den, int) and den & (den - 1) == 0:
            return f"np.int32(({self.raw(num)}) >> {den.bit_length() - 1})"
        low = lower(num, self.ranges)
        if low >= 0 if isinstance(low, int) else all(c >= 0 for _, c in low.terms):
            return f"np.int32(np.uint32({self.raw(num)}) // np.uint32({self.raw(den)}))"
        return f"np.int32(({self.raw(num)}) // {self.index(den)})"

    # -- values ----------------------------------------------------------------------------------------------------------
    def value(self, root: Scalar) -> str:
        """The variable (or literal) that holds a scalar; prints what is missing."""
        for s in postorder([root]):
            if s.op != "const" and self._find(s) is None:
                self._emit(s)
        return self._held(root)

    def _held(self, s: Scalar) -> str:
        if s.op == "const":
            return literal(s.attr, s.dtype)
        found = self._find(s)
        if found is None:
            raise CompileError(f"{s!r} is used before it is computed")
        return found

    def _emit(self, s: Scalar) -> None:
        attr: Any = ""
        names: set[str] = set()
        if s.op == "acc":
            raise CompileError(f"accumulator {s.attr} is read before it is complete")
        if s.op == "load":
            names = symbols(s.attr[1][0])
            base = None if s.args else self._aligned(s.attr[1][0])
            attr = self.element(s.attr[0], self.index(s.attr[1][0])) if base is None else self._vector_element(s.attr[0], base)
            if s.args:
                attr += f" if {self._held(s.args[0])} else {literal(0, s.dtype)}"
        elif s.op == "index":
            names, attr = symbols(s.attr), self.index(s.attr)
        elif s.op == "arg":
            attr = self._param(s.attr, "number", "n", s.dtype, s.attr)
        block = self._place(names, operands(s), self.loads_from if s.op == "load" else 0)
        text = instruction(s.op, s.dtype, [self._held(a) for a in s.args], [a.dtype for a in s.args], attr)
        self.device |= device_functions(text)
        self.names[self.name(s, text, block)] = self.origins.get(s, s)

    def _vector_element(self, node: Node, base: Size) -> str:
        """One of four elements that were loaded together."""
        key = ("load4", node, base)
        local = self._find(key)
        if local is None:
            local = self.array("local", VECTOR, node.dtype)
            at, needs = self.index(base), tuple(_scalars(base))
            block = self._place(symbols(base), needs, self.loads_from)
            self.device.add("load4")
            self.line(f"load4({local}, 0, {self.pointer(node)}, {at})", block)
            block.known[key] = local
        return self.loaded(f"{local}[e]", node.dtype)

    def element(self, node: Node, at: str) -> str:
        """An element of a buffer."""
        return self.loaded(f"{self.pointer(node)}[{at}]", node.dtype)

    @staticmethod
    def loaded(element: str, dtype: DType) -> str:
        """What memory holds as a value: bools are bytes."""
        return f"{element} != 0" if dtype.kind == "b" else element

    @staticmethod
    def stored(value: str, dtype: DType) -> str:
        """A value as memory holds it: bools are bytes."""
        return f"np.uint8(1) if {value} else np.uint8(0)" if dtype.kind == "b" else value

    def store(self, w: Write) -> None:
        value = self.stored(self.value(w.value), w.value.dtype)
        base = self._aligned(w.index[0])
        if base is None:
            self.line(f"{self.pointer(w.node)}[{self.index(w.index[0])}] = {value}")
            return
        local = self.array("local", VECTOR, w.node.dtype)
        self.device.add("store4")
        self.waiting.append(f"store4({self.pointer(w.node)}, {self.index(base)}, {local})")
        self.line(f"{local}[e] = {value}")

    # -- frame -----------------------------------------------------------------------------------------------------------
    def open_points(self, axes: tuple[Axis, ...], points: Size, first: str, step: str) -> Block:
        """The loop over this thread's (or warp's) outer points, and the index of each axis from the running number."""
        block = self.open(f"for u in range({first}, {self.typed(points)}, {step}):", *self.nest.outer)
        self.decode(axes, "u")
        return block

    def decode(self, axes: Sequence[Axis], number: str) -> None:
        """The index of each axis from the running number of a point: the last axis runs fastest."""
        for n in range(len(axes) - 1, -1, -1):
            var = self.vars[axes[n].name]
            if n == 0:
                self.line(f"{var} = np.int32({number})")
                break
            size, rest = self.size(axes[n].size), f"{var}r"
            self.line(f"{rest} = np.int32(np.uint32({number}) // np.uint32({size}))")
            self.line(f"{var} = np.int32({number} - {rest} * {size})")
            number = rest

    def finish(self, points: Size, team: Team) -> Printed:
        order = {"buffer": 0, "size": 1, "number": 2, "trip": 3}
        params = sorted(self.params.values(), key=lambda p: order[p.kind])
        top = self.blocks[0]
        top.header = f"def kernel({', '.join(p.name for p in params)}):"
        top.lines[:0] = self.arrays
        types = ", ".join(f"{p.name} {'*' if p.kind == 'buffer' else ''}{p.dtype}" for p in params)
        head = [f"# {c}" for c in self.comment.splitlines()]
        head.append(f"# one {team.name} a point, {team.threads} threads a block; {types}")
        head += ["import numpy as np", "from numba import cuda", "from numba.cuda import libdevice"]
        if self.device:
            head += ["", f"from graphc.backends.cuda.device import {', '.join(sorted(self.device))}"]
        head += ["", "", "@cuda.jit"]
        return Printed("\n".join(head + top.render(0)) + "\n", params, points, team, self.names)


def multiple(e: Size, of: int) -> bool:
    """Whether a number divides an index expression, whatever its symbols are."""
    return e % of == 0 if isinstance(e, int) else all(c % of == 0 for _, c in e.terms)


def _negative(e: Size) -> bool:
    return e < 0 if isinstance(e, int) else all(c < 0 for _, c in e.terms)


def _scalars(e: Size) -> list[Scalar]:
    """Values that stand in an index expression."""
    found: list[Scalar] = []
    for mono, _ in e.terms if isinstance(e, Expr) else ():
        for base, _p in mono:
            if isinstance(base, Scalar):
                found.append(base)
            elif isinstance(base, FloorDiv):
                found += _scalars(base.num) + _scalars(base.den)
    return found
