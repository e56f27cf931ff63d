"""Arithmetic on tiles: type-driven, broadcasting, one intrinsic an instruction of the scalar IR."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from ..loader import host_cpu
from .types import (
    ELEMENT,
    I16,
    I32,
    Tile,
    code_of,
    common_code,
    get_row,
    join,
    llvm_fn,
    make_tile,
    map_rows,
    numba_type,
    splat_vector,
    suffix,
)

CONTRACT = ("contract",)  # multiply-adds may fuse; nothing else may change results


def _is_float(code: str) -> bool:
    return code[0] == "f"


def _signed(code: str) -> bool:
    return code[0] == "i"


def _operation(name: str, arity: int, emit: Any, result: Any = None, doc: str = "") -> Any:
    """An intrinsic applied row by row; ``emit(b, code, *rows)``; ``result(code)`` gives the result's element code."""

    def typer(*ts: Any) -> tuple[Tile, str]:
        code = common_code(name, *ts)
        return Tile(result(code) if result else code, *join(*ts)), code

    def generate(out: Tile, code: str, ts: tuple[Any, ...]) -> Any:
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return map_rows(b, out, _operands(b, code, ts, args), lambda *rows: emit(b, code, *rows))

        return out(*ts), cg

    if arity == 1:

        @intrinsic
        def op(typingctx, x):  # type: ignore[no-untyped-def]
            return generate(*typer(x), (x,))
    elif arity == 2:

        @intrinsic
        def op(typingctx, x, y):  # type: ignore[no-untyped-def]
            return generate(*typer(x, y), (x, y))
    else:

        @intrinsic
        def op(typingctx, x, y, z):  # type: ignore[no-untyped-def]
            return generate(*typer(x, y, z), (x, y, z))

    op.__doc__ = doc
    return op


def _operands(b: Any, code: str, ts: tuple[Any, ...], args: Any) -> list[tuple[Any, Any]]:
    """Types and values of operands, scalars converted to the tiles' element type."""
    pairs = []
    for t, v in zip(ts, args, strict=True):
        if not isinstance(t, Tile) and code_of(t) != code:
            v = b.extract_element(_convert(b, splat_vector(b, v, 1), code_of(t), code), I32(0))
        pairs.append((t, v))
    return pairs


def _call(b: Any, name: str, *rows: Any) -> Any:
    t = rows[0].type
    return b.call(llvm_fn(b, f"llvm.{name}.{suffix(t)}", t, [r.type for r in rows]), rows)


def _zero(t: Any) -> Any:
    return (
        ir.Constant(t, [0] * t.count) if str(t.element) not in ("float", "double") else ir.Constant(t, [0.0] * t.count)
    )


def _ones(t: Any) -> Any:
    return ir.Constant(t, [1] * t.count)


def _div(b: Any, code: str, x: Any, y: Any) -> Any:
    if _is_float(code):
        return b.fdiv(x, y)
    zero = b.icmp_unsigned("==", y, _zero(y.type))
    safe = b.select(zero, _ones(y.type), y)
    if _signed(code):  # the one quotient that overflows is INT_MIN / -1: negate instead
        minus = b.icmp_signed("==", safe, ir.Constant(y.type, [-1] * y.type.count))
        q = b.select(minus, b.neg(x), b.sdiv(x, b.select(minus, _ones(y.type), safe)))
    else:
        q = b.udiv(x, safe)
    return b.select(zero, _zero(x.type), q)


def _floordiv(b: Any, code: str, x: Any, y: Any) -> Any:
    q = _div(b, code, x, y)
    if not _signed(code):
        return q
    rest = b.sub(x, b.mul(q, y))
    down = b.and_(
        b.icmp_signed("!=", rest, _zero(x.type)),
        b.icmp_signed("!=", b.lshr(rest, _bits(x.type)), b.lshr(y, _bits(x.type))),
    )
    return b.sub(q, b.zext(down, x.type))


def _bits(t: Any) -> Any:
    return ir.Constant(t, [t.element.width - 1] * t.count)


def extreme(which: str) -> Any:
    def emit(b: Any, code: str, x: Any, y: Any) -> Any:
        if _is_float(code):
            # a NaN in y fails the compare and is taken; a NaN in x is put back by the second select
            r = b.select(b.fcmp_ordered("<" if which == "min" else ">", x, y), x, y)
            return b.select(b.fcmp_unordered("uno", x, x), x, r)
        cmp = b.icmp_signed if _signed(code) else b.icmp_unsigned
        return b.select(cmp("<" if which == "min" else ">", x, y), x, y)

    return emit


def _compare(sign: str) -> Any:
    def emit(b: Any, code: str, x: Any, y: Any) -> Any:
        if _is_float(code):
            return b.fcmp_unordered(sign, x, y) if sign == "!=" else b.fcmp_ordered(sign, x, y)
        return b.icmp_signed(sign, x, y) if _signed(code) else b.icmp_unsigned(sign, x, y)

    return emit


def _mulhi(b: Any, code: str, x: Any, y: Any) -> Any:
    wide = ir.VectorType(ir.IntType(64), x.type.count)
    if code != "u32":
        raise TypeError(f"mulhi of {code}: only u32 has it")
    product = b.mul(b.zext(x, wide), b.zext(y, wide))
    return b.trunc(b.lshr(product, ir.Constant(wide, [32] * wide.count)), x.type)


def _ldexp(b: Any, code: str, x: Any, n: Any) -> Any:
    """x * 2**n. AVX-512 has an instruction for it; elsewhere two factors whose exponents every float has are multiplied in,
    so that only the last product rounds."""
    if not _is_float(code):
        raise TypeError(f"ldexp of {code}")
    if "+avx512vl" in host_cpu()[1].split(","):
        width = 512 // (32 if code == "f32" else 64)
        return _in_pieces(b, width, _scalef, x, n)
    bits, bias, one = (23, 127, 1.5 * 2.0**23) if code == "f32" else (52, 1023, 1.5 * 2.0**52)
    ints = ir.VectorType(ELEMENT["i32" if code == "f32" else "i64"], x.type.count)

    def constant(t: Any, value: float) -> Any:
        return ir.Constant(t, [value] * t.count)

    def two_to(e: Any) -> Any:  # beside 1.5 * 2**52 the last bits of a float count in ones
        i = b.bitcast(b.fadd(e, constant(e.type, one)), ints)
        return b.bitcast(b.shl(b.add(i, constant(ints, bias)), constant(ints, bits)), x.type)

    half = _call(b, "floor", b.fmul(n, constant(n.type, 0.5)))
    return b.fmul(b.fmul(x, two_to(half)), two_to(b.fsub(n, half)))


def _scalef(b: Any, x: Any, n: Any) -> Any:
    t = x.type
    name = f"llvm.x86.avx512.mask.scalef.{'ps' if str(t.element) == 'float' else 'pd'}.{t.count * (32 if str(t.element) == 'float' else 64)}"
    mask = ir.IntType(max(t.count, 8))
    args = [x, n, _zero(t), ir.Constant(mask, (1 << max(t.count, 8)) - 1)]
    if name.endswith("512"):
        args.append(I32(4))  # the current rounding mode
    return b.call(llvm_fn(b, name, t, [a.type for a in args]), args)


def _in_pieces(b: Any, width: int, emit: Any, *rows: Any) -> Any:
    """A target's instruction over rows of any length: in vectors of the hardware's size, short rows filled up to a quarter of it."""
    count = rows[0].type.count
    size = min(width, max(width // 4, 1 << (count - 1).bit_length()))
    total = -(-count // size) * size

    def shuffle(v: Any, index: list[int]) -> Any:
        return b.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), ir.Constant(ir.VectorType(I32, len(index)), index))

    parts = []
    for at in range(0, total, size):
        lanes = [min(j, count - 1) for j in range(at, at + size)]
        parts.append(emit(b, *(shuffle(r, lanes) for r in rows)))
    parts += parts[-1:] * ((1 << (len(parts) - 1).bit_length()) - len(parts))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        index = ir.Constant(ir.VectorType(I32, 2 * parts[0].type.count), list(range(2 * parts[0].type.count)))
        parts = [b.shuffle_vector(p, q, index) for p, q in pairs]
    return parts[0] if parts[0].type.count == count else shuffle(parts[0], list(range(count)))


def _absolute(b: Any, code: str, x: Any) -> Any:
    if _is_float(code):
        return _call(b, "fabs", x)
    return b.select(b.icmp_signed("<", x, _zero(x.type)), b.neg(x), x) if _signed(code) else x


def _fma(b: Any, code: str, x: Any, y: Any, z: Any) -> Any:
    return _call(b, "fma", x, y, z) if _is_float(code) else b.add(b.mul(x, y), z)


def _round(name: str) -> Any:
    return lambda b, code, x: _call(b, name, x) if _is_float(code) else x


def _shift(left: bool) -> Any:
    """Shifts by the width or more are undefined in LLVM; here they leave zero, or the sign."""

    def emit(b: Any, code: str, x: Any, y: Any) -> Any:
        inside = b.icmp_unsigned("<=", y, _bits(y.type))
        if _signed(code) and not left:
            return b.ashr(x, b.select(inside, y, _bits(y.type)))
        safe = b.select(inside, y, _zero(y.type))
        return b.select(inside, b.shl(x, safe) if left else b.lshr(x, safe), _zero(x.type))

    return emit


add = _operation("add", 2, lambda b, c, x, y: b.fadd(x, y, flags=CONTRACT) if _is_float(c) else b.add(x, y))
sub = _operation("sub", 2, lambda b, c, x, y: b.fsub(x, y, flags=CONTRACT) if _is_float(c) else b.sub(x, y))
mul = _operation("mul", 2, lambda b, c, x, y: b.fmul(x, y, flags=CONTRACT) if _is_float(c) else b.mul(x, y))
div = _operation("div", 2, _div)
floordiv = _operation("floordiv", 2, _floordiv)
neg = _operation("neg", 1, lambda b, c, x: b.fneg(x) if _is_float(c) else b.neg(x))
fma = _operation("fma", 3, _fma)
minimum = _operation("minimum", 2, extreme("min"))
maximum = _operation("maximum", 2, extreme("max"))
sqrt = _operation("sqrt", 1, lambda b, c, x: _call(b, "sqrt", x))
floor = _operation("floor", 1, _round("floor"))
ceil = _operation("ceil", 1, _round("ceil"))
rint = _operation("rint", 1, _round("rint"))
trunc = _operation("trunc", 1, _round("trunc"))
absolute = _operation("absolute", 1, _absolute)
ldexp = _operation("ldexp", 2, _ldexp)
mulhi = _operation("mulhi", 2, _mulhi)
bit_and = _operation("bit_and", 2, lambda b, c, x, y: b.and_(x, y))
bit_or = _operation("bit_or", 2, lambda b, c, x, y: b.or_(x, y))
bit_xor = _operation("bit_xor", 2, lambda b, c, x, y: b.xor(x, y))
bit_not = _operation("bit_not", 1, lambda b, c, x: b.not_(x))
shl = _operation("shl", 2, _shift(left=True))
shr = _operation("shr", 2, _shift(left=False))
lt = _operation("lt", 2, _compare("<"), lambda c: "b1")
le = _operation("le", 2, _compare("<="), lambda c: "b1")
gt = _operation("gt", 2, _compare(">"), lambda c: "b1")
ge = _operation("ge", 2, _compare(">="), lambda c: "b1")
eq = _operation("eq", 2, _compare("=="), lambda c: "b1")
ne = _operation("ne", 2, _compare("!="), lambda c: "b1")


@intrinsic
def select(typingctx, c, x, y):  # type: ignore[no-untyped-def]
    """``x`` where the condition holds, else ``y``."""
    if code_of(c) != "b1":
        raise TypeError(f"select: the condition is {c}")
    code = common_code("select", x, y)
    out = Tile(code, *join(c, x, y))

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        pairs = [(c, args[0]), *_operands(b, code, (x, y), args[1:])]
        return map_rows(b, out, pairs, lambda p, u, v: b.select(p, u, v))

    return out(c, x, y), cg


def _convert(b: Any, x: Any, source: str, target: str) -> Any:
    """A vector of another element type."""
    to = ir.VectorType(ELEMENT[target], x.type.count)
    if source == target:
        return x
    if source in STORAGE:
        return _convert(b, STORAGE[source][0](b, x), "f32", target)
    if target in STORAGE:
        return STORAGE[target][1](b, _convert(b, x, source, "f32"))
    if target == "b1":
        return (
            b.fcmp_unordered("!=", x, _zero(x.type)) if _is_float(source) else b.icmp_unsigned("!=", x, _zero(x.type))
        )
    if source == "b1":
        return b.uitofp(x, to) if _is_float(target) else b.zext(x, to)
    if _is_float(source) and _is_float(target):
        return b.fpext(x, to) if target == "f64" else b.fptrunc(x, to)
    if _is_float(source):
        return _truncated(b, x, to, _signed(target))
    if _is_float(target):
        return b.sitofp(x, to) if _signed(source) else b.uitofp(x, to)
    a, z = ELEMENT[source].width, ELEMENT[target].width
    if a == z:
        return x
    if a > z:
        return b.trunc(x, to)
    return b.sext(x, to) if _signed(source) else b.zext(x, to)


def _widen_f16(b: Any, x: Any) -> Any:
    halves = b.bitcast(x, ir.VectorType(ir.HalfType(), x.type.count))
    return b.fpext(halves, ir.VectorType(ELEMENT["f32"], x.type.count))


def _narrow_f16(b: Any, x: Any) -> Any:
    halves = b.fptrunc(x, ir.VectorType(ir.HalfType(), x.type.count))
    return b.bitcast(halves, ir.VectorType(I16, x.type.count))


def _widen_bf16(b: Any, x: Any) -> Any:
    ints = ir.VectorType(I32, x.type.count)
    high = b.shl(b.zext(x, ints), ir.Constant(ints, [16] * ints.count))
    return b.bitcast(high, ir.VectorType(ELEMENT["f32"], ints.count))


def _narrow_bf16(b: Any, x: Any) -> Any:
    """The upper half, rounded to nearest even: adding a half of the last place, less one bit where that place is even, carries over
    when it should. NaN stays NaN. (The processor's own instruction takes subnormal numbers for zero.)"""
    ints = ir.VectorType(I32, x.type.count)

    def all_of(v: int) -> Any:
        return ir.Constant(ints, [v] * ints.count)

    bits = b.bitcast(x, ints)
    upper = b.lshr(bits, all_of(16))
    rounded = b.lshr(b.add(bits, b.add(b.and_(upper, all_of(1)), all_of(0x7FFF))), all_of(16))
    nan = b.or_(upper, all_of(0x40))
    return b.trunc(b.select(b.fcmp_unordered("uno", x, x), nan, rounded), ir.VectorType(I16, ints.count))


STORAGE = {"f16": (_widen_f16, _narrow_f16), "bf16": (_widen_bf16, _narrow_bf16)}
"""Types that are only stored: how their bits become f32, and f32 theirs."""


def _truncated(b: ir.IRBuilder, x: Any, to: Any, signed: bool) -> Any:
    """Floats to integers, saturating, NaN to 0: a plain conversion of those is undefined in LLVM, and LLVM's own saturating one
    goes lane by lane on vectors (20 times as slow on AVX-512)."""
    bits = to.element.width - signed
    low, high = (-(2.0**bits) if signed else 0.0), 2.0**bits
    lo, hi = (ir.Constant(x.type, [v] * x.type.count) for v in (low, high))
    fits = b.and_(b.fcmp_ordered(">=", x, lo), b.fcmp_ordered("<", x, hi))
    safe = b.select(fits, x, _zero(x.type))
    out = b.fptosi(safe, to) if signed else b.fptoui(safe, to)
    least, most = (-(2**bits) if signed else 0), 2**bits - 1
    out = b.select(b.fcmp_ordered(">=", x, hi), ir.Constant(to, [most] * to.count), out)
    return b.select(b.fcmp_ordered("<", x, lo), ir.Constant(to, [least] * to.count), out)


def _shaped(t: Any, code: str) -> Tile:
    return Tile(code, t.rows, t.lanes) if isinstance(t, Tile) else Tile(code, 1, 1)


@cache
def cast(code: str) -> Any:
    """``f(x)``: x converted; float to int truncates and saturates, anything to b1 is x != 0."""

    @intrinsic
    def f(typingctx, x):  # type: ignore[no-untyped-def]
        out = _shaped(x, code)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return map_rows(b, out, [(x, args[0])], lambda r: _convert(b, r, code_of(x), code))

        return out(x), cg

    return f


@cache
def bitcast(code: str) -> Any:
    """``f(x)``: the same bits as another type of the same size."""

    @intrinsic
    def f(typingctx, x):  # type: ignore[no-untyped-def]
        out = _shaped(x, code)

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return map_rows(b, out, [(x, args[0])], lambda r: b.bitcast(r, out.vector))

        return out(x), cg

    return f


@cache
def splat(code: str, rows: int, lanes: int) -> Any:
    """``f(scalar)``: the scalar, converted, in every place."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, x):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            one = _convert(b, splat_vector(b, args[0], 1), code_of(x), code)
            row = splat_vector(b, b.extract_element(one, I32(0)), lanes)
            return make_tile(b, out, [row] * rows)

        code_of(x)
        return out(x), cg

    return f


@cache
def spread(code: str, rows: int, lanes: int) -> Any:
    """``f(x)``: a tile or scalar broadcast to a shape."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, x):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return map_rows(b, out, [(x, args[0])], lambda r: r)

        if code_of(x) != code:
            raise TypeError(f"spread: {x} to {out}")
        return out(x), cg

    return f


@cache
def zeros(code: str, rows: int, lanes: int) -> Any:
    """``f()``: all zero."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            return make_tile(b, out, [_zero(out.vector)] * rows)

        return out(), cg

    return f


@cache
def iota(code: str, rows: int, lanes: int) -> Any:
    """``f(start, row_step, lane_step)``: start + r * row_step + j * lane_step."""
    out = Tile(code, rows, lanes)

    @intrinsic
    def f(typingctx, start, row_step, lane_step):  # type: ignore[no-untyped-def]
        i64 = numba_type("i64")

        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            el = ELEMENT[code]
            s, rs, ls = (b.trunc(a, el) if el.width < 64 else a for a in args)
            line = b.mul(splat_vector(b, ls, lanes), ir.Constant(out.vector, list(range(lanes))))
            rows_ = []
            for r in range(rows):
                at = b.add(s, b.mul(rs, ir.Constant(el, r))) if r else s
                rows_.append(b.add(line, splat_vector(b, at, lanes)))
            return make_tile(b, out, rows_)

        return out(i64, i64, i64), cg

    return f


@intrinsic
def item(typingctx, x):  # type: ignore[no-untyped-def]
    """The scalar of a 1x1 tile."""
    if (x.rows, x.lanes) != (1, 1):
        raise TypeError(f"item of {x}")

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.extract_element(get_row(b, x, args[0], 0, 1), I32(0))

    return numba_type(x.code)(x), cg


@intrinsic
def least(typingctx, x, y):  # type: ignore[no-untyped-def]
    """The smaller of two int64 (Python's min costs Numba an overload resolution at every use)."""
    i64 = numba_type("i64")

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.select(b.icmp_signed("<", args[0], args[1]), args[0], args[1])

    return i64(i64, i64), cg


@intrinsic
def div_pos(typingctx, x, y):  # type: ignore[no-untyped-def]
    """x // y for int64 values that are not negative, y not 0: one unsigned division without sign fix-ups."""
    i64 = numba_type("i64")

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.udiv(args[0], args[1])

    return i64(i64, i64), cg
