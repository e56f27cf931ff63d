"""The reference backend: modes, binding of sizes, errors, non-finite values, writes."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.backends.reference import BACKEND, first_nonfinite, interpret
from graphc.errors import CompileError, DTypeError, GuardError, NonFiniteError, ParameterError, ShapeError
from graphc.ir.bind import bind_dims
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.ir.provenance import Loc
from graphc.runtime.store import ParameterStore

N, M = sym("N"), sym("M")


def graph_of(*shapes, dtype="float32"):
    nodes = [ops.input(f"x{i}", s, dtype) for i, s in enumerate(shapes)]
    return Graph("f", tuple(Input(f"x{i}", n) for i, n in enumerate(nodes)), (("o", sum(n.sum() for n in nodes)),))


def arrays_of(*shapes):
    return {f"x{i}": np.ones(s, np.float32) for i, s in enumerate(shapes)}


def test_exact_is_float64_and_faithful_is_as_declared():
    x = ops.input("x", (3,), "float32")
    g = Graph("f", (Input("x", x),), (("y", (x + 1e-9).cast("float32") - x),))
    data = {"x": np.array([1.0, 2.0, 3.0])}
    assert interpret(g, data)[0]["y"].dtype == np.float32
    assert not interpret(g, data)[0]["y"].any()
    exact = interpret(g, data, "exact")[0]["y"]
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, 1e-9, rtol=1e-6)


def test_an_unknown_mode_is_refused():
    with pytest.raises(CompileError, match="mode"):
        interpret(graph_of((2,)), arrays_of((2,)), "fast")


def test_a_deep_graph_needs_no_deep_stack():
    x = ops.input("x", (), "float64")
    y = x
    for _ in range(5000):
        y = y + 1.0
    assert interpret(Graph("f", (Input("x", x),), (("y", y),)), {"x": 0.0})[0]["y"] == 5000


@pytest.mark.parametrize(
    "shapes,given,dims",
    [
        ([(N, 3)], [(5, 3)], {"N": 5}),
        ([(N * 2 + 1,)], [(7,)], {"N": 3}),
        ([(N + M,), (M,)], [(5,), (2,)], {"N": 3, "M": 2}),
        ([(N * M,), (N,)], [(6,), (3,)], {"N": 3, "M": 2}),
        ([(N, N)], [(0, 0)], {"N": 0}),
    ],
)
def test_sizes_are_solved(shapes, given, dims):
    assert bind_dims(graph_of(*shapes), arrays_of(*given)) == dims


@pytest.mark.parametrize(
    "shapes,given,error,words",
    [
        ([(N, 3)], [(5, 4)], ShapeError, ["'x0'", "f32[N, 3]", "size 4, not 3"]),
        ([(N, 3)], [(5,)], ShapeError, ["'x0'", "f32[N, 3]", "rank 1"]),
        ([(N,), (N,)], [(5,), (6,)], GuardError, ["'x1'", "N is 5", "'x0' axis 0"]),
        ([(N * 2,)], [(5,)], GuardError, ["'x0'", "2*N", "5"]),
        ([(N + 3,)], [(1,)], GuardError, ["N >= 0"]),
        ([(N * N,)], [(9,)], GuardError, ["cannot be told"]),
        ([(N + M,)], [(9,)], GuardError, ["cannot be told"]),
        ([(N,)], [], ParameterError, ["'x0'", "missing", "f32[N]"]),
    ],
)
def test_sizes_that_do_not_fit_name_the_argument_and_its_spec(shapes, given, error, words):
    with pytest.raises(error) as caught:
        bind_dims(graph_of(*shapes), arrays_of(*given))
    assert all(w in str(caught.value) for w in words), caught.value


def test_dtypes_at_the_boundary():
    run = BACKEND.compile(graph_of((2,)))
    assert run({"x0": np.ones(2)})["o"] == 2  # float64 data for a float32 spec is cast
    with pytest.raises(DTypeError, match=r"'x0'.*int64.*f32\[2\]"):
        run({"x0": np.ones(2, int)})
    with pytest.raises(DTypeError, match="'x0'"):
        run({"x0": np.array(["a", "b"])})
    small = BACKEND.compile(graph_of((2,), dtype="int8"))
    assert small({"x0": np.array([1, 2])})["o"] == 3
    with pytest.raises(DTypeError, match="do not fit"):
        small({"x0": np.array([1, 300])})


def test_names_at_the_boundary():
    run = BACKEND.compile(graph_of((2,)))
    with pytest.raises(ParameterError, match="no argument 'y'"):
        run({"x0": np.ones(2), "y": np.ones(2)})


def test_an_error_inside_names_the_users_line():
    x = ops.input("x", (3,), "float32")
    i = ops.input("i", (2,), "int64")
    g = Graph("f", (Input("x", x), Input("i", i)), (("y", x.take(i)),))
    g.provenance.add(g.outputs[0][1], [Loc("model.py", 7, "x.take(i)")], ["embed"])
    with pytest.raises(GuardError) as caught:
        interpret(g, {"x": np.ones(3), "i": np.array([0, 3])})
    assert "index 3 is out of range for axis 0 of size 3" in str(caught.value)
    assert "model.py:7" in str(caught.value) and "embed" in str(caught.value)


def _training_graph():
    x, w = ops.input("x", (2,), "float32"), ops.input("w", (2,), "float32")
    loss = (w * x.log()).sum()
    return Graph("step", (Input("x", x), Input("w", w, "param")), (("loss", loss),), (("w", w - 0.5),), finite="loss")


def test_updates_are_written_after_the_loss_is_known():
    store = ParameterStore()
    store.add("w", np.ones(2, np.float32))
    step = BACKEND.compile(_training_graph(), store)
    assert step({"x": np.full(2, np.e, np.float32)})["loss"] == pytest.approx(2.0, rel=1e-6)
    np.testing.assert_array_equal(store.numpy("w"), [0.5, 0.5])


def test_nothing_is_written_when_the_loss_is_not_finite():
    store = ParameterStore()
    store.add("w", np.ones(2, np.float32))
    step = BACKEND.compile(_training_graph(), store)
    with pytest.raises(NonFiniteError, match=r"loss is not finite.*log.*1 infinite"):
        step({"x": np.array([0.0, 1.0], np.float32)})
    np.testing.assert_array_equal(store.numpy("w"), [1.0, 1.0])


def test_updates_without_a_store_are_refused():
    with pytest.raises(CompileError, match="no store"):
        BACKEND.compile(_training_graph())


def test_the_first_non_finite_value():
    x = ops.input("x", (3,), "float32")
    root = (x - 1.0).sqrt()
    g = Graph("f", (Input("x", x),), (("y", (root * 2.0).exp().sum()),))
    assert first_nonfinite(g, {"x": np.full(3, 2.0)}) is None
    node, nan, inf = first_nonfinite(g, {"x": np.array([0.0, 2.0, 0.5])})
    assert node is root and (nan, inf) == (2, 0)
    node, nan, inf = first_nonfinite(g, {"x": np.array([np.nan, 2.0, 0.5])})
    assert node is x


def test_an_infinite_constant_is_no_accident():
    x = ops.input("x", (3,), "float32")
    masked = ops.where(x < 0.0, x, -np.inf)
    g = Graph("f", (Input("x", x),), (("y", ops.exp(masked).log()),))
    found = first_nonfinite(g, {"x": np.array([1.0, 2.0, -1.0])})
    assert found is not None and found.node.op.name == "log"
