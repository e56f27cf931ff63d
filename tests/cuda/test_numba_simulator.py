"""Our simulator against Numba's: kernels that both can run give the same numbers."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np

from graphc import ops
from graphc.backends.cuda.sim import Memory, launch
from graphc.compiler import compile_graph
from graphc.testing import build_graph


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


CASES = {
    "map": (lambda x, y: x * y + 0.5, (normal(5, 13), normal(5, 13, seed=1))),
    "map by sixteen bytes": (lambda x, y: ops.where(x > 0.0, x, y * 3.0), (normal(4, 16), normal(4, 16, seed=1))),
    "padding": (lambda x: x.pad((1, 2), (2, 1)).transpose(1, 0), (normal(4, 5),)),
    "gather": (lambda x, i: ops.take(x, i, 0), (normal(7, 5), np.array([6, 0, 3, 3, 1]))),
    "columns, with barriers": (lambda x: x.max(0), (normal(70, 33),)),
    "window": (lambda x: x.max_pool2d(2), (normal(1, 2, 6, 6),)),
    "product, with shared memory": (lambda a, b: (a @ b).relu(), (normal(9, 21), normal(21, 12, seed=1))),
    "convolution": (lambda x, w: ops.conv(x, w, padding=1), (normal(1, 2, 4, 5), normal(3, 2, 3, 3, seed=1))),
}


def job(fn, arrays):
    """The one kernel of a function, its grid and its arguments."""
    graph, given = build_graph(fn, *arrays)
    (k,) = compile_graph(graph, "cuda-sim").kernels
    args = {}
    for p in k.printed.params:
        if p.kind == "buffer":
            empty = np.zeros(p.value.elements, p.dtype.numpy)
            args[p.name] = given[p.value.name].reshape(-1).copy() if p.value.name in given else empty
        else:
            args[p.name] = p.dtype.numpy.type(p.value if p.kind == "size" else p.value[0][1])
    team = k.printed.team
    return k.printed.text, min(-(-k.printed.points // team.points), 2), team.threads, args


def test_both_simulators_agree(tmp_path):
    jobs = {name: job(*case) for name, case in CASES.items()}
    texts = "".join(text for text, *_ in jobs.values())
    assert all(word in texts for word in ("cuda.syncthreads()", "cuda.shared.array", "cuda.local.array", "load4(", "store4("))
    (tmp_path / "jobs").write_bytes(pickle.dumps(list(jobs.values())))
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.cuda.numba_simulator", tmp_path / "jobs", tmp_path / "results"],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    theirs = dict(zip(jobs, pickle.loads((tmp_path / "results").read_bytes()), strict=True))
    for name, (text, blocks, threads, args) in jobs.items():
        memory = {k: Memory(k, v.copy()) if isinstance(v, np.ndarray) else v for k, v in args.items()}
        launch(text, blocks, threads, memory)
        changed = 0
        for k, v in theirs[name].items():
            np.testing.assert_allclose(memory[k].data, v, rtol=1e-6, atol=1e-7, err_msg=f"{name}: {k}")
            changed += not np.array_equal(v, args[k])
        assert changed == 1, name
