"""Work leaves scans: what moves, what stays, and that values do not change."""

from __future__ import annotations

import numpy as np
import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.passes.pipeline import Settings, lower
from graphc.passes.scan_motion import move_out_of_scans
from graphc.passes.scans import prune_scans
from tests.models import Builder, batch_for

N = sym("N")
T, H = 6, 5


def scans(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op.kind == "scan"]


def inside(scan: Node) -> list[str]:
    """The operators of a body, but for views and constants."""
    return sorted(n.op.name for n in scan.attrs["body"].nodes if n.op.kind not in ("input", "const", "view", "identity"))


def same_values(before: Graph, after: Graph, n: int = 3) -> None:
    for size in (n, 1, 0):
        values = batch_for(before, size)
        a, b = (compile_graph(g, "reference")(values) for g in (before, after))
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-9, err_msg=name)


def recurrent(b: Builder) -> tuple[Node, list[Node]]:
    """A loss of a plain recurrent network, and what it depends on."""
    x, h, u, w = b.arg("x", (T, N, 4)), b.arg("h", (N, H)), b.arg("u", (H, 4)), b.arg("w", (H, H))
    _, ys = ops.scan(lambda h, x: (lambda new: (new, new))(ops.tanh(x @ u.transpose() + h @ w.transpose())), h, x)
    return (ys * ys).sum(), [x, h, u, w]


def test_a_contraction_of_elements_is_one_outside():
    b = Builder("float64")
    x, h, u = b.arg("x", (T, N, 4)), b.arg("h", (N, H)), b.arg("u", (H, 4))
    _, ys = ops.scan(lambda h, x: (lambda new: (new, new))(ops.tanh((x * 2.0) @ u.transpose() + h)), h, x)
    graph = b.graph({"ys": ys})
    after = move_out_of_scans(graph)
    assert "dot_general" in inside(*scans(graph)) and "dot_general" not in inside(*scans(after))
    assert [n.shape for n in after.nodes if n.op.name == "dot_general"] == [(T, N, H)]
    same_values(graph, after)


def test_a_contraction_of_the_carry_stays():
    b = Builder("float64")
    h, w = b.arg("h", (N, H)), b.arg("w", (H, H))
    last, _ = ops.scan(lambda h, _: ((h @ w).tanh(), None), h, None, length=T)
    graph = b.graph({"last": last})
    after = move_out_of_scans(graph)
    assert "dot_general" in inside(*scans(after))
    same_values(graph, after)


def test_a_carry_that_sums_products_is_a_product_outside():
    b = Builder("float64")
    x, y, start = b.arg("x", (T, N, 4)), b.arg("y", (T, N, 3)), b.arg("start", (3, 4))
    total, _ = ops.scan(lambda s, xy: (s + (xy[0].tanh().transpose() @ xy[1]).transpose(), None), start, (x, y))
    graph = prune_scans(b.graph({"total": total}))
    after = move_out_of_scans(graph)
    assert [s.attrs["n_carry"] for s in scans(after)] == [0]
    assert inside(*scans(after)) == ["tanh"]
    same_values(graph, after)


def test_a_carry_that_is_read_otherwise_stays():
    b = Builder("float64")
    x = b.arg("x", (T, N, H))
    total, seen = ops.scan(lambda s, x: (lambda new: (new, s * 2.0))(s + x.transpose() @ x), b.arg("start", (H, H)), x)
    graph = prune_scans(b.graph({"total": total, "seen": seen}))
    after = move_out_of_scans(graph)
    assert [s.attrs["n_carry"] for s in scans(after)] == [1]
    same_values(graph, after)


def test_random_numbers_of_each_iteration_stay():
    b = Builder("float64")
    h, p, seed = b.arg("h", (N, H)), b.arg("p", (H,)), ops.const(np.array([3, 5], np.uint32))
    last, _ = ops.scan(lambda h, _: (h + ops.random_uniform(seed, ops.const(np.int64(7)), (H,)) * p.exp(), None), h, None, length=T)
    graph = b.graph({"last": last})
    same_values(graph, move_out_of_scans(graph))


def test_the_gradient_of_a_recurrent_layer_has_one_contraction_an_iteration():
    b = Builder("float64")
    loss, leaves = recurrent(b)
    graph = prune_scans(b.graph({"loss": loss, **{f"g{i}": g for i, g in enumerate(gradients([loss], None, leaves))}}))
    after = move_out_of_scans(graph)
    assert [inside(s).count("dot_general") for s in scans(graph)] == [2, 6]
    assert [inside(s).count("dot_general") for s in scans(after)] == [1, 1]
    same_values(graph, after)


def test_copies_of_weights_are_made_before_the_scan():
    b = Builder()
    h, w = b.arg("h", (N, 40)), b.param("w", (40, 40))
    last, _ = ops.scan(lambda h, _: (ops.linear(h, w).tanh(), None), h, None, length=T)
    low = lower(b.graph({"last": last}), Settings(16))
    (scan,) = scans(low.graph)
    assert not any(n.op.name == "relayout" for n in scan.attrs["body"].nodes)
    assert any(n.op.name == "relayout" for n in low.graph.nodes)


@pytest.mark.parametrize("n", [1, 4])
def test_nested_scans(n: int):
    b = Builder("float64")
    x, w, h = b.arg("x", (T, 3, N, 4)), b.arg("w", (4, H)), b.arg("h", (N, H))

    def outer(h: Node, rows: Node) -> tuple[Node, Node]:
        last, ys = ops.scan(lambda h, r: (lambda new: (new, new))(ops.tanh(r @ w + h)), h, rows)
        return last, ys

    last, ys = ops.scan(outer, h, x)
    graph = b.graph({"last": last, "ys": ys})
    low = lower(graph, Settings(16))
    assert not any(n.op.name == "dot_general" for s in scans(low.graph) for n in s.attrs["body"].nodes)
    values = batch_for(graph, n)
    found, wanted = (compile_graph(graph, t)(values) for t in ("cpu", "reference"))
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6, atol=1e-6)
