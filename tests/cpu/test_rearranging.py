"""Rearrangements and Einstein sums as compiled kernels: many in one graph, so that they are compiled once."""

from __future__ import annotations

import numpy as np

import graphc as gc
from graphc import ops
from tests.ops.test_rearranging import CASES, EINSUM, X, rand


def test_einsums():
    arrays = [[rand(*s, seed=i).astype(np.float32) if s else np.float32(0.5) for i, s in enumerate(shapes)] for _, *shapes in EINSUM[::2]]
    flat = [np.asarray(a) for group in arrays for a in group]

    def all_of_them(*xs):
        rest = iter(xs)
        return tuple(ops.einsum(case[0], *(next(rest) for _ in group)) for case, group in zip(EINSUM[::2], arrays, strict=True))

    found = gc.compile(all_of_them, *(gc.spec(*a.shape) for a in flat), target="cpu")(*flat)
    for (equation, *_), group, f in zip(EINSUM[::2], arrays, found, strict=True):
        np.testing.assert_allclose(f, np.einsum(equation, *group), rtol=1e-5, atol=1e-5, err_msg=equation)


def test_rearrangements():
    x = X.astype(np.float32)
    chosen = [p.values[0] for p in CASES[::2]]

    def results(m, a):
        for fn in chosen:
            r = fn(m, a)
            yield from r if isinstance(r, (tuple, list)) else [r]

    found = gc.compile(lambda a: tuple(results(ops, a)), gc.spec(*x.shape), target="cpu")(x)
    for f, w in zip(found, results(np, x), strict=True):
        assert f.shape == np.shape(w)
        np.testing.assert_allclose(f, w, rtol=1e-5, atol=1e-6)
