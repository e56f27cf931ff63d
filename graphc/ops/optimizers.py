"""Optimiser updates as composites of several results: the new parameter, then its new state.

``p`` is the parameter, ``g`` its gradient (both of one float type, as the moments), ``lr`` the learning rate and ``step``
the number of this update, from 1: scalars of the graph, so that changing them compiles nothing. What depends on them alone
is computed once a step and in float64, where ``1 - beta2`` keeps its digits. Coefficients are attributes.

Where torch has the optimiser the formula is torch's, and equal to it up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir.dtypes import float64
from ..ir.node import Node
from ..ir.op import Sample
from .define import composite, constant, rand, show
from .elementwise import absolute, eq, logical_and, lt, maximum, pow, sqrt, where

__all__ = [
    "adadelta_update",
    "adagrad_update",
    "adam_update",
    "adamax_update",
    "lamb_update",
    "lion_update",
    "nadam_update",
    "radam_update",
    "rmsprop_update",
    "sgd_update",
]


def _check(moments: tuple[int, ...], scalars: tuple[int, ...]) -> Any:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        p = ins[0]
        assert p is not None
        for i in (1, *moments):
            part = ins[i]
            if part is not None and part.type != p.type:
                raise ShapeError(f"the parameter is {p.type}, operand {i} is {part.type}")
        for i in scalars:
            part = ins[i]
            if part is not None and part.shape != ():
                raise ShapeError(f"operand {i} must be a scalar, not {show(part.shape)}")
        if not p.dtype.is_float:
            raise DTypeError(f"a parameter must be float, not {p.type}")
        for k, v in attrs.items():
            if isinstance(v, tuple):
                attrs[k] = tuple(float(x) for x in v)
            elif isinstance(v, int) and not isinstance(v, bool):
                attrs[k] = float(v)

    return prepare


def _samples(state: str, scalars: str, *settings: dict[str, Any], **fields: Any) -> Callable[[], list[Sample]]:
    """Parameters of several shapes with the given settings: ``state`` says for each operand after (p, g) whether it is signed
    (s), positive (+) or left out (-), ``scalars`` which scalars follow: step (t), learning rate (r), a product (p)."""
    shapes = ((5, 7), (130,), (2, 3, 19), (), (1,))
    kinds: dict[str, Callable[[int], Any]] = {"t": lambda n: np.int64(1 + 3 * n), "r": lambda n: np.float32(0.05), "p": lambda n: np.float64(0.7)}

    def make() -> list[Sample]:
        out = []
        for n, options in enumerate(settings):
            held = {"state": state, **{k: v for k, v in options.items() if k == "state"}}["state"]
            moments = [None if c == "-" else rand(*shapes[n], seed=i + 2, low=0.3 if c == "+" else -2.0) for i, c in enumerate(held)]
            rest = [kinds[c](n) for c in scalars]
            kwargs = {k: v for k, v in options.items() if k != "state"}
            out.append(Sample((rand(*shapes[n]), rand(*shapes[n], seed=1), *moments, *rest), kwargs, **fields))
        return out

    return make


def _unbias(beta: float, step: Node) -> Node:
    """1 - beta^t in float64: what an average with coefficient ``beta`` that began at 0 lacks."""
    return 1.0 - pow(constant(beta, float64), step.cast(float64))


def _decay(p: Node, g: Node, lr: Node, weight_decay: float, decoupled: bool = False) -> tuple[Node, Node]:
    """Weight decay in the gradient (L2: ``g + weight_decay p``), or ``decoupled``: p shrinks by ``lr * weight_decay`` (AdamW)."""
    if weight_decay and decoupled:
        return p * (1.0 - lr.cast(float64) * weight_decay).cast(p.dtype), g
    return p, g + p * weight_decay if weight_decay else g


@composite(
    "sgd_update",
    inputs=5,
    prepare=_check((2,), (3, 4)),
    samples=_samples(
        "s", "rt", {}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"momentum": 0.5, "dampening": 0.3}
    ),
)
def sgd_update(
    p: Node, g: Node, m: Node, lr: Node, step: Node | None = None,
    momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False,
) -> tuple[Node, Node]:  # fmt: skip
    """One step of gradient descent -> (p', m'), as ``torch.optim.SGD``.

    ``g <- g + weight_decay p``; ``m' = momentum m + (1 - dampening) g`` (the first step is not dampened: with dampening,
    ``step`` is needed); p moves by ``-lr`` times ``m'``, with Nesterov ``g + momentum m'``, without momentum ``g`` (and m' = m).
    """
    if dampening and momentum and step is None:
        raise ArgumentError("dampening needs the step's number: the first step is not dampened")
    p, g = _decay(p, g, lr, weight_decay)
    move = g
    if momentum:
        fresh = g
        if dampening and step is not None:
            fresh = g * where(eq(step, 1), constant(1.0, g.dtype), 1.0 - dampening)
        m = m * momentum + fresh
        move = g + m * momentum if nesterov else m
    return p - move * lr.cast(p.dtype), m


@composite(
    "adagrad_update",
    inputs=5,
    prepare=_check((2,), (3, 4)),
    samples=_samples("+", "tr", {}, {"lr_decay": 0.1, "weight_decay": 0.01}, {"eps": 0.1}),
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def adagrad_update(
    p: Node, g: Node, s: Node, step: Node, lr: Node, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10
) -> tuple[Node, Node]:
    """One step of Adagrad (Duchi, Hazan and Singer 2011) -> (p', s'), as ``torch.optim.Adagrad``.

    ``s' = s + g^2``; ``p' = p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s') + eps)``.
    """
    p, g = _decay(p, g, lr, weight_decay)
    s = s + g * g
    rate = lr.cast(float64)
    if lr_decay:
        rate = rate / (1.0 + (step.cast(float64) - 1.0) * lr_decay)
    return p - rate.cast(p.dtype) * g / (sqrt(s) + eps), s


@composite(
    "adadelta_update",
    inputs=5,
    prepare=_check((2, 3), (4,)),
    samples=_samples("++", "r", {}, {"rho": 0.5, "eps": 1e-3, "weight_decay": 0.01}),
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def adadelta_update(
    p: Node, g: Node, s: Node, d: Node, lr: Node, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> tuple[Node, Node, Node]:
    """One step of Adadelta (Zeiler 2012) -> (p', s', d'), as ``torch.optim.Adadelta``.

    ``s' = rho s + (1 - rho) g^2``; ``x = sqrt(d + eps) / sqrt(s' + eps) * g``; ``d' = rho d + (1 - rho) x^2``; ``p' = p - lr x``.
    """
    p, g = _decay(p, g, lr, weight_decay)
    s = s * rho + g * g * (1.0 - rho)
    move = sqrt(d + eps) / sqrt(s + eps) * g
    return p - move * lr.cast(p.dtype), s, d * rho + move * move * (1.0 - rho)


@composite(
    "rmsprop_update",
    inputs=6,
    prepare=_check((2, 4, 5), (3,)),
    samples=lambda: [
        Sample((*(rand(*shape, seed=i) for i in range(2)), rand(*shape, seed=2, low=1.0), np.float32(0.05), *rest), k)
        for shape, rest, k in (
            ((5, 7), (), {}),
            ((130,), (rand(130, seed=3),), {"momentum": 0.9, "weight_decay": 0.01}),
            ((), (None, rand(seed=4, low=-0.5, high=0.5)), {"alpha": 0.9}),
            ((2, 3), (rand(2, 3, seed=3), rand(2, 3, seed=4, low=-0.5, high=0.5)), {"momentum": 0.5, "eps": 1e-3}),
        )
    ],
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def rmsprop_update(
    p: Node, g: Node, s: Node, lr: Node, m: Node | None = None, mean: Node | None = None,
    alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, momentum: float = 0.0,
) -> tuple[Node, ...]:  # fmt: skip
    """One step of RMSprop (Tieleman and Hinton 2012) -> (p', s'), then m' and mean' where given, as ``torch.optim.RMSprop``.

    ``s' = alpha s + (1 - alpha) g^2``; ``x = g / (sqrt(s') + eps)``; with ``m``: ``m' = momentum m + x`` and p moves by
    ``-lr m'``, else by ``-lr x``. With ``mean`` (centered): ``mean' = alpha mean + (1 - alpha) g`` and the variance
    ``s' - mean'^2``, which rounding must not make negative, stands in the place of s'.
    """
    p, g = _decay(p, g, lr, weight_decay)
    s = s * alpha + g * g * (1.0 - alpha)
    out = [s]
    spread = s
    if mean is not None:
        mean = mean * alpha + g * (1.0 - alpha)
        spread = maximum(s - mean * mean, 0.0)
    move = g / (sqrt(spread) + eps)
    if m is not None:
        move = m * momentum + move
        out.append(move)
    if mean is not None:
        out.append(mean)
    return (p - move * lr.cast(p.dtype), *out)


@composite(
    "adam_update",
    inputs=7,
    prepare=_check((2, 3, 6), (4, 5)),
    samples=lambda: [
        Sample((rand(*s), rand(*s, seed=1), rand(*s, seed=2), rand(*s, seed=3, low=0.0), np.int64(t), np.float32(1e-3), *top), k)
        for s, t, top, k in (
            ((5, 7), 1, (), {}),
            ((130,), 10, (), {"weight_decay": 0.01}),
            ((2, 3), 1000, (), {"weight_decay": 0.1, "decoupled": True}),
            ((), 3, (), {"betas": (0.5, 0.999)}),
            ((33,), 5, (rand(33, seed=4, low=0.0),), {"betas": (0.8, 0.9)}),
        )
    ],
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def adam_update(
    p: Node, g: Node, m: Node, v: Node, step: Node, lr: Node, top: Node | None = None,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> tuple[Node, ...]:  # fmt: skip
    """One step of Adam (Kingma and Ba 2015) -> (p', m', v'), and top' where given, as ``torch.optim.Adam`` and ``AdamW``.

    ``m' = b1 m + (1 - b1) g``, ``v' = b2 v + (1 - b2) g^2``, ``c1 = 1 - b1^t``, ``c2 = 1 - b2^t``:
    torch's ``p' = p - lr/c1 * m' / (sqrt(v')/sqrt(c2) + eps)`` is ``p - (lr sqrt(c2)/c1) * m' / (sqrt(v') + eps sqrt(c2))``, where
    both brackets are scalars. With ``top`` (AMSGrad, Reddi, Kale and Kumar 2018) ``top' = max(top, v')`` stands under the root.
    ``weight_decay`` is added to the gradient (L2), or with ``decoupled`` shrinks p by ``lr * weight_decay`` first (AdamW).
    """
    rate = lr.cast(float64)
    root = sqrt(_unbias(betas[1], step))
    size = (rate * root / _unbias(betas[0], step)).cast(p.dtype)
    floor = (root * eps).cast(p.dtype)
    p, g = _decay(p, g, lr, weight_decay, decoupled)
    m = m * betas[0] + g * (1.0 - betas[0])
    v = v * betas[1] + g * g * (1.0 - betas[1])
    if top is None:
        return p - size * m / (sqrt(v) + floor), m, v
    top = maximum(top, v)
    return p - size * m / (sqrt(top) + floor), m, v, top


@composite(
    "nadam_update",
    inputs=7,
    prepare=_check((2, 3), (4, 5, 6)),
    samples=_samples("s+", "ptr", {}, {"betas": (0.8, 0.9), "weight_decay": 0.01}, {"weight_decay": 0.1, "decoupled": True, "momentum_decay": 0.1}),
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def nadam_update(
    p: Node, g: Node, m: Node, v: Node, product: Node, step: Node, lr: Node,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    momentum_decay: float = 4e-3, decoupled: bool = False,
) -> tuple[Node, Node, Node, Node]:  # fmt: skip
    """One step of NAdam (Dozat 2016) -> (p', m', v', product'), as ``torch.optim.NAdam``.

    Moments as Adam's. ``mu_t = b1 (1 - 0.96^(t momentum_decay) / 2)``, ``product' = product mu_t`` (a scalar, 1 at first);
    ``p' = p - lr ((1 - mu_t) / (1 - product') g + mu_{t+1} / (1 - product' mu_{t+1}) m') / (sqrt(v' / (1 - b2^t)) + eps)``.
    """
    rate, t = lr.cast(float64), step.cast(float64)
    root = sqrt(_unbias(betas[1], step))
    base = constant(0.96, float64)
    mu = (1.0 - pow(base, t * momentum_decay) * 0.5) * betas[0]
    ahead = (1.0 - pow(base, (t + 1.0) * momentum_decay) * 0.5) * betas[0]
    now = product.cast(float64) * mu
    a = (rate * root * (1.0 - mu) / (1.0 - now)).cast(p.dtype)
    b = (rate * root * ahead / (1.0 - now * ahead)).cast(p.dtype)
    p, g = _decay(p, g, lr, weight_decay, decoupled)
    m = m * betas[0] + g * (1.0 - betas[0])
    v = v * betas[1] + g * g * (1.0 - betas[1])
    return p - (a * g + b * m) / (sqrt(v) + (root * eps).cast(p.dtype)), m, v, now.cast(product.dtype)


@composite(
    "radam_update",
    inputs=6,
    prepare=_check((2, 3), (4, 5)),
    samples=_samples("s+", "tr", {}, {"betas": (0.8, 0.9), "weight_decay": 0.01}, {"weight_decay": 0.1, "decoupled": True}, {"betas": (0.9, 0.5)}),
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def radam_update(
    p: Node, g: Node, m: Node, v: Node, step: Node, lr: Node,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> tuple[Node, Node, Node]:  # fmt: skip
    """One step of RAdam (Liu et al. 2020) -> (p', m', v'), as ``torch.optim.RAdam``.

    Moments as Adam's. ``rho = rho_inf - 2 t b2^t / (1 - b2^t)`` with ``rho_inf = 2 / (1 - b2) - 1`` measures how far the second
    moment can be trusted: while ``rho <= 5`` p moves by ``-lr m' / c1``, then by
    ``-lr m' / c1 * r sqrt(c2) / (sqrt(v') + eps)`` with ``r = sqrt((rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho))``.
    """
    rate, t = lr.cast(float64), step.cast(float64)
    c2 = _unbias(betas[1], step)
    plain = rate / _unbias(betas[0], step)
    p, g = _decay(p, g, lr, weight_decay, decoupled)
    m = m * betas[0] + g * (1.0 - betas[0])
    v = v * betas[1] + g * g * (1.0 - betas[1])
    last = 2.0 / (1.0 - betas[1]) - 1.0
    if last <= 5.0:  # rho stays below it
        return p - plain.cast(p.dtype) * m, m, v
    rho = last - 2.0 * t * (1.0 - c2) / c2
    trusted = lt(5.0, rho)
    r = maximum(rho, 5.0)
    rectified = plain * sqrt((r - 4.0) * (r - 2.0) / r * (last / ((last - 4.0) * (last - 2.0))) * c2)
    size = where(trusted, rectified, plain).cast(p.dtype)
    return p - size * m / where(trusted, sqrt(v) + eps, 1.0), m, v


@composite(
    "adamax_update",
    inputs=6,
    prepare=_check((2, 3), (4, 5)),
    samples=_samples("s+", "tr", {}, {"betas": (0.8, 0.9), "weight_decay": 0.01}, {"eps": 0.1}),
    tolerance={"float32": 5e-6, "float64": 1e-12},
)
def adamax_update(
    p: Node, g: Node, m: Node, u: Node, step: Node, lr: Node,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
) -> tuple[Node, Node, Node]:  # fmt: skip
    """One step of Adamax (Kingma and Ba 2015) -> (p', m', u'), as ``torch.optim.Adamax``.

    ``m' = b1 m + (1 - b1) g``; ``u' = max(b2 u, |g| + eps)``; ``p' = p - lr / (1 - b1^t) * m' / u'``.
    """
    p, g = _decay(p, g, lr, weight_decay)
    m = m * betas[0] + g * (1.0 - betas[0])
    u = maximum(u * betas[1], absolute(g) + eps)
    return p - (lr.cast(float64) / _unbias(betas[0], step)).cast(p.dtype) * m / u, m, u


@composite(
    "lion_update",
    inputs=4,
    prepare=_check((2,), (3,)),
    samples=_samples("s", "r", {}, {"betas": (0.95, 0.98), "weight_decay": 0.1}, {"weight_decay": 0.01}),
)
def lion_update(
    p: Node, g: Node, m: Node, lr: Node, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
) -> tuple[Node, Node]:
    """One step of Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2) -> (p', m').

    ``c = b1 m + (1 - b1) g``; ``p' = p - lr (sign(c) + weight_decay p)``; ``m' = b2 m + (1 - b2) g``.
    """
    rate = lr.cast(p.dtype)
    c = m * betas[0] + g * (1.0 - betas[0])
    p, g = _decay(p, g, lr, weight_decay, decoupled=True)
    moved = where(lt(0.0, c), p - rate, where(lt(c, 0.0), p + rate, p))
    return moved, m * betas[1] + g * (1.0 - betas[1])


@composite(
    "lamb_update",
    inputs=6,
    prepare=_check((2, 3), (4, 5)),
    samples=_samples("s+", "tr", {}, {"betas": (0.8, 0.9), "weight_decay": 0.01}, {"weight_decay": 0.1, "eps": 1e-3}),
    tolerance={"float32": 1e-5, "float64": 1e-12},
)
def lamb_update(
    p: Node, g: Node, m: Node, v: Node, step: Node, lr: Node,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.0,
) -> tuple[Node, Node, Node]:  # fmt: skip
    """One step of LAMB (You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2) -> (p', m', v').

    Moments as Adam's; ``x = (m' / c1) / (sqrt(v' / c2) + eps) + weight_decay p``; ``p' = p - lr |p| / |x| * x`` with 2-norms over the
    whole parameter (phi is the identity). Where a norm is 0 their quotient counts as 1, so that zeros can move.
    """
    root = sqrt(_unbias(betas[1], step))
    size = (root / _unbias(betas[0], step)).cast(p.dtype)
    m = m * betas[0] + g * (1.0 - betas[0])
    v = v * betas[1] + g * g * (1.0 - betas[1])
    move = size * m / (sqrt(v) + (root * eps).cast(p.dtype))
    if weight_decay:
        move = move + p * weight_decay
    weight, length = sqrt((p * p).sum()), sqrt((move * move).sum())
    both = logical_and(lt(0.0, weight), lt(0.0, length))
    trust = where(both, weight / where(both, length, 1.0), 1.0)
    return p - lr.cast(p.dtype) * trust * move, m, v
