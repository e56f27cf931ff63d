"""How much a second thread helps a matrix product."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.workload import Goal
from benchmarks.workloads import gemm

ORDER = 15
WORKLOADS = [
    replace(w, name="threads", groups=("threads",), title=f"two threads against one: {w.title}", cases={"forward": Goal(least=1.9)}, limit="", measure="threads")
    for w in gemm.WORKLOADS
    if w.name == "gemm-1024"
]
