"""One module per peer.

Each has ``versions() -> dict`` and ``prepare(task, case, threads) -> Prepared``, which is measured at its best setting; most have
``first(task, case, threads)``, one call with the usual setting and nothing more, for what a new process waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.workload import CASES

PEERS = {  # name in the table -> module, and the cases it can do
    "graphc": ("ours", CASES),
    "torch eager": ("torch_eager", CASES),
    "torch.compile": ("torch_compile", CASES),
    "JAX": ("jax_jit", CASES),
    "ONNX Runtime": ("onnx_runtime", ("forward",)),
}
OURS = "graphc"
REFERENCE = "reference"  # the process that computes in float64 what all must agree on


class NotAvailable(Exception):
    """The peer cannot run here, or cannot do this case; the message says why."""


@dataclass
class Prepared:
    """A case ready to be timed: ``call`` does it once, ``check`` gives arrays in torch's layouts for comparison.

    ``check`` is called once, before any timing, from the initial weights; for training it gives the losses of three steps as one
    array (a loss near 0 is not compared with itself), for "update" the parameters after three.
    """

    call: Callable[[], Any]
    check: Callable[[], Sequence[Any]]
    setting: str = ""


def fastest(candidates: Iterable[tuple[str, Callable[[], Any]]], seconds: float = 0.15) -> tuple[str, Callable[[], Any]]:
    """The candidate setting with the shortest median call, so that a peer is measured at its best.

    The candidates take three turns and the best turn of each counts: one slow moment must not decide.
    """
    listed = list(candidates)
    if len(listed) == 1:
        return listed[0]
    best = {name: float("inf") for name, _ in listed}
    for turn in range(3):
        for name, call in listed:
            for _ in range(2 if turn == 0 else 1):
                call()
            times = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or not times:
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            best[name] = min(best[name], sorted(times)[len(times) // 2])
    return min(listed, key=lambda candidate: best[candidate[0]])
