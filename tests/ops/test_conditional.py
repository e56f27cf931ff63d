"""Branches: captures, trees, gradients without NaN from the branch that is not taken, named sizes, scans."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from graphc.errors import DTypeError, GraphcError, ShapeError, TraceError


def test_trees_and_captures(target):
    def fn(p, x, w):
        held = w.exp()
        return ops.cond(p, lambda d: {"a": d["x"] * held, "b": held.sum()}, lambda d: {"a": d["x"] - w, "b": w.sum() * 0.0 + 1.0}, {"x": x})

    f = gc.compile(fn, gc.spec(dtype="bool"), gc.spec("N", 3), gc.spec(3), target=target)
    w = np.array([0.1, -0.2, 0.3], np.float32)
    for n in (0, 1, 37):
        x = np.random.default_rng(n).random((n, 3)).astype(np.float32)
        yes, no = f(True, x, w), f(False, x, w)
        np.testing.assert_allclose(yes["a"], x * np.exp(w), rtol=1e-6)
        np.testing.assert_allclose(yes["b"], np.exp(w).sum(), rtol=1e-6)
        np.testing.assert_allclose(no["a"], x - w, rtol=1e-6)
        assert no["b"] == 1.0


@pytest.mark.parametrize("x", [-1.0, 0.0, 4.0])
def test_the_branch_not_taken_leaves_no_nan_in_gradients(target, x):
    def fn(x, w):
        # the square root and the logarithm have no slope at -1 and 0; one stands on an operand, one on a capture
        return ops.cond(x > 0.5, lambda v: ops.sqrt(v) + ops.log(w) * v, lambda v: v * w, x)

    def again(x, w):
        return sum(gc.grad(fn, wrt=(0, 1))(x, w))

    def jaxs(x, w):
        return jax.lax.cond(x > 0.5, lambda v: jnp.sqrt(v) + jnp.log(w) * v, lambda v: v * w, x)

    scalar = gc.spec(dtype="float64")
    w = x * 0.5
    first = gc.compile(gc.grad(fn, wrt=(0, 1)), scalar, scalar, target=target)(x, w)
    second = gc.compile(gc.grad(again, wrt=(0, 1)), scalar, scalar, target=target)(x, w)
    with jax.enable_x64(True):
        np.testing.assert_allclose(first, jax.grad(jaxs, (0, 1))(x, w), rtol=1e-12)
        np.testing.assert_allclose(second, jax.grad(lambda a, b: sum(jax.grad(jaxs, (0, 1))(a, b)), (0, 1))(x, w), rtol=1e-12)


def test_parameters_inside_branches(target):
    class Net(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x, which):
            return ops.switch(which, [self.a, self.b, lambda v: self.a(v) + self.b(v)], x)

    net = Net()
    f = gc.compile(lambda x, which: net(x, which), gc.spec("N", 3), gc.spec(dtype="int32"), target=target)
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    a, b = (x @ m.weight.numpy().T + m.bias.numpy() for m in (net.a, net.b))
    for i, wanted in ((0, a), (1, b), (2, a + b), (9, a + b), (-1, a)):
        np.testing.assert_allclose(f(x, np.int32(i)), wanted, rtol=1e-5)


def test_a_branch_inside_a_scan_inside_a_branch(target):
    def fn(p, xs):
        def body(c, x):
            y = ops.cond(x > 0.0, lambda v: v * 2.0, lambda v: c - v, x)
            return c + y, y

        return ops.cond(p, lambda v: ops.scan(body, ops.const(0.0), v)[0], lambda v: v.sum(), xs)

    f = gc.compile(gc.value_and_grad(fn, wrt=1), gc.spec(dtype="bool"), gc.spec(6), target=target)

    def jaxs(p, xs):
        def body(c, x):
            y = jax.lax.cond(x > 0.0, lambda v: v * 2.0, lambda v: c - v, x)
            return c + y, y

        return jax.lax.cond(p, lambda v: jax.lax.scan(body, jnp.float32(0.0), v)[0], lambda v: v.sum(), xs)

    x = np.random.default_rng(0).standard_normal(6).astype(np.float32)
    for p in (True, False):
        for found, wanted in zip(f(p, x), jax.value_and_grad(jaxs, 1)(p, jnp.asarray(x)), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_random_numbers_of_branches_differ(target):
    f = gc.compile(
        lambda p: ops.cond(p, lambda: gc.random.normal((4,)), lambda: gc.random.normal((4,)) + 0.0), gc.spec(dtype="bool"), target=target
    )
    assert (f(True) != f(False)).all()
    np.testing.assert_array_equal(f(True), f(True))


def test_equal_branches_are_one_node():
    p, x = ops.input("p", (), "bool"), ops.input("x", (3,), "float32")
    make = lambda: ops.cond(p, lambda v: v * 2.0, lambda v: v + x, x)
    assert make() is make()


def test_select_and_piecewise_are_numpys(target):
    from graphc.compiler import compile_graph
    from graphc.testing import build_graph

    x = np.linspace(-2, 2, 19)
    graph, arrays = build_graph(
        lambda x: [
            ops.select([x < -1.0, x < 0.5], [x * 2.0, x * x], 7.0),
            ops.piecewise(x, [x < -1.0, x > 1.0], [-1.0, lambda v: ops.sqrt(v)]),
            ops.piecewise(x, [x < -1.0, x > 0.0], [lambda v: -v, ops.log, lambda v: v * 0.5]),
        ], x,
    )  # fmt: skip
    found = compile_graph(graph, target)(arrays)
    wanted = [
        np.select([x < -1, x < 0.5], [x * 2, x * x], 7.0), np.piecewise(x, [x < -1, x > 1], [-1.0, np.sqrt]),
        np.piecewise(x, [x < -1, x > 0], [lambda v: -v, np.log, lambda v: v * 0.5]),
    ]  # fmt: skip
    for f, w in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12)
    slope = gc.compile(gc.grad(lambda v: ops.piecewise(v, [v > 0.0], [ops.sqrt, lambda u: u * 3.0]).sum()), gc.spec(3, dtype="float64"), target=target)
    np.testing.assert_allclose(slope(np.array([-1.0, 0.0, 4.0])), [3.0, 3.0, 0.25])


def test_misuse_is_explained():
    x, p = ops.input("x", (3,), "float32"), ops.input("p", (), "bool")
    for fn, error, words in (
        (lambda: ops.cond(p, lambda v: v, lambda v: v[:2], x), ShapeError, "result 0 is f32\\[3\\] in branch 0 and f32\\[2\\] in branch 1"),
        (lambda: ops.cond(p, lambda v: v, lambda v: (v, v), x), TraceError, "branch 1"),
        (lambda: ops.cond(x > 0.0, lambda v: v, lambda v: v, x), ShapeError, "where\\(condition"),
        (lambda: ops.switch(x, [lambda v: v], x), DTypeError, "integer scalar"),
        (lambda: ops.cond(p, lambda: None, lambda: None), TraceError, "gives nothing"),
        (lambda: ops.select([p], []), GraphcError, "1 conditions and 0 choices"),
        (lambda: ops.piecewise(x, [x > 0.0], []), GraphcError, "1 conditions and 0 functions"),
    ):
        with pytest.raises(error, match=words):
            fn()
