"""What the target "cuda" does around its kernels, on a GPU that is made up: memory, copies, graphs, state; and its errors."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cuda import gpu as gpu_module
from graphc.backends.cuda import program
from graphc.backends.cuda.gpu import Gpu
from graphc.compiler import compile_graph
from graphc.errors import ArgumentError, CompileError, DeviceUnavailableError, NonFiniteError, OutOfMemoryError
from tests.models import mlp_step

from .fake_gpu import FakeGpu
from .models import batch, compiled


@pytest.fixture
def gpu(monkeypatch):
    """The only GPU of this machine."""
    made = FakeGpu()
    monkeypatch.setattr(gpu_module, "open_gpu", lambda index=0: made)
    return made


@pytest.mark.parametrize("name", ["mlp", "lstm", "resnet"])
def test_training_on_a_gpu_follows_the_simulator(name, gpu):
    models = {target: compiled(name, target, optim.Adam(1e-2)) for target in ("cuda", "cuda-sim")}
    losses = {t: [m.train_on_batch(*batch(name, 3))["loss"] for _ in range(2)] for t, m in models.items()}
    assert losses["cuda"] == pytest.approx(losses["cuda-sim"], rel=1e-6)
    mine, theirs = (m.state_dict() for m in models.values())
    for k, v in theirs.items():
        np.testing.assert_allclose(mine[k], v, rtol=1e-6, atol=1e-7, err_msg=k)
    np.testing.assert_allclose(*(m.predict(batch(name, 3)[0]) for m in models.values()), rtol=1e-6, atol=1e-7)


def test_a_step_is_two_graphs_and_the_parameters_stay(gpu):
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    model.train_on_batch(x, y)
    gpu.log.clear()
    model.train_on_batch(x, y)
    assert gpu.log.count("graph") == 2 and "capture" not in gpu.log  # before the check of the loss, and behind it
    assert gpu.log.count("upload") <= 4 and not any(e.startswith("allocate") for e in gpu.log)
    gpu.log.clear()
    model.state_dict()
    assert gpu.log.count("download") > 3
    gpu.log.clear()
    model.state_dict()
    assert not gpu.log  # what the host has is not fetched again


def test_values_that_are_loaded_reach_the_gpu(gpu):
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    before, first = model.state_dict(), model.predict(x)
    model.train_on_batch(x, y)
    assert not np.allclose(model.predict(x), first)
    model.load_state_dict(before)
    np.testing.assert_array_equal(model.predict(x), first)


def test_a_loss_that_is_not_finite_writes_nothing(gpu):
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    model.train_on_batch(x, y)
    before = model.state_dict()
    x[1, 2] = np.nan
    with pytest.raises(NonFiniteError):
        model.train_on_batch(x, y)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k], k)


def test_every_size_has_a_binding_and_zero_rows_do_nothing(gpu):
    f = gc.compile(lambda x: (x * 2.0).softmax(-1), gc.spec("N", 6), target="cuda")
    for rows in (3, 0, 5, 3):
        x = np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)
        e = np.exp(2 * x)
        np.testing.assert_allclose(f(x), e / e.sum(1, keepdims=True), rtol=1e-5)
    assert gpu.log.count("capture") == 2  # for 3 and for 5 rows


def test_launches_go_one_by_one_where_graphs_are_switched_off(gpu, monkeypatch):
    monkeypatch.setenv("GRAPHC_CUDA_GRAPH", "0")
    assert gc.compile(lambda x: x + 1.0, gc.spec(4), target="cuda")(np.zeros(4)).tolist() == [1.0] * 4
    assert "graph" not in gpu.log and "launch" in gpu.log


# -- errors ------------------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(gc.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_target_is_an_error_and_nothing_runs_elsewhere():
    with pytest.raises(DeviceUnavailableError, match='target="cuda" cannot be used here: ') as e:
        gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="cuda")
    assert e.value.hint
    with pytest.raises(ArgumentError, match="device = -1 is not the number of a GPU"):
        gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="cuda", device=-1)


def test_memory_that_is_not_there_is_named(monkeypatch):
    small = FakeGpu(memory=1000)
    monkeypatch.setattr(gpu_module, "open_gpu", lambda index=0: small)
    with pytest.raises(OutOfMemoryError, match="needs 4096, 1000 are free"):
        gc.compile(lambda x: x + 1.0, gc.spec(1024), target="cuda")(np.zeros(1024))


def test_the_drivers_out_of_memory_says_what_was_needed_and_what_was_free():
    class Result:
        CUDA_ERROR_OUT_OF_MEMORY = 2

    class Driver:
        CUresult = Result
        cuMemAlloc = staticmethod(lambda n: (2, None))
        cuMemGetInfo = staticmethod(lambda: (0, 3 * 2**20, 8 * 2**30))

    made = Gpu.__new__(Gpu)
    made._driver, made.name = Driver, "NVIDIA T4"
    with pytest.raises(OutOfMemoryError, match=r"on NVIDIA T4: the arena of f, N = 64 needs .*16.*, .*3.* of .*8.* are free"):
        made.allocate(16 * 2**20, "the arena of f, N = 64")


def test_indices_that_do_not_fit_are_refused():
    graph, store = mlp_step()
    schedule = compile_graph(graph, "cuda-sim", store).schedule
    program.check_indices(schedule, {"N": 2**20})
    with pytest.raises(CompileError, match=r"N = 134217728: .* elements; kernels index in 32 bits"):
        program.check_indices(schedule, {"N": 2**27})
