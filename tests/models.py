"""Graphs that several tests use, built from operators: a training step of a small network in several variants."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node
from graphc.runtime.store import ParameterStore

VARIANTS = ("plain", "clipped", "tied", "summed", "accumulated", "returned")


class Builder:
    """Collects inputs and fills a store with their values."""

    def __init__(self, dtype: str = "float32", seed: int = 0):
        self.dtype = dtype
        self.store = ParameterStore()
        self.inputs: list[Input] = []
        self.rng = np.random.default_rng(seed)

    def arg(self, name: str, shape: tuple[Any, ...], dtype: str = "") -> Node:
        return self._add(name, shape, dtype or self.dtype, "arg")

    def param(self, name: str, shape: tuple[int, ...], scale: float = 0.3) -> Node:
        self.store.add(name, (self.rng.standard_normal(shape) * scale).astype(self.dtype), "param")
        return self._add(name, shape, self.dtype, "param")

    def state(self, name: str, shape: tuple[int, ...], dtype: str = "", value: float = 0.0) -> Node:
        self.store.add(name, np.full(shape, value, dtype or self.dtype), "state")
        return self._add(name, shape, dtype or self.dtype, "state")

    def _add(self, name: str, shape: tuple[Any, ...], dtype: str, role: str) -> Node:
        node: Node = ops.input(name, shape, dtype)
        self.inputs.append(Input(name, node, role))
        return node

    def graph(self, outputs: dict[str, Node], updates: dict[str, Node] | None = None, finite: str = "") -> Graph:
        return Graph("g", tuple(self.inputs), tuple(outputs.items()), tuple((updates or {}).items()), finite)


def mlp_step(
    sizes: tuple[int, ...] = (24, 20, 10), variant: str = "plain", dtype: str = "float32", batch: Any = None, seed: int = 0
) -> tuple[Graph, ParameterStore]:
    """One step of Adam on cross entropy. Variants: clipped by the global norm, one weight used twice, gradients summed over two
    losses, gradients accumulated over two steps with an update every second, the first weight's gradient returned."""
    b = Builder(dtype, seed)
    n = sym("N") if batch is None else batch
    x, y = b.arg("x", (n, sizes[0])), b.arg("y", (n,), "int64")
    params: dict[str, Node] = {}
    h = x
    for i, (a, z) in enumerate(itertools.pairwise(sizes)):
        params[f"fc{i}.weight"] = w = b.param(f"fc{i}.weight", (z, a))
        params[f"fc{i}.bias"] = bias = b.param(f"fc{i}.bias", (z,))
        h = h @ w.transpose() + bias
        if i < len(sizes) - 2:
            h = h.relu()
            if variant == "tied":
                params["tied.weight"] = t = params.get("tied.weight") or b.param("tied.weight", (z, z))
                h = ((h @ t.transpose()).relu() @ t.transpose()).relu()
    loss = ops.cross_entropy(h, y)
    names, leaves = list(params), list(params.values())
    grads = gradients([loss], None, leaves)
    if variant == "summed":
        more = gradients([(h * h).mean()], None, leaves)
        grads = [g + m for g, m in zip(grads, more, strict=True)]
    if variant == "clipped":
        total = sum(((g * g).sum() for g in grads[1:]), (grads[0] * grads[0]).sum())
        scale = ops.minimum(1.0 / (total.sqrt() + 1e-6), 1.0)
        grads = [g * scale for g in grads]
    step, lr = b.state("optimizer.step", (), "int64"), b.state("optimizer.lr", (), value=1e-2)
    updates = {"optimizer.step": step + 1}
    for name, p, g in zip(names, leaves, grads, strict=True):
        shape: Any = p.shape
        m, v = b.state(f"optimizer.m.{name}", shape), b.state(f"optimizer.v.{name}", shape)
        if variant == "accumulated":
            sums = b.state(f"optimizer.sum.{name}", shape)
            full = ops.eq(ops.div(step + 1, 2) * 2, step + 1)  # every second step
            g = sums + g
            new = ops.adam_update(p, g, m, v, step + 1, lr)
            kept = [ops.where(full, a, old) for a, old in zip((new[0], new[1], new[2]), (p, m, v), strict=True)]
            updates[f"optimizer.sum.{name}"] = ops.where(full, 0.0, g)
        else:
            new = ops.adam_update(p, g, m, v, step + 1, lr)
            kept = [new[0], new[1], new[2]]
        updates |= {name: kept[0], f"optimizer.m.{name}": kept[1], f"optimizer.v.{name}": kept[2]}
    outputs = {"loss": loss} | ({"gradient": grads[0]} if variant == "returned" else {})
    return b.graph(outputs, updates, "loss"), b.store


def batch_for(graph: Graph, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arguments for a graph whose named dims are all ``n``: floats, and class numbers below 3."""
    rng = np.random.default_rng(seed)
    out = {}
    for i in graph.inputs:
        if i.role == "arg":
            shape = [s if isinstance(s, int) else n for s in i.node.shape]
            whole = i.node.dtype.is_int
            out[i.name] = (rng.integers(0, 3, shape) if whole else rng.standard_normal(shape)).astype(i.node.dtype.numpy)
    return out
