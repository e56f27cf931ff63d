"""How a learning rate changes from update to update.

A schedule is a function ``(t, lr) -> rate``, where ``t`` counts the updates made before and ``lr`` is the optimiser's rate (that of
the group), with the formulas, argument names and defaults of ``torch.optim.lr_scheduler``. It becomes part of the training step:
``t`` comes from the step counter in the store and ``lr`` is state, so nothing is done between steps, a resumed training goes on
alike, and assigning ``model.learning_rate`` rescales the whole schedule without compiling.

Called with numbers it gives a number, to look at or to plot: ``schedule(model.steps, model.learning_rate)`` is the next step's. Any function of two tensors may stand in its place:
``optim.SGD(0.1, schedule=lambda t, lr: lr / (1 + 0.01 * t))``. With ``steps_per_epoch=n`` time is counted in epochs of n updates.
What depends on a metric cannot be known inside a step: ``callbacks.ReduceLROnPlateau``.

>>> schedule = Sequential([Linear(0.1, total_iters=10), Cosine(T_max=90)], milestones=[10])
>>> [round(schedule(t, 1.0), 3) for t in (0, 5, 10, 55, 100)]
[0.1, 0.55, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError
from graphc.ir.dtypes import float64
from graphc.ir.node import Node
from graphc.locate import public

__all__ = [
    "Constant",
    "Cosine",
    "CosineWarmRestarts",
    "Cyclic",
    "Exponential",
    "InverseSqrt",
    "Linear",
    "MultiStep",
    "Noam",
    "OneCycle",
    "Polynomial",
    "Schedule",
    "Sequential",
    "Step",
    "WarmupDecay",
]


def _either(name: str) -> Callable[..., Any]:
    """A function that NumPy and the operators both have: of numbers, or of float64 tensors."""

    def call(*values: Any) -> Any:
        if any(isinstance(v, Node) for v in values):
            return getattr(ops, name)(*(v if isinstance(v, Node) else ops.const(v, float64) for v in values))
        return getattr(np, name)(*values)

    return call


_cos, _exp, _floor, _log, _maximum, _minimum, _sqrt, _where = map(
    _either, ("cos", "exp", "floor", "log", "maximum", "minimum", "sqrt", "where")
)


def _power(base: float, exponent: Any) -> Any:
    return _exp(exponent * math.log(base))


def _between(start: Any, end: Any, part: Any, cosine: bool = True) -> Any:
    """From start to end as ``part`` goes from 0 to 1, along half a cosine or a line."""
    return end + (start - end) * ((1.0 + _cos(part * math.pi)) * 0.5 if cosine else 1.0 - part)


@dataclass(frozen=True)
class Schedule:
    """Base: a subclass defines :meth:`rate`, for float64 tensors and for numbers alike."""

    _: KW_ONLY
    steps_per_epoch: int = 1

    def rate(self, t: Any, lr: Any) -> Any:
        """The rate after t updates (epochs)."""
        raise NotImplementedError

    def __call__(self, t: Any, lr: Any) -> Any:
        symbolic = isinstance(t, Node)
        if not symbolic:
            t, lr = np.float64(t), np.float64(lr)
        if self.steps_per_epoch != 1:
            t = _floor(t / float(self.steps_per_epoch))
        made = self.rate(t, lr)
        return made if symbolic else float(made)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if (f.type == "int" and not (isinstance(value, (int, np.integer)) and value >= 1)) or (f.name == "gamma" and not value > 0):
                raise ArgumentError(
                    f"{type(self).__name__}: {f.name} = {value!r}", hint="numbers >= 0; lengths are whole steps of 1 or more"
                )


@dataclass(frozen=True)
class Constant(Schedule):
    """``factor * lr`` for the first ``total_iters`` updates, then lr: ``ConstantLR``."""

    factor: float = 1.0 / 3.0
    total_iters: int = 5

    def rate(self, t: Any, lr: Any) -> Any:
        return _where(t < self.total_iters, lr * self.factor, lr)


@dataclass(frozen=True)
class Linear(Schedule):
    """From ``start_factor * lr`` to ``end_factor * lr`` in ``total_iters`` updates: ``LinearLR``. The usual warm-up."""

    start_factor: float = 1.0 / 3.0
    end_factor: float = 1.0
    total_iters: int = 5

    def rate(self, t: Any, lr: Any) -> Any:
        part = _minimum(t, float(self.total_iters)) / float(self.total_iters)
        return lr * (self.start_factor + part * (self.end_factor - self.start_factor))


@dataclass(frozen=True)
class Step(Schedule):
    """``lr * gamma^(t // step_size)``: ``StepLR``."""

    step_size: int
    gamma: float = 0.1

    def rate(self, t: Any, lr: Any) -> Any:
        return lr * _power(self.gamma, _floor(t / float(self.step_size)))


@dataclass(frozen=True)
class MultiStep(Schedule):
    """lr times gamma for each milestone that has been reached: ``MultiStepLR``."""

    milestones: Sequence[int]
    gamma: float = 0.1

    def rate(self, t: Any, lr: Any) -> Any:
        for m in self.milestones:
            lr = _where(t < m, lr, lr * self.gamma)
        return lr


@dataclass(frozen=True)
class Exponential(Schedule):
    """``lr * gamma^t``: ``ExponentialLR``."""

    gamma: float

    def rate(self, t: Any, lr: Any) -> Any:
        return lr * _power(self.gamma, t)


@dataclass(frozen=True)
class Polynomial(Schedule):
    """``lr * (1 - t / total_iters)^power``, 0 at the end: ``PolynomialLR``."""

    total_iters: int = 5
    power: float = 1.0

    def rate(self, t: Any, lr: Any) -> Any:
        left = 1.0 - _minimum(t, float(self.total_iters)) / float(self.total_iters)
        return lr * _where(left > 0.0, _exp(_log(_maximum(left, 1e-300)) * self.power), 0.0)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from lr to ``eta_min`` in ``T_max`` updates, and back in the next: ``CosineAnnealingLR`` (Loshchilov and Hutter 2017)."""

    T_max: int
    eta_min: float = 0.0

    def rate(self, t: Any, lr: Any) -> Any:
        return _between(lr, self.eta_min, t / float(self.T_max))


@dataclass(frozen=True)
class CosineWarmRestarts(Schedule):
    """Cosines from lr to ``eta_min``, the first over ``T_0`` updates, each ``T_mult`` times as long as the last:
    ``CosineAnnealingWarmRestarts`` (Loshchilov and Hutter 2017)."""

    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def rate(self, t: Any, lr: Any) -> Any:
        part = t / float(self.T_0)
        if self.T_mult == 1:
            return _between(lr, self.eta_min, part - _floor(part))
        more = float(self.T_mult - 1)
        # part = (T_mult^n - 1) / (T_mult - 1) where the n-th cosine begins; rounding must not put it into the one before
        n = _floor(_log(part * more + 1.0) * (1.0 / math.log(self.T_mult)) + 1e-9)
        length = _floor(_power(float(self.T_mult), n) + 0.5)
        return _between(lr, self.eta_min, (part - (length - 1.0) / more) / length)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to ``max_lr / div_factor / final_div_factor`` (Smith and Topin 2018):
    ``OneCycleLR`` without its cycling momentum. ``max_lr=None`` takes the optimiser's lr. It stays at its end."""

    max_lr: float | None
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def rate(self, t: Any, lr: Any) -> Any:
        if self.anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f"anneal_strategy = {self.anneal_strategy!r}", hint='"cos" or "linear"')
        top = lr if self.max_lr is None else self.max_lr
        low, ends = top / self.div_factor, [self.pct_start * self.total_steps - 1.0]
        rates = [low, top]
        if self.three_phase:
            ends.append(2.0 * self.pct_start * self.total_steps - 2.0)
            rates.append(low)
        ends.append(self.total_steps - 1.0)
        rates.append(low / self.final_div_factor)
        made, start = None, 0.0
        t = _minimum(t, ends[-1])
        for end, (a, b) in zip(ends, pairwise(rates), strict=True):
            piece = _between(a, b, (t - start) / (end - start), self.anneal_strategy == "cos")
            made = piece if made is None else _where(t > start, piece, made)
            start = end
        return made


@dataclass(frozen=True)
class Cyclic(Schedule):
    """Up and down between ``base_lr`` and ``max_lr`` (Smith 2017): ``CyclicLR`` without its cycling momentum.

    ``mode`` "triangular2" halves the height each cycle, "exp_range" multiplies it by ``gamma^t``. ``base_lr=None`` takes the optimiser's lr.
    """

    base_lr: float | None
    max_lr: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0

    def rate(self, t: Any, lr: Any) -> Any:
        if self.mode not in ("triangular", "triangular2", "exp_range"):
            raise ArgumentError(f"mode = {self.mode!r}", hint='"triangular", "triangular2" or "exp_range"')
        low = lr if self.base_lr is None else self.base_lr
        size = float(self.step_size_up + (self.step_size_up if self.step_size_down is None else self.step_size_down))
        up = self.step_size_up / size
        cycle = _floor(t / size)
        x = t / size - cycle
        height = _where(x <= up, x / up, (1.0 - x) / (1.0 - up)) * (self.max_lr - low)
        if self.mode == "triangular2":
            height = height * _power(0.5, cycle)
        elif self.mode == "exp_range":
            height = height * _power(self.gamma, t)
        return low + height


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """Linearly up to lr in ``warmup`` updates, then ``lr * sqrt(warmup / n)``, with n = t + 1."""

    warmup: int

    def rate(self, t: Any, lr: Any) -> Any:
        n = t + 1.0
        return lr * _minimum(n / float(self.warmup), _sqrt(self.warmup / n))


@dataclass(frozen=True)
class Noam(Schedule):
    """``lr * d_model^-0.5 * min(n^-0.5, n * warmup^-1.5)``, n = t + 1 (Vaswani et al. 2017, equation 3; there lr is 1)."""

    d_model: int
    warmup: int = 4000

    def rate(self, t: Any, lr: Any) -> Any:
        n = t + 1.0
        return lr * self.d_model**-0.5 * _minimum(1.0 / _sqrt(n), n * self.warmup**-1.5)


@dataclass(frozen=True)
class WarmupDecay(Schedule):
    """Linearly from 0 to lr in ``warmup`` updates, then linearly to 0 at ``total_steps`` (as BERT was trained, Devlin et al. 2019)."""

    warmup: int
    total_steps: int

    def rate(self, t: Any, lr: Any) -> Any:
        down = (self.total_steps - t) / float(max(self.total_steps - self.warmup, 1))
        return lr * _maximum(_minimum(t / float(self.warmup), down), 0.0)


@dataclass(frozen=True)
class Sequential(Schedule):
    """One schedule after another: the next begins, with t = 0, at each milestone: ``SequentialLR``."""

    schedules: Sequence[Callable[[Any, Any], Any]]
    milestones: Sequence[int]

    def rate(self, t: Any, lr: Any) -> Any:
        if len(self.milestones) != len(self.schedules) - 1:
            raise ArgumentError(f"{len(self.schedules)} schedules with {len(self.milestones)} milestones", hint="one between each two")
        made = self.schedules[0](t, lr)
        for start, schedule in zip(self.milestones, self.schedules[1:], strict=True):
            made = _where(t < start, made, schedule(t - float(start), lr))
        return made


public(globals())
