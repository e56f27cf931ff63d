"""Long sums with few tiles in parts: when, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.schedule.program import Repeat
from graphc.testing import build_graph


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(fn, *arrays, tolerance=1e-5, **options):
    """The executable of a function; its results are the reference's."""
    graph, given = build_graph(fn, *arrays)
    exe = compile_graph(graph, "cuda-sim", **options)
    found, wanted = exe(given), compile_graph(graph, "reference")(given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance * np.abs(value).max(), err_msg=name)
    return exe


def parts(exe):
    """How many parts each sum is made in, and the kernel that adds them."""
    launches = [k.launch for k in exe.kernels]
    found = [(i, launch.nest.outer[0].size) for i, launch in enumerate(launches) if launch.nest.name.endswith("_parts")]
    for i, _ in found:
        added = launches[i + 1].nest
        assert added.kind == "row" and launches[i].writes[0] in launches[i + 1].reads and not added.name.endswith("_parts")
    return [count for _, count in found]


def test_a_long_product_is_summed_in_parts_and_the_epilogue_follows():
    exe = run(lambda a, b, c: (a @ b + c).relu(), normal(12, 2048), normal(2048, 20, seed=1), normal(20, seed=2))
    assert parts(exe) == [8]
    first, second = (k.printed.text for k in exe.kernels)
    assert "np.float32(0.0) if" not in first and "tile a point" in first and "tile" not in second
    assert exe.memory_analysis().arena_bytes >= 8 * 12 * 20 * 4


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_gradient_of_a_kernel_is_summed_by_many_blocks(precision):
    def f(x, w):
        y = ops.conv(x, w, padding=1)
        return gradients([(y * y).sum()], None, [w])[0]

    exe = run(f, normal(8, 4, 16, 16), normal(6, 4, 3, 3, seed=1), tolerance={"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}[precision], precision=precision)
    assert parts(exe) == [8]


def test_a_named_batch_leaves_known_axes_to_share_out():
    class Net(nn.Module):
        def __init__(self):
            self.conv, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.conv(x).relu().mean((2, 3)))

    states = {}
    for target in ("cuda-sim", "cpu"):
        gc.set_seed(0)
        model = gc.compile(Net(), gc.spec("N", 2, 8, 8), loss="cross_entropy", optimizer=optim.SGD(1.0), target=target)
        model.train_on_batch(normal(5, 2, 8, 8), np.arange(5) % 3)
        states[target] = model.state_dict()
        if target == "cuda-sim":
            assert parts(model.executables["train_step"]) == [8]  # lines of the image
    for name, value in states["cpu"].items():
        np.testing.assert_allclose(states["cuda-sim"][name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("m,k,n", [(1024, 2048, 1024), (12, 512, 20), (12, 2053, 20)])
def test_enough_tiles_short_sums_and_odd_sizes_stay_whole(m, k, n):
    graph, _ = build_graph(lambda a, b: a @ b, np.zeros((m, k), np.float32), np.zeros((k, n), np.float32))
    assert parts(compile_graph(graph, "cuda-sim")) == []


def test_a_trip_of_a_scan_sums_in_parts():
    x, w = normal(3, 4, 2048), normal(2048, 8, seed=1)

    def f(x, w):
        return ops.scan(lambda h, x: (h * 0.5 + x + (h @ w).mean(-1, keepdims=True) * 0.01, h), x[0], x)[1]

    exe = run(f, x, w)
    (repeat,) = (item for item in exe.schedule.items if isinstance(item, Repeat))
    assert parts(exe) == [8] and any(i.nest.name.endswith("_parts") for i in repeat.body)


def test_an_update_in_place_is_the_last_kernels():
    states = {}
    for target in ("cuda-sim", "reference"):
        gc.set_seed(0)
        model = gc.compile(nn.Linear(6, 5), gc.spec(2048, 6), loss="mse", optimizer=optim.Adam(0.1), target=target)
        for _ in range(2):
            model.train_on_batch(normal(2048, 6), normal(2048, 5, seed=1))
        states[target] = model.state_dict()
        if target == "cuda-sim":
            exe = model.executables["train_step"]
            assert parts(exe) == [8]
    for name, value in states["reference"].items():
        np.testing.assert_allclose(states["cuda-sim"][name], value, rtol=1e-4, err_msg=name)
