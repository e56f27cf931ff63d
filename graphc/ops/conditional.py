"""Decisions made by values: ``cond``, ``switch``, ``select``, ``piecewise``.

A graph has no jumps: every branch is computed and the results are selected. That costs the sum of the branches instead of one
of them, and nothing else: no launch depends on a value, so branches fuse with what stands around them. The branch not taken
leaves no trace, also not in gradients: what it takes in passes a ``gate``, whose gradient is 0 there, so that a NaN or an
infinity of its derivative (the square root at a negative number) does not come out as 0 * NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.dtypes import bool_
from ..ir.graph import Graph
from ..ir.node import Node, toposort
from ..ir.op import Sample, lookup, sugar
from ..ir.provenance import watching
from ..ir.types import TensorType, TupleType, Type
from .bodies import argument, close, fill_tree, flat_tree, inline, show_tree
from .define import as_node, broadcast_shapes, constant, primitive, rand, show
from .elementwise import eq, le, logical_and, logical_not, where

__all__ = ["cond", "gate", "piecewise", "select", "switch"]


# -- gate ------------------------------------------------------------------------------------------------------------------
def _gate_infer(x: TensorType, condition: TensorType) -> TensorType:
    if condition.dtype != bool_:
        raise DTypeError(f"the condition must be bool, not {condition}")
    if broadcast_shapes([x.shape, condition.shape]) != x.shape:
        raise ShapeError(f"the condition {show(condition.shape)} does not broadcast to {show(x.shape)}")
    return x


gate = primitive(
    "gate", "identity",
    "``x``, whose gradient passes where the condition holds and is 0 elsewhere, also where it would be NaN. The condition broadcasts to ``x``.",
    lambda x, condition: Node.make(lookup("gate"), (as_node(x), as_node(condition))), _gate_infer,
    numpy=lambda x, condition: x, lower=lambda b, n, idx: b.value(n.inputs[0], idx), grad=lambda n, g: (where(n.inputs[1], g, 0.0), None), cost=0,
    samples=lambda: [
        Sample((rand(5, 7), np.array(True))), Sample((rand(33), np.ones(33, bool))), Sample((np.arange(4), np.array(False))), Sample((rand(0, 3), np.array(True))),
    ],
    errors=lambda: [Sample((rand(3), rand(3)), error="bool"), Sample((rand(3), rand(4) > 0), error="broadcast")],
)  # fmt: skip


# -- branches ----------------------------------------------------------------------------------------------------------------
_fresh = itertools.count()


def _branches(functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> tuple[list[Node], tuple[Graph, ...], Any]:
    """Operands and captures, the closed graph of each function over them, and the structure of the results."""
    given, tree = flat_tree(tuple(operands))
    unique = next(_fresh)
    args = [argument(f"$u{unique}.{i}", n.shape, n) for i, n in enumerate(given)]
    traced: list[list[Node]] = []
    captured: dict[Node, None] = {}
    shape: Any = None
    for i, fn in enumerate(functions):
        with watching() as made:
            result = fn(*fill_tree(tree, args))
            outputs, found = flat_tree(result)  # numbers become tensors here
        if i and found != shape:
            raise TraceError(f"branch 0 gives {show_tree(shape)} and branch {i} {show_tree(found)}")
        for k, (a, b) in enumerate(zip(traced[0] if i else outputs, outputs, strict=True)):
            if a.type != b.type:
                raise ShapeError(f"result {k} is {a.type} in branch 0 and {b.type} in branch {i}", hint="x.cast(dtype), or broadcast_to(x, shape)")
        if not outputs:
            raise TraceError(f"branch {i} gives nothing", hint="return the tensors that you want")
        shape = found
        traced.append(outputs)
        captured.update(dict.fromkeys(_captures(outputs, set(args), made)))
    inputs = [(f"$b{i}", n) for i, n in enumerate([*args, *captured])]
    return [*given, *captured], tuple(close(outputs, inputs) for outputs in traced), shape


def _captures(outputs: Sequence[Node], args: set[Node], made: set[Node]) -> list[Node]:
    """What a branch takes from around it: the nodes it uses and did not make itself."""
    outside = {n for n in toposort(outputs, args) if n not in args and (n not in made or n.op.kind == "input")}
    # a node made inside may have existed before; what lies below a captured node is not looked at
    return [n for n in toposort(outputs, args | outside) if n in outside]


def _infer(chosen: TensorType, *types: Type, branches: tuple[Graph, ...]) -> TupleType:
    for branch in branches:
        for i, (given, item) in enumerate(zip(types, branch.inputs, strict=True)):
            if given != item.node.type:
                raise ShapeError(f"operand {i} is {given}, the branches need {item.node.type}")
    return TupleType(tuple(n.tensor for _, n in branches[0].outputs))


def _selected(conditions: Sequence[Node], operands: Sequence[Node], branches: Sequence[Graph]) -> tuple[Node, ...]:
    """The results of the branch whose condition holds, the last one's if none does; each sees gated operands."""
    rows = []
    for condition, branch in zip(conditions, branches, strict=True):
        rows.append(inline(branch, [gate(n, condition) if n.dtype.is_float else n for n in operands]))
    out = rows[-1]
    for condition, row in zip(conditions[-2::-1], rows[-2::-1], strict=True):
        out = [where(condition, a, b) for a, b in zip(row, out, strict=True)]
    return tuple(out)


def _make(name: str, chosen: Node, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    inputs, graphs, tree = _branches(functions, operands)
    node = Node.make(lookup(name), (chosen, *inputs), branches=graphs)
    return fill_tree(tree, [node[i] for i in range(len(node))])


# -- cond and switch -----------------------------------------------------------------------------------------------------------
def _cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """``true_fn(*operands)`` where the scalar ``pred`` holds, else ``false_fn(*operands)``, as ``jax.lax.cond``.

    Both give tensors of equal types, or equal trees of them. Both are computed (so the cost is their sum) and one is selected;
    the other has no influence on values or gradients, also not by a NaN. Tensors that the functions take from around them
    count as operands. For a choice in each element there is ``where``.
    """
    node = as_node(pred)
    if node.shape != ():
        raise ShapeError(f"the condition must be a scalar, not {node.type}", hint="where(condition, x, y) chooses in each element")
    return _make("cond", node if node.dtype == bool_ else node.cast(bool_), (true_fn, false_fn), operands)


def _cond_parts(pred: Node, *operands: Node, branches: tuple[Graph, ...]) -> tuple[Node, ...]:
    return _selected((pred, logical_not(pred)), operands, branches)


def _double(x: Any) -> Any:
    return x * 2.0 + 1.0


def _square(x: Any) -> Any:
    return x * x


cond = primitive(
    "cond", "composite", _cond.__doc__ or "", _cond, _infer, storage=True, decompose=_cond_parts, grad="through its decomposition", method=False, onnx="If",
    samples=lambda: [
        Sample((np.array(p), _double, _square, rand(*shape))) for p, shape in ((True, (5, 7)), (False, (130,)), (True, ()), (False, (0, 3)))
    ] + [
        Sample((np.array(True), lambda x, y: (x + y, y), lambda x, y: (x * y, x), rand(5, 7), rand(5, 7, seed=1))),
    ],
    errors=lambda: [
        Sample((np.array([True]), _double, _square, rand(3)), error="scalar"), Sample((np.array(True), lambda x: x.sum(), _square, rand(3)), error="result 0"),
        Sample((np.array(True), lambda x: (x, x), _square, rand(3)), error="branch 0 gives"),
    ],
)  # fmt: skip


def _switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``, as ``jax.lax.switch``: an index out of range is moved to the nearest one.

    All branches are computed; see ``cond``.
    """
    node = as_node(index)
    if node.shape != () or not node.dtype.is_int:
        raise DTypeError(f"the index must be an integer scalar, not {node.type}")
    if not branches:
        raise TraceError("no branches")
    return _make("switch", node, tuple(branches), operands)


def _switch_parts(index: Node, *operands: Node, branches: tuple[Graph, ...]) -> tuple[Node, ...]:
    last = len(branches) - 1
    conditions = [eq(index, k) for k in range(len(branches))]
    conditions[0] = le(index, 0)
    conditions[last] = le(last, index) if last else constant(True)
    return _selected(conditions, operands, branches)


switch = primitive(
    "switch", "composite", _switch.__doc__ or "", _switch, _infer, storage=True, decompose=_switch_parts, grad="through its decomposition", method=False,
    samples=lambda: [Sample((np.array(i), [_double, _square, lambda x: -x], rand(5, 7))) for i in (0, 1, 2, -3, 7)] + [Sample((np.array(1), [_double], rand(33)))],
    errors=lambda: [
        Sample((rand(), [_double], rand(3)), error="integer"), Sample((np.array(0), (), rand(3)), error="no branches"),
        Sample((np.array(0), [_double, lambda x: x.sum()], rand(3)), error="branch 1"),
    ],
)  # fmt: skip


# -- in each element -------------------------------------------------------------------------------------------------------------
@sugar
def select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0) -> Node:
    """In each element the choice of the first condition that holds, else ``default``: NumPy's ``select``."""
    if len(conditions) != len(choices) or not conditions:
        raise ShapeError(f"select: {len(conditions)} conditions and {len(choices)} choices")
    out: Any = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        out = where(condition, choice, out)
    return out  # type: ignore[no-any-return]


@sugar
def piecewise(x: Node, conditions: Sequence[Any], functions: Sequence[Any]) -> Node:
    """In each element the function (or number) of the last condition that holds: NumPy's ``piecewise``.

    One more function than conditions: it is for the elements where none holds; otherwise they are 0. All functions are computed
    everywhere, but where one is not taken it has no influence, also not on gradients by a NaN.
    """
    node = as_node(x)
    holds = [as_node(c) for c in conditions]
    rest = list(functions)
    if len(rest) not in (len(holds), len(holds) + 1) or not holds:
        raise ShapeError(f"piecewise: {len(holds)} conditions and {len(rest)} functions")
    none = logical_not(holds[0])
    for c in holds[1:]:
        none = logical_and(none, logical_not(c))

    def part(f: Any, condition: Node) -> Any:
        return f(gate(node, condition) if node.dtype.is_float else node) if callable(f) else f

    out: Any = part(rest[-1], none) if len(rest) > len(holds) else 0
    for c, f in zip(holds, rest, strict=False):
        out = where(c, part(f, c), out)
    return out  # type: ignore[no-any-return]
