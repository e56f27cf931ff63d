"""Vector math as compiled kernels: errors within what the records state, over a sweep of float32 and special values."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ulp import FUNCTIONS, measure, ulps
from graphc.ir.op import all_ops, lookup


def test_every_stated_error_is_measured():
    assert {op.name for op in all_ops() if op.ulp is not None} == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_float32(name):
    worst = measure(name, "float32", step=4099, count=1 << 16)
    assert worst.error <= lookup(name).ulp[0], worst


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(n for n, f in FUNCTIONS.items() if not f.precise))
def test_float64(name):
    if np.finfo(np.longdouble).nmant < 60:
        pytest.skip("no extended precision here")
    worst = measure(name, "float64", count=1 << 16)
    assert worst.error <= lookup(name).ulp[1], worst


def test_the_measure_itself():
    one = np.float32(1.0)
    assert ulps(np.array([one]), np.array([1.0 + 2.0**-23])) == 1.0
    assert ulps(np.array([np.nextafter(one, np.float32(0))]), np.array([1.0])) == 0.5  # units are those of the true value
    assert ulps(np.array([0.0], np.float32), np.array([2.0**-149])) == 1.0
    assert ulps(np.array([np.inf], np.float32), np.array([float(np.finfo(np.float32).max)])) == 1.0
    assert ulps(np.array([np.nan, np.inf], np.float32), np.array([np.nan, np.inf])).max() == 0.0
    assert np.isinf(ulps(np.array([np.nan, -0.0], np.float32), np.array([1.0, 0.0]))).all()
