"""Reductions over the lanes of a tile, in a fixed tree order."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from .arithmetic import _extreme
from .types import I32, Tile, code_of, get_row, make_tile, numba_type


def _horizontal(combine: Any) -> Any:
    @intrinsic
    def f(typingctx, x, n):  # type: ignore[no-untyped-def]
        out = Tile(x.code, x.rows, 1)
        code = code_of(x)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            rows = []
            for r in range(x.rows):
                v = get_row(b, x, args[0], r, x.lanes)
                width = x.lanes
                while width > 1:  # halves are combined until one lane is left
                    half = width // 2
                    undef = ir.Constant(v.type, ir.Undefined)
                    low = b.shuffle_vector(v, undef, ir.Constant(ir.VectorType(I32, half), list(range(half))))
                    high = b.shuffle_vector(v, undef, ir.Constant(ir.VectorType(I32, half), list(range(half, width))))
                    v, width = combine(b, code, low, high), half
                rows.append(v)
            return make_tile(b, out, rows)

        return out(x, numba_type("i64")), cg

    f.__doc__ = "Each row's lanes as one value; callers make lanes past the end neutral."
    return f


hsum = _horizontal(lambda b, c, x, y: b.fadd(x, y) if c[0] == "f" else b.add(x, y))
hprod = _horizontal(lambda b, c, x, y: b.fmul(x, y) if c[0] == "f" else b.mul(x, y))
hmax = _horizontal(_extreme("max"))
hmin = _horizontal(_extreme("min"))
hany = _horizontal(lambda b, c, x, y: b.or_(x, y))
hall = _horizontal(lambda b, c, x, y: b.and_(x, y))
