"""What the target "cuda" does around its kernels, on a GPU that is made up: memory, copies, graphs, state; and its errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cuda import gpu as gpu_module
from graphc.backends.cuda import program, staging
from graphc.backends.cuda.driver import Driver
from graphc.backends.cuda.gpu import Gpu
from graphc.compiler import compile_graph
from graphc.errors import ArgumentError, CompileError, DeviceUnavailableError, OutOfMemoryError
from tests.models import mlp_step
from tests.packaging.folders import ROOT

from .cases import a_loss_that_is_not_finite_writes_nothing, loaded_values_reach_the_gpu
from .fake_gpu import RaceError, fake_gpu
from .models import batch, compiled


@pytest.fixture
def gpu(monkeypatch):
    """The only GPU of this machine."""
    made = fake_gpu()
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
    gpu.driver.log.clear()
    model.train_on_batch(x, y)
    assert gpu.driver.log.count("graph") == 2 and "capture" not in gpu.driver.log  # before the check of the loss, and behind it
    assert gpu.driver.log.count("copy out") == 1  # the loss
    assert gpu.driver.log.count("copy in") == 1 and not {"allocate", "pin"} & set(gpu.driver.log)  # images and labels in one copy
    gpu.driver.log.clear()
    model.state_dict()
    assert gpu.driver.log.count("copy out") > 3
    gpu.driver.log.clear()
    model.state_dict()
    assert not gpu.driver.log  # what the host has is not fetched again


def test_values_that_are_loaded_reach_the_gpu(gpu):
    loaded_values_reach_the_gpu()


def test_a_loss_that_is_not_finite_writes_nothing(gpu):
    a_loss_that_is_not_finite_writes_nothing()


def test_every_size_has_a_binding_and_zero_rows_do_nothing(gpu):
    f = gc.compile(lambda x: (x * 2.0).softmax(-1), gc.spec("N", 6), target="cuda")
    for rows in (3, 0, 5, 3):
        x = np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)
        e = np.exp(2 * x)
        np.testing.assert_allclose(f(x), e / e.sum(1, keepdims=True), rtol=1e-5)
    assert gpu.driver.log.count("capture") == 2  # for 3 and for 5 rows


def test_launches_go_one_by_one_where_graphs_are_switched_off(gpu, monkeypatch):
    monkeypatch.setenv("GRAPHC_CUDA_GRAPH", "0")
    assert gc.compile(lambda x: x + 1.0, gc.spec(4), target="cuda")(np.zeros(4)).tolist() == [1.0] * 4
    assert "graph" not in gpu.driver.log and "launch" in gpu.driver.log


# -- order --------------------------------------------------------------------------------------------------------------------
def test_buffers_for_copies_are_kept_and_used_in_turns(gpu):
    f = gc.compile(lambda x: x + 1.0, gc.spec("N", 6), target="cuda")
    for rows in (5, 5, 5):
        f(np.zeros((rows, 6), np.float32))
    assert gpu.driver.log.count("pin") == 2
    gpu.driver.log.clear()
    for k in range(6):
        np.testing.assert_array_equal(f(np.full((5, 6), k, np.float32)), k + 1.0)
    assert not {"pin", "allocate"} & set(gpu.driver.log)


def test_what_is_larger_than_a_buffer_goes_in_pieces(gpu, monkeypatch):
    monkeypatch.setattr(staging, "PIECE", 1000)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, n).astype(np.uint8) for n in (3, 0, 4001, 250, 1000)]
    owned = [gpu.allocate(a.nbytes, "an array") for a in arrays]
    places = [address for address, _ in owned]
    gpu.send(list(zip(places, arrays, strict=True)))
    back = [np.zeros_like(a) for a in arrays]
    gpu.fetch(list(zip(back, places, strict=True)))
    for a, b in zip(arrays, back, strict=True):
        np.testing.assert_array_equal(a, b)
    assert gpu.driver.log.count("copy in") == 6 and gpu.driver.log.count("pin") == 2


def three_steps(gpu):
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    for _ in range(3):
        model.train_on_batch(*batch("mlp", 4))
    return model.state_dict()


def test_everything_that_touches_memory_is_in_order(gpu):
    three_steps(gpu)


@pytest.mark.parametrize("left_out", ["finish", "wait compute", "wait copies"])
def test_an_order_that_is_missing_is_found(left_out, gpu):
    """Each kind of waiting is needed: without it the made-up GPU finds a race."""
    gpu.driver.ignored.add(left_out)
    with pytest.raises(RaceError):
        three_steps(gpu)


def test_a_buffer_is_not_filled_again_before_its_copy_has_ended(gpu, monkeypatch):
    """The copies are ordered among themselves; only the host does not wait before it fills a buffer."""
    real = staging.Staging._slot

    def hasty(self, nbytes):
        finish, self.driver.finish = self.driver.finish, lambda event: None
        try:
            return real(self, nbytes)
        finally:
            self.driver.finish = finish

    place, owner = gpu.allocate(64, "x")
    x = np.zeros(64, np.uint8)
    for _ in range(5):
        gpu.send([(place, x)])
    monkeypatch.setattr(staging.Staging, "_slot", hasty)
    with pytest.raises(RaceError, match=r"fill \(host\) does not wait for copy in \(copies\)"):
        for _ in range(5):
            gpu.send([(place, x)])
    assert owner


def test_the_next_batch_travels_while_a_step_computes(gpu):
    """Nothing makes the copy to the GPU wait for the kernels of the step before it: those behind the check of the loss."""
    model = compiled("mlp", "cuda", optim.Adam(1e-2))
    x, y = batch("mlp", 4)
    seen = []
    real = gpu.driver.copy_in

    def copy_in(*args):
        real(*args)
        seen.append((gpu.driver.clocks["compute"]["compute"], gpu.driver.clocks["copies"]["compute"], gpu.driver.clocks["host"]["compute"]))

    model.train_on_batch(x, y)
    model.train_on_batch(x, y)
    gpu.driver.copy_in = copy_in
    model.train_on_batch(x, y)
    ((done, waited, host),) = seen
    updates = len([k for k in model.executables["train_step"].kernels if any(b.space == "slot" for b in k.launch.writes)])
    assert done - max(waited, host) >= updates > 3


# -- errors ------------------------------------------------------------------------------------------------------------------
@pytest.mark.skipif(gc.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_target_is_an_error_and_nothing_runs_elsewhere():
    with pytest.raises(DeviceUnavailableError, match='target="cuda" cannot be used here: ') as e:
        gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="cuda")
    assert e.value.hint
    with pytest.raises(ArgumentError, match="device = -1 is not the number of a GPU"):
        gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="cuda", device=-1)


def test_memory_that_is_not_there_is_named(monkeypatch):
    small = fake_gpu(memory=1000)
    monkeypatch.setattr(gpu_module, "open_gpu", lambda index=0: small)
    with pytest.raises(OutOfMemoryError, match=r"x of f needs .*4096 bytes.*1000 bytes.* are free"):
        gc.compile(lambda x: x + 1.0, gc.spec(1024), target="cuda")(np.zeros(1024))


def test_the_drivers_out_of_memory_says_what_was_needed_and_what_was_free():
    class Result:
        CUDA_ERROR_OUT_OF_MEMORY = 2

    class Bindings:
        CUresult = Result
        cuMemAlloc = staticmethod(lambda n: (2, None))
        cuMemGetInfo = staticmethod(lambda: (0, 3 * 2**20, 8 * 2**30))

    class Bare(Driver):
        def __init__(self):
            self._driver, self.name, self.index = Bindings, "NVIDIA T4", 0

        def event(self, timed=False):
            return None

    with pytest.raises(OutOfMemoryError, match=r"on NVIDIA T4: the arena of f, N = 64 needs .*16.*, .*3.* of .*8.* are free"):
        Gpu(Bare()).allocate(16 * 2**20, "the arena of f, N = 64")


def test_indices_that_do_not_fit_are_refused():
    graph, store = mlp_step()
    schedule = compile_graph(graph, "cuda-sim", store).schedule
    program.check_indices(schedule, {"N": 2**20})
    with pytest.raises(CompileError, match=r"N = 134217728: .* elements; kernels index in 32 bits"):
        program.check_indices(schedule, {"N": 2**27})


def test_the_tests_for_a_gpu_work():
    """They are skipped here, with the reason; on the made-up GPU they pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/cuda/test_gpu.py", "-k", "adds or products or named_sizes or bits_of or memory or threads or pieces"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "GRAPHC_TEST_MADE_UP_GPU": "1"})
    assert done.returncode == 0 and re.search(r"\d\d passed", done.stdout), done.stdout
    if not gc.cuda.is_available():
        done = subprocess.run([*command[:-1], "pieces"], cwd=ROOT, capture_output=True, text=True)
        assert "1 skipped" in done.stdout and gc.cuda.why_not()[:40] in done.stdout
