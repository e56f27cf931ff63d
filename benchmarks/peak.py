"""The limit of the machine: fused multiply-adds on registers only, written in LLVM, on every thread at once."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time

CHAINS = 12  # independent sums: enough to hide the latency on two units, few enough for sixteen registers


def _compile(width: int):
    import llvmlite.binding as llvm
    from llvmlite import ir

    for start in ("initialize", "initialize_native_target", "initialize_native_asmprinter"):
        with contextlib.suppress(RuntimeError):  # newer versions of llvmlite start themselves and refuse the first call
            getattr(llvm, start)()
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

    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64, ctypes.c_float)(engine.get_function_address(function.name))
    return engine, call


class Peak:
    """Measures the peak rate; the widest vectors are not the fastest on every processor, so the best width counts."""

    def __init__(self, threads: int) -> None:
        import llvmlite.binding as llvm

        features = llvm.get_host_cpu_features()
        widths = [w for w, need in ((16, "avx512f"), (8, "avx2")) if features.get(need)] or [4]
        self.threads = threads
        self.kernels = {w: _compile(w) for w in widths}

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
