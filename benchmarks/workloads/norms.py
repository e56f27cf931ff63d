"""Layer, RMS and batch normalisation of a matrix."""

from __future__ import annotations

from functools import partial

from benchmarks.layers import BatchNorm, Layer, LayerNorm, RMSNorm
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 4


def norm(kind: type[Layer], rows: int, width: int) -> Task:
    net = BatchNorm(width, running=False) if kind is BatchNorm else kind(width)  # type: ignore[call-arg]
    return Task(net, (Input((rows, width)),), named_batch=False)


WORKLOADS = [
    Workload(
        f"{name}norm", ("rows", "norms"), f"{name} norm" + ", {rows} x {width}", partial(norm, kind), {"rows": 4096, "width": 1024},
        {"forward": Goal(0.8, 0.8), "backward": Goal(0.8, 0.8)}, {"rows": 37, "width": 50}, limit="bytes",
    )
    for name, kind in (("layer", LayerNorm), ("rms", RMSNorm), ("batch", BatchNorm))
]  # fmt: skip
