"""The limits of the machine: fused multiply-adds on registers only, written in LLVM, and copies of memory, on every thread at once."""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import threading
import time
from typing import Any

import numpy as np

CHAINS = 12  # independent sums: enough to hide the latency on two units, few enough for sixteen registers


def _build(module: Any, name: str, kind: Any) -> tuple[Any, Any]:
    """Compiles a module for this processor: (what keeps the code alive, the function)."""
    import llvmlite.binding as llvm

    for start in ("initialize", "initialize_native_target", "initialize_native_asmprinter"):
        with contextlib.suppress(RuntimeError):  # newer versions of llvmlite start themselves and refuse the first call
            getattr(llvm, start)()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine, kind(engine.get_function_address(name))


def _widths() -> list[int]:
    """Widths of float32 vectors that this processor has and that may be the fastest."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    return [w for w, need in ((16, "avx512f"), (8, "avx2")) if features.get(need)] or [4]


def _fma_code(width: int) -> tuple[Any, Any]:
    from llvmlite import ir

    vector, i64 = ir.VectorType(ir.FloatType(), width), ir.IntType(64)
    module = ir.Module(name=f"peak{width}")
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), name=f"llvm.fma.v{width}f32")
    function = ir.Function(module, ir.FunctionType(ir.FloatType(), [i64, ir.FloatType()]), name=f"peak{width}")
    entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))

    builder = ir.IRBuilder(entry)
    seed = ir.Constant(vector, ir.Undefined)
    for lane in range(width):
        seed = builder.insert_element(seed, function.args[1], ir.IntType(32)(lane))
    builder.branch(loop)

    builder.position_at_end(loop)
    count = builder.phi(i64)
    sums = [builder.phi(vector) for _ in range(CHAINS)]
    following = [builder.call(fma, [s, seed, seed]) for s in sums]
    left = builder.sub(count, i64(1))
    count.add_incoming(function.args[0], entry)
    count.add_incoming(left, loop)
    for s, n in zip(sums, following):
        s.add_incoming(seed, entry)
        s.add_incoming(n, loop)
    builder.cbranch(builder.icmp_signed(">", left, i64(0)), loop, done)

    builder.position_at_end(done)
    total = following[0]
    for n in following[1:]:
        total = builder.fadd(total, n)
    builder.ret(builder.extract_element(total, ir.IntType(32)(0)))

    return _build(module, function.name, ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float))


def _copy_code(width: int) -> tuple[Any, Any]:
    """copy(to, from, count): ``count`` times four vectors."""
    from llvmlite import ir

    vector, i64 = ir.VectorType(ir.FloatType(), width), ir.IntType(64)
    module = ir.Module(name=f"copy{width}")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i64, i64, i64]), name=f"copy{width}")
    entry, loop, done = (function.append_basic_block(n) for n in ("entry", "loop", "done"))
    builder = ir.IRBuilder(entry)
    to, source = (builder.inttoptr(a, vector.as_pointer()) for a in function.args[:2])
    builder.branch(loop)
    builder.position_at_end(loop)
    count = builder.phi(i64)
    first = builder.mul(count, i64(4))
    values = [builder.load(builder.gep(source, [builder.add(first, i64(i))]), align=4) for i in range(4)]
    for i, value in enumerate(values):
        builder.store(value, builder.gep(to, [builder.add(first, i64(i))]), align=4)
    following = builder.add(count, i64(1))
    count.add_incoming(i64(0), entry)
    count.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, function.args[2]), loop, done)
    builder.position_at_end(done)
    builder.ret_void()
    return _build(module, function.name, ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64))


class Copy:
    """Measures a copy that reads and writes ``size`` bytes together: by plain vector loads and stores, and by the C library's memcpy,
    which may write past the caches; the faster counts."""

    def __init__(self, size: int, threads: int) -> None:
        width = _widths()[0]
        unit = 16 * width  # four vectors
        self.threads, self.bytes = threads, max(unit, size // 2 // threads // unit * unit)
        self.engine, vectors = _copy_code(width)
        count = self.bytes // unit
        ways = (lambda to, source: vectors(to, source, count)), (lambda to, source: ctypes.memmove(to, source, self.bytes))
        self.ways = ways
        self.parts = [[np.ones(self.bytes, np.uint8) for _ in range(2)] for _ in range(threads)]

    def measure(self, seconds: float = 0.1) -> float:
        """Seconds of the faster one's median copy, all threads at once."""
        return min(self._median(way, seconds / len(self.ways)) for way in self.ways)

    def _median(self, way: Any, seconds: float) -> float:
        """Each thread takes its own part; what the slowest needs in each turn counts."""
        addresses = [(a.ctypes.data, b.ctypes.data) for a, b in self.parts]
        way(*addresses[0])
        start = time.perf_counter()
        way(*addresses[0])
        turns = max(3, int(seconds / max(time.perf_counter() - start, 1e-7)))
        times: list[list[float]] = [[] for _ in addresses]
        ready = threading.Barrier(self.threads)

        def work(i: int) -> None:
            ready.wait()
            for _ in range(turns):
                start = time.perf_counter()
                way(*addresses[i])
                times[i].append(time.perf_counter() - start)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return statistics.median(map(max, zip(*times)))


class Peak:
    """Measures the peak rate; the widest vectors are not the fastest on every processor, so the best width counts."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.kernels = {w: _fma_code(w) for w in _widths()}

    def measure(self, seconds: float = 0.1) -> float:
        """Flops a second of all threads together."""
        return max(self._rate(width, call, seconds) for width, (_, call) in self.kernels.items())

    def _rate(self, width: int, call, seconds: float) -> float:
        start = time.perf_counter()
        call(200_000, 0.5)
        rounds = max(1, int(200_000 * seconds / (time.perf_counter() - start)))
        workers = [threading.Thread(target=call, args=(rounds, 0.5)) for _ in range(self.threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return self.threads * rounds * CHAINS * width * 2 / (time.perf_counter() - start)
