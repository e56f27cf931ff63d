"""The compiled entry of small programs: the same results as the long way, and only for arrays that are just so."""

from __future__ import annotations

import pickle
import sys
import threading

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.backends.cpu.machine import entry, entry_code
from graphc.errors import ShapeError


def small() -> gc.Model:
    return gc.compile(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), gc.spec("N", 6))


def wanted(model: gc.Model, x: np.ndarray) -> np.ndarray:
    s = model.state_dict()
    return np.tanh(x @ s["0.weight"].T + s["0.bias"]) @ s["2.weight"].T + s["2.bias"]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def test_the_words_are_those_of_the_compiled_code():
    assert all(getattr(entry, n) == getattr(entry_code, n) for n in ("OTHER", "TYPE", "DESCR", "RANK", "START", "NOWHERE", "DESCRIPTOR", "IO", "DIMS"))
    assert entry._known_layout()


def test_the_second_call_is_quick_and_gives_the_same(x: np.ndarray):
    model = small()
    assert model._quick is None
    first = model.predict(x)
    assert model._quick is not None
    second = model._quick(x)
    assert second is not None and second is not first
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(model(x), wanted(model, x), rtol=1e-5, atol=1e-6)


def test_arrays_that_are_not_just_so_go_the_long_way(x: np.ndarray):
    model = small()
    model.predict(x)
    quick = model._quick

    class Named(np.ndarray):
        pass

    wide = np.repeat(x, 2, axis=1)
    misaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view("float32").reshape(x.shape)
    others = [x.astype("float64"), np.asfortranarray(x), wide[:, ::2], x[:2], x[0], x.tolist(), x.astype(">f4"), x.view(Named), misaligned, None, 7, "x", np.float32(1)]
    for other in others:
        assert quick(other) is None
    for other in others[:4] + others[5:9]:
        np.testing.assert_allclose(model.predict(other), wanted(model, np.asarray(other, "float32")), rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError):
        model.predict(x[:, :5])


def test_new_parameters_count(x: np.ndarray):
    model = small()
    model.predict(x)
    before = model.predict(x)
    model.load_state_dict({k: v * 0.5 for k, v in model.state_dict().items()})
    after = model.predict(x)
    np.testing.assert_allclose(after, wanted(model, x), rtol=1e-5, atol=1e-6)
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(after, model.predict(x))


def test_sizes_in_turn(x: np.ndarray):
    model = small()
    for n in (4, 1, 0, 4, 3, 3, 1, 0):
        got = model.predict(x[:n])
        assert got.shape == (n, 3)
        np.testing.assert_allclose(got, wanted(model, x[:n]), rtol=1e-5, atol=1e-6)


def test_no_reference_is_lost_or_kept(x: np.ndarray):
    model = small()
    model.predict(x)
    quick, other = model._quick, x.astype("float64")
    held = sys.getrefcount(x), sys.getrefcount(other), sys.getrefcount(None)
    outs = [quick(x) for _ in range(100)]
    for _ in range(100):
        quick(other)
    assert (sys.getrefcount(x), sys.getrefcount(other)) == held[:2] and abs(sys.getrefcount(None) - held[2]) < 10
    plain = [np.empty(3) for _ in range(100)]
    assert [sys.getrefcount(o) for o in outs] == [sys.getrefcount(o) for o in plain]


def test_threads_with_sizes_of_their_own(x: np.ndarray):
    model, wrong = small(), []
    want = {n: wanted(model, x[:n]) for n in (1, 2, 3, 4)}

    def call(n: int) -> None:
        for _ in range(300):
            if not np.allclose(model.predict(x[:n]), want[n], rtol=1e-5, atol=1e-6):
                wrong.append(n)

    threads = [threading.Thread(target=call, args=(n,)) for n in want]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_functions_have_it_too(x: np.ndarray):
    f = gc.compile(lambda x: (x * 2.0).sum(), gc.spec(4, 6))
    a, b = f(x), f(x)
    assert f._quick is not None and type(a) is type(b) and a.shape == b.shape == ()
    np.testing.assert_array_equal(a, b)
    pair = gc.compile(lambda x, y: x + y, gc.spec(4, 6), gc.spec(4, 6))
    pair(x, x)
    assert pair._quick is None


def test_outputs_asked_for_by_name(x: np.ndarray):
    model = small()
    model.predict(x)
    assert set(model.predict(x, outputs=["0"])) == {"0"}
    model.outputs = "0"
    assert model.predict(x).shape == (4, 8)
    model.outputs = None
    assert model.predict(x).shape == (4, 3)


def test_a_pickled_array_may_have_a_dtype_object_of_its_own(x: np.ndarray):
    model = small()
    model.predict(x)
    np.testing.assert_allclose(model.predict(pickle.loads(pickle.dumps(x))), wanted(model, x), rtol=1e-5, atol=1e-6)
