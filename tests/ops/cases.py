"""Sample calls of the records as graphs: one graph an operator, so that a target compiles once for all samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.compiler import compile_graph
from graphc.errors import DTypeError
from graphc.ir.dtypes import as_dtype
from graphc.ir.graph import Graph, Input
from graphc.ir.op import OpDef, Sample, all_ops
from graphc.testing import build_graph

OPS = [op for op in all_ops() if op.samples is not None]


def retyped(value: Any, dtype: str) -> Any:
    """Float arrays (also in lists) in another dtype; whole numbers for integer dtypes."""
    if isinstance(value, list):
        return [retyped(v, dtype) for v in value]
    if isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind == "f":
        array = np.asarray(value)
        kind = as_dtype(dtype)
        return array.astype(kind.numpy) if kind.is_float else np.rint(array * 3).astype(kind.numpy)
    return value


def has_floats(sample: Sample) -> bool:
    flat = [v for a in sample.args for v in (a if isinstance(a, list) else [a])]
    return any(isinstance(v, (np.ndarray, np.generic)) and np.asarray(v).dtype.kind == "f" for v in flat)


def sample_graph(
    op: OpDef, dtype: str, change: Callable[[Sample], bool] = lambda s: True
) -> tuple[Graph, dict[str, np.ndarray], list[str]]:
    """All samples of an operator in one graph: its arrays, and for each output the sample it came from.

    Raises DTypeError where the operator does not take the dtype.
    """
    inputs: list[Input] = []
    outputs: list[Any] = []
    arrays: dict[str, np.ndarray] = {}
    labels: list[str] = []
    assert op.samples is not None
    for k, sample in enumerate(op.samples()):
        if not change(sample):
            continue
        args = [retyped(a, dtype) for a in sample.args]
        graph, values = build_graph(lambda *a, s=sample: op.call(*a, **s.kwargs), *args)
        renamed = {i.node: Input(f"s{k}{i.name}", _input(f"s{k}{i.name}", i.node)) for i in graph.inputs}
        swap = {n: i.node for n, i in renamed.items()}
        graph = graph.transform(lambda n, ins, swap=swap: swap.get(n))
        inputs += renamed.values()
        arrays |= {f"s{k}{name}": v for name, v in values.items()}
        for name, node in graph.outputs:
            outputs.append((f"s{k}{name}", node))
            labels.append(f"{op.name}{tuple(getattr(a, 'shape', a) for a in sample.args)} {dict(sample.kwargs)}")
    return Graph(op.name, tuple(inputs), tuple(outputs)), arrays, labels


def _input(name: str, like: Any) -> Any:
    from graphc import ops

    return ops.input(name, like.shape, like.dtype)


def takes(op: OpDef, dtype: str) -> bool:
    """Whether the samples make sense in a dtype: they hold floats to retype, and the operator accepts it."""
    assert op.samples is not None
    if not any(has_floats(s) for s in op.samples()):
        return dtype == "float32"
    if as_dtype(dtype).is_float:
        return True
    if op.kind not in ("elementwise", "view", "gather", "scatter", "reduce") or op.name in ("cast", "shift_right"):
        return False
    try:
        graph, _, _ = sample_graph(op, dtype)
    except DTypeError:
        return False
    # an operator of floats casts integers, which tests cast and not the operator
    return all(n.dtype.kind in "iub" for n in graph.nodes if not hasattr(n.type, "items"))


def run(graph: Graph, arrays: dict[str, np.ndarray], target: str, **options: Any) -> dict[str, np.ndarray]:
    return compile_graph(graph, target, **options)(arrays)


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float, label: str) -> None:
    """Equal shape, dtype kind and special values; finite values within ``tolerance`` of the largest."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape, f"{label}: shape {found.shape}, expected {wanted.shape}"
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(found, wanted, label)
        return
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[~finite], wanted[~finite], label)
    if finite.any():
        scale = max(1.0, float(np.abs(wanted[finite]).max()))
        worst = float(np.abs(found[finite].astype(float) - wanted[finite]).max())
        assert worst <= tolerance * scale, f"{label}: off by {worst:.3g} where {tolerance * scale:.3g} is allowed"
