"""One record in one file is all that a new operator needs: a primitive and a composite, defined here and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.inspect.opdoc import operator_page
from graphc.ir.op import lookup, unregister
from graphc.ops.define import FLOATS, composite, elementwise, unary_samples
from graphc.testing import check_grads
from tests.ops.cases import assert_close, run, sample_graph


@pytest.fixture
def squash():
    elementwise(
        "squash",
        1,
        scalar=lambda x: x / (1.0 + x.abs()),
        numpy=lambda x: x / (1 + np.abs(x)),
        grad=lambda n, g: (g / ((1.0 + ops.absolute(n.inputs[0])) * (1.0 + ops.absolute(n.inputs[0]))),),
        kinds=FLOATS,
        doc="``x / (1 + |x|)`` (torch.nn.Softsign).",
        samples=unary_samples(),
    )
    yield lookup("squash")
    unregister("squash")


@pytest.fixture
def bump(squash):
    @composite("bump", samples=unary_samples())
    def bump(x):
        """``exp(-squash(x)**2)``, summing to 1 over the last axis."""
        e = (-(x.squash() * x.squash())).exp()
        return e / e.sum(-1, keepdims=True) if x.ndim else e

    yield lookup("bump")
    unregister("bump")


@pytest.mark.parametrize("name", ["squash", "bump"])
@pytest.mark.parametrize("goal", ["cpu", "cuda-sim"])
def test_it_runs_on_every_target(name, goal, bump):
    op = lookup(name)
    for dtype in ("float32", "float64"):
        graph, arrays, labels = sample_graph(op, dtype)
        found, exact = run(graph, arrays, goal), run(graph, arrays, "reference", mode="exact")
        for (key, _), label in zip(graph.outputs, labels, strict=True):
            assert_close(found[key], exact[key], 4 * op.tolerance[dtype], label)


@pytest.mark.parametrize("name", ["squash", "bump"])
def test_it_is_a_function_a_method_and_has_gradient_and_documentation(name, bump):
    op = lookup(name)
    assert getattr(ops, name) is op.call
    f = gc.compile(lambda x: getattr(x, name)(), gc.spec("N", 5), target="reference")
    assert f(np.ones((2, 5), np.float32)).shape == (2, 5)
    check_grads(op.call, np.linspace(-2, 2, 10).reshape(2, 5) + 0.05, order=2)
    page = operator_page(op)
    assert f"`{name}(x)`" in page and "| gradient |" in page and "## Example" in page
