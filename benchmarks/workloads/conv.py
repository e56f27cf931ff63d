"""One 3 x 3 convolution."""

from __future__ import annotations

from benchmarks.layers import Conv
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 9


def conv(batch: int, inputs: int, outputs: int, height: int, width: int) -> Task:
    return Task(Conv(inputs, outputs, 3, padding=1), (Input((batch, inputs, height, width)),))


WORKLOADS = [
    Workload(
        "conv-3x3", ("conv",), "convolution 3x3, {inputs} -> {outputs} channels, {height} x {width}, batch {batch}", conv,
        {"batch": 8, "inputs": 64, "outputs": 64, "height": 56, "width": 56}, {"forward": Goal(1.1), "backward": Goal(1.1)},
        {"batch": 2, "inputs": 3, "outputs": 5, "height": 7, "width": 6}, limit="flops",
    )
]  # fmt: skip
