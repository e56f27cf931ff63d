"""Arrays at call time against the declared specs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc


@pytest.fixture
def f(target):
    return gc.compile(
        lambda a, b, c: (a @ b).cast("float32") + c.cast("float32"),
        gc.spec("N", 3),
        gc.spec(3, 2),
        gc.spec("N", 1, dtype="int64"),
        target=target,
    )


A, B, C = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32), np.ones((4, 1), np.int64)


@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        ((A, B), gc.ArgumentError, "takes 3 arguments (a: float32(N, 3), b: float32(3, 2), c: int64(N, 1)): missing c"),
        ((A, B, C, C), gc.ArgumentError, "4 given"),
        ((A[0], B, C), gc.ShapeError, "a: expected float32(N, 3), got float32(3,)"),
        ((A, B.T, C), gc.ShapeError, "b: expected float32(3, 2), got float32(2, 3)"),
        ((A, B, C[:3]), gc.GuardError, "c: N is 3 on axis 0, but a has N = 4"),
        ((A.astype(np.int32), B, C), gc.DTypeError, "a: expected float32(N, 3), got int32(4, 3)"),
        ((A, B, C.astype(np.float32)), gc.DTypeError, "c: expected int64(N, 1), got float32(4, 1)"),
        ((A.astype(bool), B, C), gc.DTypeError, "a: expected float32(N, 3), got bool(4, 3)"),
        ((A.astype(complex), B, C), gc.DTypeError, "got complex128"),
        (([["x"] * 3] * 4, B, C), gc.DTypeError, "a: expected float32(N, 3)"),
        (([[1.0, 2.0, 3.0], [1.0]], B, C), gc.ShapeError, "a: the values form no array"),
        ((None, B, C), gc.DTypeError, "a: expected"),
    ],
)
def test_mistakes(f, args, kind, text):
    with pytest.raises(kind) as e:
        f(*args)
    assert text in str(e.value)


def test_hint_of_the_cast(f):
    with pytest.raises(gc.DTypeError) as e:
        f(A.astype(np.uint8), B, C)
    assert e.value.hint == "a.astype('float32')"


def test_what_is_taken(f):
    want = A @ B + 1
    for a in (
        A,
        A.astype(np.float64),
        A.astype(np.float16),
        A.tolist(),
        np.ones((4, 3), int).tolist(),
        np.asfortranarray(A),
        A[::-1],
        np.ones((8, 3))[::2],
    ):
        np.testing.assert_allclose(f(a, B, C), want)
    for c in (C.astype(np.int8), C.astype(np.uint32), C.tolist()):
        np.testing.assert_allclose(f(A, B, c), want)
    np.testing.assert_allclose(f(A, c=C, b=B), want)
    with pytest.raises(gc.ArgumentError, match="unexpected d"):
        f(A, B, C, d=1)


def test_integers_that_do_not_fit(target):
    f = gc.compile(lambda i: i + 1, gc.spec("N", dtype="int8"), target=target)
    assert f([1, 2]).tolist() == [2, 3]
    with pytest.raises(gc.DTypeError, match="values from 1 to 300 do not fit int8"):
        f([1, 300])


def test_inputs_are_not_changed(target):
    f = gc.compile(lambda a: a * 2, gc.spec("N"), target=target)
    a = np.arange(3, dtype=np.float32)
    a.setflags(write=False)
    assert f(a).tolist() == [0, 2, 4] and a.tolist() == [0, 1, 2]


def test_structures(target):
    f = gc.compile(
        lambda d, pair: {"sum": d["x"] + d["y"], "parts": (pair[0], [pair[1] * 2])},
        {"x": gc.spec(2), "y": gc.spec(2)},
        (gc.spec(1), gc.spec("N")),
        target=target,
    )
    out = f({"y": [1.0, 1.0], "x": [1.0, 2.0]}, ([5.0], [1.0, 2.0, 3.0]))
    assert (
        out["sum"].tolist() == [2, 3] and out["parts"][0].tolist() == [5] and out["parts"][1][0].tolist() == [2, 4, 6]
    )
    with pytest.raises(gc.ArgumentError, match="d: expected a dict with the keys x, y"):
        f({"x": [1.0, 1.0]}, ([5.0], [1.0]))
    with pytest.raises(gc.ArgumentError, match="pair: expected 2 arrays in a tuple"):
        f({"x": [1.0, 1.0], "y": [1.0, 1.0]}, ([5.0],))


def test_sizes_as_values_and_batch_sizes(target):
    f = gc.compile(lambda x: x.sum() / x.shape[0], gc.spec(gc.Dim("N", hint=8)), target=target)
    for n in (1, 2, 37, 128):
        np.testing.assert_allclose(f(np.arange(n, dtype=np.float32)), (n - 1) / 2, rtol=1e-6)
    assert f.graph.meta["hints"] == {"N": 8}


def test_an_example_array_is_a_spec(target):
    f = gc.compile(lambda a: a + 1, np.zeros((2, 2)), target=target)
    assert f(np.zeros((2, 2))).dtype == np.float64
    with pytest.raises(gc.ShapeError):
        f(np.zeros((3, 2)))
