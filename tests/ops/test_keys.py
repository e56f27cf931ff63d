"""``x[key]`` and ``x.at[key]`` with index tensors, against NumPy and JAX, in shapes as in values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.errors import DTypeError, ShapeError, TraceError
from graphc.ir.graph import Graph
from graphc.ops.define import as_node
from graphc.testing import build_graph

RNG = np.random.default_rng(0)
X = RNG.random((5, 6, 7, 4))
I, J = np.array([3, -1, 0, 3]), np.array([[0], [-6], [5]])
MASK = X[:, 0, 0, 0] > 0.5
S = np.s_[:]
KEYS = {
    "tensor": (I,), "middle": (S, I), "two": (I, J), "two_joined": (S, I, J), "two_apart": (I, S, J), "all": (I, J, J, I), "int_beside": (S, 2, I),
    "int_apart": (2, S, I), "negative_int": (I, -2), "slice_beside": (np.s_[1:4], I, np.s_[::2]), "backwards": (np.s_[::-1], S, I), "dots": (..., I),
    "dots_apart": (I, ..., I), "scalar": (np.int64(2), S, np.array(-3)), "strided": (np.s_[::2], I, S, np.s_[3:0:-2]), "empty": (S, np.zeros(0, np.int32)),
}  # fmt: skip
READ = KEYS | {"new_axis": (None, S, I), "new_axis_apart": (I, None, J), "const_mask": (MASK,), "const_mask_2d": (X[:, :, 0, 0] > 0.5, I[:1])}
BASIC = {"int": (2,), "slice": (np.s_[1:4], S, np.s_[::3]), "reverse": (np.s_[::-1], np.s_[5:1:-2]), "int_last": (..., -1), "element": (1, 2, 3, 0)}


def build(fn, *args):
    """Index arrays become inputs, so that the index is data."""
    return build_graph(fn, *args)


def with_key(key, op):
    """A function of x and of the arrays in a key; masks and scalars stay constants."""
    data = [k for k in key if isinstance(k, np.ndarray) and k.dtype != bool]

    def fn(x, *rest):
        *indices, last = (*rest, None) if op is None else rest
        it = iter(indices)
        full = tuple(next(it) if isinstance(k, np.ndarray) and k.dtype != bool else k for k in key)
        return x[full] if op is None else getattr(x.at[full], op)(last)

    return fn, data


@pytest.mark.parametrize("name", [*READ, *BASIC])
def test_reading_is_numpys(name, target):
    key = (READ | BASIC)[name]
    fn, data = with_key(key, None)
    graph, arrays = build(fn, X, *data)
    np.testing.assert_array_equal(compile_graph(graph, target)(arrays)["o0"], X[key])
    # constants are wrapped and checked when the graph is built
    again, arrays = build(lambda x: x[key], X)
    np.testing.assert_array_equal(compile_graph(again, target)(arrays)["o0"], X[key])


@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "min", "max", "set"])
@pytest.mark.parametrize("name", [*KEYS, *BASIC])
def test_writing_is_numpys_ufunc_at(name, op, target):
    key = (KEYS | BASIC)[name]
    shape = X[key].shape
    value = RNG.random(shape)
    if op == "set":  # equal values at equal places: the order is tested elsewhere
        value = np.asarray(X[key] * 2)
    fn, data = with_key(key, op)
    graph, arrays = build(fn, X, *data, value)
    wanted = X.copy()
    if op == "set":
        wanted[key] = value
    else:
        {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}[op].at(wanted, key, value)
    np.testing.assert_allclose(compile_graph(graph, target)(arrays)["o0"], wanted, rtol=1e-14)


def test_values_broadcast_to_the_part(target):
    graph, arrays = build(lambda x, i, v: [x.at[i, :, i].add(v), x.at[1:3].set(0), x.at[i].multiply(2.0).at[0].get()], X, I, RNG.random((6, 1)))
    found = compile_graph(graph, target)(arrays)
    wanted = X.copy()
    np.add.at(wanted, (I, slice(None), I), arrays["x2"])
    np.testing.assert_allclose(found["o0"], wanted, rtol=1e-14)
    assert not found["o1"][1:3].any() and (found["o1"][3:] == X[3:]).all()
    np.testing.assert_array_equal(found["o2"], X[0] * 2)


def test_masks_are_written_through(target):
    row = RNG.random(4)
    graph, arrays = build(
        lambda x, m, r: [x.at[m].set(r), x.at[x > 0.5].add(1.0), x.at[m].get() if m is None else x.at[m].max(0.5)], X, X[..., 0] > 0.5, row
    )
    found = compile_graph(graph, target)(arrays)
    mask = X[..., 0] > 0.5
    a, b, c = X.copy(), X.copy(), X.copy()
    a[mask] = row
    b[b > 0.5] += 1.0
    c[mask] = np.maximum(c[mask], 0.5)
    for k, v in (("o0", a), ("o1", b), ("o2", c)):
        np.testing.assert_array_equal(found[k], v)


GRADIENTS = {
    "set_repeated": lambda m, x, i, j, v: x.at[i].set(v[:4]),
    "add": lambda m, x, i, j, v: x.at[i, j].add(v[0, 0]),
    "max_with_ties": lambda m, x, i, j, v: m.maximum(x, 0.5).at[i].max(m.maximum(v[:4], 0.5)),
    "read": lambda m, x, i, j, v: x[:, j, i],
    "slice_set": lambda m, x, i, j, v: x.at[1:5, ::2].set(v[:4, :3]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_jaxs(name, target):
    f = GRADIENTS[name]
    x, v = RNG.random((5, 6, 4)), RNG.random((5, 6, 4))
    i, j = np.array([3, 1, 3, 0]), np.array([[0], [5], [5]])
    weights = RNG.random(np.asarray(f(jnp, jnp.asarray(x), i, j, jnp.asarray(v))).shape)
    with jax.enable_x64(True):
        wanted = jax.grad(lambda x, v: (f(jnp, x, i, j, v) * weights).sum(), (0, 1))(jnp.asarray(x), jnp.asarray(v))
    graph, arrays = build_graph(lambda x, i, j, v, w: (f(ops, x, i, j, v) * w).sum(), x, i, j, v, weights)
    nodes = {k.name: k.node for k in graph.inputs}
    grads = gradients([graph.outputs[0][1]], None, [nodes["x0"], nodes["x3"]], allow_unused=True)
    found = compile_graph(Graph("g", graph.inputs, tuple((f"d{k}", n) for k, n in enumerate(grads))), target)(arrays)
    for k, w in enumerate(wanted):
        np.testing.assert_allclose(found[f"d{k}"], np.asarray(w), atol=1e-12, err_msg=f"operand {k}")


def test_misuse_is_explained():
    x = ops.input("x", (5, 6), "float32")
    mask, real = ops.input("m", (5,), "bool"), ops.input("r", (5,), "float32")
    for fn, error, words in (
        (lambda: x[mask], ShapeError, "shape out of values"),
        (lambda: x[real], DTypeError, "integers"),
        (lambda: x[[0, 7]], ShapeError, "index 7 is out of range for axis 0"),
        (lambda: x[:, [0, -7]], ShapeError, "out of range for axis 1"),
        (lambda: x[0, 0, 0], ShapeError, "3 indices"),
        (lambda: x["a"], ShapeError, "no index"),
        (lambda: x[..., ...], ShapeError, "one \\.\\.\\."),
        (lambda: x.at[None].set(0.0), ShapeError, "new axis"),
        (lambda: x.at[:2].set(real), ShapeError, "does not fit the part"),
        (lambda: x.at[mask].set(as_node(np.zeros((3, 6)))), ShapeError, "how many places"),
        (lambda: x.cast("int32").at[0].set(0.5), DTypeError, "int32 elements"),
    ):
        with pytest.raises(error, match=words):
            fn()
    with pytest.raises(TraceError, match="at\\[key\\]"):
        x[0] = 1.0


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_named_batches(target):
    f = gc.compile(lambda x, i: [x[i], x.at[i].add(1.0), x.at[..., 0].set(7.0), x[:, i]], gc.spec("N", 4), gc.spec(3, dtype="int32"), target=target)
    for n in (4, 37):
        x, i = RNG.random((n, 4)).astype(np.float32), np.array([1, -1, 1], np.int32)
        a, b, c, d = f(x, i)
        np.testing.assert_array_equal(a, x[i])
        np.testing.assert_array_equal(b, np.asarray(jnp.asarray(x).at[i].add(1.0)))
        assert (c[:, 0] == 7).all() and (c[:, 1:] == x[:, 1:]).all()
        np.testing.assert_array_equal(d, x[:, i])
    pairs = gc.compile(
        lambda x, s: [ops.segment_sum(x, s, 3), ops.scatter_elements(x, s.reshape(-1, 1), x[:, :1], axis=1), ops.bincount(s, 3)],
        gc.spec("N", 4), gc.spec("N", dtype="int32"), target=target,
    )  # fmt: skip
    for n in (0, 1, 37):
        x, s = RNG.random((n, 4)).astype(np.float32), (np.arange(n) % 3).astype(np.int32)
        total, written, counts = pairs(x, s)
        np.testing.assert_allclose(total, [x[s == k].sum(0) for k in range(3)], rtol=1e-5)
        wanted = x.copy()
        wanted[np.arange(n), s] = x[:, 0]
        np.testing.assert_array_equal(written, wanted)
        np.testing.assert_array_equal(counts, np.bincount(s, minlength=3))
