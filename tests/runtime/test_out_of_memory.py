"""Too much memory: an error that names bytes, nothing changed, and the process goes on."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.runtime import limits, memory

from .common import python

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
HEAD = """
import re, resource
import numpy as np, graphc as gc
from graphc import nn, optim
from tests.runtime.common import batch, model, weights

def limit(extra):
    used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))

def lift():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def refused(do, *words):
    try:
        do()
    except gc.OutOfMemoryError as e:
        assert isinstance(e, MemoryError) and all(w in str(e) for w in words), str(e)
        return int((re.search(r"[(](\\d+) bytes", str(e)) or [0, 0])[1])
    raise AssertionError("not refused")
"""
PREDICT = """
f = gc.compile(lambda a: (a @ a.T).tanh().sum(-1) + (a @ a.T).exp().sum(-1), gc.spec("N", 8), threads=2)
x = np.ones((30, 8), "f")
wanted = f(x)
limit(200 << 20)
n = refused(lambda: f(np.ones((20000, 8), "f")), "out of memory", "temporaries of f", "N = 20000", "GiB")
assert 20000 * 20000 * 4 <= n < 20000 * 20000 * 10, n
assert np.array_equal(f(x), wanted)
g = gc.compile(lambda a: a.reshape(-1, 1) + a.reshape(1, -1), gc.spec("N"), threads=2)
g(np.ones(3, "f"))
n = refused(lambda: g(np.ones(20000, "f")), "results of f")
assert n == 20000 * 20000 * 4
assert g(np.ones(2, "f")).tolist() == [[2, 2], [2, 2]]
print("done")
"""
TRAIN = """
m = model()
x, y = batch()
m.train_on_batch(x, y)
before = weights(m)
limit(100 << 20)
big = np.broadcast_to(np.zeros((1, 96), "f"), (100_000, 96))
n = refused(lambda: m.train_on_batch(big, np.zeros(100_000, int)), "temporaries of Net_train_step", "N = 100000")
assert n > 100_000 * 256 * 4
assert weights(m) == before and m.steps == 1
m.fit(x, y, verbose=0)
assert weights(m) != before and m.steps == 9
print("done")
"""
PARAMETERS = """
limit(300 << 20)
refused(lambda: gc.compile(nn.Linear(20000, 10000), gc.spec("N", 20000), target="cpu"), "weight of shape (10000, 20000)", "800000000 bytes")
net = nn.Linear(6000, 5000)
lift()
gc.compile(net, gc.spec("N", 6000))
values = net.weight.numpy()
for room in (200, 100):  # for the values of a moment and no copy, and for neither
    limit(room << 20)
    refused(lambda: gc.compile(net, gc.spec("N", 6000), loss="mse", optimizer=optim.Adam(1e-3)), "weight", "114", "MiB")
lift()
assert np.array_equal(net.weight.numpy(), values)
m = gc.compile(nn.Linear(3, 2), gc.spec("N", 3))
assert m.predict(np.ones((4, 3), "f")).shape == (4, 2)
print("done")
"""
THREADS = """
import threading
m = gc.compile(nn.Linear(96, 256), gc.spec("N", 96), threads=2, eager=True)
x = batch()[0]
start = threading.Thread.start
def refuse(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
try:
    m.predict(x)
except gc.DeviceUnavailableError as e:
    assert "GRAPHC_THREADS=1" in str(e)
else:
    raise AssertionError("no error")
threading.Thread.start = start
m.predict(x)
print("done")
"""


@LINUX
@pytest.mark.parametrize("code", [PREDICT, TRAIN, PARAMETERS, THREADS], ids=["predict", "train", "parameters", "threads"])
def test_under_a_limit(code):
    done = python(HEAD + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_size_that_the_machine_never_has_is_refused_before(monkeypatch):
    """Linux would promise it, and kill the process that uses it."""
    monkeypatch.setattr(memory, "memory_limit", lambda: 1 << 30)
    with pytest.raises(gc.OutOfMemoryError, match=r"an array needs 1.00 GiB .1073741828 bytes.*\n.*at most"):
        memory.aligned_empty((1 << 28) + 1, np.float32)
    made = []

    def init(shape, random):
        made.append(shape)
        return np.zeros(shape)

    net = nn.Linear(1 << 15, 1 << 14)
    net.weight.init = init
    with pytest.raises(gc.OutOfMemoryError, match=r"2\.00 GiB"):
        gc.compile(net, gc.spec("N", 1 << 15), target="reference")
    assert made == []


@pytest.mark.parametrize("count", [1 << 62, 1 << 70])
def test_absurd_sizes(count, monkeypatch):
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    with pytest.raises(gc.OutOfMemoryError):
        memory.aligned_empty(count, np.float32)


def test_the_size_of_a_parameter_does_not_overflow():
    net = nn.Linear(1 << 40, 1 << 40)
    assert net.weight.nbytes == 1 << 82
    if limits.memory_limit() is not None:
        with pytest.raises(gc.OutOfMemoryError, match=str(1 << 82)):
            gc.compile(net, gc.spec("N", 1 << 40), loss="mse", optimizer=optim.SGD(0.1))


def test_a_slab_that_does_not_fit_is_done_without(monkeypatch):
    def full(nbytes):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory, "_new_slab", full)
    monkeypatch.setattr(memory, "_open", None)
    a = memory.aligned_empty(memory.FROM_SLABS, np.uint8)
    a[:] = 7
    assert a.ctypes.data % memory.ALIGNMENT == 0 and a.sum() == 7 * memory.FROM_SLABS
