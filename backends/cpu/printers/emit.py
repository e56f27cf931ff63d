"""Scalar IR as tile operations: one line of text an instruction, whatever the size of the tile.

A value that varies along the lane axis is a row of lanes, one that varies along the row axis a column, both a tile, none
a 1x1 tile; the machine layer broadcasts. A value is computed in the outermost scope that knows everything it needs.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from graphc.errors import CompileError
from graphc.ir.dims import Expr, FloorDiv, Size, Sym, coefficient, from_terms, symbols
from graphc.ir.dims import atom as atom_size
from graphc.ir.dtypes import DType, int64
from graphc.ir.node import Node
from graphc.loops.nest import Write
from graphc.loops.scalar import Scalar, operands, postorder, values_in
from graphc.schedule.program import Buffer

from .text import KernelText, Scope

__all__ = ["Emitter", "Lanes", "lane_stride"]

FUNCTIONS = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "neg": "neg", "fma": "fma", "minimum": "minimum", "maximum": "maximum",
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "rint": "rint", "trunc": "trunc", "absolute": "absolute", "mulhi": "mulhi", "ldexp": "ldexp",
    "bit_and": "bit_and", "bit_or": "bit_or", "bit_xor": "bit_xor", "bit_not": "bit_not", "shl": "shl", "shr": "shr",
    "lt": "lt", "le": "le", "eq": "eq", "ne": "ne", "select": "select",
}  # fmt: skip


@dataclass(frozen=True)
class Lanes:
    """A vectorised axis: its symbol, how many of it a tile holds, and the variable with how many are valid."""

    axis: str
    count: int
    valid: str


def lane_stride(e: Size, axis: str, count: int) -> Size | None:
    """Distance of neighbouring lanes in address ``e``, when tiles start at multiples of ``count``; None if it varies.

    A floor division does not vary within a tile when its divisor and everything but the axis are multiples of ``count``
    (panel layouts).
    """
    if isinstance(e, int) or axis not in symbols(e):
        return 0
    total: Size = 0
    for mono, coef in e.terms:
        inside = [b for b, _ in mono if axis in symbols(atom_size(b))]
        if not inside:
            continue
        if len(inside) == 1 and isinstance(inside[0], FloorDiv) and _constant_in_tile(inside[0], axis, count):
            continue
        if any(not isinstance(b, Sym) for b in inside):
            return None
        term = from_terms([(mono, coef)])
        c = coefficient(term, axis)
        if c is None:
            return None
        total = total + c
    return total


def _constant_in_tile(f: FloorDiv, axis: str, count: int) -> bool:
    if not isinstance(f.den, int) or f.den % count or coefficient(f.num, axis) != 1:
        return False
    rest = f.num - atom_size(Sym(axis))
    terms = rest.terms if isinstance(rest, Expr) else (((), rest),)
    return all(c % count == 0 for _, c in terms)


class _Known(Container[Scalar]):
    """What stands in a variable already, here."""

    def __init__(self, emitter: Emitter):
        self.emitter = emitter

    def __contains__(self, s: object) -> bool:
        return isinstance(s, Scalar) and s.op != "const" and self.emitter._find(s) is not None


class Emitter(KernelText):
    """Prints scalars of one nest. ``rows`` and ``lanes`` are the vectorised axes (either may be None)."""

    def __init__(self, buffers: dict[Node, Buffer], lanes: Lanes | None, rows: Lanes | None = None, comment: str = ""):
        super().__init__(comment)
        self.buffers = buffers
        self.lanes = lanes
        self.rows = rows
        self.shapes: dict[Scalar, tuple[bool, bool]] = {}
        self.acc_names: dict[int, tuple[str, tuple[bool, bool], Scope]] = {}
        self.floor = 0
        """The outermost scope that values may stand in, or be found in."""
        self.inside = 0
        """The scope of an open branch (0: there is none)."""

    @contextmanager
    def tile(self, lanes: Lanes, rows: Lanes) -> Iterator[None]:
        """Other axes in lanes and rows for a while: what is computed meanwhile is not known afterwards."""
        kept = self.lanes, self.rows, self.shapes, self.floor
        self.lanes, self.rows, self.shapes, self.floor = lanes, rows, {}, len(self.chain)
        self.open("")
        try:
            yield
        finally:
            self.close()
            self.lanes, self.rows, self.shapes, self.floor = kept

    @contextmanager
    def branch(self, condition: str) -> Iterator[None]:
        """What is done under a condition: values that would be computed in the scope around it are computed inside."""
        self.open(f"if {condition}:")
        self.inside = len(self.chain) - 1
        try:
            yield
        finally:
            self.close()
            self.inside = 0

    # -- shapes of values ------------------------------------------------------------------------------------------------
    def varies(self, s: Scalar) -> tuple[bool, bool]:
        """(along rows, along lanes)."""
        found = self.shapes.get(s)
        if found is None:
            for t in postorder([s]):
                if t in self.shapes:
                    continue
                if t.op == "acc":
                    self.shapes[t] = self.acc_names[t.attr][1]
                    continue
                row = lane = False
                for a in operands(t):
                    row |= self.shapes[a][0]
                    lane |= self.shapes[a][1]
                names: set[str] = set()
                if t.op == "load":
                    names = symbols(t.attr[1][0])
                elif t.op == "index":
                    names = symbols(t.attr)
                self.shapes[t] = (
                    row or (self.rows is not None and self.rows.axis in names),
                    lane or (self.lanes is not None and self.lanes.axis in names),
                )
            found = self.shapes[s]
        return found

    def shape(self, varies: tuple[bool, bool]) -> tuple[int, int]:
        return (self.rows.count if varies[0] and self.rows else 1, self.lanes.count if varies[1] and self.lanes else 1)

    def valid(self, varies: tuple[bool, bool]) -> tuple[str, str]:
        return (self.rows.valid if varies[0] and self.rows else "1", self.lanes.valid if varies[1] and self.lanes else "1")

    # -- values ----------------------------------------------------------------------------------------------------------
    def value(self, root: Scalar) -> str:
        """The variable that holds a scalar, printing what is missing."""
        for t in postorder([root], _Known(self)):
            if t.op != "const":
                self._emit(t)
        return self.name(root)

    def name(self, s: Scalar) -> str:
        if s.op == "const":
            return self.literal(s.attr, s.dtype)
        found = self._find(s)
        if found is None:
            raise CompileError(f"{s!r} is used before it is computed")
        return found

    def _find(self, s: Scalar) -> str | None:
        for scope in reversed(self.chain[self.floor :]):
            if s in scope.known:
                return scope.known[s]
        return None

    def _depth(self, s: Scalar) -> int:
        """The outermost scope that knows the axes and operands of ``s``."""
        need = {n for n in self._own_symbols(s) if n in self.vars and n != "trip"}
        depth = self.floor
        for i, scope in enumerate(self.chain):
            if i >= depth and scope.axes & need:
                depth = i
        for a in operands(s):
            for i, scope in enumerate(self.chain):
                if a in scope.known:
                    depth = max(depth, i)
        return self.inside if depth == self.inside - 1 else depth

    @staticmethod
    def _own_symbols(s: Scalar) -> set[str]:
        return symbols(s.attr[1][0]) if s.op == "load" else symbols(s.attr) if s.op == "index" else set()

    def _emit(self, s: Scalar) -> None:
        if s.op == "acc":
            name, _, scope = self.acc_names[s.attr]
            scope.known[s] = name
            return
        scope = self.chain[self._depth(s)]
        text = self._text(s, scope)
        name = self.fresh()
        self.names[name] = s
        self.line(f"{name} = {text}", scope)
        scope.known[s] = name

    def _text(self, s: Scalar, scope: Scope) -> str:
        varies = self.varies(s)
        if s.op == "load":
            return self._load(s, scope, varies)
        if s.op == "index":
            return self.index_tile(s.attr, varies, scope)
        if s.op == "arg":
            return f"{self.make('splat', s.dtype, 1, 1)}({self.number(s.attr)})"
        if s.op in ("cast", "bitcast"):
            return f"{self.make(s.op, s.dtype)}({self.name(s.args[0])})"
        args = s.args
        if s.op in ("minimum", "maximum") and args[1].op == "const":  # whose first operand is no NaN is one instruction
            args = args[::-1]
        return f"{self.fn(FUNCTIONS[s.op])}({', '.join(self._operand(a, s) for a in args)})"

    def _operand(self, a: Scalar, user: Scalar) -> str:
        if a.op == "const" and all(x.op == "const" for x in user.args):
            return f"{self.make('splat', a.dtype, 1, 1)}({self.name(a)})"
        return self.name(a)

    # -- memory ----------------------------------------------------------------------------------------------------------
    def strides(self, e: Size) -> tuple[Size | None, Size | None]:
        """(row, lane) strides of an address."""
        row = lane_stride(e, self.rows.axis, self.rows.count) if self.rows else 0
        lane = lane_stride(e, self.lanes.axis, self.lanes.count) if self.lanes else 0
        return row, lane

    def _load(self, s: Scalar, scope: Scope, varies: tuple[bool, bool]) -> str:
        node, (e,) = s.attr
        p = self.pointer(self.buffers[node])
        row, lane = self.strides(e)
        if s.args:
            shape = self.shape(varies)
            m, n = self.valid(varies)
            if row is not None and (lane == 1 or (lane == 0 and not varies[1])) and not self._has_values(e, varies):
                where, ld = self._spread(self.name(s.args[0]), "b1", shape), self.size(row) if varies[0] else "0"
                return f"{self.make('loader_masked', s.dtype, *shape)}({p}, {self.int_expr(e)}, {ld}, {where}, {m}, {n})"
            offsets = self._spread(self.index_tile(e, varies, scope), int64, shape)
            return (
                f"{self.make('loader_where', s.dtype, *shape)}({p}, {offsets}, {self._spread(self.name(s.args[0]), 'b1', shape)}, {m}, {n})"
            )
        if row is None or lane is None or self._has_values(e, varies):
            shape = self.shape(varies)
            m, n = self.valid(varies)
            return f"{self.make('gather', s.dtype, *shape)}({p}, {self._spread(self.index_tile(e, varies, scope), int64, shape)}, {m}, {n})"
        here = (row != 0 and varies[0], lane != 0 and varies[1])
        shape, (m, n) = self.shape(here), self.valid(here)
        at, ld = self.int_expr(e), self.size(row) if here[0] else "0"
        if here == (True, True) and row == 1 and lane != 1 and shape[0] == shape[1]:
            return f"{self.make('loader_t', s.dtype, *shape)}({p}, {at}, {self.size(lane)}, {m}, {n})"
        if here[1] and lane != 1:
            return f"{self.make('loader_strided', s.dtype, *shape)}({p}, {at}, {ld}, {self.size(lane)}, {m}, {n})"
        return f"{self.make('loader', s.dtype, *shape)}({p}, {at}, {ld}, {m}, {n})"

    def _has_values(self, e: Size, varies: tuple[bool, bool]) -> bool:
        """Whether the address holds a loaded value that itself varies within the tile."""
        return any(any(self.varies(v)) for v in values_in(e))

    def _spread(self, name: str, dtype: DType | str, shape: tuple[int, int]) -> str:
        return f"{self.make('spread', dtype, *shape)}({name})"

    def store(self, w: Write) -> None:
        """Prints a write at the current scope."""
        (e,) = w.index
        x = self.value(w.value)
        buffer = self.buffers[w.node]
        row, lane = self.strides(e)
        names = symbols(e)
        # (an address may leave out an axis along which the value varies: its stride is 0 in an array without elements)
        along = self.varies(w.value)
        here = (
            self.rows is not None and (self.rows.axis in names or along[0]),
            self.lanes is not None and (self.lanes.axis in names or along[1]),
        )
        shape, (m, n) = self.shape(here), self.valid(here)
        p, dt = self.pointer(buffer), buffer.type.dtype
        if w.value.op == "const":
            x = f"{self.make('splat', dt, 1, 1)}({x})"
        if row is None or lane is None or values_in(e):
            offsets = self._spread(self.index_tile(e, here, self.chain[-1]), int64, shape)
            self.line(f"{self.make('scatter', dt, *shape)}({p}, {offsets}, {self._spread(x, dt, shape)}, {m}, {n})")
        elif here[1] and lane != 1:
            self.line(
                f"{self.make('storer_strided', dt, *shape)}({p}, {self.int_expr(e)}, {self.size(row) if here[0] else '0'}, {self.size(lane)}, {x}, {m}, {n})"
            )
        else:
            self.line(f"{self.make('storer', dt, *shape)}({p}, {self.int_expr(e)}, {self.size(row) if here[0] else '0'}, {x}, {m}, {n})")

    # -- indices as values -------------------------------------------------------------------------------------------------
    def index_tile(self, e: Size, varies: tuple[bool, bool], scope: Scope) -> str:
        """An index expression as an int64 tile."""
        if not any(varies):
            return f"{self.make('splat', int64, 1, 1)}({self.int_expr(e)})"
        row = coefficient(e, self.rows.axis) if self.rows else 0
        lane = coefficient(e, self.lanes.axis) if self.lanes else 0
        if row is not None and lane is not None and not self._has_values(e, varies):
            here = (row != 0, lane != 0)
            shape = self.shape(here)
            return f"{self.make('iota', int64, *shape)}({self.int_expr(e)}, {self.size(row)}, {self.size(lane)})"
        assert isinstance(e, Expr)
        total = ""
        for mono, coef in e.terms:
            factors = [self._factor(b, varies, scope) for b, p in mono for _ in range(p)]
            term = f"{self.make('splat', int64, 1, 1)}({coef})" if coef != 1 or not factors else ""
            for f in factors:
                term = f"{self.fn('mul')}({term}, {f})" if term else f
            total = f"{self.fn('add')}({total}, {term})" if total else term
        return total

    def _factor(self, atom: object, varies: tuple[bool, bool], scope: Scope) -> str:
        if isinstance(atom, Sym):
            axis = atom.name
            if self.lanes and axis == self.lanes.axis:
                return f"{self.make('iota', int64, 1, self.lanes.count)}({self.vars[axis]}, 0, 1)"
            if self.rows and axis == self.rows.axis:
                return f"{self.make('iota', int64, self.rows.count, 1)}({self.vars[axis]}, 1, 0)"
            return f"{self.make('splat', int64, 1, 1)}({self.int_expr(atom_size(atom))})"
        if isinstance(atom, FloorDiv):
            num = (
                self.index_tile(atom.num, self._varies_expr(atom.num), scope)
                if isinstance(atom.num, Expr)
                else f"{self.make('splat', int64, 1, 1)}({atom.num})"
            )
            den = (
                self.index_tile(atom.den, self._varies_expr(atom.den), scope)
                if isinstance(atom.den, Expr)
                else f"{self.make('splat', int64, 1, 1)}({self.size(atom.den)})"
            )
            return f"{self.fn('floordiv')}({num}, {den})"
        assert isinstance(atom, Scalar)
        return f"{self.make('cast', int64)}({self.value(atom)})"

    def _varies_expr(self, e: Size) -> tuple[bool, bool]:
        names = symbols(e)
        row = self.rows is not None and self.rows.axis in names
        lane = self.lanes is not None and self.lanes.axis in names
        for v in values_in(e):
            a, b = self.varies(v)
            row, lane = row or a, lane or b
        return row, lane

    def scalar_as_int(self, s: Scalar) -> str:
        return f"{self.fn('item')}({self.make('cast', int64)}({self.value(s)}))"
