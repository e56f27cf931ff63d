"""graphc through its public interface: NumPy arrays in, NumPy arrays or floats out."""

from __future__ import annotations

import numpy as np

import graphc as gc
from benchmarks.peers import Prepared
from benchmarks.workloads import LEARNING_RATE, MLP
from graphc import nn, optim


def versions() -> dict[str, str]:
    import llvmlite
    import numba

    return {"graphc": gc.__version__, "numba": numba.__version__, "llvmlite": llvmlite.__version__}


def prepare(workload: MLP, case: str, threads: int) -> Prepared:
    layers = []
    for i, o in zip(workload.dims, workload.dims[1:]):
        layers += [nn.Linear(i, o), nn.ReLU()]
    spec = gc.spec(gc.Dim("N", hint=workload.batch), workload.dims[0])
    training = {"loss": "cross_entropy", "optimizer": optim.Adam(LEARNING_RATE)} if case == "train" else {}
    model = gc.compile(nn.Sequential(*layers[:-1]), spec, **training)
    state = model.state_dict()
    for i, (w, b) in enumerate(workload.weights()):
        state[f"{2 * i}.weight"], state[f"{2 * i}.bias"] = np.ascontiguousarray(w.T), b
    model.load_state_dict(state)

    x, y = workload.data()
    if case == "forward":
        return Prepared(lambda: model.predict(x), lambda: [float(np.abs(model.predict(x)).sum())])
    return Prepared(
        lambda: model.train_on_batch(x, y), lambda: [model.train_on_batch(x, y)["loss"] for _ in range(3)]
    )
