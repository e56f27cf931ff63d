"""Connectionist temporal classification: the loss of a labelling without alignment, by a scan over time in the log domain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..ir.node import Node
from ..ir.op import Sample, lookup
from .activations import logsumexp
from .define import composite, constant, rand, show
from .elementwise import eq, exp, le, log, logical_and, logical_or, lt, maximum, ne, where
from .generate import iota
from .indexing import take_along_axis
from .loss_terms import check_reduction, reduce_terms
from .recurrence import scan
from .recurrent import within
from .views import expand_dims, pad, reshape

__all__ = ["ctc_loss"]

NEVER = -1e30
"""The logarithm of no chance: finite, so that differences of two are numbers."""


def _prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
    x, *integers = ins
    assert x is not None
    check_reduction(attrs)
    attrs["zero_infinity"] = bool(attrs["zero_infinity"])
    if not x.dtype.is_float or x.ndim not in (2, 3):
        raise DTypeError(f"log_probs must be float (time, batch, classes) or (time, classes), not {x.type}")
    batch, blank, classes = x.shape[1:-1], attrs["blank"], x.shape[-1]
    if isinstance(blank, bool) or not isinstance(blank, (int, np.integer)) or blank < 0 or (isinstance(classes, int) and blank >= classes):
        raise ArgumentError(f"blank={blank!r} is no class of {classes}")
    attrs["blank"] = int(blank)
    for name, n, rank in zip(("targets", "input_lengths", "target_lengths"), integers, (len(batch) + 1, len(batch), len(batch)), strict=True):
        assert n is not None
        if not n.dtype.is_int:
            raise DTypeError(f"{name} must be integers, not {n.type}")
        if n.ndim != rank or n.shape[: len(batch)] != batch:
            raise ShapeError(
                f"{name} are {show(n.shape)}, expected {show((*batch, 'S') if rank > len(batch) else batch)}",  # type: ignore[arg-type]
                hint="targets of differing lengths are padded to one, each in a row of its own" if name == "targets" else "",
            )


def _earlier(x: Node, steps: int, fill: float) -> Node:
    """``x`` moved by some positions to the right along the last axis."""
    return pad(x, (0, steps), (0, 0), value=fill)[:, : x.shape[1]]


def _total(*logs: Node) -> Node:
    """The logarithm of a sum of chances."""
    top = logs[0]
    for x in logs[1:]:
        top = maximum(top, x)
    top = lookup("stop_gradient").call(top)  # it cancels in the value and in every derivative
    total = exp(logs[0] - top)
    for x in logs[1:]:
        total = total + exp(x - top)
    out: Node = top + log(total)
    return out


def _case(time: int = 6, batch: int = 3, classes: int = 5, size: int = 3, lengths: tuple[int, ...] = (6, 5, 6), sizes: tuple[int, ...] = (3, 1, 2)) -> tuple[Any, ...]:
    targets = np.array([[1, 2, 1], [3, 3, 3], [4, 4, 1]])[:batch, :size]
    return rand(time, batch, classes, low=-3.0, high=-0.5), targets, np.array(lengths, np.int64), np.array(sizes, np.int64)


def _single() -> tuple[Any, ...]:
    x, targets, lengths, sizes = _case()
    return x[:, 0], targets[0], lengths[0], sizes[0]


@composite(
    "ctc_loss",
    inputs=4,
    prepare=_prepare,
    samples=lambda: [
        Sample(_case()), Sample(_case(), {"reduction": "none"}), Sample(_single()), Sample(_case(sizes=(0, 2, 3)), {"reduction": "sum", "blank": 4}),
        Sample(_case(lengths=(2, 1, 6)), {"reduction": "none", "zero_infinity": True}), Sample(_case(1, 1, 2, 1, (1,), (1,))),
        Sample(_case(4, 2, 5, 0, (4, 1), (0, 0)), {"reduction": "none"}), Sample(_case(4, 0, 5, 3, (), ()), {"reduction": "sum"}),
    ],
    errors=lambda: [
        Sample((_case()[0], *_case()[1:3], np.array([1, 2])), error="target_lengths are (2,)"), Sample(_case(), {"blank": 5}, error="blank=5"),
        Sample((_case()[0], np.array([1, 2, 3]), *_case()[2:]), error="targets are (3,)"), Sample((*_case()[:3], rand(3)), error="integers"),
        Sample(_case(), {"reduction": "average"}, error="reduction"),
    ],
    tolerance={"float32": 1e-5, "float64": 1e-12},
    method=False,
)  # fmt: skip
def ctc_loss(
    log_probs: Node,
    targets: Node,
    input_lengths: Node,
    target_lengths: Node,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Node:
    """``-log`` of the chance that a path of classes over time reads as the target (Graves et al. 2006), as torch's ``ctc_loss``.

    A path is read by merging repeats and then removing blanks. With ``l`` the target, a blank around and between its labels,
    and ``alpha_t(s)`` the chance of all beginnings of paths that end at ``l_s`` at time t::

        alpha_t(s) = p_t(l_s) * (alpha_{t-1}(s) + alpha_{t-1}(s-1) + [l_s is no blank and not l_{s-2}] * alpha_{t-1}(s-2))

    log_probs (time, batch, classes), targets (batch, S) padded with anything, input_lengths and target_lengths (batch,); or
    (time, classes), (S,), () and (). "mean" divides by the target's length (at least 1), then takes the mean over the batch. A target that
    no path reads has loss inf, or 0 with ``zero_infinity``; its gradient is 0. The gradient is that of the formula by ``log_probs``.
    """
    single = log_probs.ndim == 2
    if single:
        log_probs, targets = expand_dims(log_probs, 1), expand_dims(targets, 0)
        input_lengths, target_lengths = expand_dims(input_lengths, 0), expand_dims(target_lengths, 0)
    time, batch, _ = log_probs.shape
    labels = where(lt(iota(targets.shape, 1, target_lengths.dtype), expand_dims(target_lengths, 1)), targets, blank)
    pairs = pad(expand_dims(labels, 2), (0, 0, 1), (0, 0, 0), value=blank)
    path = pad(reshape(pairs, (batch, 2 * labels.shape[1])), (0, 0), (0, 1), value=blank)
    skips = logical_and(ne(path, blank), ne(path, _earlier(path, 2, blank)))
    emitted = maximum(take_along_axis(log_probs, expand_dims(path, 0), 2), NEVER)

    def step(alpha: Node, xs: tuple[Node, Node]) -> tuple[Node, None]:
        emitted, valid = xs
        new = _total(alpha, _earlier(alpha, 1, NEVER), where(skips, _earlier(alpha, 2, NEVER), NEVER)) + emitted
        return where(valid, new, alpha), None

    place = iota(path.shape, 1, target_lengths.dtype)
    start = where(eq(place, 0), constant(0.0, log_probs.dtype), constant(NEVER, log_probs.dtype))
    alpha, _ = scan(step, start, (emitted, within(input_lengths, time)))
    end = expand_dims(target_lengths * 2, 1)
    ends = logical_or(eq(place, end), eq(place, end - 1))
    likelihood = logsumexp(where(ends, alpha, NEVER), 1)
    loss = where(le(likelihood, NEVER / 2), 0.0 if zero_infinity else math.inf, -likelihood)
    if reduction == "mean":
        loss = loss / maximum(target_lengths, 1).cast(loss.dtype)
    loss = reshape(loss, ()) if single else loss
    return loss if single else reduce_terms(loss, reduction)
