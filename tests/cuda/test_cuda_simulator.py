"""The simulator: it computes with Numba's types, and it traps what a GPU would do wrong."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.backends.cuda.sim import Memory, Report, launch
from graphc.compiler import compile_graph
from graphc.errors import SimulationError
from graphc.testing import build_graph

THREAD = "np.int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)"


def run(*lines: str, blocks: int = 1, threads: int = 32, **args) -> dict:
    """Runs a kernel of these lines; arrays become memory, and come back."""
    memory = {k: v if isinstance(v, (Memory, np.generic)) else Memory(k, np.array(v)) for k, v in args.items()}
    text = f"@cuda.jit\ndef kernel({', '.join(args)}):\n" + "".join(f"    {line}\n" for line in lines)
    launch(text, blocks, threads, memory)
    return {k: m.data for k, m in memory.items() if isinstance(m, Memory)}


def kernel_of(fn, *arrays, **options):
    """The one kernel of a function, and arguments for it (shared by the planted bugs below)."""
    graph, given = build_graph(fn, *arrays)
    exe = compile_graph(graph, "cuda-sim", **options)
    (k,) = exe.kernels
    args = {}
    for p in k.printed.params:
        if p.kind == "buffer":
            name = p.value.name
            empty = Memory(name, np.zeros(p.value.elements, p.dtype.numpy), written=False)
            args[p.name] = Memory(name, given[name].copy()) if name in given else empty
        else:
            args[p.name] = p.dtype.numpy.type(p.value if p.kind == "size" else p.value[0][1])
    return k.printed.text, args


def planted(text: str, old: str, new: str) -> str:
    assert old in text, f"{old!r} is not in\n{text}"
    return text.replace(old, new)


def product(precision="float32"):
    a, b = (np.random.default_rng(s).normal(size=(40, 40)).astype(np.float32) for s in (0, 1))
    return kernel_of(lambda x, y: x @ y + 1.0, a, b, precision=precision)


def tf32():
    return product("tf32")


def bf16():
    return product("bf16")


def columns():
    return kernel_of(lambda x: x.sum(0), np.ones((70, 40), np.float32))


def long_row():
    return kernel_of(lambda x: x.sum(-1), np.ones((3, 3000), np.float32))


THREADS = {product: 64, tf32: 256, bf16: 256, columns: 256, long_row: 256}
"""Threads of a block where there is only one number that fits."""


def softmax():
    return kernel_of(lambda x: x.softmax(-1), np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32))


def addition():
    return kernel_of(lambda x, y: x + y, np.ones((5, 30), np.float32), np.arange(150, dtype=np.float32).reshape(5, 30))


# -- planted bugs ------------------------------------------------------------------------------------------------------------
def test_the_kernels_run_without_the_bugs():
    for make in (softmax, addition, product, tf32, bf16, columns, long_row):
        launch(make()[0], 2, THREADS.get(make, 64), make()[1])


@pytest.mark.parametrize(
    "make,old,new,message",
    [
        (softmax, "range(lane, s0, ", "range(lane, s0 + 1, ", r"load out of bounds: x0 \(float32\[210\]\) at 210 by block 1, thread 6"),
        (addition, "range(first, s0, step)", "range(first, s0 + 1, step)", r"load out of bounds: x0 .* at 150 by block 0, thread 22"),
        (addition, "v0 = p0[i0]", "v0 = p0[i0 - 1]", r"load out of bounds: x0 .* at -1 by block 0, thread 0"),
        (addition, "p2[i0] = ", "p2[i0 + 1] = ", r"store out of bounds: o0 .* at 150 by block 0, thread 21"),
        (addition, "p2[i0] = ", "p2[np.int32(i0 >> 1)] = ", r"race: o0 .* at \d+ is written by .* and used by another"),
        (addition, "p1[i0]", "p2[i0]", "load of memory that was never written: o0 .* at 0 by block 0, thread 0"),
        (softmax, "16 >> k)", "16 >> k) if lane < 16 else a0", r"divergent warp: block 0, thread 16 does not reach line \d+: shuffle_xor"),
        (softmax, "np.float32(1.0) / a1", "1.0 / a1", "a float64 value is stored to o0"),
        (softmax, "a1 = a1 + b1", "a1 = a1 + b1 * 2", "a1 changes its type from float32 to float64"),
        (product, "    cuda.syncthreads()\n", "    pass\n", r"race: t0 \(shared float32\[1728\]\) at \d+ is read by block 0, thread 0 and written by another"),
        (product, "d * 36 + tr", "d * 35 + tr", r"misaligned load of 4: t0 \(shared .*\) at 35 by block 0, thread 0"),
        (product, "d * 36 + tr", "d * 36 + 1728 + tr", r"load out of bounds: t0 .* at 1728"),
        (product, "            cuda.syncthreads()", "            if t < 40:\n                cuda.syncthreads()",
         r"divergent block: block 0, thread 40 does not reach line \d+: cuda.syncthreads\(\)"),
        (product, "for z in range(16)", "for z in range(15)", r"never written: l2 \(local float32\[16\]\) at 15"),
        (product, "store4(p2, j", "store4(p2, 1 + j", r"misaligned store of 4: o0 .* at 1 by"),
        (product, " if m < s0:", " if m < 8 + s0:", r"store out of bounds: o0 .* at 1600 by block 1"),
        # copies beside the threads
        (product, "wait_copies1()", "pass", r"copy on its way: t0 \(shared .*\) at 0 is read by block 0, thread 0 before the copy to it was committed and waited for"),
        (product, "commit_copies()", "pass", "copy on its way: t0 .* is read by block 0, thread 0"),
        (product, "wait_copies1()\n            cuda.syncthreads()", "cuda.syncthreads()\n            wait_copies1()", r"race: t0 .* is read by block 0, thread 0 and written by"),
        (product, "np.int32(now * 576 + d * 36 + tr)", "np.int32(fill * 576 + d * 36 + tr)", "copy on its way: t0 .* is read by"),
        (product, "copy4(t1, np.int32(fill * 576", "copy4(t1, np.int32((2 - fill) * 576", "copy on its way: t1 .* at 0 is read by"),
        (product, "now = np.int32(fill + 1 if fill < 2", "now = np.int32(fill - 1 if fill > 0", "copy on its way: t0 .* at 0 is copied to by"),
        (product, "            kf = np.int32(k0 + 32)", "            kf = np.int32(k0 + 32 + (16 if k0 >= 0 else 0))", "never written: t0|copy on its way: t0"),
        (product, ", p1, j1, ", ", p1, j1 + 1, ", r"misaligned load of 4: x1 .* at 1 by block 0, thread 0, line \d+: copy4"),
        (product, "* 36 + nx)", "* 36 + nx + 2)", r"misaligned copy of 4: t1 .* at 2 by"),
        (product, "np.int32(4) if inside else np.int32(0)", "np.int32(4)", r"load out of bounds: x1 .* at 1600 by block 0, thread \d+, line \d+: copy4"),
        (product, "np.int32(4) if inside", "np.int32(5) if inside", "a copy of 4 elements reads none to all of them"),
        (product, "np.int32(4) if inside", "4 if inside", "the number of elements is an int32"),
        (product, "p0, j0", "t1, j0", "a copy goes from global to shared memory"),
        # matrices for tensor cores
        (tf32, "wait_copies1()", "pass", r"copy on its way: t0 .* at 0 is read by block 0, thread 0 before .*ldmatrix"),
        (tf32, "commit_copies()", "pass", "copy on its way: t0 .* is read by block 0, thread 0"),
        (tf32, "    cuda.syncthreads()\n", "    pass\n", r"race: t0 .* is read by block 0, thread \d+ and written by another thread, line \d+: ldmatrix"),
        (tf32, "now * 1024", "fill * 1024", "copy on its way: t0 .* is read by .*ldmatrix"),
        (tf32, "mk) ^ ms", "mk + 1) ^ ms", r"misaligned row of ldmatrix: t0 \(shared float32.*\) at 1 by block 0, thread 0"),
        (tf32, "now * 1024 + ml", "now * 1024 + 3072 + ml", r"load out of bounds: t0 .* at 3072 by block 0, thread 0, line \d+: ldmatrix"),
        (tf32, "ldmatrix(l0", "ldmatrix_transposed(l0", r"elements of 2 bytes or \(not transposed\) of 4"),
        (tf32, "            if k0 >= 0:", "            if k0 >= 0 and t != 40:", "divergent warp: block 0, thread 40 does not reach .*ldmatrix"),
        (tf32, "range(4):\n                            l1", "range(3):\n                            l1", "never written: l1"),
        (bf16, "    cuda.syncthreads()\n", "    pass\n", r"race: t0 .* is read by block 0, thread \d+ and written by another thread, line \d+: ldmatrix"),
        (bf16, "store4_bfloat16(t0, np.int32(fill", "store4_bfloat16(t0, np.int32(now", r"never written: t0 .*ldmatrix|race: t0 .* is written by"),
        (bf16, "            if kf < s0:\n                for g in range(2):\n                    x = np.int32(t + g * 256)\n                    mx = np.int32(x >> 3)\n"
         "                    kx = np.int32((x & 7) * 4)\n                    store4", "            if kf < 0:\n                for g in range(2):\n                    x = np.int32(t + g * 256)\n"
         "                    mx = np.int32(x >> 3)\n                    kx = np.int32((x & 7) * 4)\n                    store4", "never written: t0 .*ldmatrix"),
        (bf16, "nl + d * 1152", "nl + 4 + d * 1152", r"misaligned row of ldmatrix: t1 \(shared uint16"),
        (bf16, "ldmatrix(l0, i * 4", "ldmatrix(l0, i * 8", "ldmatrix gives four words"),
        (columns, "        cuda.syncthreads()\n        a0 = t0[lane]", "        a0 = t0[lane]", r"never written: t0 .*|race: t0 .* is read by"),
        (columns, "k * 32 + lane", "k * 32 + t", r"load out of bounds: t0 .* at 256"),
        (long_row, "            a0 = a0 + b0\n        cuda.syncthreads()", "            a0 = a0 + b0", r"race: t0 \(shared float32\[8\]\) at \d is written by block \d"),
    ],
)
def test_a_planted_bug_is_caught(make, old, new, message):
    text, args = make()
    with pytest.raises(SimulationError, match=message):
        launch(planted(text, old, new), 2, THREADS.get(make, 64), args)


def test_a_loop_that_ends_early_leaves_memory_that_reading_traps():
    text, args = addition()
    launch(planted(text, "range(first, s0, step)", "range(first, s0 - 1, step)"), 2, 64, args)
    with pytest.raises(SimulationError, match=r"never written: o0 .* at 149 by block 0, thread 21, line 14: p0\[i0\]"):
        launch(text, 2, 64, args | {"p0": args["p2"], "p2": Memory("next", np.zeros(150, np.float32), written=False)})


# -- races -------------------------------------------------------------------------------------------------------------------
X = np.arange(64, dtype=np.float32)


def test_writing_what_another_thread_reads_is_a_race():
    lines = (f"i = {THREAD}", "v = p[63 - i]", "p[i] = v")
    with pytest.raises(SimulationError, match="race: p"):
        run(*lines, threads=64, p=X)
    with pytest.raises(SimulationError, match="race: p"):  # also within a warp: nothing orders its threads
        run(*(line.replace("63", "31") for line in lines), p=X)


def test_a_warp_that_meets_may_write_what_it_has_read():
    found = run(f"i = {THREAD}", "v = p[31 - i]", "cuda.syncwarp()", "p[i] = v", p=X[:32])
    np.testing.assert_array_equal(found["p"], X[31::-1])


def test_a_warp_meeting_does_not_order_other_warps():
    with pytest.raises(SimulationError, match="race: p"):
        run(f"i = {THREAD}", "v = p[0]", "cuda.syncwarp()", "if i == 0:", "    p[0] = v", threads=64, p=X)
    with pytest.raises(SimulationError, match="race: p"):
        run(f"i = {THREAD}", "p[i] = np.float32(1)", "cuda.syncwarp()", "v = p[63 - i]", "q[i] = v", threads=64, p=X, q=X)


def test_equal_values_to_one_address_are_no_race_and_own_memory_is_free_to_use():
    found = run(f"i = {THREAD}", "p[0] = np.float32(5)", threads=64, p=X)
    assert found["p"][0] == 5
    found = run(f"i = {THREAD}", "p[i] = p[i] + np.float32(1)", "p[i] = p[i] * np.float32(2)", threads=64, p=X)
    np.testing.assert_array_equal(found["p"], (X + 1) * 2)


def test_different_values_to_one_address_are_a_race_also_at_different_times():
    with pytest.raises(SimulationError, match="race: p"):
        run(f"i = {THREAD}", "p[0] = np.float32(i)", p=X)
    with pytest.raises(SimulationError, match="race: p"):
        run(f"i = {THREAD}", "if i == 0:", "    p[5] = np.float32(1)", "if i == 40:", "    p[5] = np.float32(2)", threads=64, p=X)


# -- meaning -----------------------------------------------------------------------------------------------------------------
def test_types_are_numbas_and_not_numpys():
    big = np.array([2**30], np.int32)
    found = run("v = p[0] * p[0]", "q[0] = v", p=big, q=np.zeros(1, np.int64))  # two int32 give an int64
    assert found["q"][0] == 2**60
    found = run("v = np.int32(p[0] * 4 + p[0])", "q[0] = v", p=big, q=np.zeros(1, np.int32))
    assert found["q"][0] == 2**30
    with pytest.raises(SimulationError, match="a float64 value is stored to q"):
        run("q[0] = p[0] * 0.5", p=X, q=X)
    with pytest.raises(SimulationError, match="a float64 value is stored to q"):
        run("q[0] = p[0] + np.int32(1)", p=X, q=X)


def test_arithmetic_is_rounded_to_float32_and_fma_once():
    a = np.array([1 + 2**-12], np.float32)
    found = run("q[0] = libdevice.fmaf(p[0], p[0], -p[0] * p[0])", "q[1] = p[0] * p[0] - p[0] * p[0]", p=a, q=np.zeros(2, np.float32))
    exact = float(a[0]) ** 2 - float(np.float32(a[0] * a[0]))
    assert found["q"].tolist() == [np.float32(exact), 0.0] and exact


def test_floats_become_integers_as_on_the_device():
    values = np.array([1e20, -1e20, np.nan, -2.9], np.float32)
    found = run(f"i = {THREAD}", "if i < 4:", "    q[i] = np.int32(p[i])", p=values, q=np.zeros(4, np.int32))
    assert found["q"].tolist() == [2**31 - 1, -(2**31), 0, -2]


def test_lanes_leave_loops_at_different_times_and_conditions_guard_loads():
    found = run(
        f"i = {THREAD}", "a = np.float32(0)", "for j in range(i):", "    a = a + np.float32(j)",
        "v = p[i] if i < s else np.float32(-1)", "q[i] = a + v",
        p=X[:5], q=X[:32], s=np.int32(5),
    )  # fmt: skip
    i = np.arange(32)
    np.testing.assert_array_equal(found["q"], i * (i - 1) / 2 + np.where(i < 5, i, -1))


def test_shuffles_move_values_across_a_warp():
    found = run(f"i = {THREAD}", "for k in range(5):", "    p[i] = p[i] + shuffle_xor(p[i], 16 >> k)", threads=64, p=X)
    np.testing.assert_array_equal(found["p"], np.repeat([X[:32].sum(), X[32:].sum()], 32))


def test_a_warp_votes_and_takes_what_was_found_one_by_one():
    found = run(
        f"i = {THREAD}", "m = ballot(p[i] > s)", "n = np.int32(0)",
        "while m != 0:", "    n = np.int32(n * 3 + lowest_bit(m) + 1)", "    m = np.uint32(m & (m - 1))", "q[i] = n",
        threads=64, p=X, q=np.zeros(64, np.int32), s=np.float32(29),
    )  # fmt: skip
    # warp 0: lanes 30 and 31; warp 1: all of its lanes
    second = 0
    for lane in range(32):
        second = int(np.int64(second * 3 + lane + 1).astype(np.int32))
    assert found["q"].tolist() == [31 * 3 + 32] * 32 + [second] * 32
    with pytest.raises(SimulationError, match="divergent warp"):
        run(f"i = {THREAD}", "if i < 5:", "    m = ballot(i < 3)", p=X)


def test_what_it_does_not_know_it_refuses():
    for line in ("raise ValueError", "v = cuda.shared.array(s, np.float32)", "v = p[0] < p[1] < p[2]", "v = w"):
        with pytest.raises(SimulationError):
            run(line, p=X)
    with pytest.raises(SimulationError, match="whole warps"):
        run("v = p[0]", threads=20, p=X)
    with pytest.raises(SimulationError, match="untyped int"):
        launch("@cuda.jit\ndef kernel(s):\n    v = s\n", 1, 32, {"s": 3})


# -- barriers and shared memory ----------------------------------------------------------------------------------------------
SHARED = ("t = np.int32(cuda.threadIdx.x)", "s = cuda.shared.array(64, np.float32)", "s[t] = p[t]")


def test_a_barrier_orders_the_threads_of_a_block():
    found = run(*SHARED, "cuda.syncthreads()", "q[t] = s[63 - t]", threads=64, p=X, q=np.zeros(64, np.float32))
    np.testing.assert_array_equal(found["q"], X[::-1])
    with pytest.raises(SimulationError, match=r"race: s \(shared"):
        run(*SHARED, "q[t] = s[t]", "s[63 - t] = p[t]", threads=64, p=X, q=np.zeros(64, np.float32))


def test_a_warp_that_meets_orders_its_own_shared_memory_only():
    lines = (*SHARED, "cuda.syncwarp()", "q[t] = s[t ^ 1]")
    np.testing.assert_array_equal(run(*lines, threads=64, p=X, q=np.zeros(64, np.float32))["q"].reshape(-1, 2), X.reshape(-1, 2)[:, ::-1])
    with pytest.raises(SimulationError, match=r"race: s"):
        run(*SHARED, "cuda.syncwarp()", "q[t] = s[t ^ 32]", threads=64, p=X, q=np.zeros(64, np.float32))


def test_a_barrier_orders_global_memory_too_but_not_other_blocks():
    lines = ("t = np.int32(cuda.threadIdx.x)", "p[t] = np.float32(t)", "cuda.syncthreads()", "q[t] = p[63 - t]")
    np.testing.assert_array_equal(run(*lines, threads=64, p=X, q=X)["q"], X[::-1])
    with pytest.raises(SimulationError, match="race: p"):
        run("t = np.int32(cuda.blockIdx.x * 32 + cuda.threadIdx.x)", "p[t] = np.float32(t)", "cuda.syncthreads()", "q[t] = p[63 - t]", blocks=2, p=X, q=X)


def test_each_block_has_shared_memory_of_its_own():
    lines = ("b = np.int32(cuda.blockIdx.x)", "s = cuda.shared.array(1, np.int32)", "if cuda.threadIdx.x == 0:", "    s[0] = b", "cuda.syncthreads()",
             "q[np.int32(b * 32 + cuda.threadIdx.x)] = s[0]")  # fmt: skip
    assert run(*lines, blocks=3, q=np.full(96, -1, np.int32))["q"].tolist() == [0] * 32 + [1] * 32 + [2] * 32


# -- notes -------------------------------------------------------------------------------------------------------------------
def noted(*lines, lane=None, **args):
    memory = {k: Memory(k, np.array(v)) for k, v in args.items()}
    report = Report(lane)
    text = f"@cuda.jit\ndef kernel({', '.join(args)}):\n" + "".join(f"    {line}\n" for line in lines)
    launch(text, 1, 32, memory, report=report)
    return report


def test_accesses_that_are_not_side_by_side_are_reported():
    wide = np.zeros(1024, np.float32)
    report = noted(f"i = {THREAD}", "v = p[i] + p[i * 32]", "q[i] = v", p=wide, q=wide)
    assert report.uncoalesced() == ["line 4: p[i * 32]: 32 sectors of 32 bytes in 1 requests, 8.0 times what is needed"]
    assert {a.text: a.sectors for a in report.accesses.values()} == {"p[i]": 4, "p[i * 32]": 32, "q[i] = v": 4}
    four = noted(f"i = {THREAD}", "l = cuda.local.array(4, np.float32)", "load4(l, 0, p, i * 4)", "store4(q, i * 4, l)", p=wide, q=wide)
    assert not four.uncoalesced(1.01)


def test_a_lane_tells_what_it_computed():
    report = noted(f"i = {THREAD}", "for k in range(2):", "    v = p[i] * np.float32(k)", "if i > 3:", "    q[i] = v", lane=(0, 7), p=X, q=X)
    assert report.trace == ["line 3: i = 7", "line 5: v = 0.0", "line 5: v = 7.0", "line 7: q[...] = 7.0"]


# -- copies beside the threads, matrices, tensor cores -------------------------------------------------------------------------
COPY = (f"i = {THREAD}", "s = cuda.shared.array(256, np.float32, alignment=16)")


def test_a_copy_fills_with_zeros_what_it_does_not_read():
    lines = (*COPY, "copy4(s, i * 4, p, i * 4, np.int32(i & 3))", "commit_copies()", "wait_copies0()", "cuda.syncthreads()",
             "q[i] = s[np.int32(i * 4 + 1)]", "q[i + 32] = s[i * 4 + 2]", "q[i + 64] = s[i * 4 + 3]")  # fmt: skip
    x = np.arange(1, 128, dtype=np.float32)  # the last lane's copy reads the last three, and not past the end
    found = run(*lines, p=x, q=np.zeros(96, np.float32))["q"].reshape(3, 32)
    i = np.arange(32)
    for k in (1, 2):
        np.testing.assert_array_equal(found[k - 1], np.where((i & 3) > k, 4 * i + k + 1, 0))
    assert not found[2].any()
    with pytest.raises(SimulationError, match="misaligned load of 4: p"):
        run(*(line.replace("p, i * 4", "p, i * 2") for line in lines), p=x, q=np.zeros(96, np.float32))


def test_groups_arrive_in_the_order_in_which_they_were_committed():
    lines = (*COPY, "copy1(s, i, p, i, np.int32(1))", "commit_copies()", "copy1(s, i + 32, p, i, np.int32(1))", "commit_copies()", "wait_copies1()")
    q = np.zeros(32, np.float32)
    np.testing.assert_array_equal(run(*lines, "q[i] = s[i]", p=X, q=q)["q"], X[:32])  # a thread need not meet itself
    with pytest.raises(SimulationError, match=r"copy on its way: s .* at 32 is read by block 0, thread 0"):
        run(*lines, "q[i] = s[i + 32]", p=X, q=q)
    with pytest.raises(SimulationError, match=r"race: s .* is read by"):
        run(*lines, "q[i] = s[i ^ 1]", p=X, q=q)
    with pytest.raises(SimulationError, match=r"copy on its way: s .* is read"):  # another thread's wait is not one's own
        run(*lines[:-1], "if i < 16:", "    wait_copies0()", "cuda.syncthreads()", "q[i] = s[i]", p=X, q=q)


def test_nothing_may_write_where_a_copy_goes_and_no_copy_where_others_read():
    copy = "copy1(s, i, p, i, np.int32(1))"
    with pytest.raises(SimulationError, match=r"copy on its way: s .* is written by"):
        run(*COPY, copy, "s[i] = np.float32(1)", p=X)
    with pytest.raises(SimulationError, match=r"copy on its way: s .* is copied to by"):
        run(*COPY, copy, copy, p=X)
    with pytest.raises(SimulationError, match=r"race: s .* is copied to by .* and used by another thread"):
        run(*COPY, "s[i] = p[i]", "cuda.syncthreads()", "q[i] = s[i ^ 1]", copy, p=X, q=X[:32])
    with pytest.raises(SimulationError, match=r"race: s .* is copied to by"):
        run(*COPY, "s[i ^ 1] = p[i]", copy, p=X)


def test_ldmatrix_hands_out_rows_and_columns():
    """As the PTX manual draws it: of each matrix, lane 4 r + c gets the elements 2 c and 2 c + 1 of row r; transposed, those of column r."""
    lines = (f"i = {THREAD}", "s = cuda.shared.array(256, np.uint16, alignment=16)", "l = cuda.local.array(4, np.uint32)",
             "for k in range(8):", "    s[i * 8 + k] = p[i * 8 + k]", "cuda.syncthreads()", "ldmatrix(l, 0, s, i * 8)",
             "for k in range(4):", "    q[i * 4 + k] = l[k]")  # fmt: skip
    p, q = np.arange(256, dtype=np.uint16), np.zeros(128, np.uint32)
    found = run(*lines, p=p, q=q)["q"].view(np.uint16).reshape(32, 4, 2)
    assert found[0].tolist() == [[0, 1], [64, 65], [128, 129], [192, 193]]
    assert found[5].tolist() == [[10, 11], [74, 75], [138, 139], [202, 203]]
    assert found[31].tolist() == [[62, 63], [126, 127], [190, 191], [254, 255]]
    found = run(*(line.replace("ldmatrix", "ldmatrix_transposed") for line in lines), p=p, q=q)["q"].view(np.uint16).reshape(32, 4, 2)
    assert found[0].tolist() == [[0, 8], [64, 72], [128, 136], [192, 200]]
    assert found[5].tolist() == [[17, 25], [81, 89], [145, 153], [209, 217]]
    assert found[31].tolist() == [[55, 63], [119, 127], [183, 191], [247, 255]]


def test_ldmatrix_reads_for_the_lanes_that_get_what_it_reads():
    lines = (f"i = {THREAD}", "s = cuda.shared.array(256, np.uint16, alignment=16)", "l = cuda.local.array(4, np.uint32)",
             "for k in range(8):", "    s[i * 8 + k] = p[i * 8 + k]", "ldmatrix(l, 0, s, i * 8)")  # fmt: skip
    with pytest.raises(SimulationError, match=r"race: s .* is read by block 0, thread \d+ and written by another thread"):
        run(*lines, p=np.arange(256, dtype=np.uint16))  # each lane points to a row that it has written itself


def test_a_fragment_of_a_tensor_core_is_what_the_manual_says():
    """m16n8k16: lane 4 g + p holds rows g and g + 8 of A at k = 2 p, 2 p + 1, 2 p + 8, 2 p + 9, of B column g at the same k; of C rows g, g + 8 at 2 p, 2 p + 1."""
    lines = (f"i = {THREAD}", "a = cuda.local.array(4, np.uint32)", "b = cuda.local.array(2, np.uint32)", "c = cuda.local.array(4, np.float32)",
             "for k in range(4):", "    a[k] = p[i * 4 + k]", "    c[k] = np.float32(1)", "for k in range(2):", "    b[k] = q[i * 2 + k]",
             "mma_bf16(c, 0, a, 0, b, 0)", "for k in range(4):", "    r[i * 4 + k] = c[k]")  # fmt: skip
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 8, (16, 16)).astype(np.float32), rng.integers(-8, 8, (16, 8)).astype(np.float32)
    left, right = np.zeros((32, 4, 2), np.float32), np.zeros((32, 2, 2), np.float32)
    for lane in range(32):
        g, p = divmod(lane, 4)
        left[lane] = [a[g, 2 * p : 2 * p + 2], a[g + 8, 2 * p : 2 * p + 2], a[g, 2 * p + 8 : 2 * p + 10], a[g + 8, 2 * p + 8 : 2 * p + 10]]
        right[lane] = [b[2 * p : 2 * p + 2, g], b[2 * p + 8 : 2 * p + 10, g]]
    words = [(x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint32).reshape(-1) for x in (left, right)]
    found = run(*lines, p=words[0], q=words[1], r=np.zeros(128, np.float32))["r"].reshape(32, 2, 2)
    for lane in range(32):
        g, p = divmod(lane, 4)
        np.testing.assert_array_equal(found[lane], 1 + (a @ b)[[g, g + 8], 2 * p : 2 * p + 2])


def test_conflicts_of_banks_are_reported():
    shared = (f"i = {THREAD}", "s = cuda.shared.array(2048, np.float32, alignment=16)", "l = cuda.local.array(4, np.float32)")
    report = noted(*shared, "s[i * 32] = p[i]", "s[i * 33] = p[i]", "s[i] = p[i]", p=X)
    assert report.conflicts() == ["line 6: s[i * 32] = p[i]: 32 turns of the banks in 1 requests, 32.0 times what is needed"]
    rows = noted(*shared, "for k in range(64):", "    s[k * 32 + i] = np.float32(i)", "cuda.syncthreads()", "ldmatrix(l, 0, s, i * 20)", "ldmatrix(l, 0, s, i * 32)", p=X)
    (said,) = rows.conflicts(1.01)
    assert "s, i * 32" in said and "32 turns of the banks in 1 requests, 8.0 times" in said
