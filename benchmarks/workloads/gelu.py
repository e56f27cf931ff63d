"""A chain of elementwise operators around GELU."""

from __future__ import annotations

from functools import partial

from benchmarks.layers import Gelu, Scale, chain
from benchmarks.workload import Goal, Input, Task, Workload

ORDER = 3


def gelu(approximate: str, numbers: int) -> Task:
    return Task(chain(Scale(1.1, 0.2), Gelu(approximate), Scale(1.3, 0.4)), (Input((numbers,)),), named_batch=False)


WORKLOADS = [
    Workload(
        f"gelu-{name}", ("elementwise",), f"GELU(x*a+b)*c+d by {name}" + ", {numbers} numbers", partial(gelu, approximate),
        {"numbers": 1 << 22}, {"forward": Goal(0.5, 0.85)}, {"numbers": 1003}, limit="bytes",
    )
    for name, approximate in (("tanh", "tanh"), ("erf", "none"))
]  # fmt: skip
