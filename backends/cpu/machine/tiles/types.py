"""The tile type: R rows of L lanes held in registers, as a Numba type over an LLVM value.

A tile is ``[R x <L x T>]`` (just ``<L x T>`` for one row). L may exceed the hardware's vector: LLVM splits it.
Every operation is an intrinsic that writes LLVM directly, so that a kernel's text has one short line an operation
whatever the size of the tile: Numba's front end, which dominates compile time, sees little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

__all__ = ["ELEMENT", "Tile", "lanes_of", "make_tile", "numba_type", "rows_of", "splat_vector"]

I1, I8, I16, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64)

ELEMENT: dict[str, Any] = {
    "f32": ir.FloatType(),
    "f64": ir.DoubleType(),
    "i8": I8,
    "i16": I16,
    "i32": I32,
    "i64": I64,
    "u8": I8,
    "u32": I32,
    "b1": I1,
    # storage only: the bits, which nothing but a cast from and to f32 looks at
    "f16": I16,
    "bf16": I16,
}
NUMBA: dict[str, Any] = {
    "f32": types.float32,
    "f64": types.float64,
    "i8": types.int8,
    "i16": types.int16,
    "i32": types.int32,
    "i64": types.int64,
    "u8": types.uint8,
    "u32": types.uint32,
    "b1": types.boolean,
}
STORED: dict[str, Any] = {**NUMBA, "b1": types.uint8, "f16": types.uint16, "bf16": types.uint16}
"""What an element is behind a pointer."""
BYTES = {"f64": 8, "i64": 8, "f32": 4, "i32": 4, "u32": 4, "i16": 2, "f16": 2, "bf16": 2}
"""Sizes of elements; those that are not here have one byte."""


class Tile(types.Type):
    """R x L elements of ``code`` (f32, i64, b1, ...)."""

    def __init__(self, code: str, rows: int, lanes: int):
        self.code, self.rows, self.lanes = code, rows, lanes
        super().__init__(name=f"Tile({code}, {rows}x{lanes})")

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(ELEMENT[self.code], self.lanes)

    @property
    def llvm(self) -> Any:
        return self.vector if self.rows == 1 else ir.ArrayType(self.vector, self.rows)

    @property
    def key(self) -> tuple[str, int, int]:
        return (self.code, self.rows, self.lanes)


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    """A tile is its LLVM value: no boxing, no memory."""

    def __init__(self, dmm: Any, fe_type: Tile):
        super().__init__(dmm, fe_type, fe_type.llvm)


def code_of(t: Any) -> str:
    """The element code of a tile or Numba scalar type."""
    if isinstance(t, Tile):
        return t.code
    t = types.unliteral(t)
    for code, nb in NUMBA.items():
        if t == nb:
            return code
    raise TypeError(f"{t} is no tile element")


def common_code(name: str, *ts: Any) -> str:
    """The element code of operands: tiles agree, scalars of the same kind take the tiles' code."""
    codes = {t.code for t in ts if isinstance(t, Tile)} or {code_of(t) for t in ts}
    if len(codes) == 1:
        code = codes.pop()
        if all(_kind(code_of(t)) == _kind(code) for t in ts):
            return code
    raise TypeError(f"{name}: operands of types {', '.join(map(str, ts))}")


def _kind(code: str) -> str:
    return "i" if code[0] == "u" else "f" if code == "bf16" else code[0]


def rows_of(t: Any) -> int:
    return t.rows if isinstance(t, Tile) else 1


def lanes_of(t: Any) -> int:
    return t.lanes if isinstance(t, Tile) else 1


def numba_type(code: str) -> Any:
    return NUMBA[code]


def splat_vector(b: ir.IRBuilder, scalar: Any, lanes: int) -> Any:
    """A scalar in every lane."""
    vec = ir.VectorType(scalar.type, lanes)
    one = b.insert_element(ir.Constant(vec, ir.Undefined), scalar, I32(0))
    return b.shuffle_vector(one, ir.Constant(vec, ir.Undefined), ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def get_row(b: ir.IRBuilder, t: Any, value: Any, r: int, lanes: int) -> Any:
    """Row ``r`` of a tile or scalar value, broadcast to ``lanes``."""
    if not isinstance(t, Tile):
        return splat_vector(b, value, lanes)
    row = value if t.rows == 1 else b.extract_value(value, r if t.rows > 1 else 0)
    if t.lanes == lanes:
        return row
    return splat_vector(b, b.extract_element(row, I32(0)), lanes)


def make_tile(b: ir.IRBuilder, t: Tile, rows: list[Any]) -> Any:
    """A tile value from its rows."""
    if t.rows == 1:
        return rows[0]
    out = ir.Constant(t.llvm, ir.Undefined)
    for r, row in enumerate(rows):
        out = b.insert_value(out, row, r)
    return out


def map_rows(
    b: ir.IRBuilder, out: Tile, ins: list[tuple[Any, Any]], fn: Callable[..., Any], lanes: int | None = None
) -> Any:
    """Applies ``fn(row, row, ...)`` to the rows of all operands, broadcasting them to the result's shape."""
    n = out.lanes if lanes is None else lanes
    return make_tile(b, out, [fn(*(get_row(b, t, v, r, n) for t, v in ins)) for r in range(out.rows)])


def join(*ts: Any) -> tuple[int, int]:
    """The common shape of operands; each dimension is equal or 1."""
    rows, lanes = max(map(rows_of, ts)), max(map(lanes_of, ts))
    for t in ts:
        if rows_of(t) not in (1, rows) or lanes_of(t) not in (1, lanes):
            raise TypeError("tiles " + ", ".join(map(str, ts)) + " do not broadcast")
    return rows, lanes


def llvm_fn(b: ir.IRBuilder, name: str, ret: Any, args: list[Any]) -> Any:
    """A declared LLVM function of the current module."""
    found = b.module.globals.get(name)
    return found if found is not None else ir.Function(b.module, ir.FunctionType(ret, args), name)


def suffix(t: Any) -> str:
    """LLVM's mangling of a type: ``v16f32``."""
    if isinstance(t, ir.VectorType):
        return f"v{t.count}{suffix(t.element)}"
    return {"float": "f32", "double": "f64"}.get(str(t), str(t))
