"""Reductions of a tile over its lanes or its rows, in a fixed tree order: the same bits at every run."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from .arithmetic import extreme
from .types import ELEMENT, I32, I64, Tile, get_row, make_tile, numba_type, splat_vector

__all__ = ["hall", "hany", "hmax", "hmin", "hprod", "hsum", "vall", "vany", "vmax", "vmin", "vprod", "vsum"]

i64 = numba_type("i64")


def _neutral(kind: str, code: str) -> Any:
    """What leaves the other operand as it is."""
    if kind in ("sum", "any"):
        return 0.0 if code[0] == "f" else 0
    if kind == "prod":
        return 1.0 if code[0] == "f" else 1
    if kind == "all":
        return 1 if code == "b1" else -1
    if code[0] == "f":
        return float("-inf") if kind == "max" else float("inf")
    width = 1 if code == "b1" else ELEMENT[code].width
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if code[0] == "i" else (0, (1 << width) - 1)
    return low if kind == "max" else high


def _combine(kind: str) -> Any:
    def emit(b: Any, code: str, x: Any, y: Any) -> Any:
        if kind == "sum":
            return b.fadd(x, y) if code[0] == "f" else b.add(x, y)
        if kind == "prod":
            return b.fmul(x, y) if code[0] == "f" else b.mul(x, y)
        if kind in ("any", "all"):
            return b.or_(x, y) if kind == "any" else b.and_(x, y)
        return extreme(kind)(b, code, x, y)

    return emit


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _constant(t: Any, value: Any) -> Any:
    return ir.Constant(t, [value] * t.count)


def _horizontal(kind: str) -> Any:
    combine = _combine(kind)

    @intrinsic
    def f(typingctx, x, n):  # type: ignore[no-untyped-def]
        out, full = Tile(x.code, x.rows, 1), _power_of_two(x.lanes)

        def lane_tree(b: Any, v: Any, keep: Any) -> Any:
            rest = _constant(v.type, _neutral(kind, x.code))
            v = b.select(keep, v, rest)
            if full != x.lanes:  # neutral lanes make the tree even
                index = [*range(x.lanes), *[x.lanes] * (full - x.lanes)]
                v = b.shuffle_vector(v, rest, ir.Constant(ir.VectorType(I32, full), index))
            width = full
            while width > 1:  # halves are combined until one lane is left
                half = ir.VectorType(I32, width // 2)
                undef = ir.Constant(v.type, ir.Undefined)
                low = b.shuffle_vector(v, undef, ir.Constant(half, list(range(width // 2))))
                high = b.shuffle_vector(v, undef, ir.Constant(half, list(range(width // 2, width))))
                v, width = combine(b, x.code, low, high), width // 2
            return v

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            count = b.select(b.icmp_signed("<", args[1], I64(x.lanes)), args[1], I64(x.lanes))
            line = ir.Constant(ir.VectorType(I32, x.lanes), list(range(x.lanes)))
            keep = b.icmp_signed("<", line, splat_vector(b, b.trunc(count, I32), x.lanes))
            return make_tile(b, out, [lane_tree(b, get_row(b, x, args[0], r, x.lanes), keep) for r in range(x.rows)])

        return out(x, i64), cg

    f.__doc__ = f"The {kind} of lanes j < n of each row: a column."
    return f


def _vertical(kind: str) -> Any:
    combine = _combine(kind)

    @intrinsic
    def f(typingctx, x, m):  # type: ignore[no-untyped-def]
        out = Tile(x.code, 1, x.lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            rest = _constant(out.vector, _neutral(kind, x.code))
            rows = []
            for r in range(x.rows):
                keep = splat_vector(b, b.icmp_signed("<", I64(r), args[1]), x.lanes)
                rows.append(b.select(keep, get_row(b, x, args[0], r, x.lanes), rest))
            while len(rows) > 1:  # neighbours are combined until one row is left
                pairs = [combine(b, x.code, rows[i], rows[i + 1]) for i in range(0, len(rows) - 1, 2)]
                rows = pairs + rows[len(pairs) * 2 :]
            return rows[0]

        return out(x, i64), cg

    f.__doc__ = f"The {kind} of rows r < m of each lane: a row."
    return f


hsum, hprod, hmax, hmin, hany, hall = (_horizontal(k) for k in ("sum", "prod", "max", "min", "any", "all"))
vsum, vprod, vmax, vmin, vany, vall = (_vertical(k) for k in ("sum", "prod", "max", "min", "any", "all"))
