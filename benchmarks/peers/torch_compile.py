"""torch.compile: for the forward pass also with frozen weights, for training the fastest of three Adam settings."""

from __future__ import annotations

import os
import shutil

from benchmarks.peers import NotAvailable, Prepared, fastest
from benchmarks.peers.torch_eager import ADAM
from benchmarks.peers.torch_model import data, model, torch, trainer, versions
from benchmarks.workloads import MLP

__all__ = ["prepare", "versions"]


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def prepare(workload: MLP, case: str, threads: int) -> Prepared:
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise NotAvailable("torch.compile needs a C++ compiler, and there is none")
    torch.set_num_threads(threads)
    if case == "forward":
        x, _ = data(workload)

        def forward(freezing: bool):
            import torch._inductor.config as inductor

            inductor.freezing = freezing
            net = compiled(model(workload).eval())
            with torch.no_grad():
                net(x)

            def call() -> torch.Tensor:
                with torch.no_grad():
                    return net(x)

            return call

        setting, call = fastest((("frozen weights", forward(True)), ("default", forward(False))))
        return Prepared(call, lambda: [float(call().abs().sum())], setting)

    def check() -> list[float]:
        step = trainer(workload, ADAM[setting], compiled)
        return [float(step()) for _ in range(3)]

    setting, step = fastest((name, trainer(workload, adam, compiled)) for name, adam in ADAM.items())
    return Prepared(step, check, setting)
