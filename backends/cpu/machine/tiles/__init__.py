"""The tile language that kernel text is written in. Factories (``loader("f32", 8, 32)``) give functions of one shape."""

from .arithmetic import (
    absolute, add, bit_and, bit_not, bit_or, bit_xor, bitcast, cast, ceil, div, div_pos, eq, floor, floordiv, fma, ge, gt, iota, item, le, least, lt,
    maximum, minimum, mul, mulhi, ne, neg, rint, select, shl, shr, splat, spread, sqrt, sub, trunc, zeros,
)  # fmt: skip
from .memory import (
    gather, loader, loader_strided, loader_t, loader_where, ptr_b1, ptr_f32, ptr_f64, ptr_i8, ptr_i16, ptr_i32, ptr_i64, ptr_u8, ptr_u32,
    scatter, storer, storer_strided,
)  # fmt: skip
from .products import fma_outer, fma_outer_n, prefetcher
from .reductions import hall, hany, hmax, hmin, hprod, hsum
from .types import Tile

__all__ = [
    "Tile", "absolute", "add", "bit_and", "bit_not", "bit_or", "bit_xor", "bitcast", "cast", "ceil", "div", "div_pos", "eq", "floor", "floordiv", "fma",
    "fma_outer", "fma_outer_n", "gather", "ge", "gt", "hall", "hany", "hmax", "hmin", "hprod", "hsum", "iota", "item", "le", "least", "loader",
    "loader_strided", "loader_t", "loader_where", "lt", "maximum", "minimum", "mul", "mulhi", "ne", "neg", "prefetcher", "ptr_b1", "ptr_f32",
    "ptr_f64", "ptr_i16", "ptr_i32", "ptr_i64", "ptr_i8", "ptr_u32", "ptr_u8", "rint", "scatter", "select", "shl", "shr", "splat", "spread",
    "sqrt", "storer", "storer_strided", "sub", "trunc", "zeros",
]  # fmt: skip
