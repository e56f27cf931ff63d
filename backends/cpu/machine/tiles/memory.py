"""Loads and stores of tiles, with row and lane counts for the edges: nothing is touched beyond them."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .types import (
    BYTES,
    ELEMENT,
    I1,
    I8,
    I32,
    I64,
    STORED,
    Tile,
    code_of,
    get_row,
    lanes_of,
    llvm_fn,
    make_tile,
    numba_type,
    rows_of,
    splat_vector,
    suffix,
)

i64 = numba_type("i64")


def _pointer(code: str) -> Any:
    nb = types.CPointer(STORED[code])

    @intrinsic
    def f(typingctx, address):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            # vectors that registers have no room for should not lie across cache lines of the stack
            b.function.attributes.alignstack = 64
            return b.inttoptr(args[0], context.get_value_type(nb))

        return nb(i64), cg

    f.__doc__ = f"An address as a pointer to {code}."
    return f


ptr_f16, ptr_bf16, ptr_f32, ptr_f64, ptr_i8, ptr_i16, ptr_i32, ptr_i64, ptr_u8, ptr_u32, ptr_b1 = (
    _pointer(c) for c in ("f16", "bf16", "f32", "f64", "i8", "i16", "i32", "i64", "u8", "u32", "b1")
)


def _stored(code: str) -> Any:
    """What an element is in memory: a bool is a byte."""
    return I8 if code == "b1" else ELEMENT[code]


def _from_memory(b: Any, code: str, v: Any) -> Any:
    if code != "b1":
        return v
    return b.icmp_unsigned("!=", v, ir.Constant(v.type, [0] * v.type.count))


def _to_memory(b: Any, code: str, v: Any) -> Any:
    return b.zext(v, ir.VectorType(I8, v.type.count)) if code == "b1" else v


def lanes_below(b: Any, n: Any, lanes: int) -> Any:
    """The mask of lanes j < n."""
    line = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
    n = b.select(b.icmp_signed("<", n, I64(lanes)), n, I64(lanes))  # any count fits 32 bits after this
    return b.icmp_signed("<", line, splat_vector(b, b.trunc(n, I32), lanes))


def vector_at(b: Any, p: Any, off: Any, vec: Any) -> Any:
    return b.bitcast(b.gep(p, [off]), vec.as_pointer())


def align(code: str) -> int:
    return BYTES.get(code, 1)


def masked_load(b: Any, code: str, q: Any, vec: Any, mask: Any) -> Any:
    zero = ir.Constant(vec, [0.0 if str(vec.element) in ("float", "double") else 0] * vec.count)
    f = llvm_fn(
        b, f"llvm.masked.load.{suffix(vec)}.p0", vec, [vec.as_pointer(), I32, ir.VectorType(I1, vec.count), vec]
    )
    return b.call(f, [q, I32(align(code)), mask, zero])


def _masked_store(b: Any, code: str, v: Any, q: Any, mask: Any) -> None:
    vec = v.type
    f = llvm_fn(
        b,
        f"llvm.masked.store.{suffix(vec)}.p0",
        ir.VoidType(),
        [vec, vec.as_pointer(), I32, ir.VectorType(I1, vec.count)],
    )
    b.call(f, [v, q, I32(align(code)), mask])


def _stored_value(code: str, t: Any, rows: int, lanes: int) -> Any:
    """``f(b, value, r)``: row r of a tile or scalar of type ``t``, broadcast, as it lies in memory."""
    if code_of(t) != code or rows_of(t) not in (1, rows) or lanes_of(t) not in (1, lanes):
        raise TypeError(f"{t} cannot be stored as {Tile(code, rows, lanes)}")
    return lambda b, value, r: _to_memory(b, code, get_row(b, t, value, r, lanes))


def row_offset(b: Any, off: Any, ld: Any, m: Any, r: int) -> Any:
    """Row r, clamped to the last valid one."""
    if r == 0:
        return off
    last = b.sub(m, I64(1))
    row = b.select(b.icmp_signed("<", I64(r), m), I64(r), last)
    return b.add(off, b.mul(row, ld))


def _void(b: Any, context: Any) -> Any:
    return context.get_dummy_value()


@cache
def loader(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, m, n)``: row r, lane j = p[off + min(r, m-1)*ld + j]; lanes from n on are 0 and not read."""
    out, vec = Tile(code, rows, lanes), ir.VectorType(_stored(code), lanes)

    @intrinsic
    def f(typingctx, p, off, ld, m, n):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            p_, off_, ld_, m_, n_ = args
            mask = None if lanes == 1 else lanes_below(b, n_, lanes)
            got = []
            for r in range(rows):
                q = vector_at(b, p_, row_offset(b, off_, ld_, m_, r), vec)
                v = b.load(q, align=align(code)) if mask is None else masked_load(b, code, q, vec, mask)
                got.append(_from_memory(b, code, v))
            return make_tile(b, out, got)

        return out(p, i64, i64, i64, i64), cg

    return f


@cache
def loader_full(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld)``: as loader where every row and lane is valid."""
    out, vec = Tile(code, rows, lanes), ir.VectorType(_stored(code), lanes)

    @intrinsic
    def f(typingctx, p, off, ld):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            at = [b.add(args[1], b.mul(args[2], I64(r))) if r else args[1] for r in range(rows)]
            return make_tile(
                b, out, [_from_memory(b, code, b.load(vector_at(b, args[0], o, vec), align=align(code))) for o in at]
            )

        return out(p, i64, i64), cg

    return f


@cache
def storer_full(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, x)``: as storer where every row and lane is valid."""
    vec = ir.VectorType(_stored(code), lanes)

    @intrinsic
    def f(typingctx, p, off, ld, x):  # type: ignore[no-untyped-def]
        value = _stored_value(code, x, rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            for r in range(rows):
                at = b.add(args[1], b.mul(args[2], I64(r))) if r else args[1]
                b.store(value(b, args[3], r), vector_at(b, args[0], at, vec), align=align(code))
            return _void(b, context)

        return types.void(p, i64, i64, x), cg

    return f


@cache
def storer(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, x, m, n)``: stores rows below m and lanes below n; x is broadcast to the shape."""
    vec = ir.VectorType(_stored(code), lanes)

    @intrinsic
    def f(typingctx, p, off, ld, x, m, n):  # type: ignore[no-untyped-def]
        value = _stored_value(code, x, rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            p_, off_, ld_, x_, m_, n_ = args
            values = [value(b, x_, r) for r in range(rows)]
            places = [vector_at(b, p_, b.add(off_, b.mul(ld_, I64(r))) if r else off_, vec) for r in range(rows)]

            def whole() -> None:
                for v, q in zip(values, places, strict=True):
                    b.store(v, q, align=align(code))

            def edge() -> None:
                mask = lanes_below(b, n_, lanes)
                for r in range(rows):
                    with b.if_then(b.icmp_signed("<", I64(r), m_)):
                        _masked_store(b, code, values[r], places[r], mask)

            if rows == lanes == 1:
                whole()
            else:
                # a masked store costs tens of cycles on some processors (Zen 4), so whole tiles take none
                full = b.and_(b.icmp_signed(">=", m_, I64(rows)), b.icmp_signed(">=", n_, I64(lanes)))
                with b.if_else(full) as (then, otherwise):
                    with then:
                        whole()
                    with otherwise:
                        edge()
            return _void(b, context)

        return types.void(p, i64, i64, x, i64, i64), cg

    return f


def _addresses(b: Any, p: Any, off: Any, code: str, lanes: int) -> Any:
    """The vector of pointers to elements at offsets."""
    size = ir.Constant(ir.VectorType(I64, lanes), [align(code)] * lanes)
    at = b.add(splat_vector(b, b.ptrtoint(p, I64), lanes), b.mul(off, size))
    return b.inttoptr(at, ir.VectorType(_stored(code).as_pointer(), lanes))


def _aside(b: Any, el: Any) -> Any:
    """A zero on the stack that masked lanes touch instead of memory: no branch a lane."""
    with b.goto_entry_block():
        q = b.alloca(el)
    b.store(ir.Constant(el, 0.0 if str(el) in ("float", "double") else 0), q)
    return q


def _gather_rows(b: Any, code: str, p: Any, offsets: list[Any], masks: list[Any], lanes: int) -> list[Any]:
    """Rows gathered from element offsets where the masks hold."""
    got = []
    el = _stored(code)
    hardware = el in (ELEMENT["f32"], ELEMENT["f64"], I32, I64) and lanes > 1
    aside = None if hardware else _aside(b, el)
    for off, mask in zip(offsets, masks, strict=True):
        v = ir.Constant(ir.VectorType(el, lanes), [0.0 if str(el) in ("float", "double") else 0] * lanes)
        if hardware:
            ptrs = _addresses(b, p, off, code, lanes)
            f = llvm_fn(
                b, f"llvm.masked.gather.v{lanes}{suffix(el)}.v{lanes}p0", v.type, [ptrs.type, I32, mask.type, v.type]
            )
            v = b.call(f, [ptrs, I32(align(code)), mask, v])
        else:
            for j in range(lanes):
                q = b.select(b.extract_element(mask, I32(j)), b.gep(p, [b.extract_element(off, I32(j))]), aside)
                v = b.insert_element(v, b.load(q, align=align(code)), I32(j))
        got.append(_from_memory(b, code, v))
    return got


def _scatter_rows(
    b: Any, code: str, p: Any, offsets: list[Any], values: list[Any], masks: list[Any], lanes: int
) -> None:
    aside = _aside(b, _stored(code))
    for off, v, mask in zip(offsets, values, masks, strict=True):
        for j in range(lanes):
            q = b.select(b.extract_element(mask, I32(j)), b.gep(p, [b.extract_element(off, I32(j))]), aside)
            b.store(b.extract_element(v, I32(j)), q, align=align(code))


def _edge_masks(b: Any, m: Any, n: Any, rows: int, lanes: int) -> list[Any]:
    """Masks of rows below m and lanes below n."""
    line = lanes_below(b, n, lanes)
    return [b.and_(line, splat_vector(b, b.icmp_signed("<", I64(r), m), lanes)) for r in range(rows)]


def _strided_offsets(b: Any, off: Any, ld: Any, ls: Any, rows: int, lanes: int) -> list[Any]:
    line = b.mul(splat_vector(b, ls, lanes), ir.Constant(ir.VectorType(I64, lanes), list(range(lanes))))
    return [b.add(line, splat_vector(b, b.add(off, b.mul(ld, I64(r))), lanes)) for r in range(rows)]


def _load_strided(b: Any, out: Tile, p: Any, off: Any, ld: Any, ls: Any, m: Any, n: Any) -> Any:
    offs = _strided_offsets(b, off, ld, ls, out.rows, out.lanes)
    return make_tile(b, out, _gather_rows(b, out.code, p, offs, _edge_masks(b, m, n, out.rows, out.lanes), out.lanes))


@cache
def loader_strided(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, ls, m, n)``: as loader, with lane stride ls; rows from m on are 0."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, p, off, ld, ls, m, n):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return _load_strided(b, out, *args)

        return out(p, i64, i64, i64, i64, i64), cg

    return f


@cache
def storer_strided(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, ls, x, m, n)``: as storer, with lane stride ls."""

    @intrinsic
    def f(typingctx, p, off, ld, ls, x, m, n):  # type: ignore[no-untyped-def]
        value = _stored_value(code, x, rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            p_, off_, ld_, ls_, x_, m_, n_ = args
            offs = _strided_offsets(b, off_, ld_, ls_, rows, lanes)
            values = [value(b, x_, r) for r in range(rows)]
            _scatter_rows(b, code, p_, offs, values, _edge_masks(b, m_, n_, rows, lanes), lanes)
            return _void(b, context)

        return types.void(p, i64, i64, i64, x, i64, i64), cg

    return f


def _spread_rows(t: Any, code: str, rows: int, lanes: int) -> Any:
    """``f(b, value)``: the rows of a tile, broadcast to a shape."""
    if code_of(t) != code or rows_of(t) not in (1, rows) or lanes_of(t) not in (1, lanes):
        raise TypeError(f"{t} is not, and does not broadcast to, {Tile(code, rows, lanes)}")
    return lambda b, value: [get_row(b, t, value, r, lanes) for r in range(rows)]


@cache
def gather(code: str, rows: int, lanes: int) -> Any:
    """``f(p, offs, m, n)``: elements at a tile of offsets; masked places are 0 and not read."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, p, offs, m, n):  # type: ignore[no-untyped-def]
        spread = _spread_rows(offs, "i64", rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            masks = _edge_masks(b, args[2], args[3], rows, lanes)
            return make_tile(b, out, _gather_rows(b, code, args[0], spread(b, args[1]), masks, lanes))

        return out(p, offs, i64, i64), cg

    return f


@cache
def loader_masked(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, cond, m, n)``: as loader, and only where the condition holds; other places are 0 and not read."""
    out, vec = Tile(code, rows, lanes), ir.VectorType(_stored(code), lanes)

    @intrinsic
    def f(typingctx, p, off, ld, cond, m, n):  # type: ignore[no-untyped-def]
        spread_cond = _spread_rows(cond, "b1", rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            p_, off_, ld_, cond_, m_, n_ = args
            masks = _edge_masks(b, m_, n_, rows, lanes)
            got = []
            for r, (edge, where) in enumerate(zip(masks, spread_cond(b, cond_), strict=True)):
                q = vector_at(b, p_, b.add(off_, b.mul(ld_, I64(r))) if r else off_, vec)
                got.append(_from_memory(b, code, masked_load(b, code, q, vec, b.and_(edge, where))))
            return make_tile(b, out, got)

        return out(p, i64, i64, cond, i64, i64), cg

    return f


@cache
def loader_where(code: str, rows: int, lanes: int) -> Any:
    """``f(p, offs, cond, m, n)``: as gather, and only where the condition holds."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, p, offs, cond, m, n):  # type: ignore[no-untyped-def]
        spread, spread_cond = _spread_rows(offs, "i64", rows, lanes), _spread_rows(cond, "b1", rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            masks = _edge_masks(b, args[3], args[4], rows, lanes)
            masks = [b.and_(x, y) for x, y in zip(masks, spread_cond(b, args[2]), strict=True)]
            return make_tile(b, out, _gather_rows(b, code, args[0], spread(b, args[1]), masks, lanes))

        return out(p, offs, cond, i64, i64), cg

    return f


@cache
def scatter(code: str, rows: int, lanes: int) -> Any:
    """``f(p, offs, x, m, n)``: stores to a tile of offsets."""

    @intrinsic
    def f(typingctx, p, offs, x, m, n):  # type: ignore[no-untyped-def]
        value = _stored_value(code, x, rows, lanes)
        spread = _spread_rows(offs, "i64", rows, lanes)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            values = [value(b, args[2], r) for r in range(rows)]
            _scatter_rows(
                b, code, args[0], spread(b, args[1]), values, _edge_masks(b, args[3], args[4], rows, lanes), lanes
            )
            return _void(b, context)

        return types.void(p, offs, x, i64, i64), cg

    return f


def _transpose(b: Any, rows: list[Any]) -> list[Any]:
    """A square block of vectors transposed in log2 stages of shuffles."""
    n = len(rows)
    step = n // 2
    while step:
        new = list(rows)
        low = [(j if not j & step else n + j - step) for j in range(n)]
        high = [(j + step if not j & step else n + j) for j in range(n)]
        for i in range(n):
            if not i & step:
                for mask, at in ((low, i), (high, i + step)):
                    new[at] = b.shuffle_vector(rows[i], rows[i + step], ir.Constant(ir.VectorType(I32, n), mask))
        rows, step = new, step // 2
    return rows


@cache
def loader_t(code: str, rows: int, lanes: int) -> Any:
    """``f(p, off, ld, m, n)``: row r, lane j = p[off + r + j*ld] for r < m, j < n, else 0: a transposing load.

    Square tiles of a power of two are read as runs and transposed in registers; others are gathered.
    """
    out = Tile(code, rows, lanes)
    if rows != lanes or rows & (rows - 1) or rows == 1:

        @intrinsic
        def slow(typingctx, p, off, ld, m, n):  # type: ignore[no-untyped-def]
            def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
                p_, off_, ld_, m_, n_ = args
                return _load_strided(b, out, p_, off_, I64(1), ld_, m_, n_)

            return out(p, i64, i64, i64, i64), cg

        return slow
    vec = ir.VectorType(_stored(code), rows)

    @intrinsic
    def f(typingctx, p, off, ld, m, n):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            p_, off_, ld_, m_, n_ = args
            below = lanes_below(b, m_, rows)
            runs = []
            for j in range(lanes):
                here = b.icmp_signed("<", I64(j), n_)
                at = b.select(here, b.add(off_, b.mul(ld_, I64(j))), off_)
                mask = b.and_(below, splat_vector(b, here, rows))
                runs.append(masked_load(b, code, vector_at(b, p_, at, vec), vec, mask))
            return make_tile(b, out, [_from_memory(b, code, v) for v in _transpose(b, runs)])

        return out(p, i64, i64, i64, i64), cg

    return f
