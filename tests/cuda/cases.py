"""What several test files look at on CUDA: every operator record (on the simulator by `test_cuda_records.py`, on a GPU by `test_gpu.py`), and
what holds on a GPU as on the made-up one."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import optim
from graphc.autodiff import gradients
from graphc.errors import NonFiniteError
from graphc.ir.graph import Graph
from graphc.ir.op import OpDef
from graphc.ops.define import as_node
from tests.ops.cases import OPS, has_floats, sample_graph, takes

from .models import batch, compiled

CASES = [(op, d) for op in OPS for d in ("float32", "float64") if takes(op, d)]
HALVES = ("cast", "add", "where", "max", "sum", "take", "scatter_add", "scan", "dot_general", "conv", "softmax", "layer_norm", "pad", "concat", "transpose")
SLOPES = [op for op in OPS if callable(op.grad) and op.name != "argmax" and any(has_floats(s) for s in op.samples())]


def slope_graph(op: OpDef) -> tuple[Graph, dict[str, np.ndarray]]:
    """The gradient, by the samples' floats, of the sum of squares of all results in float64; and the samples."""
    graph, arrays, _ = sample_graph(op, "float64", has_floats)
    wrt = [i for i in graph.inputs if i.node.dtype.is_float]
    total = as_node(np.array(0.0))
    for _, n in graph.outputs:
        total = total + (n * n).sum() if n.dtype.is_float else total
    grads = gradients([total], None, [i.node for i in wrt], allow_unused=True)
    return Graph("gradient", graph.inputs, tuple((i.name, g) for i, g in zip(wrt, grads, strict=True))), arrays


def loaded_values_reach_the_gpu() -> None:
    """Of a model that has trained there."""
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    before, first = model.state_dict(), model.predict(x)
    model.train_on_batch(x, y)
    assert not np.allclose(model.predict(x), first)
    model.load_state_dict(before)
    np.testing.assert_array_equal(model.predict(x), first)


def a_loss_that_is_not_finite_writes_nothing() -> None:
    """Neither parameters nor the optimiser's state."""
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    model.train_on_batch(x, y)
    before = model.state_dict()
    x[1, 2] = np.nan
    with pytest.raises(NonFiniteError):
        model.train_on_batch(x, y)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k], k)
