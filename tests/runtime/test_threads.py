"""Threads and event loops: one model, many models, training and prediction at once, first calls that race."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu import program as programs
from tests.stress.many_threads import run, together

from . import test_forks
from .common import PATIENCE, batch, model


@pytest.mark.parametrize("one_model", [True, False])
def test_predictions(one_model):
    run(8, 40, one_model, PATIENCE)


def test_a_first_call_that_several_threads_make():
    """Tracing and compiling happen once: each mode's graph has one function."""
    m = model()
    x, y = batch()
    made = []
    trace = type(m)._trace

    def traced(self, mode, weighted, norm):
        made.append(mode)
        return trace(self, mode, weighted, norm)

    results = {}
    type(m)._trace = traced
    try:
        together(8, lambda k: results.__setitem__(k, (m.evaluate(x, y, sample_weight=np.ones(len(x)))["loss"], m.tap("head")(x)["head"])), PATIENCE)
    finally:
        type(m)._trace = trace
    assert made == ["evaluate"]
    assert all(r[0] == results[0][0] and np.array_equal(r[1], results[0][1]) for r in results.values())


def test_models_that_are_compiled_at_the_same_time():
    x, y = batch(rows=32)

    def make(k):
        net = nn.Sequential(nn.Linear(96, 16 + k % 4), nn.Tanh(), nn.Linear(16 + k % 4, 8))
        gc.set_seed(4)
        return gc.compile(net, gc.spec("N", 96), loss="cross_entropy", optimizer=optim.Adam(1e-2))

    def trained(m):
        m.fit(x, y, epochs=2, verbose=0, shuffle=False)
        return m.predict(x)

    alone = {k: trained(make(k)) for k in range(4)}
    found = {}
    together(8, lambda k: found.__setitem__(k, trained(make(k))), PATIENCE)
    assert all(np.array_equal(found[k], alone[k % 4]) for k in range(8))


def test_predictions_while_another_thread_trains():
    """Each is that of the weights before or after a step, never of half a step."""
    x, y = batch()
    m, other = model(), model()
    other._function("train_step").executable  # weights lie as they do in the one that trains
    m._function("train_step").executable
    states = []
    for _ in range(30):
        states.append(other.predict(x).tobytes())
        other.train_on_batch(x, y)
    states.append(other.predict(x).tobytes())
    assert len(set(states)) == 31
    seen, done = [], threading.Event()

    def work(k):
        if k == 0:
            for _ in range(30):
                m.train_on_batch(x, y)
            done.set()
        else:
            while not done.is_set():
                seen.append(m.predict(x).tobytes())

    together(4, work, PATIENCE)
    assert seen and set(seen) <= set(states)
    assert m.predict(x).tobytes() == states[-1]


def test_a_layout_chosen_while_another_program_compiles(monkeypatch):
    """Between scheduling and the end of compiling, which takes seconds, a training step of the same model may store the weights anew."""
    m = model()
    x, _ = batch()
    wanted = model().predict(x)
    program = programs.Program
    compiled = []

    def slow(*args, **kwargs):
        made = program(*args, **kwargs)
        if not compiled:
            compiled.append(1)
            together(1, lambda k: m._function("train_step").executable, PATIENCE)
        return made

    monkeypatch.setattr(programs, "Program", slow)
    np.testing.assert_allclose(m.predict(x), wanted, rtol=1e-4, atol=1e-5)
    assert compiled and not m.store["body.0.weight"].layout.is_row_major


# -- asyncio -----------------------------------------------------------------------------------------------------------------
def test_an_event_loop_with_a_pool_of_threads():
    m = model()
    xs = [batch(k)[0] for k in range(12)]
    wanted = [m.predict(x) for x in xs]

    async def serve():
        loop = asyncio.get_running_loop()
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        clock = asyncio.create_task(tick())
        with ThreadPoolExecutor(4) as pool:
            found = await asyncio.gather(*(loop.run_in_executor(pool, m.predict, x) for _ in range(5) for x in xs))
            found += await asyncio.gather(*(asyncio.to_thread(m.predict, x) for x in xs))
        clock.cancel()
        return found, ticks

    found, ticks = asyncio.run(asyncio.wait_for(serve(), PATIENCE))
    assert all(np.array_equal(y, wanted[i % 12]) for i, y in enumerate(found))
    assert ticks > 1  # the loop went on meanwhile


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_an_event_loop_with_a_pool_of_processes(method, tmp_path, monkeypatch):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    m = model()
    xs = [batch(k)[0] for k in range(6)]
    wanted = [m.predict(x) for x in xs]
    m.save(tmp_path / "m")
    arguments = (test_forks._load, (tmp_path / "m",)) if method == "spawn" else (None, ())
    monkeypatch.setattr(test_forks, "_model", m)

    async def serve():
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(2, multiprocessing.get_context(method), *arguments) as pool:
            return await asyncio.gather(*(loop.run_in_executor(pool, test_forks._predict, x) for x in xs))

    found = asyncio.run(asyncio.wait_for(serve(), PATIENCE))
    assert os.getpid() not in {pid for pid, _ in found}
    assert all(np.array_equal(y, w) for (_, y), w in zip(found, wanted))
