"""Operands of contractions in every form: views, constants, panels of parameters that other kernels read too."""

from __future__ import annotations

import numpy as np
import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from tests.models import Builder, batch_for

N = sym("N")
WEIGHT = np.random.default_rng(5).standard_normal((24, 12)).astype("f")

OPERANDS = {
    "constant": lambda b: b.arg("x", (N, 12)) @ ops.const(WEIGHT.T.copy()),
    "constant transposed": lambda b: b.arg("x", (N, 12)) @ ops.const(WEIGHT).transpose(),
    "broadcast along N": lambda b: b.arg("x", (N, 5)) @ ops.broadcast_to(b.arg("v", (5, 1)), (5, 7)),
    "broadcast along K": lambda b: b.arg("x", (N, 5)) @ ops.broadcast_to(b.arg("v", (7,)), (5, 7)),
    "a scalar everywhere": lambda b: b.arg("x", (N, 12)) @ ops.broadcast_to(b.arg("v", ()), (12, 9)),
    "slice transposed": lambda b: b.arg("x", (N, 10)) @ b.arg("w", (9, 12))[1:, 2:].transpose(),
    "flip transposed": lambda b: b.arg("x", (N, 12)) @ ops.flip(b.arg("w", (9, 12)), 0).transpose(),
    "every second column": lambda b: b.arg("x", (N, 9)) @ b.arg("w", (9, 12))[:, ::2],
    "concat": lambda b: (lambda y: b.arg("x", (N, 5)) @ ops.concat([y, y], 1))(b.arg("y", (5, 9))),
    "computed, transposed": lambda b: b.arg("x", (N, 5)) @ b.arg("y", (9, 5)).exp().transpose(),
    "heads": lambda b: (lambda h: h @ h.transpose(0, 2, 1))(b.arg("x", (N, 6, 4, 8)).transpose(0, 2, 1, 3).reshape(N * 4, 6, 8)),
    "both from one": lambda b: (lambda x: x.transpose() @ x)(b.arg("x", (N, 12))),
    "itself transposed": lambda b: (lambda x: x @ x.transpose())(b.arg("x", (N, 12))),
    "vectors": lambda b: ops.matmul(b.arg("x", (N,)), b.arg("y", (N,))),
    "matrix and vector": lambda b: ops.matmul(b.arg("x", (N, 12)), b.arg("y", (12,))),
    "outer": lambda b: b.arg("x", (N, 1)) @ b.arg("y", (1, 9)),
    "batch broadcast": lambda b: ops.matmul(b.arg("x", (N, 3, 5)), b.arg("y", (1, 5, 4))),
    "left computed along K": lambda b: (b.arg("x", (N, 21)) * b.arg("y", (N, 21)) + 1.0).tanh() @ b.arg("w", (21, 9)),
    "left computed along M": lambda b: b.arg("x", (21, N)).exp().transpose() @ b.arg("w", (21, 9)),
    "left computed, some broadcast": lambda b: (b.arg("x", (N, 1)) * b.arg("y", (21,)) + b.arg("z", (N, 21))) @ b.arg("w", (21, 9)),
    "bytes": lambda b: (b.arg("x", (N, 40), "uint8").cast("float32") * (1 / 255)) @ b.arg("w", (40, 70)) + b.arg("c", (70,)),
    "right computed": lambda b: b.arg("x", (5, N)) @ (b.arg("w", (N, 37), "int8").cast("float32") * b.arg("s", (37,))),
    "both computed": lambda b: b.arg("x", (3, N)).exp() @ (b.arg("w", (N, 37)) * b.arg("s", (N, 1))),
    "computed in a batch": lambda b: (b.arg("x", (3, N, 21)) * 2.0).exp() @ b.arg("w", (3, 21, 9)),
    "computed vectors": lambda b: ops.matmul(b.arg("x", (N,)).exp(), b.arg("y", (N,)).tanh()),
    "outer product of row sums": lambda b: (lambda s: s.expand_dims(-1) * s.expand_dims(-2))(b.arg("x", (N, 5)).sum(-1)),
    "outer product of a matvec": lambda b: (lambda s: s - s.transpose())(b.arg("x", (N, 5)) @ b.arg("w", (5, 1))),
    "empty K": lambda b: b.arg("x", (N, 0)) @ b.arg("y", (0, 9)) + 1.0,
}


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    for operand in OPERANDS.values():
        b = Builder()
        yield b.graph({"out": operand(b)}), None
    for build in TRAINED:
        b = Builder()
        yield training(build, b), None


def test_an_operand_that_is_returned_too():
    b = Builder()
    e = b.arg("x", (N, 8)).exp()
    graph = b.graph({"product": e @ b.arg("w", (8, 9)), "operand": e})
    values = batch_for(graph, 7)
    found, wanted = (compile_graph(graph, target)(values) for target in ("cpu", "reference"))
    for k, w in wanted.items():
        np.testing.assert_allclose(found[k], w, rtol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 7, 33])
@pytest.mark.parametrize("name", OPERANDS)
def test_operands(name: str, n: int):
    b = Builder()
    graph = b.graph({"out": OPERANDS[name](b)})
    values = batch_for(graph, n)
    found = compile_graph(graph, "cpu")(values)["out"]
    wanted = compile_graph(graph, "reference")(values)["out"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def both_sides(b: Builder):
    w = b.param("w", (9, 12))
    return (w @ b.arg("x", (12, N))).sum() + (b.arg("y", (N, 12)) @ w.transpose()).tanh(), w


def square(b: Builder):
    w = b.param("w", (12, 12))
    return ((b.arg("x", (N, 12)) @ w.transpose()).tanh() @ w).tanh() @ w.transpose(), w


def product_of_itself(b: Builder):
    w = b.param("w", (12, 12))
    return b.arg("x", (N, 12)) @ (w @ w), w


def tied_embedding(b: Builder):
    w = b.param("w", (20, 12))
    return (ops.take(w, b.arg("i", (N,), "int64"), 0) @ w.transpose()).tanh(), w


def whole_and_sliced(b: Builder):
    w, x = b.param("w", (20, 12)), b.arg("x", (N, 12))
    return (x @ w.transpose()).tanh()[:, :10] @ w[10:20] + (x @ w[:10].transpose()).tanh() @ w[:10], w


def batched(b: Builder):
    w = b.param("w", (3, 12, 10))
    return (b.arg("x", (3, N, 12)) @ w).tanh(), w


def reshaped(b: Builder):
    w = b.param("w", (120,))
    return (b.arg("x", (N, 12)) @ w.reshape(10, 12).transpose()).tanh(), w


TRAINED = [both_sides, square, product_of_itself, tied_embedding, whole_and_sliced, batched, reshaped]


def training(build, b: Builder) -> Graph:
    out, w = build(b)
    loss = (out * out).mean()
    (g,) = gradients([loss], None, [w])
    return b.graph({"loss": loss}, {"w": w - g * 0.1}, "loss")


@pytest.mark.parametrize("build", TRAINED)
def test_training_a_parameter_that_is_read_in_several_ways(build):
    found = []
    for target in ("reference", "cpu"):
        b = Builder()
        graph = training(build, b)
        e = compile_graph(graph, target, b.store)
        if target == "cpu":
            e.check = "schedule"
        losses = [e(batch_for(graph, 7))["loss"] for _ in range(3)]
        found.append((losses, b.store.numpy("w")))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4, atol=1e-6)
