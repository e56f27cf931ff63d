"""Random well-typed graphs over every operator, driven by the records.

A step picks an operator and one of its samples, and feeds the sample's float operands from values that the graph has already:
cut or repeated to the shape, and squeezed into the range that the sample's own data has. So arguments stay where the operator is
defined and values stay moderate, and a new operator takes part as soon as it has samples.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from .. import ops
from ..errors import GraphcError
from ..ir.dims import Size, evaluate, prod, sym
from ..ir.dtypes import DType, float32
from ..ir.graph import Graph, Input
from ..ir.node import Node, toposort
from ..ir.op import OpDef, Sample, all_ops
from ..ir.types import TupleType
from ..locate import public

__all__ = ["random_graph", "random_graphs"]

LARGE = 400
"""Elements of a sample's operands above which it is left to other tests."""


def random_graphs(max_nodes: int = 12, dtype: DType = float32, named: bool = True) -> Any:
    """A hypothesis strategy of (graph, arrays), as :func:`random_graph` makes them."""
    from hypothesis import strategies as st

    return st.randoms(use_true_random=False).map(lambda rng: random_graph(rng, max_nodes, dtype, named))


def random_graph(rng: Random, max_nodes: int = 12, dtype: DType = float32, named: bool = True) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of up to ``max_nodes`` random steps and arrays for its inputs; with ``named``, a size may be the dim ``N``."""
    size = rng.choice([0, 1, 2, 5])
    n = sym("N") if named and rng.random() < 0.5 else size
    inputs, arrays = [], {}
    for i in range(rng.randint(1, 3)):
        shape = tuple(rng.choice([n, 1, 2, 3, 5]) for _ in range(rng.randint(0, 3)))
        inputs.append(Input(f"x{i}", ops.input(f"x{i}", shape, dtype)))
        sizes = [s if isinstance(s, int) else size for s in shape]
        arrays[f"x{i}"] = np.random.default_rng(rng.randrange(2**32)).uniform(-2, 2, sizes).astype(dtype.numpy)
    nodes = [i.node for i in inputs]
    for _ in range(rng.randint(1, max_nodes)):
        step = rng.choice((_sample, _sample, _sample, _unary, _bounded, _binary, _view, _reduce, _dot, _outer))
        made = step(rng, rng.choice(nodes), nodes, dtype)
        nodes += [m for m in made if m.ndim <= 4]
    used = {x for node in nodes for x in node.inputs}
    ends = [node for node in nodes[len(inputs) :] if node not in used][-3:] or nodes[-1:]
    reached = set(toposort(ends))
    kept = tuple(i for i in inputs if i.node in reached)
    if any("N" in map(str, node.shape) for node in reached if not isinstance(node.type, TupleType)):
        kept = tuple(inputs)  # the size N must come from somewhere
    return Graph("random", kept, tuple((f"o{k}", node) for k, node in enumerate(ends))), {i.name: arrays[i.name] for i in kept}


# -- any operator -----------------------------------------------------------------------------------------------------------
_cases: list[tuple[OpDef, Sample]] = []


def _all_cases() -> list[tuple[OpDef, Sample]]:
    if not _cases:
        for op in all_ops():
            for sample in op.samples() if op.samples is not None else []:
                flat = [v for a in sample.args for v in (a if isinstance(a, list) else [a]) if isinstance(v, (np.ndarray, np.generic))]
                if sum(v.size for v in flat) <= LARGE:
                    _cases.append((op, sample))
    return _cases


def _sample(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    """One operator on a sample whose float operands come from the graph."""
    cases = _all_cases()
    name = rng.choice(sorted({op.name for op, _ in cases}))
    op, sample = rng.choice([c for c in cases if c[0].name == name])
    sources = [n for n in nodes if n.dtype == dtype and all(isinstance(s, int) for s in n.shape) and n.size]

    def operand(value: Any) -> Any:
        if isinstance(value, list):
            return [operand(v) for v in value]
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        if np.asarray(value).dtype.kind != "f":
            return ops.const(np.asarray(value))
        array = np.asarray(value).astype(dtype.numpy)
        if not sources or not array.size or not np.isfinite(array).all() or rng.random() < 0.2:
            return ops.const(array)
        return _into(_fit(rng.choice(sources), array.shape), float(array.min()), float(array.max()))

    try:
        made = op.call(*map(operand, sample.args), **sample.kwargs)
    except GraphcError:
        return []  # what a sample says by its values (a probability, a sorted list) may be lost
    flat = [m for m in (made if isinstance(made, (tuple, list)) else [made]) if isinstance(m, Node)]
    results = [r for m in flat for r in ([m[i] for i in range(len(m.type.items))] if isinstance(m.type, TupleType) else [m])]
    return [r for r in results if all(isinstance(s, int) for s in r.shape)]


def _fit(x: Node, shape: tuple[int, ...]) -> Node:
    """The elements of ``x`` in row-major order, cut or repeated to a shape."""
    have, want = evaluate(prod(x.shape), {}), int(np.prod(shape, dtype=int))
    flat = ops.reshape(x, (have,))
    if have < want:
        times = -(-want // have)
        flat = ops.reshape(ops.broadcast_to(flat, (times, have)), (times * have,))
    return ops.reshape(flat[:want], shape)  # type: ignore[no-any-return]


def _into(x: Node, low: float, high: float) -> Node:
    """Values squeezed into a range."""
    return (ops.tanh(x) + 1.0) * ((high - low) / 2) + low  # type: ignore[no-any-return]


# -- steps that know named sizes ---------------------------------------------------------------------------------------------
def _floats(nodes: list[Node], x: Node, dtype: DType) -> Node:
    return x if x.dtype == dtype else x.cast(dtype)


def _unary(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    return [getattr(ops, rng.choice(["neg", "tanh", "sigmoid", "relu", "absolute", "erf", "gelu"]))(_floats(nodes, x, dtype))]


def _bounded(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    """Functions with a limited domain or a steep range, on an argument that keeps them moderate."""
    f, x = rng.choice(["exp", "log", "sqrt"]), _floats(nodes, x, dtype)
    return [getattr(ops, f)(ops.tanh(x) if f == "exp" else ops.absolute(x) + 0.5)]


def _binary(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    f = rng.choice(["add", "sub", "mul", "maximum", "minimum", "div", "where"])
    fits = [n for n in nodes if n.shape == x.shape or n.ndim == 0 or n.shape == x.shape[x.ndim - n.ndim :]]
    x, y = _floats(nodes, x, dtype), _floats(nodes, rng.choice(fits), dtype)
    if f == "where":
        return [ops.where(x < y, x, y * 0.5)]
    if f == "mul":
        return [ops.tanh(x) * y]
    return [ops.div(x, ops.absolute(y) + 0.5) if f == "div" else getattr(ops, f)(x, y)]


def _view(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    if x.ndim == 0:
        return [ops.broadcast_to(x, (rng.randint(0, 3),))]
    f = rng.choice(["transpose", "flatten", "expand_dims", "flip", "slice", "pad", "concat", "broadcast"])
    axis = rng.randrange(x.ndim)
    if f == "transpose":
        return [ops.transpose(x, rng.sample(range(x.ndim), x.ndim))]
    if f == "expand_dims":
        return [ops.expand_dims(x, axis)]
    if f == "flip":
        return [ops.flip(x, axis)]
    size = x.shape[axis]
    if f == "slice" and isinstance(size, int) and size > 1:
        key: list[Any] = [slice(None)] * x.ndim
        key[axis] = rng.choice([slice(1, None), slice(None, None, 2), slice(None, -1)])
        return [x[tuple(key)]]
    if f == "pad":
        low, high = ([rng.randint(0, 2) if a == axis else 0 for a in range(x.ndim)] for _ in range(2))
        return [ops.pad(x, low, high, value=0.5 if x.dtype.is_float else 0)]
    if f == "concat":
        x = _floats(nodes, x, dtype)
        return [ops.concat([x, ops.tanh(x)], axis)]
    if f == "broadcast":
        return [ops.broadcast_to(x, (rng.randint(1, 3), *x.shape))]
    return [ops.flatten(x)]


def _reduce(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    if x.ndim == 0:
        return []
    x, axis = _floats(nodes, x, dtype), rng.randrange(x.ndim)
    f = rng.choice(["sum", "max", "mean", "softmax", "logsumexp"])
    size: Size = x.shape[axis]
    if f in ("max", "mean", "logsumexp") and not (isinstance(size, int) and size > 0):
        f = "sum"  # the others have no finite value over no elements
    return [getattr(ops, f)(x, axis)]


def _outer(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    """A value against itself transposed: two axes of the result read one axis of it."""
    if x.ndim == 0 or x.ndim > 2:
        return []
    x = ops.tanh(_floats(nodes, x, dtype))
    f = rng.choice(["mul", "sub", "maximum"])
    return [getattr(ops, f)(ops.expand_dims(x, -1), ops.expand_dims(x, -2))]


def _dot(rng: Random, x: Node, nodes: list[Node], dtype: DType) -> list[Node]:
    fits = [n for n in nodes if n.ndim == 2 and x.ndim >= 1 and n.shape[0] == x.shape[-1]]
    return [ops.tanh(ops.matmul(_floats(nodes, x, dtype), _floats(nodes, rng.choice(fits), dtype)))] if fits else []


public(globals())
