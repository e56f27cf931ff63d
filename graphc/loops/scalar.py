"""Scalar IR: what happens at one index of a loop nest.

Some thirty instructions; a backend prints each of them and nothing else. Vector math (exp, tanh, erf) is a program in
these instructions that stands in the operator's record. A :class:`Scalar` is immutable and hash-consed, so equal
subexpressions of a kernel body are one value.

Constants take the type of the other operand, so ``x * 0.5`` is a multiplication in x's precision.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from hashlib import blake2b
from typing import Any

from ..errors import CompileError
from ..ir.attrs import attr_key
from ..ir.dims import Expr, FloorDiv, Size, atom, rewrite_atoms, symbols
from ..ir.dtypes import DType, bool_, int64
from ..ir.interned import Interned

__all__ = ["INSTRUCTIONS", "Scalar", "arg", "bitcast", "cast", "const", "index_value", "load"]

INSTRUCTIONS: dict[str, str] = {
    "const": "a literal (attr: the number)",
    "arg": "a run-time number from the argument block (attr: what fills it)",
    "index": "the value of an index expression, as int64 (attr: the expression)",
    "load": "an element of a buffer (attr: buffer and index; operand: a condition, or none)",
    "acc": "an accumulator of an earlier stage, or the result of a contraction (attr: its number)",
    "add": "x + y",
    "sub": "x - y",
    "mul": "x * y",
    "div": "x / y; integers truncate, x / 0 is 0",
    "neg": "-x",
    "fma": "x * y + z, rounded once",
    "minimum": "the smaller; NaN wins",
    "maximum": "the larger; NaN wins",
    "sqrt": "square root",
    "floor": "round down",
    "ceil": "round up",
    "rint": "round to nearest even",
    "trunc": "round to zero",
    "absolute": "|x|",
    "ldexp": "x * 2**y for an integral float y, rounded once; |y| at most twice the largest exponent",
    "mulhi": "the high word of an unsigned 32-bit product",
    "bit_and": "x & y (logical and for bool)",
    "bit_or": "x | y",
    "bit_xor": "x ^ y",
    "bit_not": "~x",
    "shl": "x << y",
    "shr": "x >> y (arithmetic for signed)",
    "lt": "x < y",
    "le": "x <= y",
    "eq": "x == y",
    "ne": "x != y",
    "select": "c ? x : y",
    "cast": "conversion; float to int truncates, anything to bool is x != 0",
    "bitcast": "same bits, other type",
}

_table: Interned[Scalar] = Interned()
Number = int | float | bool


class Scalar:
    """One instruction and its operands."""

    __slots__ = ("__weakref__", "_loads", "args", "attr", "dtype", "op", "sort_key")
    op: str
    args: tuple[Scalar, ...]
    dtype: DType
    attr: Any
    sort_key: str
    _loads: tuple[Scalar, ...] | None

    @staticmethod
    def make(op: str, args: tuple[Scalar, ...], dtype: DType, attr: Any = None) -> Scalar:
        key = (op, args, dtype, attr_key(attr) if not isinstance(attr, tuple) else tuple(map(_key, attr)))
        found = _table.get(key)
        if found is None:
            if op not in INSTRUCTIONS:
                raise CompileError(f"scalar IR has no instruction {op!r}")
            found = object.__new__(Scalar)
            found.op, found.args, found.dtype, found.attr, found._loads = op, args, dtype, attr, None
            words = "|".join((op, dtype.code, str(attr), *(a.sort_key for a in args)))
            found.sort_key = blake2b(words.encode(), digest_size=8).hexdigest()
            found = _table.add(key, found)
        return found

    def __repr__(self) -> str:
        return _show(self, 3)

    # arithmetic on scalars reads like arithmetic
    def __add__(self, y: Scalar | Number) -> Scalar:
        return _binary("add", self, y)

    def __radd__(self, y: Number) -> Scalar:
        return _binary("add", self, y)

    def __sub__(self, y: Scalar | Number) -> Scalar:
        return _binary("sub", self, y)

    def __rsub__(self, y: Number) -> Scalar:
        return _binary("sub", const(y, self.dtype), self)

    def __mul__(self, y: Scalar | Number) -> Scalar:
        return _binary("mul", self, y)

    def __rmul__(self, y: Number) -> Scalar:
        return _binary("mul", self, y)

    def __truediv__(self, y: Scalar | Number) -> Scalar:
        return _binary("div", self, y)

    def __rtruediv__(self, y: Number) -> Scalar:
        return _binary("div", const(y, self.dtype), self)

    def __neg__(self) -> Scalar:
        return Scalar.make("neg", (self,), self.dtype)

    def __and__(self, y: Scalar | Number) -> Scalar:
        return _binary("bit_and", self, y)

    def __or__(self, y: Scalar | Number) -> Scalar:
        return _binary("bit_or", self, y)

    def __xor__(self, y: Scalar | Number) -> Scalar:
        return _binary("bit_xor", self, y)

    def __invert__(self) -> Scalar:
        return Scalar.make("bit_not", (self,), self.dtype)

    def __lshift__(self, y: Scalar | Number) -> Scalar:
        return _binary("shl", self, y)

    def __rshift__(self, y: Scalar | Number) -> Scalar:
        return _binary("shr", self, y)

    def __lt__(self, y: Scalar | Number) -> Scalar:
        return _compare("lt", self, y)

    def __le__(self, y: Scalar | Number) -> Scalar:
        return _compare("le", self, y)

    def __gt__(self, y: Scalar | Number) -> Scalar:
        return _compare("lt", _lift(y, self.dtype), self)

    def __ge__(self, y: Scalar | Number) -> Scalar:
        return _compare("le", _lift(y, self.dtype), self)

    def eq(self, y: Scalar | Number) -> Scalar:
        return _compare("eq", self, y)

    def ne(self, y: Scalar | Number) -> Scalar:
        return _compare("ne", self, y)

    def fma(self, y: Scalar | Number, z: Scalar | Number) -> Scalar:
        return Scalar.make("fma", (self, _lift(y, self.dtype), _lift(z, self.dtype)), self.dtype)

    def minimum(self, y: Scalar | Number) -> Scalar:
        return _binary("minimum", self, y)

    def maximum(self, y: Scalar | Number) -> Scalar:
        return _binary("maximum", self, y)

    def ldexp(self, y: Scalar | Number) -> Scalar:
        return _binary("ldexp", self, y)

    def mulhi(self, y: Scalar | Number) -> Scalar:
        return _binary("mulhi", self, y)

    def sqrt(self) -> Scalar:
        return Scalar.make("sqrt", (self,), self.dtype)

    def floor(self) -> Scalar:
        return Scalar.make("floor", (self,), self.dtype)

    def ceil(self) -> Scalar:
        return Scalar.make("ceil", (self,), self.dtype)

    def rint(self) -> Scalar:
        return Scalar.make("rint", (self,), self.dtype)

    def trunc(self) -> Scalar:
        return Scalar.make("trunc", (self,), self.dtype)

    def abs(self) -> Scalar:
        return Scalar.make("absolute", (self,), self.dtype)

    def select(self, x: Scalar | Number, y: Scalar | Number) -> Scalar:
        """``x`` where this condition holds, else ``y``."""
        dtype = x.dtype if isinstance(x, Scalar) else y.dtype if isinstance(y, Scalar) else None
        if dtype is None:
            raise CompileError("select needs one operand with a type")
        a, b = _lift(x, dtype), _lift(y, dtype)
        if self.op == "const":
            return a if self.attr else b
        return a if a is b else Scalar.make("select", (self, a, b), dtype)

    def cast(self, dtype: DType) -> Scalar:
        return cast(self, dtype)

    def bitcast(self, dtype: DType) -> Scalar:
        return bitcast(self, dtype)

    # as an atom of an index expression (a gather's index is data)
    def symbols(self) -> set[str]:
        return scalar_symbols(self)

    def substitute(self, values: Mapping[str, Size], ranges: Mapping[str, Size] | None = None) -> Size:
        return atom(substitute_scalar(self, values, ranges))


def _show(s: Scalar, depth: int) -> str:
    if s.op in ("const", "index", "acc"):
        return f"{s.attr}"
    if s.op == "load":
        return f"{s.attr[0]!r}[{', '.join(map(str, s.attr[1]))}]"
    inner = ", ".join(_show(a, depth - 1) for a in s.args) if depth else "..."
    return f"{s.op}({inner})"


def _key(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    if isinstance(value, (int, str, Expr, DType)) or value is None:
        return (type(value).__name__, value)
    return value if not isinstance(value, float) else attr_key(value)


def _lift(y: Scalar | Number, dtype: DType) -> Scalar:
    return y if isinstance(y, Scalar) else const(y, dtype)


def _binary(op: str, x: Scalar, y: Scalar | Number) -> Scalar:
    y = _lift(y, x.dtype)
    if x.dtype != y.dtype:
        raise CompileError(f"scalar IR: {op} of {x.dtype} and {y.dtype}")
    return Scalar.make(op, (x, y), x.dtype)


def _compare(op: str, x: Scalar, y: Scalar | Number) -> Scalar:
    y = _lift(y, x.dtype)
    if x.dtype != y.dtype:
        raise CompileError(f"scalar IR: {op} of {x.dtype} and {y.dtype}")
    return Scalar.make(op, (x, y), bool_)


def const(value: Number, dtype: DType) -> Scalar:
    """A literal of a type."""
    value = float(value) if dtype.is_float else bool(value) if dtype.kind == "b" else int(value)
    if dtype.is_storage:
        value = float(dtype.numpy.type(value))
    return Scalar.make("const", (), dtype, value)


def arg(key: Any, dtype: DType) -> Scalar:
    """A number that the argument block holds: it differs between launches of one kernel, so it is not in its text."""
    return Scalar.make("arg", (), dtype, (key,))


def index_value(expr: Size) -> Scalar:
    """The value of an index expression (an axis, a size) as int64."""
    if isinstance(expr, int):
        return const(expr, int64)
    return Scalar.make("index", (), int64, expr)


def load(buffer: Any, index: tuple[Size, ...], dtype: DType, where: Scalar | None = None) -> Scalar:
    """An element of a buffer; with ``where``, memory is touched only where it holds, and the value is 0 elsewhere."""
    return Scalar.make("load", () if where is None else (where,), dtype, (buffer, index))


def cast(x: Scalar, dtype: DType) -> Scalar:
    if x.dtype == dtype:
        return x
    if x.op == "const":
        return const(x.attr, dtype)
    return Scalar.make("cast", (x,), dtype)


def bitcast(x: Scalar, dtype: DType) -> Scalar:
    return x if x.dtype == dtype else Scalar.make("bitcast", (x,), dtype)


def postorder(roots: list[Scalar], done: Container[Scalar] = ()) -> list[Scalar]:
    """All instructions the roots need, operands first; index expressions that hold loaded values are followed too.

    What is ``done`` already is neither listed nor looked into.
    """
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    stack: list[tuple[Scalar, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        s, ready = stack.pop()
        if ready:
            order.append(s)
        elif s not in seen and s not in done:
            seen.add(s)
            stack.append((s, True))
            stack.extend((a, False) for a in reversed(operands(s)) if a not in seen)
    return order


def loads(root: Scalar) -> tuple[Scalar, ...]:
    """Every load that a value needs, operands first; found once a value and remembered."""
    if root._loads is None:
        root._loads = tuple(t for t in postorder([root]) if t.op == "load")
    return root._loads


def operands(s: Scalar) -> tuple[Scalar, ...]:
    """Operands, with the scalars that hide in a load's index or an index expression."""
    if s.op == "load":
        return s.args + tuple(v for e in s.attr[1] for v in values_in(e))
    if s.op == "index":
        return tuple(values_in(s.attr))
    return s.args


def values_in(e: Size) -> list[Scalar]:
    """The scalars that stand in an index expression (the index of a gather is data)."""
    found: list[Scalar] = []
    if isinstance(e, Expr):
        for mono, _ in e.terms:
            for base, _p in mono:
                if isinstance(base, Scalar):
                    found.append(base)
                elif isinstance(base, FloorDiv):
                    found += values_in(base.num) + values_in(base.den)
    return found


def scalar_symbols(s: Scalar) -> set[str]:
    """Axis and dim symbols that a value depends on (through index expressions)."""
    found: set[str] = set()
    for t in postorder([s]):
        if t.op == "load":
            for e in t.attr[1]:
                found |= symbols(e)
        elif t.op == "index":
            found |= symbols(t.attr)
    return found


def replace(
    root: Scalar,
    swap: Callable[[Scalar], Scalar | None],
    values: Mapping[str, Size] | None = None,
    ranges: Mapping[str, Size] | None = None,
    image: dict[Scalar, Scalar] | None = None,
) -> Scalar:
    """``root`` with instructions replaced bottom-up by ``swap`` (None keeps one) and axis symbols by ``values``.

    Index expressions are rebuilt too: symbols are substituted and scalars that stand in them are replaced. ``image`` is what has
    been replaced so far, for several roots that share what is below them.
    """
    image = {} if image is None else image
    plain = not values

    def expr(e: Size) -> Size:
        if isinstance(e, int):
            return e
        return rewrite_atoms(e, lambda base: image.get(base) if isinstance(base, Scalar) else None, values or {}, ranges)

    for t in postorder([root], image):
        args = tuple(image[a] for a in t.args)
        new: Scalar
        if t.op == "load":
            index = tuple(expr(e) for e in t.attr[1])
            new = t if args == t.args and index == t.attr[1] else Scalar.make("load", args, t.dtype, (t.attr[0], index))
        elif t.op == "index" and not (plain and not values_in(t.attr)):
            new = index_value(expr(t.attr))
        else:
            new = t if args == t.args else Scalar.make(t.op, args, t.dtype, t.attr)
        image[t] = swap(new) or new
    return image[root]


def substitute_scalar(
    s: Scalar, values: Mapping[str, Size], ranges: Mapping[str, Size] | None = None, image: dict[Scalar, Scalar] | None = None
) -> Scalar:
    """The value with axis symbols replaced in every index expression below it."""
    return replace(s, lambda _: None, values, ranges, image)
