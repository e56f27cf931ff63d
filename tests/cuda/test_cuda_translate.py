"""Runs after the checked one: kernels as NumPy programs give the same bits, and still look at what depends on data."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops, optim
from graphc.backends.cuda import sim
from graphc.backends.cuda.sim import Memory, launch, relaunch
from graphc.backends.cuda.sim.translate import translated
from graphc.compiler import compile_graph
from graphc.errors import SettingError, SimulationError
from graphc.testing import build_graph
from tests.cuda.models import batch, compiled
from tests.cuda.test_cuda_simulator import THREAD, THREADS, addition, columns, long_row, product, softmax

X = np.arange(64, dtype=np.float32)


def both(*lines: str, blocks: int = 1, threads: int = 32, **args):
    """Runs a kernel of these lines twice, each time on its own copies; returns what both leave in memory, and the program."""
    text = f"@cuda.jit\ndef kernel({', '.join(args)}):\n" + "".join(f"    {line}\n" for line in lines)
    memory = [{k: v if isinstance(v, np.generic) else Memory(k, np.array(v), written=k != "out") for k, v in args.items()} for _ in range(2)]
    launch(text, blocks, threads, memory[0])
    quick = translated(text, memory[1])
    assert quick is not None, text
    relaunch(text, blocks, threads, memory[1])
    for k, m in memory[0].items():
        if isinstance(m, Memory):
            np.testing.assert_array_equal(m.data, memory[1][k].data, k)
            np.testing.assert_array_equal(m.written, memory[1][k].written, k)
    return memory[0], quick.source


@pytest.mark.parametrize("make", [softmax, addition, product, columns, long_row], ids=lambda f: f.__name__)
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_printed_kernel_is_the_same_program(make, blocks):
    (text, args), (_, copies) = make(), make()
    launch(text, blocks, THREADS.get(make, 64), args)
    relaunch(text, blocks, THREADS.get(make, 64), copies)
    for name, m in args.items():
        if isinstance(m, Memory):
            assert m.data.tobytes() == copies[name].data.tobytes()
            assert (m.written == copies[name].written).all()


def test_many_blocks_run_in_groups():
    x = np.random.default_rng(0).normal(size=40_000).astype(np.float32)
    found, _ = both(f"i = {THREAD}", "out[i] = p[i] * np.float32(2)", blocks=160, threads=256, p=np.resize(x, 40_960), out=np.zeros(40_960, np.float32))
    np.testing.assert_array_equal(found["out"].data, np.resize(x, 40_960) * 2)


# -- loops that become axes ----------------------------------------------------------------------------------------------------
def test_a_loop_whose_rounds_are_independent_is_an_axis():
    _, source = both(f"i = {THREAD}", "for k in range(4):", "    j = np.int32(i + k * 16)", "    out[j] = p[j] if j < 40 else np.float32(-1)",
                     p=X, out=np.zeros(80, np.float32))  # fmt: skip
    assert "for " not in source


@pytest.mark.parametrize(
    "lines",
    [
        ("a = np.float32(0)", "for k in range(4):", "    a = a + p[np.int32(i + k)]", "out[i] = a"),  # a sum from round to round
        ("for k in range(4):", "    a = p[np.int32(i + k)]", "out[i] = a"),  # read behind the loop
        ("out[i] = p[i]", "for k in range(4):", "    out[i] = out[i] * p[np.int32(i + k)]"),  # memory from round to round
        ("l = cuda.local.array(5, np.float32)", "l[0] = p[i]", "for k in range(4):", "    l[k + 1] = l[k] + np.float32(1)", "out[i] = l[4]"),
        ("for k in range(4):", "    out[i] = p[np.int32(i + k)]", "    out[np.int32(32 + i)] = p[i]", "for k in range(3):", "    out[i] = p[k]", "    out[i] = p[i]"),
    ],
)  # fmt: skip
def test_a_loop_whose_rounds_depend_on_each_other_stays_a_loop(lines):
    _, source = both(f"i = {THREAD}", *lines, p=X, out=np.zeros(64, np.float32))
    assert "for k" in source


def test_one_buffer_as_two_parameters_keeps_its_order():
    lines = ("if i < 1:", "    for k in range(4):", "        q[np.int32(i + k + 1)] = p[np.int32(i + k)] * np.float32(2)")
    text = "@cuda.jit\ndef kernel(p, q):\n    i = np.int32(cuda.threadIdx.x)\n" + "".join(f"    {line}\n" for line in lines)
    found = []
    for run in (launch, relaunch):
        m = Memory("x", np.ones(8, np.float32))
        run(text, 1, 32, {"p": m, "q": m})
        found.append(m.data.tolist())
    assert found[0] == found[1] == [1, 2, 4, 8, 16, 1, 1, 1]


def test_lanes_that_rest_keep_their_values():
    both(f"i = {THREAD}", "a = np.int32(7)", "if i > 20:", "    a = np.int32(i * 2)", "elif i > 10:", "    a = np.int32(1)", "else:", "    b = np.int32(3)",
         "    a = np.int32(a + b)", "out[i] = a", out=np.zeros(32, np.int32))  # fmt: skip
    both(f"i = {THREAD}", "a = np.int32(0)", "for j in range(i):", "    if j > 3:", "        a = np.int32(a + j)", "out[i] = a", out=np.zeros(32, np.int32))
    both(f"i = {THREAD}", "n = np.int32(p[i])", "c = np.int32(0)", "while n > 1:", "    n = np.int32(n >> 1)", "    c = np.int32(c + 1)", "out[i] = c",
         p=np.arange(32, dtype=np.int32), out=np.zeros(32, np.int32))  # fmt: skip


def test_integers_wrap_at_their_width():
    big = np.array([2**31 - 1, -(2**31), 2**30, -7] * 8, np.int32)
    both(f"i = {THREAD}", "out[i] = np.int32((p[i] * 5 + p[i]) >> 3)", p=big, out=np.zeros(32, np.int32))
    both(f"i = {THREAD}", "out[i] = np.int32(p[i] * 5 + p[i])", p=big, out=np.zeros(32, np.int32))
    both(f"i = {THREAD}", "out[i] = p[i] * 5 + p[i]", p=big, out=np.zeros(32, np.int64))
    both(f"i = {THREAD}", "u = np.uint32(p[i])", "out[i] = np.uint32((u << 7) ^ (u >> 3) + 5)", p=big, out=np.zeros(32, np.uint32))
    both(f"i = {THREAD}", "out[i] = np.int32(p[i] // 3 + p[i] % 5)", p=big, out=np.zeros(32, np.int32))


# -- what is looked at -----------------------------------------------------------------------------------------------------------
GATHER = "@cuda.jit\ndef kernel(p, index, out):\n    i = np.int32(cuda.threadIdx.x)\n    out[i] = p[index[i]]\n"
SCATTER = "@cuda.jit\ndef kernel(p, index, out):\n    i = np.int32(cuda.threadIdx.x)\n    out[index[i]] = p[i]\n"
GUARDED = "@cuda.jit\ndef kernel(p, index, out):\n    i = np.int32(cuda.threadIdx.x)\n    if index[i] != 0:\n        out[i] = p[i + 40]\n"


@pytest.mark.parametrize(
    "text,place,message",
    [
        (GATHER, 64, r"kernel: load out of bounds: p \(float32\[64\]\) at 64 by block 0, thread 3, line 4: p\[index\[i\]\]"),
        (GATHER, -1, r"load out of bounds: p .* at -1 by block 0, thread 3"),
        (SCATTER, 64, r"store out of bounds: out .* at 64 by block 0, thread 3"),
        (GUARDED, 1, r"load out of bounds: p .* at 64 by block 0, thread 24"),
    ],
)
def test_places_that_depend_on_data_are_looked_at_again(text, place, message):
    index = np.zeros(32, np.int32) if text is GUARDED else np.arange(32, dtype=np.int32)
    args = {"p": Memory("p", X), "index": Memory("index", index), "out": Memory("out", X.copy())}
    launch(text, 1, 32, args)
    index[24 if text is GUARDED else 3] = place
    with pytest.raises(SimulationError, match=message):
        relaunch(text, 1, 32, args)


def test_memory_that_was_never_written_is_noticed_at_places_that_depend_on_data():
    half = Memory("p", X.copy(), written=False)
    half.written[:32] = True
    args = {"p": half, "index": Memory("index", np.arange(32, dtype=np.int32)), "out": Memory("out", X.copy())}
    relaunch(GATHER, 1, 32, args)
    args["index"].data[5] = 40
    with pytest.raises(SimulationError, match=r"never written: p .* at 40 by block 0, thread 5"):
        relaunch(GATHER, 1, 32, args)


def test_what_is_not_translated_runs_as_before():
    text = "@cuda.jit\ndef kernel(p):\n    i = np.int32(cuda.threadIdx.x)\n    v = p[i]\n    v = np.float64(v)\n"
    args = {"p": Memory("p", X)}
    assert translated(text, args) is None
    with pytest.raises(SimulationError, match="changes its type"):
        relaunch(text, 1, 32, args)


# -- programs --------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def calls(monkeypatch):
    """What is called from now on, as if nothing had been checked before."""
    calls = []
    monkeypatch.setattr(sim, "_checked", set())
    for real in (launch, relaunch):
        monkeypatch.setattr(sim, real.__name__, lambda *args, real=real: (calls.append(real.__name__), real(*args)))
    return calls


def test_the_first_launch_of_a_kernel_for_each_size_is_checked_in_full(calls):
    f = gc.compile(lambda x: x * 2.0, gc.spec("N", 3), target="cuda-sim")
    for n in (4, 5, 4, 5, 6):
        f(np.ones((n, 3), np.float32))
    assert calls == ["launch", "launch", "relaunch", "relaunch", "launch"]
    gc.compile(lambda x: x * 2.0, gc.spec("M", 3), target="cuda-sim")(np.ones((4, 3), np.float32))
    assert calls[5:] == ["relaunch"]  # the same kernel of another program


def test_a_kernel_that_meets_memory_in_another_state_is_checked_in_full(calls):
    text = "@cuda.jit\ndef kernel(p, q):\n    i = np.int32(cuda.threadIdx.x)\n    q[i] = p[i]\n"
    full, half, out = Memory("p", X), Memory("half", X, written=False), Memory("q", X.copy())
    half.written[:40] = True
    sim.run(text, 1, 32, {"p": full, "q": out})
    sim.run(text, 1, 32, {"p": half, "q": out})
    half.written[:] = False
    half.written[32:] = True
    with pytest.raises(SimulationError, match="never written: half"):
        sim.run(text, 1, 32, {"p": half, "q": out})
    assert calls == ["launch", "launch", "launch"]
    sim.run(text, 1, 32, {"p": full, "q": out})
    sim.run(text, 1, 32, {"p": full, "q": full})  # one buffer as two parameters is another case
    assert calls[3:] == ["relaunch", "launch"]


def test_every_launch_is_checked_where_that_is_asked_for(calls, monkeypatch):
    monkeypatch.setenv("GRAPHC_SIM", "full")
    f = gc.compile(lambda x: x * 2.0, gc.spec(3), target="cuda-sim")
    f(X[:3])
    f(X[:3])
    assert calls == ["launch", "launch"]
    monkeypatch.setenv("GRAPHC_SIM", "none")
    with pytest.raises(SettingError, match="GRAPHC_SIM='none' is not known"):
        f(X[:3])


def test_other_indices_than_the_checked_ones_take_and_scatter_alike():
    graph, arrays = build_graph(lambda x, i: [ops.take(x, i, 0), ops.scatter_add(x, 0, i, ops.full((2,), 1.0))], X, np.array([5, 63]))
    exe = compile_graph(graph, "cuda-sim")
    for index in ([5, 63], [0, 1], [7, 7]):
        arrays["x1"] = np.array(index)
        for name, wanted in compile_graph(graph, "reference")(arrays).items():
            np.testing.assert_array_equal(exe(arrays)[name], wanted)


@pytest.mark.parametrize("name", ["gru", "lenet", "mlp", "transformer"])
def test_training_goes_on_with_the_bits_of_the_checked_one(name, monkeypatch):
    left = []
    for checks in ("first", "full"):
        monkeypatch.setenv("GRAPHC_SIM", checks)
        model = compiled(name, "cuda-sim", optim.Adam(1e-2))
        losses = [model.train_on_batch(*batch(name, 2))["loss"] for _ in range(2)]
        left.append((losses, {k: v.tobytes() for k, v in model.state_dict().items()}))
    assert left[0] == left[1]
