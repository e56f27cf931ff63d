"""Printed kernels: each form at its edges, against the reference; and what their text holds."""

from __future__ import annotations

import re
from collections import Counter

import ml_dtypes
import numpy as np
import pytest

from graphc import ops
from graphc.backends.cuda import sim
from graphc.backends.cuda.printers import contract
from graphc.backends.cuda.sim import Report
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.testing import build_graph


def run(fn, *arrays, tolerance=1e-5):
    """The kernels of a function, after their results were compared with the reference's."""
    graph, given = build_graph(fn, *arrays)
    exe = compile_graph(graph, "cuda-sim")
    found, wanted = exe(given), compile_graph(graph, "reference")(given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance * max(1.0, np.abs(value).max()), err_msg=name)
    return exe.kernels


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# -- contractions ------------------------------------------------------------------------------------------------------------
@pytest.fixture(params=contract.TILES, ids=lambda t: f"{t.rows}x{t.columns}")
def tile(request, monkeypatch):
    """Every tile there is, whatever the sizes."""
    monkeypatch.setattr(contract, "choose_tile", lambda *sizes: request.param)
    return request.param


@pytest.mark.parametrize("m,n,k", [(2, 9, 1), (5, 10, 3), (33, 65, 17), (130, 132, 16)])
def test_a_product_of_matrices_in_every_tile(tile, m, n, k):
    (kernel,) = run(lambda a, b: (a @ b + 1.0).relu(), normal(m, k), normal(k, n, seed=1))
    assert kernel.printed.team.threads == tile.threads
    # four neighbours at a time where rows are whole groups of four
    assert ("store4" in kernel.printed.text) == (n % 4 == 0)


def test_operands_lie_as_they_lie_and_the_epilogue_reads_what_it_needs(tile):
    run(lambda a, b, c: a.transpose(1, 0) @ b.transpose(1, 0) * c, normal(19, 34), normal(40, 19, seed=1), normal(40, seed=2))
    run(lambda a, b: a @ b, normal(3, 20, 18), normal(3, 18, 24, seed=1))


def test_a_prologue_is_computed_on_the_way_to_shared_memory():
    x = np.random.default_rng(0).integers(0, 255, (20, 36)).astype(np.uint8)
    (kernel,) = run(lambda x, w: (x.cast("float32") * 0.01) @ w, x, normal(36, 24))
    assert kernel.launch.nest.contract.a.op != "load"


@pytest.mark.parametrize("stride,padding,dilation", [(1, 1, 1), (2, 1, 1), (1, 0, 2), (3, 2, 1)])
def test_a_convolution_is_a_tiled_contraction_through_its_index_maps(stride, padding, dilation):
    from graphc.autodiff import gradients

    def f(x, w):
        y = ops.conv(x, w, stride=stride, padding=padding, dilation=dilation)
        return (y, *gradients([(y * y * y).sum()], None, [x, w]))

    kernels = run(f, normal(2, 3, 9, 8), normal(5, 3, 3, 3, seed=1), tolerance=1e-4)
    assert sum(k.launch.nest.kind == "contract" for k in kernels) == 3


def test_grouped_convolutions_walk_their_groups_tile_by_tile():
    (kernel,) = run(lambda x, w: ops.conv(x, w, padding=1, groups=2), normal(2, 4, 6, 6), normal(6, 2, 3, 3, seed=1))
    assert kernel.launch.nest.kind in ("contract", "row")


def test_float64_is_multiplied_in_the_same_tiles():
    (kernel,) = run(lambda a, b: a @ b, normal(34, 20, dtype=np.float64), normal(20, 35, dtype=np.float64), tolerance=1e-12)
    assert "shared.array" in kernel.printed.text and "np.float64" in kernel.printed.text


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 3), (6, 4)])
def test_a_weight_of_one_row_or_column_is_updated_in_place_by_its_own_threads(shape):
    import graphc as gc
    from graphc import nn, optim

    weights = {}
    x = normal(20, shape[1])
    for target in ("cuda-sim", "reference"):
        gc.set_seed(0)
        model = gc.compile(nn.Linear(shape[1], shape[0]), gc.spec("N", shape[1]), loss="mse", optimizer=optim.Adam(0.1), target=target)
        for _ in range(2):
            model.train_on_batch(x, normal(20, shape[0], seed=1))
        weights[target] = model.state_dict()["weight"]
    np.testing.assert_allclose(weights["cuda-sim"], weights["reference"], rtol=1e-4)


def test_tiles_follow_the_sizes():
    assert contract.choose_tile(4096, 4096, 1).rows == 128
    assert contract.choose_tile(1024, 1024, 1).rows == 64  # 64 blocks of 128 x 128 would leave half of the processors idle
    assert contract.choose_tile(100_000, 10, 1).columns == 16
    assert contract.choose_tile(sym("N"), 10, 1).rows == 32  # not known: as if it were 1,024
    assert contract.choose_tile(16, 4096, 8).rows == 16


# -- tensor cores ------------------------------------------------------------------------------------------------------------
def rounded(x, precision):
    """Values as the tensor cores take them."""
    if precision == "bf16":
        return x.astype(ml_dtypes.bfloat16).astype(np.float64)
    return ((x.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("m,n,k", [(5, 10, 3), (33, 65, 17), (130, 68, 48)])
def test_products_on_tensor_cores_round_factors_and_not_sums(precision, m, n, k):
    a, b, c = normal(m, k), normal(k, n, seed=1), normal(n, seed=2)
    graph, given = build_graph(lambda a, b, c: (a @ b + c).relu(), a, b, c)
    exe = compile_graph(graph, "cuda-sim", precision=precision)
    (kernel,) = exe.kernels
    assert f"mma_{precision}(" in kernel.printed.text and kernel.printed.team.threads == 256
    wanted = np.maximum(rounded(a, precision) @ rounded(b, precision) + c, 0)
    np.testing.assert_allclose(exe(given)["o0"], wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(wanted - np.maximum(a.astype(float) @ b + c, 0)).max() > 1e-5  # it makes a difference


def test_convolutions_run_on_tensor_cores_too_and_float64_does_not():
    x, w = normal(2, 3, 9, 8), normal(5, 3, 3, 3, seed=1)
    graph, given = build_graph(lambda x, w: ops.conv(x, w, padding=1), x, w)
    found, wanted = compile_graph(graph, "cuda-sim", precision="tf32")(given), compile_graph(graph, "reference")(given)
    np.testing.assert_allclose(found["o0"], wanted["o0"], rtol=5e-3, atol=2e-2)
    graph, _ = build_graph(lambda a: a @ a, normal(8, 8, dtype=np.float64))
    assert "mma" not in compile_graph(graph, "cuda-sim", precision="bf16").as_text("kernels")


ORIENTED = {"NN": ((40, 72), (72, 48)), "NT": ((40, 72), (48, 72)), "TN": ((72, 40), (72, 48)), "TT": ((72, 40), (48, 72))}
TOLERANCE = {"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}


def oriented(way, dtype=np.float32):
    """A product of two matrices, each as it is or transposed."""
    a, b = (normal(*shape, seed=i).astype(dtype) for i, shape in enumerate(ORIENTED[way]))

    def f(x, y):
        return (x.transpose(1, 0) if way[0] == "T" else x) @ (y.transpose(1, 0) if way[1] == "T" else y)

    return f, a, b


def watched(monkeypatch, precision, fn, *arrays, tolerance=None):
    """How often the one kernel of a function calls what, and a report on its launch; its result was compared with the reference's."""
    graph, given = build_graph(fn, *arrays)
    exe = compile_graph(graph, "cuda-sim", precision=precision)
    report, real = Report(), sim.launch
    with monkeypatch.context() as m:
        m.setattr(sim, "launch", lambda *args: real(*args, report=report))
        found = exe(given)["o0"]
    wanted = compile_graph(graph, "reference")(given)["o0"].astype(np.float32)
    np.testing.assert_allclose(found.astype(np.float32), wanted, rtol=0, atol=(tolerance or TOLERANCE[precision]) * np.abs(wanted).max())
    (kernel,) = exe.kernels
    return calls(kernel.printed.text), report


def calls(text):
    """How often each device function stands in a text."""
    return Counter(re.findall(r"(\w+)\(", text.split("def kernel")[1]))


@pytest.mark.parametrize("way", ORIENTED)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_operands_come_as_they_lie_and_banks_do_not_conflict(precision, way, monkeypatch):
    made, report = watched(monkeypatch, precision, *oriented(way))
    # by 16 bytes along the rows; along K too where tensor cores take rows of it, else one by one
    along_k = (way[0] == "N") + (way[1] == "T")
    if precision == "float32":
        assert (made["copy1"], made["copy4"]) == (along_k, 2 - along_k)
    elif precision == "tf32":
        assert (made["copy1"], made["copy4"], made["ldmatrix"]) == (0, 2, along_k)
    else:
        assert (made["load4"], made["store4_bfloat16"], made["ldmatrix"], made["ldmatrix_transposed"]) == (2, 2, along_k, 2 - along_k)
    assert made["commit_copies"] == made["wait_copies1"] == (precision != "bf16")
    assert report.banks and report.conflicts(1.01) == []
    assert report.uncoalesced(1.01) == []


@pytest.mark.parametrize("way", ORIENTED)
def test_stored_bfloat16_goes_to_tensor_cores_as_it_is(way, monkeypatch):
    made, report = watched(monkeypatch, "bf16", *oriented(way, ml_dtypes.bfloat16), tolerance=2**-8)
    along_k = (way[0] == "N") + (way[1] == "T")
    assert (made["copy8"], made["from_bfloat16"], made["ldmatrix"], made["ldmatrix_transposed"]) == (2, 0, along_k, 2 - along_k)
    assert report.conflicts(1.01) == []


@pytest.mark.parametrize("precision", TOLERANCE)
def test_what_is_not_aligned_comes_one_by_one_and_what_is_computed_by_threads(precision, monkeypatch):
    half = precision == "bf16"
    made, _ = watched(monkeypatch, precision, lambda a, b: a @ b, normal(9, 21), normal(21, 10, seed=1))
    assert (made["copy1"], made["copy4"], made["round_bfloat16"]) == ((0, 0, 2) if half else (2, 0, 0))
    made, _ = watched(monkeypatch, precision, lambda a, b: a.transpose(1, 0) @ b, normal(16, 12)[:, :10], normal(16, 8, seed=1))
    assert made["copy4"] + made["store4_bfloat16"] == 1  # rows of 10
    made, _ = watched(monkeypatch, precision, lambda a, b: a[:, 2:18] @ b, normal(8, 20), normal(16, 8, seed=1))
    assert made["copy4"] + made["store4_bfloat16"] == 1  # rows that begin at the third element
    made, _ = watched(monkeypatch, precision, lambda a, b: a[:, 4:] @ b, normal(8, 20), normal(16, 8, seed=1))
    assert made["copy4"] + made["store4_bfloat16"] == (1 if precision == "float32" else 2)
    made, _ = watched(monkeypatch, precision, lambda a, b: a.exp() @ b, normal(8, 16), normal(16, 8, seed=1))
    assert (made["copy1"], made["copy4"], made["round_bfloat16"], made["store4_bfloat16"]) == ((0, 0, 1, 1) if half else (0, 1, 0, 0))


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("size", [1, 3])
def test_convolutions_copy_by_sixteen_bytes_where_their_index_maps_run_so(precision, size, monkeypatch):
    x, w = normal(2, 8, 6, 8), normal(12, 8, size, size, seed=1)
    made, _ = watched(monkeypatch, precision, lambda x, w: ops.conv(x, w, padding=size // 2), x, w)
    # the elements of a kernel are one run of K; neighbouring pixels of a padded image are none, and its zeros are copies of nothing
    wide = 2 if size == 1 else 1
    if precision == "bf16":
        assert (made["store4_bfloat16"], made["round_bfloat16"]) == (wide, 2 - wide)
    else:
        wide -= precision == "float32"  # whose tiles take single elements along K
        assert (made["copy4"], made["copy1"]) == (wide, 2 - wide)


def test_a_size_that_is_only_named_ends_no_run():
    import graphc as gc

    x, w = normal(13, 20), normal(13, 24, seed=1)
    for fn, copies in ((lambda x, w: x.transpose(1, 0) @ w, (0, 2)), (lambda x, w: w.transpose(1, 0) @ x, (0, 2)), (lambda x, w: x @ x.transpose(1, 0), (0, 2))):
        f = gc.compile(fn, gc.spec("N", 20), gc.spec("N", 24), target="cuda-sim", precision="tf32")
        f(x, w)
        made = calls(f.executable.as_text("kernels"))
        assert (made["copy1"], made["copy4"]) == copies


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("tile", contract.TENSOR_TILES, ids=lambda t: f"{t.rows}x{t.columns}")
@pytest.mark.parametrize("way", ORIENTED)
def test_every_tile_on_tensor_cores(tile, way, precision, monkeypatch):
    monkeypatch.setattr(contract, "TENSOR_TILES", (tile,))
    m, n, k = 140, 132, 40
    a, b = normal(m, k), normal(k, n, seed=1)
    wanted = rounded(a, precision) @ rounded(b, precision)
    graph, given = build_graph(oriented(way)[0], a.T.copy() if way[0] == "T" else a, b.T.copy() if way[1] == "T" else b)
    np.testing.assert_allclose(compile_graph(graph, "cuda-sim", precision=precision)(given)["o0"], wanted, rtol=1e-5, atol=1e-4)


def test_tiles_on_tensor_cores_follow_the_sizes():
    def choose(m, n):
        return contract.choose_tile(m, n, 1, contract.TENSOR_TILES, contract.TENSOR_OVERHEAD).rows

    assert choose(4096, 4096) == choose(1024, 1024) == 128
    assert choose(128, 1024) == choose(sym("N"), 64) == 64


# -- maps --------------------------------------------------------------------------------------------------------------------
def test_neighbours_are_loaded_and_stored_by_sixteen_bytes():
    (kernel,) = run(lambda x, b, m: ops.where(m, x * b, 0.0), normal(6, 40), normal(40, seed=1), normal(6, 40, seed=2) > 0)
    text = kernel.printed.text
    assert text.count("load4(") == 3 and text.count("store4(") == 1 and "for e in range(4):" in text


def test_what_is_not_aligned_goes_one_by_one():
    (kernel,) = run(lambda x: x[:, 1:41] * 2.0, normal(6, 44))  # rows start at the second element
    assert "load4" not in kernel.printed.text and "store4" in kernel.printed.text
    (kernel,) = run(lambda x: x * 2.0, normal(5, 3))
    assert "4(" not in kernel.printed.text


def test_vectors_stop_at_what_a_condition_guards():
    (kernel,) = run(lambda x: x.pad((1, 3), (2, 0), (0, 0)).exp(), normal(7, 8))
    assert "load4" not in kernel.printed.text


# -- folds -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "team,fn,shape",
    [
        ("warp", lambda x: x.softmax(-1), (5, 70)),
        ("warp", lambda x: x.softmax(-1), (5, 72)),
        ("block", lambda x: x.log_softmax(-1), (3, 2100)),
        ("block", lambda x: x.softmax(-1), (2, 2048)),
        ("block", lambda x: (x * x).sum(), (40, 61)),
        ("warp", lambda x: x.var((0, 2)), (40, 3, 63)),  # in two steps
        ("column", lambda x: x.max(0), (100, 37)),
        ("column", lambda x: x - x.mean(0), (65, 33)),
        ("column", lambda x: x.var(1), (2, 70, 19)),
        ("thread", lambda x: x.sum(0), (9, 33)),
        ("thread", lambda x: x.softmax(-1), (9, 7)),
    ],
)
def test_a_fold_is_the_work_of_a_team(team, fn, shape):
    assert team in {k.printed.team.name for k in run(fn, normal(*shape), tolerance=1e-4)}


def test_rows_are_loaded_by_sixteen_bytes_where_they_are_aligned():
    (aligned,), (not_) = run(lambda x: x.sum(-1), normal(5, 72)), run(lambda x: x.sum(-1), normal(5, 70))
    assert "load4" in aligned.printed.text and "load4" not in not_[0].printed.text


@pytest.mark.parametrize("fn", [lambda x: (x > 0.0).all(-1), lambda x: x.cast("int8").max(-1), lambda x: x.argmax(-1)], ids=["all", "int8", "argmax"])
@pytest.mark.parametrize("shape", [(3, 50), (3, 2100)], ids=["warp", "block"])
def test_other_types_are_folded_by_teams(fn, shape):
    run(fn, normal(*shape) * 9)
