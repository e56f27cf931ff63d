"""Generic tests that every operator record passes: driven by the records, nothing here names an operator's meaning."""

from __future__ import annotations

import numpy as np
import pytest

from graphc.errors import GraphcError
from graphc.ir.graph import Graph, verify
from graphc.ir.op import all_ops
from graphc.ir.text import parse_graph
from graphc.ops.define import as_node
from graphc.testing import assert_graph_equal, check_grads
from tests.ops.cases import OPS, assert_close, has_floats, retyped, run, sample_graph, takes

DTYPES = ("float32", "float64", "int32", "int8")
WITHOUT_SAMPLES = {
    "assume": "needs two named dims: test_guards.py",
    "at_least": "needs a named dim: test_guards.py",
    "const": "a value, seen in most graphs",
    "dim": "needs a named dim: test_named_dims.py",
    "input": "has no meaning of its own",
    "item": "needs a node of several results: test_scan.py, test_optimizers.py",
    "relayout": "made by passes only",
    "rounded": "made for operators with several results: test_storage.py",
    "stop_gradient": "test_autodiff_rules.py",
}


def differentiable(op):
    return op.name not in ("argmax", "accuracy") and (
        callable(op.grad) or (op.kind == "composite" and op.grad == "through its decomposition")
    )


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_the_record_is_complete(op):
    assert op.doc.strip(), "no doc"
    assert callable(op.grad) or (isinstance(op.grad, str) and len(op.grad) > 5), "neither a gradient nor a reason"
    assert op.samples is not None or op.name in WITHOUT_SAMPLES, "no samples"
    if op.kind in ("elementwise", "view", "generate", "gather"):
        assert op.lower is not None and op.numpy is not None
    elif op.kind in ("reduce", "contract", "scatter", "scan"):
        assert op.numpy is not None


@pytest.mark.parametrize("op,dtype", [(op, d) for op in OPS for d in DTYPES if takes(op, d)], ids=lambda v: getattr(v, "name", v))
def test_a_target_computes_what_the_reference_says(op, dtype, target):
    graph, arrays, labels = sample_graph(op, dtype)
    verify(graph)
    found = run(graph, arrays, target)
    # a cast to float32 inside rounds a float64 value by intention, so float64 is compared in the declared dtypes
    exact = run(graph, arrays, "reference", mode="exact" if dtype == "float32" else "faithful")
    tolerance = op.tolerance.get(dtype, 0.0)
    for (name, node), label in zip(graph.outputs, labels, strict=True):
        assert found[name].dtype == node.dtype.numpy, label
        assert_close(found[name], exact[name], tolerance, label)


@pytest.mark.parametrize("op", [op for op in OPS if op.errors], ids=lambda op: op.name)
def test_misuse_is_refused_when_the_graph_is_built(op):
    for sample in op.errors():
        args = [
            [as_node(v) for v in a]
            if isinstance(a, list) and isinstance(a[0], np.ndarray)
            else as_node(a)
            if isinstance(a, np.ndarray)
            else a
            for a in sample.args
        ]
        with pytest.raises(GraphcError) as caught:
            op.call(*args, **sample.kwargs)
        assert sample.error in str(caught.value), f"{sample.error!r} is not in {caught.value}"
        assert caught.value.message.startswith(f"{op.name}: "), f"the message does not name the operator: {caught.value}"


GRAD = [op for op in OPS if differentiable(op) and any(has_floats(s) for s in op.samples())]


@pytest.mark.parametrize("op", GRAD, ids=lambda op: op.name)
def test_gradients_agree_with_finite_differences(op):
    checked = 0
    for sample in op.samples():
        if has_floats(sample):
            args = [retyped(a, "float64") for a in sample.args]
            # where a derivative exists twice, so does the gradient's gradient
            check_grads(lambda *a, s=sample: op.call(*a, **s.kwargs), *args, order=2 if sample.smooth else 1, wrt=sample.grad)
            checked += 1
    assert checked


@pytest.mark.parametrize("op", GRAD, ids=lambda op: op.name)
def test_gradients_on_a_target(op, target):
    from graphc.autodiff import gradients

    graph, arrays, _ = sample_graph(op, "float64", has_floats)
    floats = [n for _, n in graph.outputs if n.dtype.is_float]
    wrt = [i for i in graph.inputs if i.node.dtype.is_float]
    total = as_node(np.array(0.0))
    for n in floats:
        total = total + (n * n).sum()
    grads = gradients([total], None, [i.node for i in wrt], allow_unused=True)
    slope = Graph("gradient", graph.inputs, tuple((i.name, g) for i, g in zip(wrt, grads, strict=True)))
    found, exact = run(slope, arrays, target), run(slope, arrays, "reference")
    for i in wrt:
        assert_close(found[i.name], exact[i.name], 10 * op.tolerance["float64"], f"{op.name}: gradient of {i.name}")


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_the_text_form_reads_back(op):
    graph, _, _ = sample_graph(op, "float32")
    again = parse_graph(str(graph))
    assert_graph_equal(graph, again)
    assert str(again) == str(graph)


@pytest.mark.parametrize("op", [op for op in OPS if op.kind == "composite"], ids=lambda op: op.name)
def test_a_composite_means_its_decomposition(op):
    from graphc.passes.decompose import decompose

    graph, arrays, labels = sample_graph(op, "float64")
    flat = decompose(graph)
    assert all(n.op.kind != "composite" for n in flat.nodes)
    named, parts = run(graph, arrays, "reference"), run(flat, arrays, "reference")
    for (name, _), label in zip(graph.outputs, labels, strict=True):
        np.testing.assert_array_equal(named[name], parts[name], label)
