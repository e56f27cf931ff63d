"""Multi-layer perceptrons with ReLU between the layers, trained with Adam on softmax cross-entropy."""

from __future__ import annotations

from benchmarks.layers import Linear, Relu, chain
from benchmarks.workload import Adam, Goal, Input, Task, Workload

ORDER = 2


def mlp(batch: int, inputs: int, hidden1: int, hidden2: int, classes: int) -> Task:
    net = chain(Linear(inputs, hidden1), Relu(), Linear(hidden1, hidden2), Relu(), Linear(hidden2, classes))
    return Task(net, (Input((batch, inputs)),), "cross_entropy", Input((batch,), high=classes), Adam())


def small(batch: int, inputs: int, hidden: int, outputs: int) -> Task:
    return Task(chain(Linear(inputs, hidden), Relu(), Linear(hidden, outputs)), (Input((batch, inputs)),))


TITLE = "MLP {inputs}-{hidden1}-{hidden2}-{classes}, batch {batch}"
SIZES = {"batch": 128, "inputs": 784, "hidden1": 512, "hidden2": 512, "classes": 10}
TINY = {"batch": 5, "inputs": 20, "hidden1": 33, "hidden2": 17, "classes": 3}
FIXED = frozenset({"classes"})
LARGE = {"batch": 256, "inputs": 3072, "hidden1": 4096, "hidden2": 4096, "classes": 1000}

WORKLOADS = [
    Workload(name, ("mlps",), TITLE, mlp, SIZES | sizes, cases, TINY, limit="flops", fixed=FIXED)
    for name, sizes, cases in (
        ("mlp", {}, {"forward": Goal(1.0), "train": Goal(0.60)}),
        ("mlp-16", {"batch": 16}, {"forward": Goal(), "train": Goal(0.7)}),
        ("mlp-1024", {"batch": 1024}, {"forward": Goal(), "train": Goal(0.6)}),
        ("mlp-large", LARGE, {"forward": Goal(), "train": Goal(0.95)}),
    )
] + [
    Workload(
        "small", ("mlps",), "MLP {inputs}-{hidden}-{outputs}, batch {batch}, a call with all checks", small,
        {"batch": 1, "inputs": 16, "hidden": 32, "outputs": 1}, {"forward": Goal(0.4)}, {}, fixed=frozenset({"batch", "outputs"}),
    )
]  # fmt: skip
