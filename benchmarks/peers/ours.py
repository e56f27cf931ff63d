"""graphc through its public interface: NumPy arrays in, NumPy arrays or floats out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from benchmarks.peers import Prepared
from benchmarks.workload import Adam, Task
from graphc import nn, optim
from graphc.backends.cpu.executable import CpuExecutable

OPTIONS: dict[str, Any] = {"target": "cpu"}
if os.environ.get("GRAPHC_BENCH_CLAIMS") == "none" and "claims" in inspect.signature(CpuExecutable).parameters:
    OPTIONS["claims"] = "none"  # where there is no such option, nothing is claimed anyway


def versions() -> dict[str, str]:
    import llvmlite
    import numba

    return {"graphc": gc.__version__, "numba": numba.__version__, "llvmlite": llvmlite.__version__}


def spec(shape: tuple[int, ...], dtype: Any, named: bool) -> Any:
    axes = (gc.Dim("N", hint=shape[0]), *shape[1:]) if named else shape
    return gc.spec(*axes, dtype=dtype)


def module(task: Task) -> nn.Module:
    net = task.net.module(nn)
    held = dict((*net.named_parameters(), *net.named_buffers()))
    for name, value in task.weights().items():
        held[name].assign(value)
    return net


def optimizer(task: Task) -> Any:
    rule = task.optimizer
    if isinstance(rule, Adam):
        return optim.Adam(rule.lr, (rule.beta1, rule.beta2), rule.eps)
    assert rule is not None
    return optim.SGD(rule.lr, rule.momentum)


class Runner:
    """One task: ``function`` does a case once; ``executable`` is what runs it."""

    def __init__(self, task: Task, case: str, **options: Any) -> None:
        self.task, self.net, self.options = task, module(task), {**OPTIONS, **options}
        self.inputs = task.values()
        self.specs = [spec(a.shape, a.dtype, task.named_batch) for a in self.inputs]
        self.executable: Any = None
        self.function: Callable[[], Any] = getattr(self, f"_{case}")()

    def _forward(self) -> Callable[[], Any]:
        model, inputs = gc.compile(self.net, *self.specs, **self.options), self.inputs
        self.executable = lambda: model.executables["predict"]
        return lambda: model.predict(*inputs) if len(inputs) == 1 else model.predict(inputs)

    def _backward(self) -> Callable[[], Any]:
        net, dy = self.net, self.task.output_gradient()
        moving = [i for i, a in enumerate(self.inputs) if a.dtype.kind == "f"]

        def both(*args: Any) -> Any:
            *xs, dy = args
            grads = gc.grad(lambda *xs: (net(*xs) * dy).sum(), wrt=[*moving, *net.parameters()])(*xs)
            return net(*xs), *grads

        made = gc.compile(both, *self.specs, spec(dy.shape, dy.dtype, self.task.named_batch), **self.options)
        self.executable = lambda: made.executable
        return lambda: made(*self.inputs, dy)

    def _loss(self) -> Callable[[], Any]:
        net, y = self.net, self.task.label_values()
        loss_of = getattr(gc.ops, self.task.loss)
        made = gc.compile(
            lambda x, y: gc.value_and_grad(lambda x: loss_of(net(x), y))(x),
            *self.specs, spec(y.shape, y.dtype, self.task.named_batch), **self.options,
        )  # fmt: skip
        self.executable = lambda: made.executable
        return lambda: made(*self.inputs, y)

    def _train(self) -> Callable[[], Any]:
        model = gc.compile(self.net, *self.specs, loss=self.task.loss, optimizer=optimizer(self.task), **self.options)
        (x,), y = self.inputs, self.task.label_values()
        self.executable = lambda: model.executables["train_step"]
        return lambda: model.train_on_batch(x, y)["loss"]

    def _update(self) -> Callable[[], Any]:
        net, rule = self.net, optimizer(self.task)
        grads = list(self.task.gradients().values())

        def step(grads: Any) -> None:
            rule.apply(grads, net.parameters())

        made = gc.step(step, [spec(g.shape, g.dtype, False) for g in grads], **self.options)
        self.executable = lambda: made.executable
        return lambda: made(grads)

    def check(self, case: str) -> list[Any]:
        """See ``Prepared.check``; for a new runner."""
        if case == "train":
            return [[self.function() for _ in range(3)]]
        if case == "update":
            for _ in range(3):
                self.function()
            return [p.numpy() for p in self.net.parameters()]
        out = self.function()
        return [np.array(o) for o in (out if isinstance(out, tuple) else (out,))]


def prepare(task: Task, case: str, threads: int) -> Prepared:
    runner = Runner(task, case)
    return Prepared(runner.function, lambda: runner.check(case))


def first(task: Task, case: str, threads: int) -> None:
    Runner(task, case).function()


def memory(task: Task, case: str, threads: int) -> int:
    """Bytes that a call needs, by the plan: arguments, parameters, state and temporaries."""
    runner = Runner(task, case)
    runner.function()
    plan = runner.executable().memory_analysis()
    given = [*runner.inputs, *([task.label_values()] if case == "train" else [])]
    return plan.arena_bytes + plan.working_bytes + plan.slot_bytes + sum(a.nbytes for a in given)
