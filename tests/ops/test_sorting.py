"""Order with equal elements, infinities and NaN, named sizes, and what users build on ranks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph
from graphc.testing import build_graph

RNG = np.random.default_rng(0)


def specials(rows=6, n=17):
    x = np.rint(RNG.standard_normal((rows, n)) * 3) / 2
    x[0, 2] = x[3, 5] = x[3, 9] = np.nan
    x[1, 0], x[1, 5], x[1, 7], x[2, 3], x[2, 4] = np.inf, -np.inf, np.inf, -0.0, 0.0
    x[4] = np.nan
    x[5] = -np.inf
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_counts_as_the_largest(target, dtype):
    x = specials().astype(dtype)
    graph, arrays = build_graph(
        lambda x: [
            ops.sort(x), ops.argsort(x), ops.sort(x, descending=True), ops.argsort(x, descending=True), *ops.top_k(x, 5),
            ops.top_k(x, 9, largest=False)[1], ops.top_k(x, 17)[1], ops.quantile(x[2:5], (0.0, 0.5), 1), ops.median(x[2:5], 1),
        ], x,
    )  # fmt: skip
    found = list(compile_graph(graph, target)(arrays).values())
    up = np.argsort(x, -1, kind="stable")
    with jax.enable_x64(True):
        down = np.asarray(jnp.argsort(jnp.asarray(x), -1, stable=True, descending=True))
        top = [np.asarray(v) for v in jax.lax.top_k(jnp.asarray(x), 5)]
    wanted = [np.sort(x), up, np.take_along_axis(x, down, -1), down, *top, up[:, :9], down, np.quantile(x[2:5], [0.0, 0.5], 1), np.median(x[2:5], 1)]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_integers_to_the_ends_of_their_range(target, dtype):
    info = np.iinfo(dtype)
    x = np.array([3, info.max, info.min, 0, info.max, info.min, 7, 3], dtype)
    graph, arrays = build_graph(
        lambda x: [ops.sort(x), ops.argsort(x, descending=True), *ops.top_k(x, 4), *ops.top_k(x, 4, largest=False), ops.searchsorted(ops.sort(x), x)], x
    )
    found = list(compile_graph(graph, target)(arrays).values())
    up = np.argsort(x, kind="stable")
    down = np.array(sorted(range(8), key=lambda i: (-int(x[i]), i)))
    wanted = [np.sort(x), down, x[down[:4]], down[:4], x[up[:4]], up[:4], np.searchsorted(np.sort(x), x)]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(f, w)


def test_searching_for_nan_is_numpys(target):
    a, v = np.sort(specials()[:2].reshape(-1)), np.array([np.nan, np.inf, 0.0, -np.inf, 0.3])
    graph, arrays = build_graph(lambda a, v: [ops.searchsorted(a, v), ops.searchsorted(a, v, "right"), ops.bucketize(v, a[:9], right=True)], a, v)
    found = compile_graph(graph, target)(arrays)
    for k, w in zip(found, (np.searchsorted(a, v), np.searchsorted(a, v, "right"), np.searchsorted(a[:9], v, "right")), strict=True):
        np.testing.assert_array_equal(found[k], w)


@pytest.mark.parametrize("descending", [False, True])
def test_the_gradient_of_sort_goes_back_by_the_permutation(target, descending):
    x, w = np.rint(RNG.random((4, 9)) * 4), RNG.random((4, 9))
    graph, arrays = build_graph(lambda x, w: (ops.sort(x, descending=descending) * w).sum(), x, w)
    (g,) = gradients([graph.outputs[0][1]], None, [graph.inputs[0].node])
    found = compile_graph(Graph("g", graph.inputs, (("g", g),)), target)(arrays)["g"]
    order = np.argsort(-x if descending else x, -1, kind="stable")
    wanted = np.zeros_like(x)
    np.put_along_axis(wanted, order, w, -1)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("n", [1, 37])
def test_named_sizes(n, target):
    f = gc.compile(
        lambda x: [
            ops.sort(x, 0), ops.argsort(x, 0), ops.top_k(x, 1, 0)[1], ops.quantile(x, (0.0, 0.3, 1.0), 0), ops.rankdata(x, 0), ops.median(x),
            *(ops.quantile(x, 0.5, 0, m) for m in ("lower", "higher", "midpoint", "nearest")),
        ], gc.spec("N", 3), target=target,
    )  # fmt: skip
    x = RNG.random((n, 3)).astype(np.float32)
    found = f(x)
    wanted = [
        np.sort(x, 0), np.argsort(x, 0), np.argmax(x, 0)[None], np.quantile(x, [0.0, 0.3, 1.0], 0), np.argsort(np.argsort(x, 0), 0) + 1, np.median(x),
        *(np.quantile(x, 0.5, 0, method=m) for m in ("lower", "higher", "midpoint", "nearest")),
    ]  # fmt: skip
    for a, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, w, rtol=1e-5)
    if n == 37:  # the middle of an even number of elements, by the same program
        np.testing.assert_allclose(f(x[:36])[6], np.quantile(x[:36], 0.5, 0, method="lower"))
        np.testing.assert_allclose(f(x[:36])[9], np.quantile(x[:36], 0.5, 0, method="nearest"))


def test_average_ranks_give_the_area_under_the_curve(target):
    from sklearn.metrics import roc_auc_score

    score, label = np.rint(RNG.random(200) * 20), RNG.random(200) > 0.4

    def auc(s, y):
        positive = y.cast("float64")
        count = positive.sum()
        return ((ops.rankdata(s, 0) * positive).sum() - count * (count + 1.0) * 0.5) / (count * (200.0 - count))

    graph, arrays = build_graph(auc, score, label)
    assert compile_graph(graph, target)(arrays)["o0"] == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_names_of_torch(target):
    torch = pytest.importorskip("torch")
    F = gc.nn.functional

    x = RNG.permutation(5 * 7 * 3).reshape(5, 7, 3).astype(np.float32)
    i = RNG.integers(0, 7, (5, 4, 3))

    def fn(x, i):
        return [
            *F.sort(x, dim=1), *F.sort(x, descending=True), F.argsort(x, dim=0), *F.topk(x, 2, dim=1, largest=False), F.gather(x, dim=1, index=i),
            F.masked_fill(x, x > 50.0, -1.0), F.one_hot(i, num_classes=7), *F.kthvalue(x, 3, dim=1), F.msort(x), F.bucketize(x, [3.0, 50.0]),
            F.index_select(x, dim=1, index=i[0, :, 0]), F.scatter_add(x, dim=1, index=i, src=x),
        ]  # fmt: skip

    graph, arrays = build_graph(fn, x, i)
    t, j = torch.from_numpy(x), torch.from_numpy(i)
    wanted = [
        *torch.sort(t, dim=1), *torch.sort(t, descending=True), torch.argsort(t, dim=0), *torch.topk(t, 2, dim=1, largest=False), torch.gather(t, 1, j),
        t.masked_fill(t > 50.0, -1.0), torch.nn.functional.one_hot(j, 7), *torch.kthvalue(t, 3, dim=1), torch.msort(t),
        torch.bucketize(t, torch.tensor([3.0, 50.0])), torch.index_select(t, 1, j[0, :, 0]), torch.scatter_add(t, 1, j, t),
    ]  # fmt: skip
    for f, w in zip(compile_graph(graph, target)(arrays).values(), wanted, strict=True):
        np.testing.assert_array_equal(f, w.numpy())


def test_segments_without_rows_and_values_outside_of_bins(target):
    torch = pytest.importorskip("torch")
    x, ids = RNG.random((4, 2)), np.array([2, 0, 2, 0])
    loose = np.array([0.1, np.nan, -1.0, 5.0, 1.0, 0.5, np.inf, 0.0])
    graph, arrays = build_graph(
        lambda x, i, v: [ops.segment_max(x, i, 4), ops.segment_min(x, i, 4), *ops.histogram(v, 4, (0.0, 1.0)), *ops.histogram(x * 0.0, 3), ops.histc(x, 5)],
        x, ids, loose,
    )  # fmt: skip
    found = list(compile_graph(graph, target)(arrays).values())
    wanted = [np.asarray(f(jnp.asarray(x), ids, 4)) for f in (jax.ops.segment_max, jax.ops.segment_min)]
    wanted += [*np.histogram(loose[np.isfinite(loose)], 4, (0.0, 1.0)), *np.histogram(x * 0, 3), torch.histc(torch.from_numpy(x), 5).numpy()]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-6)
