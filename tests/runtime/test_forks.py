"""Processes that come from one that has run a model: each has the values of the moment of the fork, and its own from then on."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import graphc as gc
from graphc import data
from graphc.runtime import locks
from graphc.runtime.memory import FROM_SLABS, aligned_empty
from graphc.runtime.store import ParameterStore

from .common import PATIENCE, ROOT, batch, ended, in_child, model, python, weights

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_memory_of_slabs_is_not_shared():
    a = aligned_empty(FROM_SLABS, np.uint8)
    a[:] = 1

    def write():
        a[:] = 2

    assert ended(in_child(write)) == 0
    assert (a == 1).all()


def test_training_in_a_child_leaves_the_parents_model_alone():
    m = model()
    x, y = batch()
    m.train_on_batch(x, y)
    before, answer = weights(m), m.predict(x)

    def train():
        assert weights(m) == before and np.array_equal(m.predict(x), answer)
        m.fit(x, y, batch_size=64, epochs=2, verbose=0)
        assert weights(m) != before

    assert ended(in_child(train)) == 0
    assert weights(m) == before and np.array_equal(m.predict(x), answer)


def test_parent_and_children_predict_at_the_same_time():
    """They would write into one arena, if that were shared."""
    m = model()
    xs = [batch(k)[0] for k in range(4)]
    wanted = [m.predict(x) for x in xs]

    def serve():
        for k in range(200):
            assert np.array_equal(m.predict(xs[k % 4]), wanted[k % 4])

    children = [in_child(serve) for _ in range(2)]
    serve()
    assert [ended(pid) for pid in children] == [0, 0]


def test_a_fork_waits_for_the_step_of_another_thread():
    """The child gets whole weights, and locks that nobody holds."""
    m = model()
    x, y = batch()
    m.train_on_batch(x, y)
    stop = threading.Event()
    states = {}

    def train():
        while not stop.is_set():
            m.train_on_batch(x, y)

    def look():
        again = model()
        again.load_state_dict(m.state_dict())
        assert np.array_equal(m.predict(x), again.predict(x))
        m.train_on_batch(x, y)

    states["thread"] = threading.Thread(target=train)
    states["thread"].start()
    try:
        for _ in range(10):
            assert ended(in_child(look)) == 0
    finally:
        stop.set()
        states["thread"].join(60)


@pytest.mark.parametrize("kind", range(locks.MEMORY + 1))
def test_a_lock_that_stays_held_is_free_in_the_child(kind, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    lock = locks.held_for_forks(threading.RLock(), kind)
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    try:

        def take():
            assert lock.acquire(timeout=10)
            lock.release()

        assert ended(in_child(take)) == 0
        assert not lock.acquire(blocking=False)  # the parent's still has its owner
    finally:
        done.set()
        holder.join(60)
    assert lock.acquire(timeout=10)
    lock.release()


def test_a_fork_inside_of_a_lock_keeps_it():
    store = ParameterStore()

    def child():
        store.lock.release()  # held once, as in the parent

    with store.lock:
        pid = in_child(child)
    assert ended(pid) == 0


def test_threads_may_fork_at_the_same_time():
    failed = []

    def forks():
        try:
            for _ in range(20):
                assert ended(in_child(lambda: None)) == 0
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=forks) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not failed and not any(t.is_alive() for t in threads)


# -- multiprocessing ---------------------------------------------------------------------------------------------------------
_model = None


def _load(path):
    global _model
    _model = model(seed=9)
    _model.load(path)


def _predict(x):
    return os.getpid(), _model.predict(x)


def test_a_pool_of_forked_processes(monkeypatch):
    m = model()
    xs = [batch(k)[0] for k in range(8)]
    wanted = [m.predict(x) for x in xs]
    monkeypatch.setattr(sys.modules[__name__], "_model", m)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map_async(_predict, xs, chunksize=1).get(120)
    assert all(np.array_equal(y, w) for (_, y), w in zip(found, wanted))
    assert np.array_equal(m.predict(xs[0]), wanted[0])


SPAWN = """
import sys
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import numpy as np
from tests.runtime.common import batch, model
from tests.runtime.test_forks import _load, _predict

if __name__ == "__main__":
    m = model()
    x, y = batch()
    m.fit(x, y, verbose=0)
    m.save(sys.argv[2])
    with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1]), _load, (sys.argv[2],)) as pool:
        found = list(pool.map(_predict, [batch(k)[0] for k in range(4)]))
    assert all(np.array_equal(found[k][1], m.predict(batch(k)[0])) for k in range(4))
    print("done")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_pool_of_new_processes(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import runpy, sys\nsys.path.insert(0, '.')\n{SPAWN}")
    done = subprocess.run(
        [sys.executable, str(script), method, str(tmp_path / "m")], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "GRAPHC_THREADS": "2", "GRAPHC_SMALL_WORK": "0", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_model_is_not_sent_and_says_what_to_do():
    m = model()
    for what in (m, m.predict, gc.compile(lambda a: a + 1, gc.spec("N"), target="reference")):
        with pytest.raises(gc.ArgumentError, match="initializer="):
            pickle.dumps(what)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, pytest.raises(gc.ArgumentError, match="another process"):
        pool.submit(m.predict, batch()[0]).result(60)


class Rows(data.Dataset):
    def __init__(self):
        self.x, self.y = batch(rows=64)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_data_workers_start_after_the_model_has_run(method):
    x, y = batch()
    wanted = {}
    for workers in (0, 2):
        m = model()
        m.predict(x)
        m.train_on_batch(x, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader = data.DataLoader(Rows(), 16, num_workers=workers, **({"multiprocessing_context": method} if workers else {}))
            with loader:
                m.fit(loader, epochs=2, verbose=0)
        wanted[workers] = weights(m)
    assert wanted[0] == wanted[2]


def test_a_thread_that_compiles_while_another_forks(tmp_path):
    """The compiler's own locks are free in the child, which can compile for itself."""
    code = """
import os, sys, threading, time
import numpy as np, graphc as gc
from tests.runtime.common import ended, in_child
f = gc.compile(lambda a: (a * 2).sum(), gc.spec("N", 3), eager=True)
def compile_all():
    for k in range(6):
        gc.compile(lambda a: (a * float(k) + a.sum()) / float(k + 1), gc.spec("N", 3), eager=True)
t = threading.Thread(target=compile_all)
t.start()
time.sleep(0.3)
def child():
    g = gc.compile(lambda a: (a - 5.5).exp() * 3.25, gc.spec("N", 3))
    assert g(np.full((2, 3), 5.5, "f")).tolist() == [[3.25] * 3] * 2
    assert f(np.ones((2, 3), "f")) == 12
while t.is_alive():
    assert ended(in_child(child), 60) == 0
t.join()
print("done")
"""
    done = python(code, GRAPHC_CACHE=str(tmp_path), PYTHONWARNINGS="ignore::DeprecationWarning")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
