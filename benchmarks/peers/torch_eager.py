"""torch as it comes: operator by operator, with the fastest of its three Adam implementations."""

from __future__ import annotations

from benchmarks.peers import Prepared, fastest
from benchmarks.peers.torch_model import data, model, torch, trainer, versions
from benchmarks.workloads import MLP

__all__ = ["prepare", "versions"]

ADAM = {"Adam fused": {"fused": True}, "Adam foreach": {"foreach": True}, "Adam plain": {"foreach": False}}


def prepare(workload: MLP, case: str, threads: int) -> Prepared:
    torch.set_num_threads(threads)
    if case == "forward":
        net, (x, _) = model(workload).eval(), data(workload)

        def forward() -> torch.Tensor:
            with torch.inference_mode():
                return net(x)

        return Prepared(forward, lambda: [float(forward().abs().sum())], "inference mode")

    def check() -> list[float]:
        step = trainer(workload, ADAM[setting])
        return [float(step()) for _ in range(3)]

    setting, step = fastest((name, trainer(workload, adam)) for name, adam in ADAM.items())
    return Prepared(step, check, setting)
