"""Runs printed kernels on Numba's own simulator: ``python -m tests.cuda.numba_simulator JOBS RESULTS`` with NUMBA_ENABLE_CUDASIM=1.

That simulator has a Python thread for every CUDA thread, and neither libdevice nor accesses of 16 bytes nor copies beside the threads: those
are given here in plain Python.
"""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
from numba import cuda


def fused(x, y, z):
    """Rounded once."""
    return np.float32(np.float64(x) * np.float64(y) + np.float64(z))


def load4(local, first, source, at):
    """Four neighbours."""
    for i in range(4):
        local[first + i] = source[at + i]


def store4(target, at, local):
    """Four neighbours."""
    for i in range(4):
        target[at + i] = local[i]


def copy(width):
    """A copy that has arrived when it returns."""

    def f(shared, at, source, start, count):
        for i in range(width):
            shared[at + i] = source[start + i] if i < count else 0

    return f


def nothing():
    """Commits and waits: copies have arrived."""


def main(jobs, results):
    """Each job: text, blocks, threads, arguments by name. The result: its arrays after the run."""
    assert cuda.is_available() and "simulator" in cuda.jit.__module__, "NUMBA_ENABLE_CUDASIM=1 is not set"
    cuda.libdevice = types.SimpleNamespace(fmaf=fused)
    device = types.ModuleType("graphc.backends.cuda.device")
    device.load4, device.store4 = load4, store4
    device.copy1, device.copy4 = copy(1), copy(4)
    device.commit_copies = device.wait_copies0 = device.wait_copies1 = nothing
    sys.modules["graphc.backends.cuda.device"] = device
    out = []
    with open(jobs, "rb") as f:
        given = pickle.load(f)
    for text, blocks, threads, args in given:
        made = {}
        exec(text.replace(", alignment=16", ""), made)
        with np.errstate(all="ignore"):
            made["kernel"][blocks, threads](*args.values())
        out.append({k: v for k, v in args.items() if isinstance(v, np.ndarray)})
    with open(results, "wb") as f:
        pickle.dump(out, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
