"""What kernels call that Numba has no name for, or none that compiles without a GPU: 16-byte accesses, shuffles, votes.

Kernel texts import these functions; the simulator knows them by the same names. Importing this module needs numba-cuda.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

__all__ = ["ballot", "from_bfloat16", "from_half", "load4", "lowest_bit", "mma_bf16", "mma_tf32", "shuffle_xor", "store4", "to_bfloat16", "to_half"]

I1, I16, I32, I64 = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _address(context: Any, builder: Any, kind: Any, value: Any, at: Any) -> Any:
    """A pointer to an element of a buffer or of a shared or local array."""
    at = builder.sext(at, I64) if at.type.width < 64 else at
    base = value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data
    return builder.gep(base, [at], inbounds=True)


def _vector(pointer: Any) -> tuple[Any, int]:
    """A pointer to four elements as one vector, and the alignment that 16-byte accesses have."""
    element = pointer.type.pointee
    bits = getattr(element, "width", 64 if isinstance(element, ir.DoubleType) else 32)
    return ir.VectorType(element, 4).as_pointer(pointer.type.addrspace), min(16, bits // 2)


@intrinsic
def load4(typingctx: Any, local: Any, first: Any, source: Any, at: Any) -> Any:
    """``local[first:first + 4] = source[at:at + 4]`` by one access; ``at`` is a multiple of 4."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[2], args[2], args[3])
        start = builder.sext(args[1], I64) if args[1].type.width < 64 else args[1]
        kind, align = _vector(pointer)
        value = builder.load(builder.bitcast(pointer, kind), align=align)
        for i in range(4):
            builder.store(builder.extract_element(value, I32(i)), _address(context, builder, sig.args[0], args[0], builder.add(start, I64(i))))
        return context.get_dummy_value()

    return types.void(local, first, source, at), codegen


@intrinsic
def store4(typingctx: Any, target: Any, at: Any, local: Any) -> Any:
    """``target[at:at + 4] = local[0:4]`` by one access; ``at`` is a multiple of 4."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        kind, align = _vector(pointer)
        value = ir.Constant(kind.pointee, ir.Undefined)
        for i in range(4):
            value = builder.insert_element(value, builder.load(_address(context, builder, sig.args[2], args[2], I64(i))), I32(i))
        builder.store(value, builder.bitcast(pointer, kind), align=align)
        return context.get_dummy_value()

    return types.void(target, at, local), codegen


@intrinsic
def shuffle_xor(typingctx: Any, value: Any, distance: Any) -> Any:
    """The value of the lane whose number differs in the bits of ``distance``; all lanes of the warp must be there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn = builder.module.declare_intrinsic("llvm.nvvm.shfl.sync.bfly.i32", (), ir.FunctionType(I32, [I32, I32, I32, I32]))
        distance = builder.trunc(args[1], I32) if args[1].type.width > 32 else args[1]

        def move(word: Any) -> Any:
            return builder.call(fn, [I32(-1), word, distance, I32(31)])

        if sig.return_type.bitwidth == 32:
            return builder.bitcast(move(builder.bitcast(args[0], I32)), args[0].type)
        word = builder.bitcast(args[0], I64)
        low, high = builder.trunc(word, I32), builder.trunc(builder.lshr(word, I64(32)), I32)
        joined = builder.or_(builder.zext(move(low), I64), builder.shl(builder.zext(move(high), I64), I64(32)))
        return builder.bitcast(joined, args[0].type)

    return value(value, distance), codegen


@intrinsic
def ballot(typingctx: Any, condition: Any) -> Any:
    """A uint32 with the conditions of the warp's lanes; all of them must be there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn = builder.module.declare_intrinsic("llvm.nvvm.vote.ballot.sync", (), ir.FunctionType(I32, [I32, I1]))
        return builder.call(fn, [I32(-1), args[0] if args[0].type.width == 1 else builder.trunc(args[0], I1)])

    return types.uint32(condition), codegen


@intrinsic
def lowest_bit(typingctx: Any, word: Any) -> Any:
    """The number of the lowest bit that is set in a uint32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fn = builder.module.declare_intrinsic("llvm.cttz", (I32,), ir.FunctionType(I32, [I32, I1]))
        return builder.call(fn, [args[0], I1(0)])

    return types.int32(word), codegen


@intrinsic
def from_half(typingctx: Any, bits: Any) -> Any:
    """The float32 with the value of a float16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def to_half(typingctx: Any, value: Any) -> Any:
    """The bits of the nearest float16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), I16)

    return types.uint16(types.float32), codegen


@intrinsic
def from_bfloat16(typingctx: Any, bits: Any) -> Any:
    """The float32 with the value of a bfloat16."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(builder.shl(builder.zext(args[0], I32), I32(16)), ir.FloatType())

    return types.float32(types.uint16), codegen


@intrinsic
def to_bfloat16(typingctx: Any, value: Any) -> Any:
    """The bits of the nearest bfloat16, ties to even; a NaN stays one."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = builder.bitcast(args[0], I32)
        odd = builder.and_(builder.lshr(word, I32(16)), I32(1))
        rounded = builder.lshr(builder.add(word, builder.add(odd, I32(0x7FFF))), I32(16))
        quiet = builder.or_(builder.lshr(word, I32(16)), I32(0x40))
        return builder.trunc(builder.select(builder.fcmp_unordered("uno", args[0], args[0]), quiet, rounded), I16)

    return types.uint16(types.float32), codegen


def _mma(name: str, doc: str, text: str, convert: str, pairs: int) -> Any:
    """A product of fragments on tensor cores, added to four sums of the thread: ``c[first:first + 4] += a * b``. ``a`` and ``b`` hold the
    thread's part of the fragments in float32; ``convert`` rounds one value, or packs two."""

    def typed(typingctx: Any, c: Any, first: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            f32 = ir.FloatType()
            start = builder.sext(args[1], I64) if args[1].type.width < 64 else args[1]

            def element(kind: int, at: Any) -> Any:
                return _address(context, builder, sig.args[kind], args[kind], at)

            def fragment(kind: int, i: int) -> Any:
                # of two packed values the later one is named first, and lies in the high half
                values = [builder.load(element(kind, I64(i * pairs + h))) for h in reversed(range(pairs))]
                return builder.asm(ir.FunctionType(I32, [f32] * pairs), convert, ",".join(["=r"] + ["f"] * pairs), values, False)

            sums = [element(0, builder.add(start, I64(i))) for i in range(4)]
            words = [fragment(2, i) for i in range(4)] + [fragment(3, i) for i in range(2)]
            values = words + [builder.load(p) for p in sums]
            result = ir.LiteralStructType([f32] * 4)
            kinds = ir.FunctionType(result, [v.type for v in values])
            made = builder.asm(kinds, text, ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4), values, True)
            for i, p in enumerate(sums):
                builder.store(builder.extract_value(made, i), p)
            return context.get_dummy_value()

        return types.void(c, first, a, b), codegen

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


_OPERANDS = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
mma_tf32 = _mma(
    "mma_tf32", "Rows of 8 by columns of 8, rounded to TF32.", f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {_OPERANDS}",
    "cvt.rna.tf32.f32 $0, $1;", 1,
)  # fmt: skip
mma_bf16 = _mma(
    "mma_bf16", "Rows of 16 by columns of 16, rounded to bfloat16.", f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {_OPERANDS}",
    "cvt.rn.bf16x2.f32 $0, $1, $2;", 2,
)  # fmt: skip
