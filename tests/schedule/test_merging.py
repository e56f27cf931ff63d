"""Row kernels that become one, and values that are computed again: the loads and stores that are left."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.schedule.program import Schedule


def schedule(f, *shapes) -> Schedule:
    """The schedule of a function of float64 arrays, after a run that agrees with the reference."""
    args = [np.random.default_rng(i).normal(size=s) for i, s in enumerate(shapes)]
    specs = [gc.spec(*s, dtype="float64") for s in shapes]
    compiled, reference = gc.compile(f, *specs, target="cpu"), gc.compile(f, *specs, target="reference")
    for a, b in zip(compiled(*args), reference(*args), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    return compiled.executable.schedule


def traffic(s: Schedule, elements: int) -> list[tuple[str, int, int]]:
    """Of each kernel: its kind, and how many values of a size it reads and writes."""
    count = lambda buffers: sum(np.prod(b.type.shape, dtype=int) == elements for b in buffers)
    return [(i.nest.kind, count(i.reads), count(i.writes)) for i in s.launches()]


def sensitivities(f, count):
    return lambda dy, *xs: gc.grad(lambda *a: (f(*a) * dy).sum(), wrt=list(range(count)))(*xs)


def test_the_gradient_of_layer_norm_is_two_kernels():
    s = schedule(sensitivities(ops.layer_norm, 3), (37, 50), (37, 50), (50,), (50,))
    assert traffic(s, 37 * 50) == [("row", 2, 1), ("row", 2, 0)]
    (columns,) = [i.nest for i in s.launches() if i.nest.outer[0].size == 50]
    assert len(columns.stages[0].accs) == 2  # of the weight and of the bias


def test_the_gradient_of_batch_norm_is_one_kernel():
    s = schedule(sensitivities(lambda x, w, b: ops.batch_norm_train(x, w, b)[0], 3), (37, 50), (37, 50), (50,), (50,))
    assert traffic(s, 37 * 50) == [("row", 2, 1)]


def test_what_costs_more_than_memory_is_stored():
    def f(x, w):
        y = ops.tanh(ops.erf(ops.softmax(x, -1)))
        return y.sum(1), (y * w).sum(0)

    s = schedule(f, (37, 50), (37, 50))
    assert traffic(s, 37 * 50) == [("row", 2, 1), ("row", 1, 0)]


def test_what_others_read_as_well_is_stored_once():
    def f(x, w):
        y = x * ops.softmax(x, -1).max(1, keepdims=True)
        return y, (y * w).sum(0), (y * w).sum(1)

    s = schedule(f, (37, 50), (37, 50))
    assert sum(w for _, _, w in traffic(s, 37 * 50)) == 1


@pytest.mark.parametrize("between", [True, False])
def test_order_is_kept(between):
    """A kernel that needs the first and feeds the second of two alike stands between them."""

    def f(x, w):
        rows = (x * x).sum(1)  # one pass over rows of x
        column = (w @ rows) if between else w.sum(1)  # needs it, or does not
        return rows, (x * column).sum(1)  # another pass over rows of x

    s = schedule(f, (37, 50), (50, 37))
    assert len([1 for i in s.launches() if i.nest.outer and i.nest.outer[0].size == 37]) == (2 if between else 1)


def folds(f, *specs) -> list[tuple[str, ...]]:
    """The axes along which each row kernel works and folds."""
    s = gc.compile(f, *specs, target="cpu").executable.schedule
    return [tuple(" x ".join(str(a.size) for a in axes) for axes in (i.nest.outer, i.nest.inner)) for i in s.launches() if i.nest.kind == "row"]


@pytest.mark.parametrize(
    ("shape", "axis", "steps"),
    [
        (("N", 6, 10, 10), (0, 2, 3), [("6*N", "100"), ("6", "N")]),
        ((2, 6, 40, 50), (0, 2, 3), [("480", "50"), ("6", "2 x 40")]),
        ((65536, 3), 0, [("64 x 3", "1024"), ("3", "64")]),
        (("N", 64, 8, 8), (0, 2, 3), [("64", "N x 64")]),  # a sample's part is no more work than to store its result
        (("N", 200, 30), (0, 2), [("200", "N x 30")]),
        (("N", 6), 0, [("6", "N")]),
    ],
)
def test_folds_to_few_values_are_made_in_two_steps(shape, axis, steps):
    assert folds(lambda x: x.sum(axis), gc.spec(*shape)) == steps
    concrete = [5 if s == "N" else s for s in shape]
    x = np.random.default_rng(0).normal(size=concrete).astype(np.float32)
    np.testing.assert_allclose(gc.compile(lambda x: x.max(axis), gc.spec(*shape))(x), x.max(axis))
    np.testing.assert_allclose(gc.compile(lambda x: x.sum(axis), gc.spec(*shape))(x), x.sum(axis, dtype=np.float64), rtol=1e-4, atol=1e-3)


def test_what_is_the_same_along_a_sum_is_multiplied_once():
    def f(x, y, w):
        g = x * w.reshape(1, 6, 1)
        return g.sum((0, 2)), (g * y).sum((0, 2)), (x * y).sum((0, 2))

    s = schedule(f, (4, 6, 10), (4, 6, 10), (6,))
    assert sum(len(st.accs) for i in s.launches() for st in i.nest.stages) == 2


def test_no_kernel_is_left_that_writes_nothing():
    def f(x, w, b):
        return ops.batch_norm_train(x, w, b)[0]

    assert all(i.writes for i in schedule(f, (8, 6, 10, 10), (6,), (6,)).launches())


def test_statistics_across_rows_read_memory_once():
    """Mean and variance of a part while it is in the cache; then those of the parts."""
    s = schedule(lambda x: ops.standardize(x, 0), (1024, 64))
    assert [(k, r, w) for k, r, w in traffic(s, 1024 * 64) if r] == [("row", 1, 0), ("map", 1, 1)]
    first = s.launches()[0].nest
    assert [[a.size for a in axes] for axes in (first.outer, first.inner)] == [[16, 64], [64]] and len(first.stages) >= 2


def test_sums_across_many_rows_are_made_for_some_rows_at_a_time():
    """Both sums, of which one waits for statistics, share a pass, and what reads the first one comes behind it."""

    def f(g, x):
        n = ops.standardize(x, 0)
        return g.sum(0), (g * n).sum(0)

    s = schedule(f, (2048, 512), (2048, 512))
    reading = [(i.nest, r) for i, (_, r, _) in zip(s.launches(), traffic(s, 2048 * 512), strict=True) if r]
    assert [r for _, r in reading] == [1, 2]
    assert [[a.size for a in n.outer] for n, _ in reading] == [[32, 512], [32, 512]] and len(reading[1][0].stages[0].accs) == 2


@pytest.mark.parametrize(("shape", "axes"), [((4096, 48), (0,)), ((3, 5, 80, 90), (0, 2, 3)), ((2, 64, 64, 32), (0, 1, 2)), ((96, 7, 800), (0, 2))])
def test_parts_have_the_moments_of_the_whole(shape, axes):
    x = (np.random.default_rng(0).normal(size=shape) + 100).astype(np.float32)
    center, spread = gc.compile(lambda x: ops.moments(x, axes), gc.spec("N", *shape[1:]) if len(axes) > 1 else gc.spec(*shape))(x)
    np.testing.assert_allclose(center, x.mean(axes, dtype=np.float64), rtol=4e-6)
    np.testing.assert_allclose(spread, x.astype(np.float64).var(axes), rtol=2e-5)


def test_a_copy_walks_the_axes_of_what_it_reads():
    def f(x, w, v):
        return ops.conv(x, w).flatten(1) @ v

    s = schedule(f, (3, 2, 9, 9), (5, 2, 3, 3), (5 * 7 * 7, 11))
    (copy,) = [i.nest for i in s.launches() if i.nest.name == "reshape"]
    assert [a.size for a in copy.outer] == [3, 5, 49]


def test_the_gradient_of_pooling_is_one_pass():
    s = schedule(sensitivities(lambda x: ops.max_pool2d(x, 2), 1), (4, 3, 5, 5), (4, 3, 10, 10))
    assert traffic(s, 4 * 3 * 10 * 10) == [("row", 1, 1)]
