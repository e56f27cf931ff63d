"""Passes as graphs before and after, in text form; provenance; cost."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.backends.reference import interpret
from graphc.ir.graph import Graph, Input, verify
from graphc.ir.layout import Layout
from graphc.ir.op import all_ops
from graphc.ir.provenance import Loc, Provenance
from graphc.ir.text import parse_graph
from graphc.passes.canonical import canonical_contractions
from graphc.passes.decompose import decompose
from graphc.passes.layout import choose_layouts
from graphc.passes.pipeline import Settings, lower
from graphc.passes.simplify import simplify
from graphc.schedule.program import schedule_graph
from graphc.testing import assert_graph_equal
from tests.models import VARIANTS, batch_for, mlp_step

PASSES = {
    "simplify": simplify,
    "decompose": decompose,
    "canonical": canonical_contractions,
    "layout": lambda g: choose_layouts(g, {}, width=16, may_choose=False).graph,
}

CASES = [
    (
        "simplify",
        """graph f(arg x: f32[N, 4], arg y: f32[N, 4]) {
          %0 = const(value=array('f32', (), [1.0])) : f32[]
          %1 = broadcast_to(%0, shape=(<N>, 4)) : f32[N, 4]
          %2 = mul(%x, %1) : f32[N, 4]
          %3 = neg(%y) : f32[N, 4]
          %4 = add(%2, %3) : f32[N, 4]
          return out=%4 }""",
        """graph f(arg x: f32[N, 4], arg y: f32[N, 4]) {
          %0 = sub(%x, %y) : f32[N, 4]
          return out=%0 }""",
    ),
    (
        "simplify",
        """graph f(arg x: f32[2, 3, 4]) {
          %0 = transpose(%x, perm=(2, 0, 1)) : f32[4, 2, 3]
          %1 = transpose(%0, perm=(1, 2, 0)) : f32[2, 3, 4]
          %2 = reshape(%1, shape=(6, 4)) : f32[6, 4]
          %3 = reshape(%2, shape=(24,)) : f32[24]
          return out=%3 }""",
        """graph f(arg x: f32[2, 3, 4]) {
          %0 = reshape(%x, shape=(24,)) : f32[24]
          return out=%0 }""",
    ),
    (
        "simplify",
        """graph f(arg x: f32[3]) {
          %0 = const(value=array('f32', (), [2.0])) : f32[]
          %1 = const(value=array('f32', (), [8.0])) : f32[]
          %2 = div(%0, %1) : f32[]
          %3 = broadcast_to(%2, shape=(3,)) : f32[3]
          %4 = add(%x, %3) : f32[3]
          return out=%4 }""",
        """graph f(arg x: f32[3]) {
          %0 = const(value=array('f32', (), [0.25])) : f32[]
          %1 = broadcast_to(%0, shape=(3,)) : f32[3]
          %2 = add(%x, %1) : f32[3]
          return out=%2 }""",
    ),
    (
        "canonical",
        """graph f(arg a: f32[3, 4, 5], arg b: f32[5, 7, 3]) {
          %0 = dot_general(%a, %b, batch=((0,), (2,)), contract=((2,), (0,))) : f32[3, 4, 7]
          return out=%0 }""",
        """graph f(arg a: f32[3, 4, 5], arg b: f32[5, 7, 3]) {
          %0 = transpose(%b, perm=(2, 0, 1)) : f32[3, 5, 7]
          %1 = dot_general(%a, %0, batch=((0,), (0,)), contract=((2,), (1,))) : f32[3, 4, 7]
          return out=%1 }""",
    ),
    (
        "canonical",
        """graph f(arg a: f32[N, 2, 3], arg b: f32[6]) {
          %0 = reshape(%b, shape=(2, 3)) : f32[2, 3]
          %1 = dot_general(%a, %0, batch=((), ()), contract=((1, 2), (0, 1))) : f32[N]
          return out=%1 }""",
        """graph f(arg a: f32[N, 2, 3], arg b: f32[6]) {
          %0 = reshape(%a, shape=(<N>, 6)) : f32[N, 6]
          %1 = reshape(%b, shape=(2, 3)) : f32[2, 3]
          %2 = reshape(%1, shape=(6, 1)) : f32[6, 1]
          %3 = dot_general(%0, %2, batch=((), ()), contract=((1,), (0,))) : f32[N, 1]
          %4 = reshape(%3, shape=(<N>,)) : f32[N]
          return out=%4 }""",
    ),
    (
        "layout",
        """graph f(arg x: f32[N, 40], param w: f32[50, 40]) {
          %0 = transpose(%w, perm=(1, 0)) : f32[40, 50]
          %1 = dot_general(%x, %0, batch=((), ()), contract=((1,), (0,))) : f32[N, 50]
          return out=%1 }""",
        """graph f(arg x: f32[N, 40], param w: f32[50, 40]) {
          %0 = relayout(%w, layout=layout((1, 0), 32, 0)) : f32[50, 40]
          %1 = transpose(%0, perm=(1, 0)) : f32[40, 50]
          %2 = dot_general(%x, %1, batch=((), ()), contract=((1,), (0,))) : f32[N, 50]
          return out=%2 }""",
    ),
]


@pytest.mark.parametrize("name,before,after", CASES)
def test_before_and_after(name, before, after):
    assert_graph_equal(PASSES[name](parse_graph(before)), parse_graph(after))


def test_decompose_makes_primitives_and_keeps_meaning():
    before = parse_graph(
        """graph f(arg x: f32[3, 5]) {
          %0 = softmax(%x, axis=1) : f32[3, 5]
          %1 = relu(%0) : f32[3, 5]
          return out=%1 }"""
    )
    after = decompose(before)
    assert [n.op.name for n in after.nodes if n.op.kind == "composite"] == []
    names = [n.op.name for n in after.nodes if n.op.kind not in ("view", "input", "const", "identity")]
    assert names == ["max", "sub", "exp", "sum", "div", "mul", "maximum"]
    x = {"x": np.random.default_rng(0).standard_normal((3, 5)).astype("f")}
    np.testing.assert_array_equal(interpret(before, x)[0]["out"], interpret(after, x)[0]["out"])


def test_decompose_keeps_what_the_target_claims():
    x = ops.input("x", (3, 5), "float32")
    graph = Graph("f", (Input("x", x),), (("out", ops.softmax(x, 1).relu()),))
    after = decompose(graph, lambda n: n.op.name == "softmax")
    assert [n.op.name for n in after.nodes if n.op.kind == "composite"] == ["softmax"]


def test_training_graphs_choose_the_layout_of_a_parameter_and_of_its_moments():
    graph, _ = mlp_step((24, 20, 10))
    low = lower(graph, Settings(16, {}, may_choose=True))
    first = low.layouts["fc0.weight"]
    assert first == Layout((1, 0), 32)
    assert low.layouts["optimizer.m.fc0.weight"] == low.layouts["optimizer.v.fc0.weight"] == first
    assert low.layouts["fc1.weight"] == Layout((1, 0), 16)  # ten columns fill one narrow panel
    fixed = lower(graph, Settings(16, {"fc0.weight": Layout((0, 1))}, may_choose=True))
    assert fixed.layouts["fc0.weight"] == Layout((0, 1))
    assert any(n.op.name == "relayout" and n.inputs[0].attrs.get("name") == "fc0.weight" for n in fixed.graph.nodes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pipeline_keeps_every_result(variant):
    graph, store = mlp_step((6, 5, 4), variant)
    values = batch_for(graph, 7) | {n: store.numpy(n) for n in store.names()}
    wanted = interpret(graph, values, "exact")
    low = lower(graph, Settings(16, {}, may_choose=True))
    assert low.graph.finite == "loss"
    for record in low.passes:
        verify(record.after)
        for want, got in zip(wanted, interpret(record.after, values, "exact"), strict=True):
            assert want.keys() == got.keys()
            for k in want:
                np.testing.assert_allclose(got[k], want[k], rtol=1e-9, atol=1e-12, err_msg=f"{record.name}: {k}")
    assert low.as_text("decompose") == str(next(p for p in low.passes if p.name == "decompose").after) and low.as_text() == str(low.graph)
    assert [p.name for p in low.passes if p.changed and p.seconds >= 0]


def with_lines(graph: Graph) -> Graph:
    """The graph with one user line and scope for every node."""
    prov = Provenance()
    for k, n in enumerate(graph.nodes):
        prov.add(n, [Loc("model.py", k + 1)], [f"layer{k % 3}"])
    return Graph(graph.name, graph.inputs, graph.outputs, graph.updates, graph.finite, prov)


@pytest.mark.parametrize("variant", ["plain", "tied"])
def test_provenance_survives_every_pass(variant):
    graph = with_lines(mlp_step((6, 5, 4), variant)[0])
    before = {loc for n in graph.nodes for loc in graph.provenance.locs(n)}
    for record in lower(graph, Settings(16, {}, may_choose=True)).passes:
        prov = record.after.provenance
        without = [n for n in record.after.nodes if not prov.locs(n)]
        assert without == [], f"{record.name}: {without[:3]} come from nowhere"
        after = {loc for n in record.after.nodes for loc in prov.locs(n)}
        assert after <= before
        roots = zip(graph.roots, record.after.roots, strict=True)
        assert all(set(graph.provenance.locs(a)) <= set(prov.locs(b)) for a, b in roots), record.name


def test_decomposition_becomes_a_scope():
    x = ops.input("x", (3, 5), "float32")
    prov = Provenance()
    y = ops.softmax(x, 1)
    prov.add(y, [Loc("model.py", 7)], ["head"])
    after = decompose(Graph("f", (Input("x", x),), (("out", y),), provenance=prov))
    made = [n for n in after.nodes if n.op.name in ("exp", "sum", "div")]
    assert len(made) == 3
    for n in made:
        assert [str(loc) for loc in after.provenance.locs(n)] == ["model.py:7"]
        assert any(s.startswith("head/softmax") or s == "head" for s in after.provenance.scopes(n))


def test_a_composite_of_two_graphs_has_lines_in_both():
    """The node is one, and so is its decomposition; where it comes from is each graph's own."""
    x = ops.input("shared", (3, 7), "float32")
    y = ops.softmax(x, 1)
    for line in (7, 8):
        prov = Provenance()
        prov.add(y, [Loc("model.py", line)], ["head"])
        after = decompose(Graph("f", (Input("shared", x),), (("out", y),), provenance=prov))
        for n in after.nodes:
            if n.op.kind not in ("input", "const"):
                assert [str(loc) for loc in after.provenance.locs(n)] == [f"model.py:{line}"], n


def test_every_composite_sample_decomposes_to_primitives():
    for op in all_ops():
        if op.kind != "composite" or op.samples is None:
            continue
        sample = op.samples()[0]
        from graphc.testing import build_graph

        graph, _ = build_graph(lambda *a, op=op, kw=sample.kwargs: op.call(*a, **kw), *sample.args)
        assert not [n.op.name for n in decompose(graph).nodes if n.op.kind == "composite"], op.name


def chain(n: int) -> Graph:
    """A long chain of mixed nodes, with side inputs, views and a softmax now and then."""
    x, w = ops.input("x", (8, 6), "float32"), ops.input("w", (6,), "float32")
    h = x
    k = 0
    while k < n:
        h = h + w if k % 3 else (h * 0.5).tanh()
        k += 3
        if k % 60 == 0:
            h = h.transpose().reshape(8, 6).softmax(-1)
            k += 8
    return Graph("chain", (Input("x", x), Input("w", w)), (("out", h),))


def test_cost_is_linear_in_the_number_of_nodes():
    """Counted in lines of Python that are executed, turns of loops included, and not in seconds: the same on every machine."""

    def lines(n: int) -> int:
        graph, count = chain(n), 0

        def trace(frame, event, arg):
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            schedule_graph(lower(graph, Settings(16)).graph)
        finally:
            sys.settrace(before)
        return count

    lines(50)
    small, large = lines(800), lines(3200)
    assert large / small < 5, (small, large)


def test_a_layer_made_of_a_scan_runs_once_for_its_result_and_its_gradient():
    """The decomposition holds a scan whose body holds composites; the gradient holds the same scan already."""
    shapes = ((4, 2, 3), (2, 5), (2, 5), (20, 3), (20, 5))
    inputs = [ops.input(f"x{i}", s, "float64") for i, s in enumerate(shapes)]
    loss = ops.lstm_layer(*inputs)[0].sum()
    grads = gradients([loss], None, inputs)
    graph = Graph("f", tuple(Input(f"x{i}", n) for i, n in enumerate(inputs)), tuple((f"o{i}", n) for i, n in enumerate([loss, *grads])))
    low = lower(graph, Settings(16, {})).graph
    scans = [n for n in low.nodes if n.op.kind == "scan"]
    assert len(scans) == 2
    assert all(m.op.kind != "composite" for n in scans for m in n.attrs["body"].nodes)
    assert "sigmoid" in str({s for n in scans for m in n.attrs["body"].nodes for s in n.attrs["body"].provenance.of(m).scopes})
