"""Optimisers. Learning rate, step counter and moments are state of the model's store, never constants of a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError, ShapeError, TraceError
from graphc.ir.dtypes import float32, float64, int64
from graphc.ir.node import Node

from .differentiate import loss_gradients
from .parameter import Parameter, current_trace
from .trace import Trace

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "as_optimizer", "clip_by_global_norm"]


def _positive(name: str, value: float, low: float = 0.0, high: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < high:
        raise ArgumentError(f"{name} = {value!r} is not in [{low:g}, {high:g})")
    return float(value)


class Optimizer:
    """Base: a subclass names its moments in ``slots`` and defines :meth:`update`.

    The object holds settings only; its state stands in the store as ``optimizer.step``, ``optimizer.lr`` and
    ``optimizer.<slot>.<parameter>``. A second optimiser in one training step gets the prefix ``optimizer_1``.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, lr: float):
        self.lr = _positive("lr", lr)

    def state_spec(self, param: Parameter) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Name -> (shape, dtype) of the state of one parameter."""
        return dict.fromkeys(self.slots, (param.shape, param.dtype))

    def update(
        self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node
    ) -> tuple[Node, dict[str, Node]]:
        """The new parameter and its new state; ``step`` (int64) counts from 1."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Name and numbers, for files and summaries."""
        return {
            "name": type(self).__name__,
            **{k: v for k, v in vars(self).items() if isinstance(v, (int, float, bool))},
        }

    def __repr__(self) -> str:
        rest = {k: v for k, v in self.settings().items() if k != "name"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in rest.items())})"

    # -- in a trace ------------------------------------------------------------------------------------------------
    def prepare(self, trace: Trace, params: Sequence[Parameter], prefix: str | None = None) -> str:
        """Makes sure that the state exists in the trace's store; gives its prefix."""
        if id(self) not in trace.optimizers:
            n = len(trace.optimizers)
            trace.optimizers[id(self)] = prefix or ("optimizer" if n == 0 else f"optimizer_{n}")
            trace.keep.append(self)
        prefix = trace.optimizers[id(self)]
        self.create_state(trace.ensure_store(), params, prefix)
        return prefix

    def create_state(self, store: Any, params: Sequence[Parameter], prefix: str) -> None:
        """Adds step counter, learning rate and moments to a store, where they are missing."""
        wide = any(p.dtype == float64 for p in params)
        if f"{prefix}.step" not in store:
            store.add(f"{prefix}.step", np.zeros((), int64.numpy), role="state")
        if f"{prefix}.lr" not in store:
            store.add(f"{prefix}.lr", np.array(self.lr, (float64 if wide else float32).numpy), role="state")
        for p in params:
            for slot, (shape, dtype) in self.state_spec(p).items():
                name = f"{prefix}.{slot}.{p.name}"
                if name not in store:
                    store.add(name, np.zeros(shape, dtype.numpy), role="state")

    def minimize(self, loss: Node, params: Sequence[Parameter], clip_norm: float | None = None) -> None:
        """Registers one step down the gradient of ``loss`` for the trainable ones of ``params``, in the active trace.

        Later uses of the parameters in the same trace read the new values; all writes happen after every loss is known to
        be finite. Raises :class:`GradientError` for a parameter that the loss does not depend on.
        """
        trace = current_trace()
        if trace is None:
            raise TraceError("minimize was called outside of a trace", hint="step = gc.step(fn, *specs)")
        if not isinstance(loss, Node) or loss.shape != ():
            raise ShapeError(f"a loss must be a scalar, not {loss!r}", hint="loss.mean()")
        if not trace.training:
            raise TraceError("minimize works in a training step only", hint="gc.step(fn, *specs)")
        for p in params:
            trace.value(p)
        active = [p for p in params if p.trainable]
        if not active:
            raise TraceError("no parameter is trainable", hint="module.unfreeze()")
        prefix = self.prepare(trace, active)
        old_step, lr = trace.read(f"{prefix}.step"), trace.read(f"{prefix}.lr")
        counter = trace.versions[f"{prefix}.step"]
        if len(counter) == 1:
            trace.write(f"{prefix}.step", old_step + 1)
        step = counter[1]
        pairs = loss_gradients(loss, active, trace)
        grads = [g for _, g in pairs]
        if clip_norm is not None:
            grads = clip_by_global_norm(grads, clip_norm)
        for p, g in zip(active, grads, strict=True):
            state = {slot: trace.read(f"{prefix}.{slot}.{p.name}") for slot in self.state_spec(p)}
            value, new = self.update(trace.value(p), g, state, lr.cast(p.dtype), step)
            trace.write(p.name, value)
            for slot, v in new.items():
                trace.write(f"{prefix}.{slot}.{p.name}", v)
        if not any(n is loss for n in trace.finite):
            trace.finite.append(loss)


class SGD(Optimizer):
    """p - lr * g, with momentum m' = momentum * m + g, Nesterov's variant and L2 weight decay, as in torch."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0):
        super().__init__(lr)
        self.momentum = _positive("momentum", momentum, 0.0, 1.0)
        self.nesterov = bool(nesterov)
        self.weight_decay = _positive("weight_decay", weight_decay)
        if nesterov and not momentum:
            raise ArgumentError("nesterov needs a momentum", hint="SGD(lr, momentum=0.9, nesterov=True)")
        self.slots = ("m",) if momentum else ()

    def update(
        self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node
    ) -> tuple[Node, dict[str, Node]]:
        out = ops.sgd_update(
            param,
            grad,
            state.get("m", grad),
            lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
        return out[0], {"m": out[1]} if self.slots else {}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015) with bias correction; ``weight_decay`` is added to the gradient (L2), as in torch."""

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
    ):
        super().__init__(lr)
        self.beta1, self.beta2 = _positive("beta1", beta1, 0.0, 1.0), _positive("beta2", beta2, 0.0, 1.0)
        self.eps, self.weight_decay = _positive("eps", eps), _positive("weight_decay", weight_decay)

    def update(
        self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node
    ) -> tuple[Node, dict[str, Node]]:
        out = ops.adam_update(
            param,
            grad,
            state["m"],
            state["v"],
            step,
            lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled=self.decoupled,
        )
        return out[0], {"m": out[1], "v": out[2]}


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay before each step (Loshchilov and Hutter 2019)."""

    decoupled = True

    def __init__(
        self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.01
    ):
        super().__init__(lr, beta1, beta2, eps, weight_decay)


def clip_by_global_norm(grads: Sequence[Node], limit: float) -> list[Node]:
    """All gradients scaled by min(1, limit / (norm + 1e-6)), where norm is that of all of them together (Pascanu et al. 2013)."""
    limit = _positive("clip_norm", limit)
    total: Any = 0.0
    for g in grads:
        total = total + (g * g).sum()
    scale = ops.minimum(1.0, limit / (ops.sqrt(total) + 1e-6))
    return [g * scale.cast(g.dtype) for g in grads]


def as_optimizer(value: Any) -> Optimizer:
    """An optimiser by name ("sgd", "adam") or as it is. Raises ArgumentError for others."""
    known: dict[str, Callable[[], Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]()
    if isinstance(value, Optimizer):
        return value
    raise ArgumentError(f"{value!r} is not an optimiser", hint="optim.Adam(1e-3), or one of " + ", ".join(known))
