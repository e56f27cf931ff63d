"""What each thread of a kernel touches, and which barriers that makes needless."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc.ops as ops
from graphc.backends.cpu import check
from graphc.backends.cpu.binding import Binding
from graphc.backends.cpu.executable import CpuExecutable
from graphc.backends.cpu.shares import Reach, Share
from graphc.compiler import compile_graph
from graphc.ir.dims import evaluate, floordiv, interval, sym
from graphc.schedule.launches import Launch
from tests.models import Builder, batch_for, mlp_step
from tests.schedule.test_golden_lists import MODELS

N = sym("N")


def executables():
    for name in ("classifier", "attention_block", "convolution", "rnn"):
        graph = MODELS[name]()
        b = Builder()
        for i in graph.inputs:
            if i.role != "arg":
                b.param(i.name, i.node.shape)
        yield name, graph, b.store
    yield "step", *mlp_step((24, 40, 10))


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    yield mlp_step((96, 200, 10))[0], None
    yield from ((graph, None) for _, graph, _ in executables())


def compiled(graph, store, n: int, threads: int) -> tuple[CpuExecutable, Binding, dict]:
    e = compile_graph(graph, "cpu", store)
    args = batch_for(graph, n)
    e(args)
    return e, Binding(e.program, e.bindings()[0].dims, store, threads), args


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(-4, 4), st.sampled_from(["i", "j", "k"]), st.sampled_from([1, 2, 3]), st.sampled_from(["", "i", "k"])), min_size=1, max_size=4),
       st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 4)), min_size=3, max_size=3))  # fmt: skip
def test_an_interval_holds_every_value(terms, bounds):
    ranges = {name: (low, low + more) for name, (low, more) in zip("ijk", bounds, strict=True)}
    e = 5
    for coefficient, name, by, other in terms:
        e = e + coefficient * floordiv(sym(name), by) * (sym(other) if other else 1)
    low, high = interval(e, ranges)
    values = [evaluate(e, dict(zip("ijk", point, strict=True))) for point in itertools.product(*(range(a, b + 1) for a, b in ranges.values()))]
    assert low <= min(values) and max(values) <= high


def test_an_interval_of_one_term_is_tight_and_unknowns_have_none():
    assert interval(3 * sym("i") + 1, {"i": (2, 4)}) == (7, 13)
    assert interval(floordiv(sym("i") + 1, 2), {"i": (2, 4)}) == (1, 2)
    assert interval(sym("i") + sym("x"), {"i": (2, 4)}) is None


@pytest.mark.parametrize("nthreads", [1, 2, 3, 5])
def test_the_units_of_all_threads_are_all_points(nthreads: int):
    reach = Reach((Share("a", N), Share("b", 10, 4), Share("c", 3)), (("k", 7),), ())
    dims = {"N": 3}
    assert reach.units(dims) == 27
    seen = set()
    for t in range(nthreads):
        points = set(itertools.product(range(3), range(3), range(3)))
        mine = {p for u, p in enumerate(sorted(points)) if 27 * t // nthreads <= u < 27 * (t + 1) // nthreads}
        r = reach.ranges(dims, t, nthreads)
        assert r["k"] == (0, 6)
        for a, b, c in mine:
            assert r["a"][0] <= a <= r["a"][1] and r["b"][0] <= 4 * b and min(4 * b + 3, 9) <= r["b"][1] and r["c"][0] <= c <= r["c"][1]
        seen |= mine
    assert len(seen) == 27
    assert reach.ranges({"N": 0}, 0, nthreads) is None


@pytest.mark.parametrize("n", [5, 64])
@pytest.mark.parametrize("case", list(executables()), ids=lambda c: c[0])
def test_kernels_write_where_their_reach_says(case, n: int):
    """Each thread's part of each kernel alone, on memory full of a pattern: what changes lies in its intervals."""
    _, graph, store = case
    _, binding, args = compiled(graph, store, n, 3)
    memory = check._Emulation(binding, args, guarded=True)
    memory.run((0, 1, 2), lockstep=True)
    looked = 0
    for i, item in memory.items.items():
        reach = isinstance(item, Launch) and binding.program.kernels[item].reach
        if not reach or any("trip" in str(t.at) for t in reach.touches):
            continue
        for t in range(3):
            for b in item.writes:
                memory.data(b)[:] = 0xAB
            check._KERNEL(memory.rows[i][1])(check._scratch, check._scratch, t, 3, memory.blocks[i].ctypes.data, 0)
            touched = reach.touched(binding.dims, t, 3)
            for b in item.writes:
                allowed = np.zeros(len(memory.data(b)), bool)
                for first, last, writes in touched.of(b):
                    allowed[max(first, 0) : last] |= writes
                inside = np.zeros_like(allowed).reshape(-1, b.type.dtype.itemsize)
                inside[b.layout.pack(np.ones([evaluate(s, binding.dims) for s in b.type.shape], bool))] = True  # padding belongs to nobody
                changed = (memory.data(b) != 0xAB) & inside.reshape(-1)
                assert not (changed & ~allowed).any(), (item.nest.name, t)
                looked += changed.any()
    assert looked


def test_a_barrier_goes_where_parts_agree_and_stays_where_they_do_not():
    graph, store = mlp_step((96, 200, 10))
    e, even, _ = compiled(graph, store, 64, 2)
    asked = {i for i in e.schedule.items if i.barrier}
    gone = asked - even.places.barriers
    assert gone and even.places.barriers - asked <= {i for i in e.schedule.items if isinstance(i, Launch)}
    assert any(i.nest.kind == "row" for i in gone)
    # a product reads all columns of rows that another product made column by column: it waits
    second = [i for i in e.schedule.items if isinstance(i, Launch) and i.nest.kind == "contract"][1]
    assert second in even.places.barriers
    alone = Binding(e.program, even.dims, store, 1)
    assert alone.places.barriers == asked  # one thread waits for nobody: nothing is worked out


def test_small_kernels_run_side_by_side():
    b = Builder()
    xs = [b.arg(f"x{i}", (3000,)) for i in range(4)]
    graph = b.graph({f"s{i}": ops.sum(ops.exp(x) * x) for i, x in enumerate(xs)})
    e, binding, args = compiled(graph, b.store, 1, 4)
    launches = e.schedule.launches()
    assert len(launches) == 4 and not any(i.barrier for i in launches)
    doing = [{(t - binding.places.turns[i]) % 4 for t in range(4) if binding.program.kernels[i].reach.ranges({}, t, 4)} for i in launches]
    assert sorted(map(sorted, doing)) == [[0], [1], [2], [3]]
    outs, status = binding.run(args)
    assert not status
    wanted = compile_graph(graph, "reference", b.store)(args)
    for (name, k), _ in zip(binding.returned, outs, strict=True):
        np.testing.assert_allclose(outs[k], wanted[name], rtol=1e-5)


def test_a_wrong_share_is_found():
    """A kernel that is said to touch less than it does loses a barrier, and GRAPHC_CHECK finds that."""
    graph, store = mlp_step((24, 40, 10))
    e = compile_graph(graph, "cpu", store)
    for k in e.program.kernels.values():
        if k.reach is not None:
            k.reach = Reach(k.reach.shares, k.reach.axes, ())
    e.check = "schedule"
    with pytest.raises(check.CompileError, match="barrier"):
        e(batch_for(graph, 37))
