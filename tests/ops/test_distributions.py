"""Random numbers against SciPy's distributions, at fixed seeds: whole distributions, moments, independence of streams."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import GraphcError
from graphc.ir.graph import Graph, Input
from graphc.testing import build_graph

SEED = np.array([0xA4093822, 0x299F31D0], np.uint32)
COUNT = 20000


def draw(target, fn, *args):
    """``fn(seed, step, *args)`` with arrays in ``args`` as inputs."""
    graph, arrays = build_graph(lambda s, t, *rest: fn(s, t, *rest), SEED, np.int64(3), *args)
    return compile_graph(graph, target)(arrays)["o0"]


CONTINUOUS = {
    "uniform": (lambda s, t: ops.random_uniform(s, t, (COUNT,), 1), scipy.stats.uniform()),
    "normal": (lambda s, t: ops.random_normal(s, t, (COUNT,), 2), scipy.stats.norm()),
    "exponential": (lambda s, t: ops.random_exponential(s, t, (COUNT,), 3), scipy.stats.expon()),
    "gumbel": (lambda s, t: ops.random_gumbel(s, t, (COUNT,), 4), scipy.stats.gumbel_r()),
    "truncated": (lambda s, t: ops.random_truncated_normal(s, t, (COUNT,), -1.0, 2.5, 5), scipy.stats.truncnorm(-1.0, 2.5)),
    "truncated_tail": (lambda s, t: ops.random_truncated_normal(s, t, (COUNT,), 4.0, math.inf, 6), scipy.stats.truncnorm(4.0, math.inf)),
    "truncated_below": (lambda s, t: ops.random_truncated_normal(s, t, (COUNT,), -math.inf, -6.0, 7), scipy.stats.truncnorm(-math.inf, -6.0)),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_distribution_is_scipys(name, target):
    fn, wanted = CONTINUOUS[name]
    x = draw(target, fn).astype(float)
    assert scipy.stats.kstest(x, wanted.cdf).pvalue > 0.01
    assert x.mean() == pytest.approx(wanted.mean(), abs=4 * wanted.std() / math.sqrt(COUNT))
    assert x.std() == pytest.approx(wanted.std(), rel=0.05)
    low, high = wanted.support()
    assert low <= x.min() and x.max() <= high
    assert abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < 0.03, "neighbours are independent"


def chi_square(counts, chances):
    return scipy.stats.chisquare(counts, np.asarray(chances) / np.sum(chances) * np.sum(counts)).pvalue


def test_integers_are_even(target):
    for low, high, dtype in ((0, 10, "int32"), (-3, 4, "int64"), (0, 256, "uint8")):
        x = draw(target, lambda s, t, a=low, b=high, d=dtype: ops.random_integers(s, t, a, b, (COUNT,), 8, d))
        assert x.dtype == dtype and x.min() == low and x.max() == high - 1
        assert chi_square(np.bincount(x.astype(int) - low, minlength=high - low), np.ones(high - low)) > 0.01
    x = draw(target, lambda s, t: ops.random_integers(s, t, -(2**31), 2**31, (COUNT,), 8))
    assert scipy.stats.kstest(x / 2.0**32 + 0.5, "uniform").pvalue > 0.01


def test_booleans_have_their_probability(target):
    p = np.linspace(0, 1, 11)
    x = draw(target, lambda s, t, p: ops.random_bernoulli(s, t, p, (COUNT // 10, 11), 9), p)
    assert x.dtype == bool
    for share, k in zip(p, x.sum(0), strict=True):
        assert scipy.stats.binomtest(int(k), len(x), share).pvalue > 0.005, share


def test_categories_have_softmax_probabilities(target):
    logits = np.array([[0.0, 1.0, -1.0, 2.0, -math.inf], [3.0, 3.0, 3.0, -40.0, 0.0]])
    x = draw(target, lambda s, t, a: ops.random_categorical(s, t, a, (COUNT, 2), stream=10), logits)
    for row, a in zip(x.T, logits, strict=True):
        counts, p = np.bincount(row, minlength=5), scipy.special.softmax(a)
        assert counts[p < 1e-12].sum() == 0
        assert chi_square(counts[p > 1e-12], p[p > 1e-12]) > 0.01


def test_every_order_is_as_likely(target):
    orders = list(itertools.permutations(range(4)))
    graph, arrays = build_graph(lambda s, t: [ops.random_permutation(s, t, 4, stream) for stream in range(600)], SEED, np.int64(0))
    found = [tuple(v.tolist()) for v in compile_graph(graph, target)(arrays).values()]
    assert chi_square([found.count(o) for o in orders], np.ones(24)) > 0.01


def test_a_large_order_is_complete(target):
    x = draw(target, lambda s, t: ops.random_permutation(s, t, 1000, 5))
    np.testing.assert_array_equal(np.sort(x), np.arange(1000))
    assert abs(np.corrcoef(x, np.arange(1000))[0, 1]) < 0.1


@pytest.mark.parametrize("name", ["uniform", "normal", "exponential", "gumbel", "integers", "permutation", "bernoulli", "truncated_normal", "categorical"])
def test_seed_step_and_stream_say_everything(name, target):
    s, t = ops.input("seed", (2,), "uint32"), ops.input("step", (), "int64")
    first = {
        "integers": (0, 1000, (64,)), "permutation": (64,), "bernoulli": (0.5, (64,)), "categorical": (np.zeros(100), (64,)), "truncated_normal": ((64,), -2.0, 2.0),
    }.get(name, ((64,),))  # fmt: skip
    make = getattr(ops, f"random_{name}")
    a, b = make(s, t, *first, stream=1), make(s, t, *first, stream=2)
    assert a is not b and make(s, t, *first, stream=1) is a
    e = compile_graph(Graph("f", (Input("seed", s), Input("step", t)), (("a", a), ("b", b))), target)
    base = e({"seed": SEED, "step": np.int64(7)})
    again = e({"seed": SEED, "step": np.int64(7)})
    np.testing.assert_array_equal(base["a"], again["a"])
    others = [base["b"], e({"seed": SEED, "step": np.int64(8)})["a"], e({"seed": SEED[::-1].copy(), "step": np.int64(7)})["a"]]
    for other in others:
        assert (other == base["a"]).mean() < (0.75 if name == "bernoulli" else 0.2)


def test_ndtri_is_scipys_to_the_last_digits(target):
    p = np.concatenate([np.random.default_rng(0).random(1000), 10.0 ** -np.linspace(0.5, 300, 200), [0.0, 1.0, 0.5, -0.1, 1.1, np.nan]])
    graph, arrays = build_graph(ops.ndtri, p)
    found, wanted = compile_graph(graph, target)(arrays)["o0"], scipy.special.ndtri(p)
    np.testing.assert_allclose(found, wanted, rtol=5e-15, atol=1e-16)
    single, arrays = build_graph(ops.ndtri, p.astype(np.float32))
    rounded = scipy.special.ndtri(arrays["x0"].astype(np.float64)).astype(np.float32)
    np.testing.assert_array_max_ulp(compile_graph(single, target)(arrays)["o0"], rounded, 1)


def test_misuse_is_refused():
    s, t = ops.input("seed", (2,), "uint32"), ops.input("step", (), "int64")
    for fn, words in (
        (lambda: ops.random_normal(s, t, "3"), "shape"),
        (lambda: ops.random_integers(s, t, 0, 2**33, (3,)), "2\\*\\*32"),
        (lambda: ops.random_normal(t, s, (3,)), "seed must be"),
        (lambda: ops.random_bernoulli(s, t, -0.5), "probability"),
    ):
        with pytest.raises(GraphcError, match=words):
            fn()
