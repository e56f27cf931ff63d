"""Metrics by name: means over samples, computed inside the compiled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc import ops
from graphc.errors import ArgumentError
from graphc.ir.node import Node

__all__ = ["METRICS", "Metric", "as_metrics"]


@dataclass(frozen=True)
class Metric:
    """``fn(prediction, target)`` gives a scalar that is a mean over samples."""

    name: str
    fn: Callable[[Any, Any], Node]


METRICS = {
    "accuracy": Metric("accuracy", lambda p, y: ops.accuracy(p, y)),
    "mae": Metric("mae", lambda p, y: ops.mean(ops.absolute(p - y))),
    "mse": Metric("mse", lambda p, y: ops.mse_loss(p, y)),
}


def as_metrics(values: Sequence[Any]) -> list[Metric]:
    """Metrics by name, as records, or as functions. Raises ArgumentError for others."""
    out: list[Metric] = []
    for v in [values] if isinstance(values, (str, Metric)) or callable(values) else values:
        if isinstance(v, Metric):
            out.append(v)
        elif isinstance(v, str) and v in METRICS:
            out.append(METRICS[v])
        elif callable(v):
            out.append(Metric(getattr(v, "__name__", f"metric_{len(out)}"), v))
        else:
            raise ArgumentError(
                f"{v!r} is not a metric", hint="a function of (prediction, target), or one of " + ", ".join(METRICS)
            )
    names = [m.name for m in out]
    if len(set(names)) != len(names) or "loss" in names:
        raise ArgumentError(f"metrics need different names: {', '.join(names)}")
    return out
