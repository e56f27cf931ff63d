"""What kernels call that Numba has no name for, or none that compiles without a GPU: 16-byte accesses, copies beside the threads, shuffles,
votes, tensor cores.

Kernel texts import these functions; the simulator knows them by the same names. Importing this module needs numba-cuda.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

__all__ = [
    "ballot", "commit_copies", "copy1", "copy4", "copy8", "from_bfloat16", "from_half", "ldmatrix", "ldmatrix_transposed", "load4", "lowest_bit", "mma_bf16",
    "mma_tf32", "round_bfloat16", "shuffle_xor", "store4", "store4_bfloat16", "to_bfloat16", "to_half", "wait_copies0", "wait_copies1",
]  # fmt: skip

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


def _shared(context: Any, builder: Any, kind: Any, value: Any, at: Any) -> Any:
    """The address of an element of a shared array, as instructions of shared memory take it."""
    pointer = _address(context, builder, kind, value, at)
    return builder.ptrtoint(builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 3)), I32)


def _size(kind: Any) -> int:
    """Bytes of an element."""
    return int(kind.dtype.bitwidth) // 8


def _copies(builder: Any) -> Any:
    """Whether the GPU copies beside the threads (from compute capability 8.0 on): known when NVVM compiles for one, so the other way leaves no trace."""
    name = b"__CUDA_ARCH\0"
    word = ir.Constant(ir.ArrayType(ir.IntType(8), len(name)), bytearray(name))
    module = builder.module
    text = module.globals.get("_asked_arch")
    if text is None:
        text = ir.GlobalVariable(module, word.type, "_asked_arch", addrspace=4)
        text.initializer, text.global_constant, text.linkage = word, True, "internal"
    pointer = ir.IntType(8).as_pointer()
    reflect = module.globals.get("__nvvm_reflect") or ir.Function(module, ir.FunctionType(I32, [pointer]), "__nvvm_reflect")
    return builder.icmp_signed(">=", builder.call(reflect, [builder.addrspacecast(text, pointer)]), I32(800))


def _copy(name: str, width: int) -> Any:
    def typed(typingctx: Any, shared: Any, at: Any, source: Any, start: Any, count: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = _size(sig.args[0])
            pointer = _address(context, builder, sig.args[2], args[2], args[3])
            address = builder.ptrtoint(builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 1)), I64)
            # 16 bytes go past the first cache, which the blocks of a multiprocessor would fill with tiles that they read once
            text = f"cp.async.{'cg' if width * size == 16 else 'ca'}.shared.global [$0], [$1], {width * size}, $2;"
            with builder.if_else(_copies(builder)) as (beside, by_itself):
                with beside:
                    values = [_shared(context, builder, sig.args[0], args[0], args[1]), address, builder.mul(args[4], I32(size))]
                    builder.asm(ir.FunctionType(ir.VoidType(), [I32, I64, I32]), text, "r,l,r,~{memory}", values, True)
                with by_itself:
                    for i in range(width):
                        to = _address(context, builder, sig.args[0], args[0], builder.add(args[1], args[1].type(i)))
                        builder.store(ir.Constant(to.type.pointee, 0), to)
                        with builder.if_then(builder.icmp_signed(">", args[4], I32(i))):
                            builder.store(builder.load(builder.gep(pointer, [I64(i)])), to)
            return context.get_dummy_value()

        return types.void(shared, at, source, start, types.int32), codegen

    typed.__name__ = name
    typed.__doc__ = f"``shared[at:at + {width}] = source[start:start + {width}]`` beside the threads, by one copy; what lies behind the first ``count`` is 0."
    return intrinsic(typed)


copy1, copy4, copy8 = _copy("copy1", 1), _copy("copy4", 4), _copy("copy8", 8)


def _bare(name: str, text: str, doc: str) -> Any:
    """An instruction without operands."""

    def typed(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            with builder.if_then(_copies(builder)):
                builder.asm(ir.FunctionType(ir.VoidType(), []), text, "~{memory}", [], True)
            return context.get_dummy_value()

        return types.void(), codegen

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


commit_copies = _bare("commit_copies", "cp.async.commit_group;", "The copies that the thread has started since the last commit are a group.")
wait_copies0 = _bare("wait_copies0", "cp.async.wait_group 0;", "Waits for all of the thread's groups.")
wait_copies1 = _bare("wait_copies1", "cp.async.wait_group 1;", "Waits for all of the thread's groups but the last one.")


def _ldmatrix(name: str, transposed: str, doc: str) -> Any:
    def typed(typingctx: Any, local: Any, first: Any, shared: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            start = builder.sext(args[1], I64) if args[1].type.width < 64 else args[1]
            text = f"ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {{$0,$1,$2,$3}}, [$4];"
            kind = ir.FunctionType(ir.LiteralStructType([I32] * 4), [I32])
            words = builder.asm(kind, text, "=r,=r,=r,=r,r,~{memory}", [_shared(context, builder, sig.args[2], args[2], args[3])], True)
            for i in range(4):
                p = _address(context, builder, sig.args[0], args[0], builder.add(start, I64(i)))
                builder.store(builder.bitcast(builder.extract_value(words, i), p.type.pointee), p)
            return context.get_dummy_value()

        return types.void(local, first, shared, at), codegen

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


ldmatrix = _ldmatrix(
    "ldmatrix", "",
    "Four matrices of eight rows of 16 bytes: lane l gives the place of row l % 8 of matrix l // 8, and gets the l % 4-th word of row l // 4 of each.",
)  # fmt: skip
ldmatrix_transposed = _ldmatrix(
    "ldmatrix_transposed", ".trans", "The same for elements of two bytes: a lane gets column l // 4 of the rows 2 (l % 4) and the next.",
)  # fmt: skip


def _rounded(builder: Any, values: list[Any]) -> Any:
    """Two float32 as a word of bfloat16: the later one is named first, and lies in the high half."""
    return builder.asm(ir.FunctionType(I32, [ir.FloatType()] * 2), "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", values[::-1], False)


@intrinsic
def store4_bfloat16(typingctx: Any, shared: Any, at: Any, local: Any, first: Any) -> Any:
    """``shared[at:at + 4] = local[first:first + 4]``, rounded to bfloat16, by one access of 8 bytes; ``at`` is a multiple of 4."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        start = builder.sext(args[3], I64) if args[3].type.width < 64 else args[3]
        values = [builder.load(_address(context, builder, sig.args[2], args[2], builder.add(start, I64(i)))) for i in range(4)]
        word = ir.Constant(ir.VectorType(I32, 2), ir.Undefined)
        for i in range(2):
            word = builder.insert_element(word, _rounded(builder, values[2 * i : 2 * i + 2]), I32(i))
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(word, builder.bitcast(pointer, word.type.as_pointer(pointer.type.addrspace)), align=8)
        return context.get_dummy_value()

    return types.void(shared, at, local, first), codegen


@intrinsic
def round_bfloat16(typingctx: Any, value: Any) -> Any:
    """As :func:`to_bfloat16`, by the instruction that GPUs with such tensor cores have."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.trunc(_rounded(builder, [args[0], ir.Constant(ir.FloatType(), 0.0)]), I16)

    return types.uint16(types.float32), codegen


def _mma(name: str, doc: str, text: str, convert: str) -> Any:
    """A product of fragments on tensor cores, added to four sums of the thread: ``c[first:first + 4] += a[from_a:from_a + 4] *
    b[from_b:from_b + 2]``; ``convert`` makes a word of an element."""

    def typed(typingctx: Any, c: Any, first: Any, a: Any, from_a: Any, b: Any, from_b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            f32 = ir.FloatType()

            def part(kind: int, count: int) -> list[Any]:
                start = builder.sext(args[kind + 1], I64) if args[kind + 1].type.width < 64 else args[kind + 1]
                return [_address(context, builder, sig.args[kind], args[kind], builder.add(start, I64(i))) for i in range(count)]

            sums = part(0, 4)
            words = [builder.load(p) for p in (*part(2, 4), *part(4, 2))]
            if convert:
                words = [builder.asm(ir.FunctionType(I32, [f32]), convert, "=r,f", [w], False) for w in words]
            values = words + [builder.load(p) for p in sums]
            result = ir.LiteralStructType([f32] * 4)
            kinds = ir.FunctionType(result, [v.type for v in values])
            made = builder.asm(kinds, text, ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4), values, True)
            for i, p in enumerate(sums):
                builder.store(builder.extract_value(made, i), p)
            return context.get_dummy_value()

        return types.void(c, first, a, from_a, b, from_b), codegen

    typed.__name__, typed.__doc__ = name, doc
    return intrinsic(typed)


_OPERANDS = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
mma_tf32 = _mma(
    "mma_tf32", "Rows of 8 float32 by columns of 8, rounded to TF32.", f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {_OPERANDS}",
    "cvt.rna.tf32.f32 $0, $1;",
)  # fmt: skip
mma_bf16 = _mma("mma_bf16", "Rows of 16 bfloat16 by columns of 16, two a word.", f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {_OPERANDS}", "")
