"""Convolutions as contractions: windows, edges, strides and long sums, forward and gradients, against the interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphc.ops as ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph
from tests.models import Builder, batch_for

N = sym("N")
CASES: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # name: batch, (channels, *spatial), kernel (O, C/groups, *K), options
    "same": (N, (16, 9, 12), (24, 16, 3, 3), {"padding": 1}),
    "valid": (N, (5, 9, 12), (33, 5, 3, 2), {}),
    "strided": (N, (8, 11, 9), (16, 8, 3, 3), {"padding": 1, "stride": 2}),
    "dilated": (2, (8, 11, 10), (8, 8, 3, 3), {"padding": (2, (3, 0)), "dilation": 2}),
    "pointwise": (N, (24, 7, 5), (40, 24, 1, 1), {}),
    "one channel": (N, (1, 14, 14), (6, 1, 5, 5), {"padding": 2}),
    "few rows": (N, (12, 4, 4), (12, 12, 3, 3), {"padding": 1}),
    "signal": (N, (6, 40), (18, 6, 4), {"padding": "causal", "dilation": 3}),
    "volume": (2, (3, 6, 5, 7), (10, 3, 2, 3, 3), {"padding": 1}),
    "grouped": (N, (8, 9, 7), (12, 4, 3, 3), {"padding": 1, "groups": 2}),
    "each channel": (N, (9, 8, 8), (9, 1, 3, 3), {"padding": 1, "groups": 9}),
    "grouped, wide": (2, (64, 5, 7), (128, 32, 3, 3), {"padding": 1, "groups": 2}),
    "each channel, strided": (N, (40, 8, 10), (40, 1, 3, 3), {"padding": 1, "groups": 40, "stride": 2}),
    "each channel, few": (N, (3, 8, 10), (3, 1, 3, 3), {"padding": 1, "groups": 3}),
    "each channel twice": (2, (16, 7, 9), (32, 1, 5, 5), {"padding": 2, "groups": 16}),
    "holes": (2, (4, 6, 5), (8, 4, 3, 3), {"padding": 2, "input_dilation": 2}),
    "phases": (N, (8, 12, 6), (16, 8, 3, 3), {"padding": 1, "stride": 2}),
    "phases of three": (N, (5, 9, 12), (7, 5, 4, 3), {"padding": 1, "stride": 3}),
    "phases, dilated": (2, (8, 8, 12), (8, 8, 3, 3), {"padding": 1, "stride": 2, "dilation": 3}),
    "phases, grouped": (N, (8, 8, 12), (8, 4, 3, 3), {"padding": 1, "stride": 2, "groups": 2}),
    "transposed": (N, (8, 6, 5), (12, 8, 4, 4), {"padding": 2, "input_dilation": 2}),
    "beyond the kernel": (2, (6, 8, 12), (8, 6, 1, 2), {"stride": (2, 3)}),
}


LONG = (8, (16, 20, 20), (24, 16, 3, 3), {"padding": 1})
"""The gradient of this kernel is a sum of 3,200 products an element: it runs in passes."""


def layer(case: tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]) -> tuple[Graph, Builder]:
    """A convolution of a computed value with bias and ReLU, and the gradients of all it reads."""
    batch, image, kernel, options = case
    b = Builder()
    x, w, bias = b.arg("x", (batch, *image)), b.param("w", kernel), b.param("b", (kernel[0], *(1,) * (len(kernel) - 2)))
    y = (ops.conv(x * 0.5, w, **options) + bias).relu()
    loss = (y * b.arg("weights", y.shape)).sum()
    grads = gradients([loss], None, [x, w, bias])
    return b.graph({"y": y, "dx": grads[0], "dw": grads[1], "db": grads[2]}), b


def to_compile() -> Iterator[tuple[Graph, int | None]]:
    for case in (*CASES.values(), LONG):
        yield layer(case)[0], None


def compare(case: Any, n: int) -> None:
    graph, b = layer(case)
    values = batch_for(graph, n)
    found, wanted = (compile_graph(graph, target, b.store)(values) for target in ("cpu", "reference"))
    for name, w in wanted.items():
        scale = float(np.abs(w).max(initial=1.0))
        np.testing.assert_allclose(found[name], w, rtol=1e-5, atol=2e-6 * scale, err_msg=name)


@pytest.mark.parametrize("n", [0, 1, 5])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name: str, n: int):
    compare(CASES[name], n)


def test_a_long_sum_runs_in_passes():
    graph, b = layer(LONG)
    texts = "\n".join(k.printed.text for k in compile_graph(graph, "cpu", b.store).kernels)
    assert "for ka in range(k0, k1):" in texts
    compare(LONG, 1)


@pytest.mark.parametrize("name", ["same", "grouped", "grouped, wide", "each channel", "each channel, strided", "phases"])
def test_every_convolution_of_a_layer_and_its_gradients_is_tiled(name: str):
    graph, b = layer(CASES[name])
    kinds = [k.launch.nest.kind for k in compile_graph(graph, "cpu", b.store).kernels if any(n.op.name == "conv" for n in k.launch.nest.nodes)]
    assert kinds == ["contract"] * 3


@pytest.mark.parametrize("name", ["phases", "phases of three", "transposed"])
def test_no_product_with_a_hole_is_made(name: str):
    """As many products as the forward convolution has, or fewer."""
    _, image, kernel, options = CASES[name]
    graph, b = layer((4, image, kernel, options))
    places = np.prod(next(n for n in graph.nodes if n.op.name == "conv").shape)
    most = places * np.prod(kernel[1:]) // np.prod(options.get("input_dilation", 1)) ** 2 * 1.8  # (kernels are no multiple of the stride)
    found = [k.launch.nest for k in compile_graph(graph, "cpu", b.store).kernels if k.launch.nest.contract is not None]
    assert len(found) == 3
    for nest in found:
        assert np.prod([a.size for a in (*nest.outer, *nest.contract.k)]) <= most, nest.name


@pytest.mark.parametrize("name", ["same", "strided", "holes", "phases", "phases of three", "transposed", "one channel", "each channel", "each channel, strided", "grouped"])
def test_no_kernel_leaves_its_memory(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "bounds")
    compare(CASES[name], 3)


def test_threads_do_not_meet_in_the_sums_of_passes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_CHECK", "schedule")
    compare(LONG, 1)


def test_a_result_is_copied_from_channels_last():
    """The convolution writes its channels side by side; the copy that the caller gets is transposed in blocks."""
    b = Builder()
    graph = b.graph({"y": ops.conv(b.arg("x", (N, 5, 9, 10)), b.param("w", (24, 5, 3, 3)))})
    conv, copy = (k.launch for k in compile_graph(graph, "cpu", b.store).kernels if k.launch.nest.name in ("conv", "relayout") and N in (a.size for a in k.launch.nest.outer))
    assert conv.nest.kind == "contract" and conv.writes[0].space == "temp"
    assert copy.reads == conv.writes and copy.writes[0].space == "out"
    values = batch_for(graph, 3)
    np.testing.assert_allclose(compile_graph(graph, "cpu", b.store)(values)["y"], compile_graph(graph, "reference", b.store)(values)["y"], rtol=1e-5, atol=1e-5)
