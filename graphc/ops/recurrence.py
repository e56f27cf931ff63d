"""``scan``: a body repeated along a leading axis, with a carry. Recurrence is never unrolled.

The body is a closed graph: everything it takes from outside became an operand. Its arguments are named by level, ``$s1c0``
(carry), ``$s1x0`` (element), ``$s1k0`` (captured), so that a body inside a body never meets its own names, and two scans of
the same function are the same node.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import ShapeError, TraceError
from ..ir.dims import Size, evaluate
from ..ir.graph import Graph
from ..ir.node import Node, toposort
from ..ir.op import Sample, lookup
from ..ir.provenance import watching
from ..ir.types import TensorType, TupleType, Type
from .bodies import argument, close, fill_tree, flat_tree, inline, show_tree
from .define import constant, primitive, rand
from .elementwise import tanh
from .views import broadcast_to

__all__ = ["reads_trip", "scan"]


# -- the record ------------------------------------------------------------------------------------------------------------
def _infer(*types: Type, body: Graph, n_carry: int, n_xs: int, length: Size, reverse: bool) -> TupleType:
    outs = [n.tensor for _, n in body.outputs]
    if len(types) != len(body.inputs):
        raise ShapeError(f"the body takes {len(body.inputs)} operands, got {len(types)}")
    for i, (given, item) in enumerate(zip(types, body.inputs, strict=True)):
        want = item.node.tensor
        if n_carry <= i < n_carry + n_xs:
            want = TensorType((length, *want.shape), want.dtype)
        if given != want:
            raise ShapeError(f"operand {i} is {given}, the body needs {want}")
    for i in range(n_carry):
        if outs[i] != body.inputs[i].node.tensor:
            raise ShapeError(f"carry {i} starts as {body.inputs[i].node.tensor} and comes back from the body as {outs[i]}")
    return TupleType((*outs[:n_carry], *(TensorType((length, *t.shape), t.dtype) for t in outs[n_carry:])))


def _numpy(
    *arrays: np.ndarray, body: Graph, n_carry: int, n_xs: int, length: Size, reverse: bool, dims: Any = None, trip: int = 0, interpret: Any = None
) -> tuple[np.ndarray, ...]:  # fmt: skip
    count = evaluate(length, dims or {})
    carry, xs, consts = list(arrays[:n_carry]), arrays[n_carry : n_carry + n_xs], arrays[n_carry + n_xs :]
    rows: list[list[np.ndarray]] = [[] for _ in body.outputs[n_carry:]]
    for i in reversed(range(count)) if reverse else range(count):
        out = interpret(body, [*carry, *(x[i] for x in xs), *consts], trip * count + i)
        carry = out[:n_carry]
        for row, y in zip(rows, out[n_carry:], strict=True):
            row.append(y)
    stacked = []
    for row, (_, node) in zip(rows, body.outputs[n_carry:], strict=True):
        shape = tuple(evaluate(s, dims or {}) for s in node.shape)
        stacked.append(np.stack(row[::-1] if reverse else row) if row else np.zeros((0, *shape), node.dtype.numpy))
    return (*carry, *stacked)


def _grad(node: Node, g: Sequence[Node | None]) -> list[Node | None]:
    """A scan in the other direction over the gradient of the body.

    The carries that entered each iteration were saved by the forward scan (its last results). The carry of the backward
    scan is the cotangent of the carry, and the sums of the gradients of what the body captured.
    """
    from ..autodiff import gradients

    body, n_carry, n_xs = node.attrs["body"], node.attrs["n_carry"], node.attrs["n_xs"]
    init, xs, consts = _parts(node.inputs, n_carry, n_xs)
    results = [node[i] for i in range(len(node.type.items))]  # type: ignore[union-attr]
    saved = results[len(results) - n_carry :]
    float_c = [i for i, c in enumerate(init) if c.dtype.is_float]
    float_x = [i for i, x in enumerate(xs) if x.dtype.is_float]
    float_k = [i for i, k in enumerate(consts) if k.dtype.is_float]
    rows = [i for i in range(n_carry, len(results)) if g[i] is not None]

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        d_carry, sums = carry
        before, elements, d_rows = x
        out = inline(body, [*before, *elements, *consts])
        wrt = [before[i] for i in float_c] + [elements[i] for i in float_x] + [consts[i] for i in float_k]
        heads = [out[i] for i in float_c] + [out[i] for i in rows]
        got = gradients(heads, [*d_carry, *d_rows], wrt, allow_unused=True, leaves=True)
        c, x_, k = _parts(got, len(float_c), len(float_x))
        return (tuple(c), tuple(a + b for a, b in zip(sums, k, strict=True))), tuple(x_)

    start = tuple(g[i] if g[i] is not None else _zeros(init[i]) for i in float_c)
    zeros = tuple(_zeros(consts[i]) for i in float_k)
    elements = (tuple(saved), tuple(xs), tuple(g[i] for i in rows))
    (d_init, d_consts), d_xs = scan(step, (start, zeros), elements, length=node.attrs["length"], reverse=not node.attrs["reverse"])
    table: list[Node | None] = [None] * len(node.inputs)
    for i, d in itertools.chain(
        zip(float_c, d_init, strict=True),
        zip((n_carry + i for i in float_x), d_xs, strict=True),
        zip((n_carry + n_xs + i for i in float_k), d_consts, strict=True),
    ):
        table[i] = d
    return table


def _zeros(n: Node) -> Node:
    return broadcast_to(constant(0.0, n.dtype), n.shape)


def _parts(items: Sequence[Any], first: int, second: int) -> tuple[list[Any], list[Any], list[Any]]:
    return list(items[:first]), list(items[first : first + second]), list(items[first + second :])


# -- the user's function ---------------------------------------------------------------------------------------------------
_depth: ContextVar[int] = ContextVar("scan_depth", default=0)
_fresh = itertools.count()


def _call(
    fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any = None, length: Size | None = None, reverse: bool = False
) -> tuple[Any, Any]:
    """``fn(carry, x) -> (carry, y)`` along the leading axis of ``xs`` -> (final carry, stacked ys), as ``jax.lax.scan``.

    ``init``, ``xs`` and ``y`` are tensors or tuples, lists and dicts of them; ``xs`` or ``y`` may be None (then ``length`` says how
    often). Carries keep shape and dtype. Tensors that ``fn`` takes from around it are captured; what does not depend on the
    iteration is computed once, outside. ``reverse`` walks from the last element to the first; ys stay in the order of xs.
    Random numbers inside differ in each iteration: their trip is the index of the element.
    """
    carry0, carry_tree = flat_tree(init)
    elements, x_tree = flat_tree(xs)
    if not carry0 and not elements and length is None:
        raise ShapeError("scan: without xs, length= says how often the body runs")
    if any(x.ndim == 0 for x in elements):
        raise ShapeError("scan: xs must have a leading axis")
    count: Size = elements[0].shape[0] if length is None and elements else length  # type: ignore[assignment]
    if count is None:
        raise ShapeError("scan: without xs, length= says how often the body runs")
    for i, x in enumerate(elements):
        if x.shape[0] != count:
            raise ShapeError(f"scan: the leading axis of xs[{i}] is {x.shape[0]}, not {count}")

    depth = _depth.get() + 1
    unique = next(_fresh)
    args_c = [argument(f"$t{depth}.{unique}c{i}", c.shape, c) for i, c in enumerate(carry0)]
    args_x = [argument(f"$t{depth}.{unique}x{i}", x.shape[1:], x) for i, x in enumerate(elements)]
    token = _depth.set(depth)
    try:
        with watching() as made:
            result = fn(fill_tree(carry_tree, args_c), fill_tree(x_tree, args_x))
    finally:
        _depth.reset(token)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TraceError("scan: the body must return (carry, y)", hint="return carry, None")
    carry1, tree1 = flat_tree(result[0])
    rows, y_tree = flat_tree(result[1])
    if tree1 != carry_tree:
        raise TraceError(f"scan: the carry starts as {show_tree(carry_tree)} and comes back as {show_tree(tree1)}")
    for i, (a, b) in enumerate(zip(carry0, carry1, strict=True)):
        if a.type != b.type:
            raise ShapeError(
                f"scan: carry {i} starts as {a.type} and comes back from the body as {b.type}",
                hint="x.cast(dtype), or another initial value",
            )
    # the carries that enter each iteration are results too: the gradient needs them (unused results are dropped later)
    outputs = [*carry1, *rows, *args_c]
    own = [*args_c, *args_x]
    captured = _captures(outputs, own, made)
    level = 1 + _level([*carry0, *elements, *captured])
    body = _close(outputs, args_c, args_x, captured, level)
    node = Node.make(
        lookup("scan"), (*carry0, *elements, *captured), body=body, n_carry=len(carry0), n_xs=len(elements), length=count, reverse=bool(reverse)
    )  # fmt: skip
    results = [node[i] for i in range(len(carry0) + len(rows))]
    return fill_tree(carry_tree, results[: len(carry0)]), fill_tree(y_tree, results[len(carry0) :])


def _captures(outputs: Sequence[Node], own: Sequence[Node], made: set[Node]) -> list[Node]:
    """The outermost nodes that the body needs and that do not depend on the iteration.

    Nodes without any input below them (constants, iota) stay in the body. Random bits made in the body depend on it by trip.
    """
    leaves = set(own)
    order = toposort(outputs, leaves)
    inside: set[Node] = set()
    closed: set[Node] = set()
    for n in order:
        if n in leaves or any(i in inside for i in n.inputs) or (n in made and reads_trip(n)):
            inside.add(n)
        elif n.op.kind != "input" and all(i in closed for i in n.inputs):
            closed.add(n)
    wanted = [i for n in order if n in inside and n not in leaves for i in n.inputs] + list(outputs)
    return list(dict.fromkeys(n for n in wanted if n not in inside and n not in closed))


_trips: WeakKeyDictionary[Node, bool] = WeakKeyDictionary()


def reads_trip(node: Node) -> bool:
    """Whether the value of a node depends on the iteration by itself: random bits, or something that holds them."""
    found = _trips.get(node)
    if found is None:
        op = node.op
        if op.kind == "composite":
            assert op.decompose is not None
            out = op.decompose(*node.inputs, **node.attrs)
            order = toposort(out if isinstance(out, (tuple, list)) else [out], set(node.inputs))
            found = any(reads_trip(n) for n in order if n not in node.inputs)
        elif op.kind == "scan":
            found = any(reads_trip(n) for n in node.attrs["body"].nodes)
        elif op.kind in ("input", "const") or op.numpy is None or isinstance(op.numpy, np.ufunc):
            found = False
        else:
            found = "trip" in inspect.signature(op.numpy).parameters
        _trips[node] = found
    return found


def _level(nodes: Iterable[Node]) -> int:
    """The deepest scan whose arguments the nodes depend on (0: none)."""
    deepest = 0
    for n in toposort(nodes):
        if n.op.kind == "input":
            m = re.match(r"\$[st](\d+)", n.attrs["name"])
            deepest = max(deepest, int(m[1])) if m else deepest
    return deepest


def _close(outputs: Sequence[Node], args_c: Sequence[Node], args_x: Sequence[Node], captured: Sequence[Node], level: int) -> Graph:
    """The body as a graph over arguments named by level."""
    groups = (("c", args_c), ("x", args_x), ("k", captured))
    return close(outputs, [(f"$s{level}{letter}{i}", n) for letter, nodes in groups for i, n in enumerate(nodes)])


def _cell(c: Node, x: Node) -> tuple[Node, Node]:
    h = tanh(c * 0.5 + x)
    return h, h * c


scan = primitive(
    "scan", "scan", _call.__doc__ or "", _call, _infer, numpy=_numpy, grad=_grad, method=False, tolerance={"float32": 5e-6, "float64": 1e-12}, onnx="Scan",
    samples=lambda: [
        Sample((_cell, rand(4), rand(5, 4, seed=1))), Sample((_cell, rand(2, 3), rand(7, 2, 3, seed=1)), {"reverse": True}), Sample((_cell, rand(4), rand(0, 4))),
        Sample((_cell, rand(4), rand(1, 4, seed=1))), Sample((lambda c, _: (c * c * 0.5, None), rand(3), None, 3)),
        Sample((lambda c, x: (c, x * 2.0), rand(2), rand(6, 3, seed=1))),
    ],
    errors=lambda: [
        Sample((lambda c, x: (c.sum(), None), rand(4), rand(5, 4)), error="comes back"), Sample((_cell, rand(4), None), error="length"),
        Sample((lambda c, x: c, rand(4), rand(5, 4)), error="(carry, y)"),
    ],
)  # fmt: skip
