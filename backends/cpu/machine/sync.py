"""Intrinsics of the driver: shared words, calls through pointers, waiting."""

from __future__ import annotations

import platform
import time
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "call_kernel",
    "current_cpu",
    "fastcall",
    "fetch_add",
    "finite_f32",
    "finite_f64",
    "get",
    "load",
    "now",
    "pause",
    "put",
    "store",
    "words",
    "yield_cpu",
]

I32, I64, I8P = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
i64 = types.int64
block = types.CPointer(types.int64)


@intrinsic
def words(typingctx, address):  # type: ignore[no-untyped-def]
    """An address as a pointer to int64 words."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.inttoptr(args[0], I64.as_pointer())

    return block(i64), cg


@intrinsic
def get(typingctx, p, i):  # type: ignore[no-untyped-def]
    """A plain word."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.load(b.gep(args[0], [args[1]]))

    return i64(block, i64), cg


@intrinsic
def put(typingctx, p, i, v):  # type: ignore[no-untyped-def]
    """Sets a plain word."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        b.store(args[2], b.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(block, i64, i64), cg


@intrinsic
def load(typingctx, p, i):  # type: ignore[no-untyped-def]
    """A shared word, with acquire order."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.load_atomic(b.gep(args[0], [args[1]]), ordering="acquire", align=8)

    return i64(block, i64), cg


@intrinsic
def store(typingctx, p, i, v):  # type: ignore[no-untyped-def]
    """Sets a shared word, with release order."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        b.store_atomic(args[2], b.gep(args[0], [args[1]]), ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(block, i64, i64), cg


@intrinsic
def fetch_add(typingctx, p, i, v):  # type: ignore[no-untyped-def]
    """Adds to a shared word; gives the value before."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        return b.atomic_rmw("add", b.gep(args[0], [args[1]]), args[2], "acq_rel")

    return i64(block, i64, i64), cg


def _declared(b: Any, name: str, ret: Any, args: list[Any]) -> Any:
    return b.module.globals.get(name) or ir.Function(b.module, ir.FunctionType(ret, args), name)


@intrinsic
def pause(typingctx):  # type: ignore[no-untyped-def]
    """Tells the core that this is a spin loop."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        if platform.machine() in ("x86_64", "AMD64"):
            b.call(_declared(b, "llvm.x86.sse2.pause", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), cg


@intrinsic
def yield_cpu(typingctx):  # type: ignore[no-untyped-def]
    """Lets another thread run on this core."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        b.call(_declared(b, "sched_yield", I32, []), [])
        return context.get_dummy_value()

    return types.void(), cg


@intrinsic
def current_cpu(typingctx):  # type: ignore[no-untyped-def]
    """The number of the CPU that runs this thread, -1 where the system does not say."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        if platform.system() != "Linux":
            return I64(-1)
        return b.sext(b.call(_declared(b, "sched_getcpu", I32, []), []), I64)

    return i64(), cg


@intrinsic
def now(typingctx):  # type: ignore[no-untyped-def]
    """Nanoseconds of the system's clock that only goes on: that of Python's ``time.monotonic_ns``."""

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        with b.goto_entry_block():
            parts = b.alloca(I64, 2)
        b.call(_declared(b, "clock_gettime", I32, [I32, I64.as_pointer()]), [I32(time.CLOCK_MONOTONIC), parts])
        seconds, rest = (b.load(b.gep(parts, [I64(i)])) for i in (0, 1))
        return b.add(b.mul(seconds, I64(1_000_000_000)), rest)

    return i64(), cg


@intrinsic
def call_kernel(typingctx, fn, tid, nthreads, args, trip):  # type: ignore[no-untyped-def]
    """Calls a compiled kernel by address, in Numba's own convention: (result*, exception**, arguments...) -> status."""

    def cg(context: Any, b: Any, sig: Any, a: Any) -> Any:
        ft = ir.FunctionType(I32, [I8P.as_pointer(), I8P.as_pointer(), I64, I64, I64.as_pointer(), I64])
        with b.goto_entry_block():
            result, error = b.alloca(I8P), b.alloca(I8P)
        return b.sext(b.call(b.inttoptr(a[0], ft.as_pointer()), [result, error, a[1], a[2], a[3], a[4]]), I64)

    return i64(i64, i64, i64, block, i64), cg


@intrinsic
def fastcall(typingctx, other):  # type: ignore[no-untyped-def]
    """The address of the calling kernel as a method of a Python object: ``PyObject *f(self, args, nargs)`` (METH_FASTCALL).

    ``self`` is an int64 array, which is the kernel's block; the two arguments are objects. The kernel is called as
    ``f(first, second, block, 0)``; the method gives the second argument if the kernel leaves 0 in word ``other`` of the block, else
    ``self``. None of the three is immortal, so a reference is one more in the first word.
    """

    def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
        kernel, word = b.function, I64.as_pointer()
        made = ir.Function(b.module, ir.FunctionType(word, [word, word.as_pointer(), I64]), f"{kernel.name}.fastcall")
        f = ir.IRBuilder(made.append_basic_block())
        me, given, _ = made.args
        result, error = f.alloca(kernel.args[0].type.pointee), f.alloca(kernel.args[1].type.pointee)
        first, second = (f.load(f.gep(given, [I64(i)])) for i in (0, 1))
        block_ = f.inttoptr(f.load(f.gep(me, [I64(2)])), word)
        f.call(kernel, [result, error, f.ptrtoint(first, I64), f.ptrtoint(second, I64), block_, I64(0)])
        good = f.icmp_signed("==", f.load(f.gep(block_, [I64(0)])), I64(0))
        out = f.select(good, second, me)
        f.store(f.add(f.load(out), I64(1)), out)
        f.ret(out)
        return b.ptrtoint(made, I64)

    return i64(i64), cg


def _finite(el: Any, bits: Any, exponent: int) -> Any:
    @intrinsic
    def f(typingctx, address):  # type: ignore[no-untyped-def]
        def cg(context: Any, b: Any, sig: Any, args: Any) -> Any:
            v = b.load(b.inttoptr(args[0], bits.as_pointer()))
            mask = bits(exponent)
            return b.zext(b.icmp_unsigned("!=", b.and_(v, mask), mask), I64)

        return i64(i64), cg

    return f


finite_f32 = _finite(ir.FloatType(), I32, 0x7F800000)
finite_f64 = _finite(ir.DoubleType(), I64, 0x7FF0000000000000)
