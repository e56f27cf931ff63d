"""The inner step of a contraction: a tile of the result gains a column of A times a row of B."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .memory import align, lanes_below, masked_load, row_offset, vector_at
from .types import I8, I32, I64, STORED, Tile, get_row, llvm_fn, make_tile, numba_type, splat_vector, suffix

__all__ = [
    "fma_lanes",
    "fma_lanes_n",
    "fma_lanes_rows",
    "fma_lanes_rows_n",
    "fma_outer",
    "fma_outer_n",
    "fma_outer_rows",
    "fma_outer_rows_n",
    "fma_outer_tile",
    "prefetcher",
    "row_addresses",
    "scratch",
]

i64 = numba_type("i64")


def _outer(b: Any, acc_t: Any, acc: Any, pa: Any, aoff: Any, a_row: Any, m: Any, row_b: Any) -> Any:
    vec = acc_t.vector
    fma = llvm_fn(b, f"llvm.fma.{suffix(vec)}", vec, [vec, vec, vec])
    rows = []
    for r in range(acc_t.rows):
        a = b.load(b.gep(pa, [row_offset(b, aoff, a_row, m, r)]), align=align(acc_t.code))
        rows.append(b.call(fma, [splat_vector(b, a, acc_t.lanes), row_b, get_row(b, acc_t, acc, r, acc_t.lanes)]))
    return make_tile(b, acc_t, rows)


@intrinsic
def fma_outer(typingctx, acc, pa, aoff, a_row, m, pb, boff):  # type: ignore[no-untyped-def]
    """acc[r] + pa[aoff + min(r, m-1)*a_row] * pb[boff : boff+L]; the row of B is read whole."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, pa_, aoff_, a_row_, m_, pb_, boff_ = args
        row_b = b.load(vector_at(b, pb_, boff_, acc.vector), align=align(acc.code))
        return _outer(b, acc, acc_, pa_, aoff_, a_row_, m_, row_b)

    return acc(acc, pa, i64, i64, i64, pb, i64), cg


@intrinsic
def fma_outer_n(typingctx, acc, pa, aoff, a_row, m, pb, boff, n):  # type: ignore[no-untyped-def]
    """As fma_outer, reading only lanes below n of the row of B."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, pa_, aoff_, a_row_, m_, pb_, boff_, n_ = args
        q = vector_at(b, pb_, boff_, acc.vector)
        row_b = masked_load(b, acc.code, q, acc.vector, lanes_below(b, n_, acc.lanes))
        return _outer(b, acc, acc_, pa_, aoff_, a_row_, m_, row_b)

    return acc(acc, pa, i64, i64, i64, pb, i64, i64), cg


@intrinsic
def fma_outer_tile(typingctx, acc, pa, aoff, a_row, m, row_b):  # type: ignore[no-untyped-def]
    """As fma_outer, with the row of B computed already (a tile of one row, or one value for all lanes)."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, pa_, aoff_, a_row_, m_, tile = args
        return _outer(b, acc, acc_, pa_, aoff_, a_row_, m_, get_row(b, row_b, tile, 0, acc.lanes))

    return acc(acc, pa, i64, i64, i64, row_b), cg


@intrinsic
def fma_outer_rows(typingctx, acc, like, rows, aoff, pb, boff):  # type: ignore[no-untyped-def]
    """acc[r] + (element aoff behind address rows[r]) * pb[boff : boff+L]; ``like`` is a pointer to such elements."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, like_, rows_, aoff_, pb_, boff_ = args
        row_b = b.load(vector_at(b, pb_, boff_, acc.vector), align=align(acc.code))
        return _outer_at(b, acc, acc_, like_, rows, rows_, aoff_, row_b)

    return acc(acc, like, rows, i64, pb, i64), cg


@intrinsic
def fma_outer_rows_n(typingctx, acc, like, rows, aoff, pb, boff, n):  # type: ignore[no-untyped-def]
    """As fma_outer_rows, reading only lanes below n of the row of B."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, like_, rows_, aoff_, pb_, boff_, n_ = args
        q = vector_at(b, pb_, boff_, acc.vector)
        row_b = masked_load(b, acc.code, q, acc.vector, lanes_below(b, n_, acc.lanes))
        return _outer_at(b, acc, acc_, like_, rows, rows_, aoff_, row_b)

    return acc(acc, like, rows, i64, pb, i64, i64), cg


def _outer_at(b: Any, acc_t: Any, acc: Any, like: Any, rows_t: Any, rows: Any, aoff: Any, row_b: Any) -> Any:
    vec = acc_t.vector
    fma = llvm_fn(b, f"llvm.fma.{suffix(vec)}", vec, [vec, vec, vec])
    out = []
    for r in range(acc_t.rows):
        a = b.load(b.gep(_address(b, like, rows_t, rows, r), [aoff]), align=align(acc_t.code))
        out.append(b.call(fma, [splat_vector(b, a, acc_t.lanes), row_b, get_row(b, acc_t, acc, r, acc_t.lanes)]))
    return make_tile(b, acc_t, out)


def _address(b: Any, like: Any, rows_t: Any, rows: Any, r: int) -> Any:
    return b.inttoptr(b.extract_element(get_row(b, rows_t, rows, r, 1), I32(0)), like.type)


def _lanewise(b: Any, acc_t: Any, acc: Any, places: list[Any], pb: Any, boff: Any, n: Any) -> Any:
    """acc[r] + (vector at places[r]) * (vector of B), reading only lanes below n, or all of them."""
    vec = acc_t.vector
    fma = llvm_fn(b, f"llvm.fma.{suffix(vec)}", vec, [vec, vec, vec])
    mask = None if n is None else lanes_below(b, n, acc_t.lanes)

    def read(p: Any, off: Any) -> Any:
        q = vector_at(b, p, off, vec)
        return b.load(q, align=align(acc_t.code)) if mask is None else masked_load(b, acc_t.code, q, vec, mask)

    row_b = read(pb, boff)
    return make_tile(b, acc_t, [b.call(fma, [read(*at), row_b, get_row(b, acc_t, acc, r, acc_t.lanes)]) for r, at in enumerate(places)])


@intrinsic
def fma_lanes(typingctx, acc, pa, aoff, a_row, m, pb, boff):  # type: ignore[no-untyped-def]
    """acc[r] + pa[aoff + min(r, m-1)*a_row :] * pb[boff : boff+L], lane by lane; rows are read whole."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, pa_, aoff_, a_row_, m_, pb_, boff_ = args
        places = [(pa_, row_offset(b, aoff_, a_row_, m_, r)) for r in range(acc.rows)]
        return _lanewise(b, acc, acc_, places, pb_, boff_, None)

    return acc(acc, pa, i64, i64, i64, pb, i64), cg


@intrinsic
def fma_lanes_n(typingctx, acc, pa, aoff, a_row, m, pb, boff, n):  # type: ignore[no-untyped-def]
    """As fma_lanes, reading only lanes below n."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, pa_, aoff_, a_row_, m_, pb_, boff_, n_ = args
        places = [(pa_, row_offset(b, aoff_, a_row_, m_, r)) for r in range(acc.rows)]
        return _lanewise(b, acc, acc_, places, pb_, boff_, n_)

    return acc(acc, pa, i64, i64, i64, pb, i64, i64), cg


@intrinsic
def fma_lanes_rows(typingctx, acc, like, rows, aoff, pb, boff):  # type: ignore[no-untyped-def]
    """acc[r] + (elements from aoff on behind address rows[r]) * pb[boff : boff+L], lane by lane; ``like`` is a pointer to such elements."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, like_, rows_, aoff_, pb_, boff_ = args
        places = [(_address(b, like_, rows, rows_, r), aoff_) for r in range(acc.rows)]
        return _lanewise(b, acc, acc_, places, pb_, boff_, None)

    return acc(acc, like, rows, i64, pb, i64), cg


@intrinsic
def fma_lanes_rows_n(typingctx, acc, like, rows, aoff, pb, boff, n):  # type: ignore[no-untyped-def]
    """As fma_lanes_rows, reading only lanes below n."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        acc_, like_, rows_, aoff_, pb_, boff_, n_ = args
        places = [(_address(b, like_, rows, rows_, r), aoff_) for r in range(acc.rows)]
        return _lanewise(b, acc, acc_, places, pb_, boff_, n_)

    return acc(acc, like, rows, i64, pb, i64, i64), cg


@intrinsic
def row_addresses(typingctx, p, offs, keep, otherwise):  # type: ignore[no-untyped-def]
    """The address of p[offs[r]] for rows that ``keep`` names, of ``otherwise`` for the others."""
    rows = max(offs.rows, keep.rows)
    out = Tile("i64", rows, 1)

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        p_, offs_, keep_, otherwise_ = args
        other = b.ptrtoint(otherwise_, I64)
        found = []
        for r in range(rows):
            at = b.ptrtoint(b.gep(p_, [b.extract_element(get_row(b, offs, offs_, r, 1), I32(0))]), I64)
            good = b.extract_element(get_row(b, keep, keep_, r, 1), I32(0))
            found.append(splat_vector(b, b.select(good, at, other), 1))
        return make_tile(b, out, found)

    return out(p, offs, keep, otherwise), cg


@cache
def scratch(code: str, rows: int, lanes: int) -> Any:
    """``f()``: a pointer to memory for one tile on the stack of the kernel; always the same at one place in the text."""
    nb = types.CPointer(STORED[code])

    @intrinsic
    def f(typingctx):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            element = context.get_value_type(nb).pointee
            with b.goto_entry_block():  # once, not once an iteration
                memory = b.alloca(ir.ArrayType(element, rows * lanes))
                memory.align = 64
            return b.bitcast(memory, element.as_pointer())

        return nb(), cg

    return f


@cache
def prefetcher(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld)``: asks for the cache lines of a tile that will be read soon; harmless at any address."""
    step = 64 // align(code)

    @intrinsic
    def f(typingctx, p, off, ld):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            fn = llvm_fn(b, "llvm.prefetch.p0", ir.VoidType(), [I8.as_pointer(), I32, I32, I32])
            for r in range(rows):
                at = b.add(args[1], b.mul(args[2], I64(r)))
                for j in range(0, lanes, step):
                    b.call(
                        fn, [b.bitcast(b.gep(args[0], [b.add(at, I64(j))]), I8.as_pointer()), I32(0), I32(3), I32(1)]
                    )
            return context.get_dummy_value()

        return types.void(p, i64, i64), cg

    return f
