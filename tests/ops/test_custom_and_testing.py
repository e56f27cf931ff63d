"""Operators that users add, by one record in one place; and the testing tools themselves."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.errors import GradientError, TraceError
from graphc.ir.op import Sample, unregister
from graphc.ops.define import composite
from graphc.testing import build_graph, check_grads


@pytest.fixture
def forget():
    """Takes operators out of the registry after the test."""
    names = []
    yield names.append
    for name in names:
        unregister(name)


def test_a_scalar_program_is_an_operator_everywhere(forget, target):
    forget("squash")
    squash = ops.custom_op(
        "squash",
        lambda x: x / (1 + np.abs(x)),
        scalar=lambda x: x / (x.abs() + 1.0),
        grad=lambda n, g: (g / ((ops.absolute(n.inputs[0]) + 1.0) * (ops.absolute(n.inputs[0]) + 1.0)),),
        kinds="f",
    )
    x = np.linspace(-3, 3, 50)
    graph, arrays = build_graph(lambda v: squash(v) + v.squash(), x)
    np.testing.assert_allclose(compile_graph(graph, target)(arrays)["o0"], 2 * x / (1 + np.abs(x)), rtol=1e-12)
    check_grads(squash, x + 0.01, order=2)
    assert ops.squash is squash


def test_a_numpy_function_runs_on_the_reference_only(forget):
    forget("sorted_rows")
    rows = ops.custom_op(
        "sorted_rows", lambda x, *, descending: np.sort(x, -1)[..., :: -1 if descending else 1], lambda x, *, descending: x
    )
    graph, arrays = build_graph(lambda v: rows(v, descending=True), np.array([[1.0, 3.0, 2.0]]))
    np.testing.assert_array_equal(compile_graph(graph, "reference")(arrays)["o0"], [[3.0, 2.0, 1.0]])
    with pytest.raises(GradientError, match=r"sorted_rows has no gradient: no grad= was given"):
        check_grads(lambda v: rows(v, descending=False), np.array([[1.0, 3.0, 2.0]]))


def test_a_custom_operator_needs_a_type_rule():
    with pytest.raises(TraceError, match="infer="):
        ops.custom_op("nameless", lambda x: x)
    with pytest.raises(TraceError, match="not a name"):
        ops.custom_op("two words", lambda x: x, lambda x: x)
    with pytest.raises(TraceError, match="defined twice"):
        ops.custom_op("exp", lambda x: x, lambda x: x)


def test_one_function_is_a_composite(forget, target):
    forget("wobble")

    @composite("wobble", samples=lambda: [Sample((np.ones(3),))])
    def wobble(x):
        """``x tanh(log(1 + e^x))``."""
        return x * ops.tanh(ops.log(ops.exp(x) + 1.0))

    x = np.linspace(-3, 3, 20)
    graph, arrays = build_graph(lambda v: v.wobble(), x)
    assert graph.outputs[0][1].op.name == "wobble"
    np.testing.assert_allclose(compile_graph(graph, target)(arrays)["o0"], x * np.tanh(np.log1p(np.exp(x))), rtol=1e-12)
    check_grads(wobble, x, order=2)


def test_operands_may_be_left_out(forget):
    forget("scaled")

    @composite("scaled", inputs=3)
    def scaled(x, weight: object | None = None, bias: object | None = None, times: float = 1.0):
        """``x * weight * times + bias``."""
        y = x if weight is None else x * weight
        return y * times if bias is None else y * times + bias

    x, w, b = (ops.input(n, (3,), "float32") for n in "xwb")
    assert len(scaled(x).inputs) == 1 and scaled(x).attrs["absent"] == (1, 2)
    assert scaled(x, bias=b).inputs == (x, b) and scaled(x, bias=b).attrs["absent"] == (1,)
    assert "absent" not in scaled(x, w, b).attrs
    assert scaled(x, bias=b) is not scaled(x, b)
    for args in ((), (np.full(3, 2.0),), (None, np.full(3, 3.0))):
        check_grads(lambda v, *rest: scaled(v, *rest, times=2.0), np.ones(3), *args)


def test_check_grads_finds_a_wrong_gradient(forget):
    for name in ("wrong_slope", "wrong_curve"):
        forget(name)
    wrong = ops.custom_op("wrong_slope", lambda x: x * x, scalar=lambda x: x * x, grad=lambda n, g: (g * n.inputs[0] * 2.001,))
    with pytest.raises(AssertionError, match=r"order 1: derivative along a direction of x0"):
        check_grads(wrong, np.array([1.0, 2.0]))
    curve = ops.custom_op(
        "wrong_curve", lambda x: x * x, scalar=lambda x: x * x, grad=lambda n, g: (g * ops.stop_gradient(n.inputs[0]) * 2.0,)
    )
    check_grads(curve, np.array([1.0, 2.0]))
    with pytest.raises(AssertionError, match="order 2"):
        check_grads(curve, np.array([1.0, 2.0]), order=2)
    with pytest.raises(GradientError, match="no float argument"):
        check_grads(lambda x: x, np.array([1, 2]))
