"""Identity of nodes and attributes, the text form, provenance."""

from __future__ import annotations

import contextlib
import gc
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import GraphcError, ShapeError, TraceError, VerifyError
from graphc.ir import node as node_module
from graphc.ir.attrs import attr_key
from graphc.ir.dims import sym
from graphc.ir.dtypes import ALL, as_dtype, promote
from graphc.ir.graph import Graph, Input, verify
from graphc.ir.interned import Interned
from graphc.ir.node import Node, toposort
from graphc.ir.op import lookup
from graphc.ir.provenance import Loc, Provenance, watching
from graphc.ir.text import parse_graph
from graphc.testing import assert_graph_equal, graph_equal, random_graphs


# -- attributes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "a,b",
    [(1, True), (1, 1.0), (True, 1.0), (0, False), (0.0, -0.0), ((1, 2), (1, 2.0)), ("1", 1), (None, 0), (math.inf, -math.inf),
     (np.float32([1]), np.float64([1])), (np.zeros(2), np.zeros((2, 1))), (np.zeros(2), -np.zeros(2)), ((1,), 1)],
)  # fmt: skip
def test_attributes_that_differ(a, b):
    assert attr_key(a) != attr_key(b)


@pytest.mark.parametrize(
    "a,b",
    [(math.nan, float("nan")), (math.nan, -math.nan), (1, np.int64(1)), (0.5, np.float32(0.5)), (True, np.bool_(True)), ([1, 2], (1, 2)), (np.ones(3), np.ones(3)),
     (sym("N") + 1, 1 + sym("N"))],
)  # fmt: skip
def test_attributes_that_are_equal(a, b):
    assert attr_key(a) == attr_key(b)
    assert hash(attr_key(a)) == hash(attr_key(b))


def test_an_attribute_without_a_key_is_refused():
    with pytest.raises(TraceError, match="object"):
        attr_key(object())


# -- nodes ---------------------------------------------------------------------------------------------------------------
def test_equal_nodes_are_one_node():
    x = ops.input("x", (3,), "float32")
    assert x + 1.0 is x + 1.0
    assert x * 2 is x * 2.0, "a weak number takes the dtype of the tensor"
    assert x + 1.0 is not x + 2.0
    assert ops.const(np.float32(0.0)) is not ops.const(np.float32(-0.0))
    assert ops.const(float("nan")) is ops.const(float("nan"))
    assert ops.input("x", (3,), "float32") is x and ops.input("x", (4,), "float32") is not x


def test_nodes_go_when_nobody_holds_them():
    gc.collect()
    before = len(node_module._table)
    y = ops.input("gone", (3,), "float32")
    for _ in range(50):
        y = y.exp() * 0.5
    assert len(node_module._table) > before + 50
    del y
    gc.collect()
    assert len(node_module._table) <= before + 2


def test_no_python_runs_where_nodes_die():
    """An interrupt that came there would be printed and lost."""
    y, ran = ops.input("gone", (3,), "float32"), []
    for _ in range(50):
        y = y.exp() * 0.5
    gc.collect()
    gc.disable()
    sys.setprofile(lambda frame, event, arg: ran.append(frame.f_code) if event == "call" else None)
    del y
    sys.setprofile(None)
    gc.enable()
    assert ran == []


def test_a_table_of_things_that_live():
    class Thing:
        pass

    table, first = Interned(), Thing()
    assert table.add("k", first) is first and table.add("k", Thing()) is first and table.get("k") is first
    assert len(table) == 1 and table.get("other") is None
    del first
    assert table.get("k") is None
    second = Thing()
    assert table.add("k", second) is second  # in the place of the dead one, which is forgotten after that
    table.add("l", third := Thing())
    assert table.get("k") is second and table.get("l") is third and len(table) == 2
    Interned.tables.remove(table)


def test_a_tensor_is_no_condition_and_no_array():
    x = ops.input("x", (3,), "float32")
    with pytest.raises(TraceError, match="where"):
        bool(x < 1.0)
    with pytest.raises(GraphcError, match="compile"):
        np.asarray(x)
    with pytest.raises(AttributeError, match="softmax"):
        x.sofmax
    assert (np.ones(3, np.float32) + x).op.name == "add", "NumPy hands over to the tensor"


def test_a_deep_graph_is_sorted_without_recursion():
    y = ops.input("x", (), "float32")
    for _ in range(3000):
        y = y + 1.0
    assert len(toposort([y])) == 3002


# -- dtypes --------------------------------------------------------------------------------------------------------------
def test_promotion_is_that_of_jax():
    jnp = pytest.importorskip("jax.numpy")
    import jax

    with jax.enable_x64(True):
        for a in ALL:
            for b in ALL:
                assert promote(a, b).name == jnp.promote_types(a.numpy, b.numpy).name, (a, b)
                assert promote(a, b) == promote(b, a)


def test_names_of_dtypes():
    for d in ALL:
        assert as_dtype(d) is as_dtype(d.name) is as_dtype(d.code) is as_dtype(d.numpy) is d


# -- text ----------------------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(random_graphs())
def test_random_graphs_read_back(drawn):
    graph, _ = drawn
    verify(graph)
    assert_graph_equal(parse_graph(str(graph)), graph)


@settings(max_examples=150, deadline=None)
@given(random_graphs(), st.sampled_from(["float32"]))
def test_random_graphs_have_finite_values_that_agree_in_both_modes(drawn, _dtype):
    graph, arrays = drawn
    found, exact = compile_graph(graph, "reference")(arrays), compile_graph(graph, "reference", mode="exact")(arrays)
    for name, node in graph.outputs:
        assert found[name].dtype == node.dtype.numpy
        assert np.isfinite(exact[name]).all()
        np.testing.assert_allclose(found[name], exact[name], rtol=2e-3, atol=2e-3 * max(1.0, np.abs(exact[name]).max(initial=0)))


def test_a_graph_with_everything_reads_back():
    n = sym("N")
    x, w, s = ops.input("x", (n, 4), "float32"), ops.input("w", (3, 4), "float32"), ops.input("s", (), "int64")
    h = ops.linear(x, w) + ops.const(np.array([math.inf, -math.inf, math.nan], np.float32))
    big = ops.const(np.arange(100, dtype=np.float32).reshape(4, 25))
    out = (x @ big).sum() + ops.dim(n * 2 + 1).cast("float32") + ops.const(np.array([True, False]))[0].cast("float32")
    g = Graph(
        "step", (Input("x", x), Input("w", w, "param"), Input("s", s, "state")), (("h", h), ("out", out)), (("s", s + 1),), finite="out"
    )
    verify(g)
    again = parse_graph(str(g))
    assert_graph_equal(again, g)
    assert again.name == "step" and [i.role for i in again.inputs] == ["arg", "param", "state"]


@pytest.mark.parametrize(
    "text,words",
    [
        ("graph f(arg x: f32[2]) {\n  %0 = exp(%y) : f32[2]\n  return y=%0\n}", ["line 2", "already defined"]),
        ("graph f(arg x: f32[2]) {\n  %0 = expp(%x) : f32[2]\n  return y=%0\n}", ["expp", "exp"]),
        ("graph f(arg x: f32[2]) {\n  return y=%x\n} junk", ["line 3"]),
        ("graph f(arg x: q7[2]) {\n  return y=%x\n}", ["q7"]),
        ("graph f(arg x: f32[2]", ["line 1"]),
        ("", ["expected"]),
        ("graph f(global x: f32[2]) {\n}", ["arg, param or state"]),
        ("graph f(arg x: f32[2]) {\n  %0 = sum(%x, axes=(5,)) : f32[]\n  return y=%0\n}", ["sum"]),
        ("graph f() {\n  %0 = __import__('os') : f32[]\n}", ["__import__"]),
    ],
)
def test_a_damaged_text_names_its_line_and_never_runs(text, words):
    with pytest.raises(GraphcError) as caught:
        parse_graph(text)
    assert all(w in str(caught.value) for w in words), caught.value


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 400), st.text(max_size=3))
def test_cut_and_spliced_texts_raise_our_errors_only(at, junk):
    x = ops.input("x", (2, 3), "float32")
    text = str(Graph("f", (Input("x", x),), (("y", (x.exp() * 0.5).softmax(-1) @ x.transpose()),)))
    spliced = text[:at] + junk + text[at + 2 :]
    with contextlib.suppress(GraphcError):
        parse_graph(spliced)


# -- graphs and provenance -------------------------------------------------------------------------------------------------
def test_verify_finds_what_does_not_belong():
    x, y = ops.input("x", (2,), "float32"), ops.input("y", (2,), "float32")
    with pytest.raises(VerifyError, match="not an input"):
        verify(Graph("f", (Input("x", x),), (("o", x + y),)))
    with pytest.raises(VerifyError, match="not unique"):
        Graph("f", (Input("x", x), Input("x", y)), (("o", x),))
    with pytest.raises(VerifyError, match="no param or state"):
        verify(Graph("f", (Input("x", x),), (("o", x),), (("x", x),)))
    with pytest.raises(VerifyError, match="has type"):
        verify(Graph("f", (Input("x", x, "param"),), (("o", x),), (("x", x.sum()),)))
    with pytest.raises(VerifyError, match="finite"):
        verify(Graph("f", (Input("x", x),), (("o", x),), finite="loss"))
    with pytest.raises(VerifyError, match="dim"):
        verify(Graph("f", (Input("x", x),), (("o", ops.broadcast_to(x, (sym("Q"), 2))),)))


def test_lines_and_scopes_are_sets_beside_the_nodes():
    prov = Provenance()
    x = ops.input("x", (2,), "float32")
    a, b = Loc("m.py", 1, "x.exp()"), Loc("m.py", 9, "exp(x)")
    with prov.recording([a], ["fc"]):
        y = x.exp()
    with prov.recording([b], ["head"]):
        assert x.exp() is y
    assert prov.locs(y) == [a, b] and prov.scopes(y) == ["fc", "head"]
    with prov.inherit(y, scope="grad:"):
        z = y * 2.0
    assert prov.locs(z) == [a, b] and prov.scopes(z) == ["grad:fc", "grad:head"]
    merged = Provenance()
    merged.merge(prov)
    assert merged.locs(z) == [a, b]


def test_a_rewrite_keeps_where_nodes_come_from():
    x = ops.input("x", (2,), "float32")
    g = Graph("f", (Input("x", x),), (("y", x.exp() * 2.0),))
    loc = Loc("m.py", 3)
    g.provenance.add(g.outputs[0][1].inputs[0], [loc], ["fc"])
    new = g.transform(lambda n, ins: ins[0].tanh() if n.op.name == "exp" else None)
    assert new.outputs[0][1].inputs[0].op.name == "tanh"
    assert g.provenance.locs(new.outputs[0][1].inputs[0]) == [loc]


def test_watching_sees_what_a_function_makes():
    x = ops.input("x", (2,), "float32")
    y = x.exp()
    with watching() as outer:
        with watching() as inner:
            assert x.exp() is y
        z = x.tanh()
    assert y in inner and z not in inner and {y, z} <= outer


def test_results_of_tuple_nodes_are_taken_by_index():
    x = ops.input("x", (2,), "float32")
    out = ops.sgd_update(x, x, x, ops.const(0.1))
    assert len(out) == 2 and [n.shape for n in out] == [(2,), (2,)]
    with pytest.raises(TraceError, match="2 results"):
        _ = out.shape
    with pytest.raises(ShapeError, match="result 2 of 2"):
        out[2]
    with pytest.raises(ShapeError):
        Node.make(lookup("item"), (x,), index=0)


def test_graphs_are_equal_by_what_they_compute():
    x = ops.input("x", (2,), "float32")
    a, b = (Graph(n, (Input("x", x),), (("y", x + 1.0),)) for n in "ab")
    assert graph_equal(a, b)
    with pytest.raises(AssertionError, match=r"\+.*tanh"):
        assert_graph_equal(a, Graph("c", a.inputs, (("y", x.tanh()),)))
