"""Tools for testing operators, models and passes: gradient checks, graph comparison, random graphs.

>>> import numpy as np
>>> check_grads(lambda x: (x * x).sum(), np.array([1.0, 2.0]), order=2)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import ops
from .autodiff import gradients
from .compiler import compile_graph
from .errors import GradientError
from .ir.dims import sym
from .ir.dtypes import DType, as_dtype, float32, float64
from .ir.graph import Graph, Input
from .ir.node import Node, toposort
from .ir.text import print_graph
from .ir.types import TupleType

__all__ = ["assert_graph_equal", "build_graph", "check_grads", "graph_equal", "random_graphs"]


# -- from functions to graphs ----------------------------------------------------------------------------------------------
def build_graph(
    fn: Callable[..., Any], *args: Any, name: str = "f", dtype: DType | str | None = None
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of ``fn`` on symbolic tensors like ``args``, and the arrays by input name.

    NumPy arrays (also in lists) become inputs ``x0, x1, ...``; everything else is passed as it is. With ``dtype``, float arrays
    get that dtype. Results are named ``o0, o1, ...``; a node of several results gives several outputs.
    """
    inputs: list[Input] = []
    arrays: dict[str, np.ndarray] = {}

    def symbolic(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            return [symbolic(v) for v in value]
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        array = np.asarray(value)
        if dtype is not None and array.dtype.kind == "f":
            array = array.astype(as_dtype(dtype).numpy)
        key = f"x{len(inputs)}"
        node = ops.input(key, array.shape, as_dtype(array.dtype))
        inputs.append(Input(key, node))
        arrays[key] = array
        return node

    result = fn(*map(symbolic, args))
    nodes: list[Node] = []
    for r in result if isinstance(result, (tuple, list)) else [result]:
        if r is not None:
            nodes += list(r) if isinstance(r.type, TupleType) else [r]
    return Graph(name, tuple(inputs), tuple((f"o{i}", n) for i, n in enumerate(nodes))), arrays


# -- gradients -------------------------------------------------------------------------------------------------------------
def check_grads(
    fn: Callable[..., Any],
    *args: Any,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    target: str = "reference",
    eps: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Checks the gradients of ``fn`` at ``args`` against finite differences in float64; raises AssertionError where they differ.

    Results are projected on random directions; for each float array in ``args`` (or the inputs numbered in ``wrt``) the
    derivative along a random direction is compared with the central difference. ``order`` 2 checks the gradient's gradient.
    """
    graph, arrays = build_graph(fn, *args, dtype=float64)
    rng = np.random.default_rng(seed)
    outputs = [n for _, n in graph.outputs]
    names = [i.name for i in graph.inputs]
    chosen = [names[i] for i in wrt] if wrt is not None else [n for n in names if arrays[n].dtype.kind == "f"]
    if not chosen:
        raise GradientError("check_grads: no float argument to differentiate with respect to")
    for level in range(1, order + 1):
        floats = [n for n in outputs if n.dtype.is_float]
        # away from 0 and of one size, so that no output is hidden behind another
        weights = [ops.const(_signs(rng, n.shape), float64) for n in floats]
        loss = ops.const(0.0, float64)
        for n, w in zip(floats, weights, strict=True):
            loss = loss + (n * w).sum()
        inputs = {i.name: i.node for i in graph.inputs}
        grads = gradients([loss], None, [inputs[n] for n in chosen], allow_unused=True)
        _compare(graph, arrays, loss, dict(zip(chosen, grads, strict=True)), rng, target, eps, rtol, atol, level)
        outputs = grads


def _signs(rng: np.random.Generator, shape: Sequence[Any]) -> np.ndarray:
    return rng.choice([-1.0, 1.0], tuple(shape)) * rng.uniform(0.5, 1.5, tuple(shape))


def _compare(
    graph: Graph,
    arrays: dict[str, np.ndarray],
    loss: Node,
    grads: dict[str, Node],
    rng: Any,
    target: str,
    eps: float,
    rtol: float,
    atol: float,
    level: int,
) -> None:
    options: dict[str, Any] = {"mode": "exact"} if target == "reference" else {}  # or a cast to float32 inside would round
    value = compile_graph(Graph("loss", graph.inputs, (("loss", loss),)), target, **options)
    slope = compile_graph(Graph("gradient", graph.inputs, tuple(grads.items())), target, **options)(arrays)
    for name, g in slope.items():
        direction = _signs(rng, arrays[name].shape)
        ends = [float(value({**arrays, name: arrays[name] + step * eps * direction})["loss"]) for step in (-2, -1, 1, 2)]
        # the five-point rule: its error is of fourth order, so rounding and not the step limits the comparison
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * eps)
        found = float((g * direction).sum())
        scale = max(abs(expected), float(np.abs(g * direction).sum()), 1.0)
        if not abs(found - expected) <= atol + rtol * scale:
            text = print_graph(Graph("loss", graph.inputs, (("loss", loss),)))
            raise AssertionError(
                f"order {level}: derivative along a direction of {name}: {found:.12g}, by finite differences {expected:.12g}\n{text}"
            )


# -- comparing graphs ------------------------------------------------------------------------------------------------------
def graph_equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs compute the same expressions from the same inputs (names, user lines and scopes do not count)."""
    return a.structural_key == b.structural_key


def assert_graph_equal(a: Graph, b: Graph) -> None:
    """Raises AssertionError with a diff of the text forms where :func:`graph_equal` fails."""
    if not graph_equal(a, b):
        first, second = (print_graph(g, locations=False).splitlines() for g in (a, b))
        raise AssertionError("graphs differ\n" + "\n".join(difflib.unified_diff(first, second, "first", "second", lineterm="")))


# -- random graphs ---------------------------------------------------------------------------------------------------------
def random_graphs(max_nodes: int = 12, dtype: DType = float32, named: bool = True) -> Any:
    """A hypothesis strategy of (graph, arrays): well-typed graphs of elementwise, view, reduce and dot operators.

    Values stay finite and moderate, so that results can be compared. With ``named``, one axis size may be the dim ``N``.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_graph(draw: Any) -> tuple[Graph, dict[str, np.ndarray]]:
        size = draw(st.sampled_from([0, 1, 2, 5]))
        n = sym("N") if named and draw(st.booleans()) else size
        shapes = draw(st.lists(st.lists(st.sampled_from([n, 1, 2, 3, 5]), max_size=3), min_size=1, max_size=3))
        nodes = [ops.input(f"x{i}", tuple(s), dtype) for i, s in enumerate(shapes)]
        inputs = tuple(Input(f"x{i}", node) for i, node in enumerate(nodes))
        rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        arrays = {}
        for i in inputs:
            sizes = [s if isinstance(s, int) else size for s in i.node.shape]
            arrays[i.name] = rng.uniform(-2, 2, sizes).astype(dtype.numpy)
        for _ in range(draw(st.integers(1, max_nodes))):
            made = draw(st.sampled_from(_STEPS))(draw, st, draw(st.sampled_from(nodes)), nodes)
            if made is not None and made.ndim <= 4:
                nodes.append(made)
        used = {x for node in nodes for x in node.inputs}
        ends = [node for node in nodes[len(inputs) :] if node not in used][-3:] or nodes[-1:]
        reached = set(toposort(ends))
        kept = tuple(i for i in inputs if i.node in reached)
        named_dims = set().union(*(set(map(str, i.node.shape)) for i in kept)) if kept else set()
        if any("N" in str(node.shape) for node in reached) and "N" not in named_dims:
            kept = inputs
        outputs = tuple((f"o{k}", node) for k, node in enumerate(ends))
        return Graph("random", kept, outputs), {i.name: arrays[i.name] for i in kept}

    return draw_graph()


def _unary(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    f = draw(st.sampled_from(["neg", "tanh", "sigmoid", "relu", "absolute", "erf", "gelu"]))
    return getattr(ops, f)(x)  # type: ignore[no-any-return]


def _bounded(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    """Functions with a limited domain or a steep range, on an argument that keeps them moderate."""
    f = draw(st.sampled_from(["exp", "log", "sqrt"]))
    safe = ops.tanh(x) if f == "exp" else ops.absolute(x) + 0.5
    return getattr(ops, f)(safe)  # type: ignore[no-any-return]


def _binary(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    f = draw(st.sampled_from(["add", "sub", "mul", "maximum", "minimum", "div", "where"]))
    y = draw(st.sampled_from([n for n in nodes if n.shape == x.shape or n.ndim == 0 or n.shape == x.shape[x.ndim - n.ndim :]]))
    if f == "where":
        return ops.where(x < y, x, y * 0.5)  # type: ignore[no-any-return]
    if f == "mul":
        return ops.tanh(x) * y  # type: ignore[no-any-return]
    return ops.div(x, ops.absolute(y) + 0.5) if f == "div" else getattr(ops, f)(x, y)  # type: ignore[no-any-return]


def _view(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    if x.ndim == 0:
        return ops.broadcast_to(x, (draw(st.integers(0, 3)),))  # type: ignore[no-any-return]
    f = draw(st.sampled_from(["transpose", "flatten", "expand_dims", "flip", "slice", "pad", "concat", "broadcast"]))
    axis = draw(st.integers(0, x.ndim - 1))
    if f == "transpose":
        return ops.transpose(x, draw(st.permutations(range(x.ndim))))  # type: ignore[no-any-return]
    if f == "expand_dims":
        return ops.expand_dims(x, axis)  # type: ignore[no-any-return]
    if f == "flip":
        return ops.flip(x, axis)  # type: ignore[no-any-return]
    if f == "slice" and isinstance(x.shape[axis], int) and x.shape[axis] > 1:
        key: list[Any] = [slice(None)] * x.ndim
        key[axis] = draw(st.sampled_from([slice(1, None), slice(None, None, 2), slice(None, -1)]))
        return x[tuple(key)]
    if f == "pad":
        low, high = ([draw(st.integers(0, 2)) if a == axis else 0 for a in range(x.ndim)] for _ in range(2))
        return ops.pad(x, low, high, value=0.5)  # type: ignore[no-any-return]
    if f == "concat":
        return ops.concat([x, ops.tanh(x)], axis)  # type: ignore[no-any-return]
    if f == "broadcast":
        return ops.broadcast_to(x, (draw(st.integers(1, 3)), *x.shape))  # type: ignore[no-any-return]
    return ops.flatten(x)  # type: ignore[no-any-return]


def _reduce(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    if x.ndim == 0:
        return None
    axis = draw(st.integers(0, x.ndim - 1))
    f = draw(st.sampled_from(["sum", "max", "mean", "softmax", "logsumexp"]))
    if f in ("max", "mean", "logsumexp") and not (isinstance(x.shape[axis], int) and x.shape[axis] > 0):
        f = "sum"  # the others have no finite value over no elements
    return getattr(ops, f)(x, axis)  # type: ignore[no-any-return]


def _dot(draw: Any, st: Any, x: Node, nodes: list[Node]) -> Node | None:
    fits = [n for n in nodes if n.ndim == 2 and x.ndim >= 1 and n.shape[0] == x.shape[-1]]
    return ops.tanh(ops.matmul(x, draw(st.sampled_from(fits)))) if fits else None


_STEPS = (_unary, _bounded, _binary, _binary, _view, _view, _reduce, _dot)
