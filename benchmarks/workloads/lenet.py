"""LeNet with ReLU and max-pooling, trained by gradient descent with momentum."""

from __future__ import annotations

from benchmarks.layers import Conv, Flatten, Linear, MaxPool, Relu, chain
from benchmarks.workload import SGD, Goal, Input, Task, Workload

ORDER = 10


def lenet(batch: int, image: int, channels1: int, channels2: int, hidden1: int, hidden2: int, classes: int) -> Task:
    left = (image // 2 - 4) // 2
    net = chain(
        Conv(1, channels1, 5, padding=2), Relu(), MaxPool(2), Conv(channels1, channels2, 5), Relu(), MaxPool(2), Flatten(),
        Linear(channels2 * left * left, hidden1), Relu(), Linear(hidden1, hidden2), Relu(), Linear(hidden2, classes),
    )  # fmt: skip
    return Task(net, (Input((batch, 1, image, image)),), "cross_entropy", Input((batch,), high=classes), SGD(0.01, 0.9))


WORKLOADS = [
    Workload(
        "lenet", ("conv",), "LeNet, {image} x {image}, batch {batch}", lenet,
        {"batch": 64, "image": 28, "channels1": 6, "channels2": 16, "hidden1": 120, "hidden2": 84, "classes": 10},
        {"forward": Goal(), "train": Goal(0.5)},
        {"batch": 3, "image": 14, "channels1": 2, "channels2": 3, "hidden1": 20, "hidden2": 11, "classes": 3},
        limit="flops", fixed=frozenset({"classes"}),
    )
]  # fmt: skip
