"""Training steps of small networks of other kinds, under GRAPHC_CHECK, against the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from tests.models import Builder, batch_for

N = sym("N")


def embedding(b: Builder) -> Node:
    h = ops.take(b.param("table", (20, 12)), b.arg("words", (N, 5), "int64").reshape(N * 5), 0)
    return (h.reshape(N, 5, 12).mean(1) @ b.param("head", (12, 3))).tanh()


def recurrent(b: Builder) -> Node:
    wx, wh, x = b.param("wx", (5, 8)), b.param("wh", (8, 8)), b.arg("x", (6, N, 5))

    def cell(h: Node, x: Node) -> tuple[Node, Node]:
        new = ops.tanh(x @ wx + h @ wh)
        return new, new

    return ops.scan(cell, ops.broadcast_to(b.param("start", (8,)), (N, 8)), x)[1]


def convolution(b: Builder) -> Node:
    y = ops.conv(b.arg("x", (N, 2, 8, 8)), b.param("kernel", (4, 2, 3, 3)), padding=1).relu()
    return (ops.max_pool2d(y, 2).flatten(1) @ b.param("head", (64, 3))).tanh()


def attention(b: Builder) -> Node:
    x = b.arg("x", (N, 6, 16))
    q = (x @ b.param("qkv", (16, 48))).reshape(N, 6, 3, 2, 8).transpose(2, 0, 3, 1, 4)
    y = ops.scaled_dot_product_attention(q[0], q[1], q[2]).transpose(0, 2, 1, 3).reshape(N, 6, 16)
    return ops.layer_norm(x + y, b.param("gain", (16,)), b.param("shift", (16,))).gelu()


def normalised(b: Builder) -> Node:
    x = b.arg("x", (N, 3, 4))
    d = x - x.mean((0, 2), keepdims=True)
    return d / ((d * d).mean((0, 2), keepdims=True) + 1e-5).sqrt() * b.param("gain", (3,)).reshape(1, 3, 1) + d.tanh()


NETWORKS = [embedding, recurrent, convolution, attention, normalised]


def training(build: Callable[[Builder], Node], b: Builder) -> Graph:
    y = build(b)
    loss = (y * y * y).mean() + (y * y).mean()
    params = [i.node for i in b.inputs if i.role == "param"]
    grads = gradients([loss], None, params)
    return b.graph({"loss": loss}, {p.attrs["name"]: p - g * 0.1 for p, g in zip(params, grads, strict=True)}, "loss")


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    yield from ((training(build, Builder()), None) for build in NETWORKS)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("build", NETWORKS)
def test_steps_of_several_batch_sizes(build: Callable[[Builder], Node], mode: str):
    found = []
    for target in ("reference", "cpu"):
        b = Builder()
        graph = training(build, b)
        e = compile_graph(graph, target, b.store)
        if target == "cpu":
            e.check = mode
        losses = [e(batch_for(graph, n, n))["loss"] for n in (7, 1, 13)]
        found.append((losses, {n: b.store.numpy(n) for n in b.store.names()}))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=2e-5)
    for k, v in found[0][1].items():
        np.testing.assert_allclose(found[1][1][k], v, rtol=1e-3, atol=1e-5, err_msg=k)
