"""The target "cuda" on a GPU: every operator record, models' steps, graphs, arrays of other libraries, order and memory."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import graphc as gc
from graphc import optim
from graphc.backends.cuda import gpu as gpus
from graphc.compiler import compile_graph
from graphc.errors import OutOfMemoryError
from tests.ops.cases import OPS, assert_close, sample_graph

from .cases import CASES, HALVES, SLOPES, a_loss_that_is_not_finite_writes_nothing, loaded_values_reach_the_gpu, slope_graph
from .models import MODELS, batch, compiled
from .test_models import compare_steps

pytestmark = pytest.mark.gpu


# -- numbers -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("op,dtype", CASES, ids=lambda v: getattr(v, "name", v))
def test_a_record_gives_what_the_reference_says(op, dtype):
    graph, arrays, labels = sample_graph(op, dtype)
    found = compile_graph(graph, "cuda")(arrays)
    exact = compile_graph(graph, "reference", mode="exact" if dtype == "float32" else "faithful")(arrays)
    for (name, node), label in zip(graph.outputs, labels, strict=True):
        assert found[name].dtype == node.dtype.numpy, label
        assert_close(found[name], exact[name], op.tolerance.get(dtype, 0.0), label)


@pytest.mark.parametrize("op", SLOPES, ids=lambda op: op.name)
def test_gradients_are_those_of_the_reference(op):
    slope, arrays = slope_graph(op)
    found, exact = (compile_graph(slope, target)(arrays) for target in ("cuda", "reference"))
    for name, value in exact.items():
        assert_close(found[name], value, 10 * op.tolerance["float64"], f"{op.name}: gradient of {name}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", HALVES)
def test_types_of_16_bits(name, dtype):
    graph, arrays, labels = sample_graph(next(op for op in OPS if op.name == name), dtype)
    found, wanted = (compile_graph(graph, target)(arrays) for target in ("cuda", "reference"))
    for (k, _), label in zip(graph.outputs, labels, strict=True):
        assert_close(found[k].astype(np.float32), wanted[k].astype(np.float32), 2 ** -(10 if dtype == "float16" else 7), label)


@pytest.mark.parametrize("name", ["random_bits", "random_uniform", "dropout"])
def test_random_numbers_have_the_bits_of_the_cpu(name):
    graph, arrays, _ = sample_graph(next(op for op in OPS if op.name == name), "float32")
    found, wanted = (compile_graph(graph, target)(arrays) for target in ("cuda", "cpu"))
    for k, v in wanted.items():
        assert found[k].tobytes() == v.tobytes(), k


@pytest.mark.parametrize("precision,error", [("float32", 1e-6), ("tf32", 1e-3), ("bf16", 1e-2)])
@pytest.mark.parametrize("m,k,n", [(70, 50, 90), (256, 136, 128), (1, 64, 33)])
def test_products_in_every_precision(precision, error, m, k, n):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    found = gc.compile(lambda a, b: a @ b, gc.spec(m, k), gc.spec(k, n), target="cuda", precision=precision)(a, b)
    wanted = a.astype(np.float64) @ b
    assert np.linalg.norm(found - wanted) <= error * np.linalg.norm(wanted)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step_equals_the_cpus(name):
    compare_steps(name, "cuda")


@pytest.mark.parametrize("name", ["mlp", "lstm", "transformer"])
def test_steps_of_adam_follow_the_cpu(name):
    losses = {}
    for target in ("cuda", "cpu"):
        model = compiled(name, target, optim.Adam(1e-2))
        losses[target] = [model.train_on_batch(*batch(name, 6))["loss"] for _ in range(3)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
    assert losses["cpu"][2] < losses["cpu"][0]


# -- runtime -----------------------------------------------------------------------------------------------------------------
def test_a_captured_graph_gives_the_bits_of_single_launches(monkeypatch):
    states = []
    for graphs in ("1", "0"):
        monkeypatch.setenv("GRAPHC_CUDA_GRAPH", graphs)
        model = compiled("mlp", "cuda", optim.Adam(1e-2))
        for _ in range(3):
            model.train_on_batch(*batch("mlp", 7))
        states.append(model.state_dict())
    for k, v in states[0].items():
        assert v.tobytes() == states[1][k].tobytes(), k


def test_batches_that_follow_each_other_do_not_mix():
    """Each batch is copied while the step before it still computes: every loss and the weights must be those of taking turns."""
    rng = np.random.default_rng(0)
    rounds = 5 if os.environ.get("GRAPHC_TEST_MADE_UP_GPU") else 60
    batches = [(rng.normal(size=(16, 20)).astype(np.float32) * (i + 1), rng.integers(0, 10, 16)) for i in range(rounds)]
    models = {t: compiled("mlp", t, optim.SGD(1e-3)) for t in ("cuda", "cpu")}
    losses = {t: [m.train_on_batch(*b)["loss"] for b in batches] for t, m in models.items()}
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)
    mine, theirs = (m.state_dict() for m in models.values())
    for k, v in theirs.items():
        np.testing.assert_allclose(mine[k], v, rtol=2e-3, atol=1e-4, err_msg=k)


def test_named_sizes_and_none():
    f = gc.compile(lambda x: (x * 2.0).softmax(-1), gc.spec("N", 6), target="cuda")
    for rows in (3, 0, 500, 1, 3):
        x = np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)
        e = np.exp(2 * x)
        np.testing.assert_allclose(f(x), e / e.sum(1, keepdims=True), rtol=1e-5)


def test_arrays_that_go_in_pieces():
    n = 3 << (16 if os.environ.get("GRAPHC_TEST_MADE_UP_GPU") else 23)
    x = np.random.default_rng(0).normal(size=n).astype(np.float32)
    np.testing.assert_array_equal(gc.cuda.asarray(x).numpy(), x)
    np.testing.assert_array_equal(gc.compile(lambda x: x * 2.0, gc.spec("N"), target="cuda")(x), x * 2)


def test_state_stays_and_comes_back():
    loaded_values_reach_the_gpu()


def test_a_loss_that_is_not_finite_writes_nothing():
    a_loss_that_is_not_finite_writes_nothing()


def test_memory_that_is_not_there_is_named_and_work_goes_on():
    gpu = gpus.open_gpu()
    with gpu.entered(), pytest.raises(OutOfMemoryError, match=r"out of memory on .*: the arena of f needs .* of .* are free"):
        gpu.allocate(2 * gpu.driver.memory()[1], "the arena of f")
    assert gc.compile(lambda x: (x * 2.0).sum(), gc.spec("N"), target="cuda")(np.ones(100, np.float32)) == 200.0


def test_threads_take_turns():
    f = gc.compile(lambda x: (x @ x).sum(), gc.spec(32, 32), target="cuda")
    wanted = {i: float((np.full((32, 32), i, np.float64) @ np.full((32, 32), i, np.float64)).sum()) for i in range(1, 5)}
    wrong = []

    def call(i):
        for _ in range(10):
            if abs(float(f(np.full((32, 32), i, np.float32))) - wanted[i]) > 1e-3 * wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in wanted]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# -- other libraries ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def torch():
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return found


def test_torch_tensors_in_and_out(torch):
    f = gc.compile(lambda x: x * 2.0, gc.spec("N", 4), target="cuda")
    x = torch.arange(400, dtype=torch.float32, device="cuda").reshape(100, 4)
    y = f(x)
    shared = torch.from_dlpack(y)
    assert shared.data_ptr() == y.address and torch.equal(shared, x * 2)
    assert torch.equal(torch.as_tensor(y, device="cuda"), x * 2)  # by __cuda_array_interface__
    shared += 1
    np.testing.assert_array_equal(np.asarray(y), x.cpu().numpy() * 2 + 1)


def test_streams_of_torch_are_waited_for(torch):
    f = gc.compile(lambda x: x + 1.0, gc.spec("N"), target="cuda")
    n = 1 << 22
    f(torch.zeros(n, device="cuda"))
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            for i in range(20):
                x = torch.zeros(n, device="cuda")
                for _ in range(20):  # a value that comes late
                    x = x * 1.0 + i
                wanted = float(x[0].item()) if i == 0 else float(20 * i)
                y = f(x)
                x.fill_(-1.0)  # and changes at once
                assert torch.all(torch.from_dlpack(y) == wanted + 1).item(), (stream, i)


def test_cupy_arrays_in_and_out():
    cupy = pytest.importorskip("cupy")
    f = gc.compile(lambda x: x * 2.0, gc.spec("N", 4), target="cuda")
    x = cupy.arange(400, dtype=cupy.float32).reshape(100, 4)
    y = f(x)
    assert bool((cupy.from_dlpack(y) == x * 2).all()) and bool((cupy.asarray(y) == x * 2).all())


def test_training_on_tensors_of_torch(torch):
    models = [compiled("mlp", t, optim.SGD(1e-2)) for t in ("cuda", "cpu")]
    x, y = batch("mlp", 8)
    on_gpu = torch.from_numpy(x).cuda(), torch.from_numpy(y).cuda()
    losses = [models[0].train_on_batch(*on_gpu)["loss"] for _ in range(5)]
    assert losses == pytest.approx([models[1].train_on_batch(x, y)["loss"] for _ in range(5)], rel=1e-4)
    assert isinstance(models[0].predict(x), np.ndarray)
