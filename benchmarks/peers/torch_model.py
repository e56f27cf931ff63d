"""A task in torch; torch_eager and torch_compile time it, and in float64 it is the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.layers import Conv, walk
from benchmarks.peers import NotAvailable, Prepared, fastest
from benchmarks.workload import Adam, Task

try:
    import torch
except ImportError as error:
    raise NotAvailable("torch is not installed: pip install -r tests/oracles.txt") from error

KINDS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "plain": {"foreach": False}}
Wrap = Callable[[Callable], Callable]


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def formats(task: Task) -> dict[str, Any]:
    """The memory formats worth trying."""
    tried = {"contiguous": torch.contiguous_format}
    images = any(isinstance(layer, Conv) for _, layer in walk(task.net))
    return {"channels-last": torch.channels_last, **tried} if images else tried


class Runner:
    """One task in torch: ``function`` does a case once, ``reset`` gives it the initial weights again."""

    def __init__(
        self, task: Task, case: str, memory: Any = None, dtype: Any = None, wrap: Wrap = lambda f: f, kinds: Sequence[str] = tuple(KINDS),
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.task, self.case, self.memory, self.wrap, self.device = task, case, memory, wrap, device
        self.dtype = torch.float32 if dtype is None else dtype
        self.start = {k: torch.from_numpy(v) for k, v in task.weights().items()}
        self.net = task.net.module(torch.nn)
        self.net.to(device, self.dtype)
        if memory is not None:
            self.net.to(memory_format=memory)
        self.net.train(case == "train")
        self.inputs = [self.tensor(a) for a in task.values()]
        self.optimizers: dict[str, Any] = {}
        self.optimizer: Any = None
        self.kinds, self.used = kinds, kinds[0]
        self.reset()
        self.function: Callable[[], Any] = getattr(self, f"_{case}")()

    def tensor(self, array: Any) -> torch.Tensor:
        made = torch.from_numpy(array).to(self.device)
        if made.is_floating_point():
            made = made.to(self.dtype)
            if made.ndim == 4 and self.memory is not None:
                made = made.contiguous(memory_format=self.memory)
        return made

    def reset(self) -> None:
        """The initial weights, and optimisers without a past."""
        with torch.no_grad():
            state = self.net.state_dict()
            for name, value in self.start.items():
                state[name].copy_(value)
        rule, params = self.task.optimizer, list(self.net.parameters())
        if self.case not in ("train", "update") or rule is None:
            return
        for name in self.kinds:
            kind = KINDS[name]
            if isinstance(rule, Adam):
                self.optimizers[name] = torch.optim.Adam(params, rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps, **kind)
            else:
                self.optimizers[name] = torch.optim.SGD(params, rule.lr, momentum=rule.momentum, **kind)
        self.use(self.used)

    def use(self, name: str) -> None:
        """Takes another implementation of the optimiser."""
        self.used, self.optimizer = name, self.optimizers[name]

    def best(self, setting: str) -> Prepared:
        """Ready to be timed, with the fastest implementation of the optimiser."""
        if self.optimizers:

            def using(name: str) -> Callable[[], Any]:
                def call() -> Any:
                    self.optimizer = self.optimizers[name]
                    return self.function()

                return call

            name, _ = fastest((name, using(name)) for name in self.kinds)
            self.use(name)
            setting = ", ".join([setting] * bool(setting) + [f"{type(self.task.optimizer).__name__} {name}"])
        return Prepared(self.function, self.check, setting)

    def loss(self) -> Callable[..., torch.Tensor]:
        f = torch.nn.functional.cross_entropy if self.task.loss == "cross_entropy" else torch.nn.functional.mse_loss
        return lambda *args: f(self.net(*args[:-1]), args[-1])

    def _forward(self) -> Callable[[], Any]:
        net, inputs = self.wrap(self.net), self.inputs

        def call() -> Any:
            with torch.inference_mode():
                return net(*inputs)

        return call

    def _backward(self) -> Callable[[], Any]:
        net, dy = self.wrap(self.net), self.tensor(self.task.output_gradient())
        moving = [x.requires_grad_() for x in self.inputs if x.is_floating_point()]
        wanted = [*moving, *self.net.parameters()]

        def call() -> Any:
            y = net(*self.inputs)
            return y.detach(), *torch.autograd.grad(y, wanted, dy)

        return call

    def _loss(self) -> Callable[[], Any]:
        loss_of, y = self.wrap(self.loss()), self.tensor(self.task.label_values())
        x = self.inputs[0].requires_grad_()

        def call() -> Any:
            loss = loss_of(x, y)
            return loss.detach(), *torch.autograd.grad(loss, [x])

        return call

    def _train(self) -> Callable[[], Any]:
        loss_of, y = self.wrap(self.loss()), self.tensor(self.task.label_values())

        def call() -> torch.Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(*self.inputs, y)
            loss.backward()
            self.optimizer.step()
            return loss.detach()

        return call

    def _update(self) -> Callable[[], Any]:
        grads = self.task.gradients()
        for name, p in self.net.named_parameters():
            p.grad = self.tensor(grads[name])
        step = self.wrap(lambda: self.optimizer.step())
        return step

    def check(self) -> list[Any]:
        """See ``Prepared.check``."""
        self.reset()
        if self.case == "train":
            return [[self.function().item() for _ in range(3)]]
        if self.case == "update":
            for _ in range(3):
                self.function()
            return [p.detach().cpu().numpy() for p in self.net.parameters()]
        out = self.function()
        return [o.detach().cpu().numpy() for o in (out if isinstance(out, tuple) else (out,))]

