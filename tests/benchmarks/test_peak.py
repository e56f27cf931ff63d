"""The copies that memory-bound work is held against copy what they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peak import Copy


@pytest.mark.parametrize("threads", [1, 2])
def test_both_ways_copy_everything(threads: int):
    copy = Copy(10_000, threads)
    assert 9000 < 2 * copy.bytes * threads <= 10_000
    for way in copy.ways:
        for to, source in copy.parts:
            to[:], source[:] = 0, np.arange(copy.bytes) % 251
            way(to.ctypes.data, source.ctypes.data)
            assert (to == source).all()
    assert copy.measure(0.01) > 0
