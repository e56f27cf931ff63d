"""How calls of torch's operator database are written with our functions, and what differs on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import ops

__all__ = ["ADAPT", "LEFT_OUT", "REASONS"]

LEFT_OUT: dict[str, str] = {
    "unfold": "torch's method slides a window along one axis; ours is nn.functional.unfold",
}
"""Names that both have with another meaning, and why they are not compared."""

ADAPT: dict[str, Callable[..., Any]] = {
    "abs": lambda x: ops.absolute(x),
    "amax": lambda x, dim=None, keepdim=False: ops.max(x, dim if dim != () else None, keepdim),
    "bmm": lambda x, y: ops.matmul(x, y),
    "cat": lambda xs, dim=0: ops.concat(list(xs), dim),
    "mm": lambda x, y: ops.matmul(x, y),
    "mv": lambda x, y: ops.matmul(x, y),
    "dot": lambda x, y: ops.matmul(x, y),
    "nn.functional.upsample_bilinear": lambda x, size=None, scale_factor=None: ops.interpolate(x, size, scale_factor, "bilinear", True),
    "nn.functional.upsample_nearest": lambda x, size=None, scale_factor=None: ops.interpolate(x, size, scale_factor),
}

REASONS: dict[str, dict[str, str]] = {
    "nn.functional.cosine_similarity": {"rank 0": "a scalar has no axis"},
    "nn.functional.gaussian_nll_loss": {"differ": "losses do not broadcast the target"},
    "nn.functional.multi_margin_loss": {"scores must be": "a scalar has no classes", "need integer targets ()": "one row of scores takes one label, not an array of one"},
    "nn.functional.multilabel_margin_loss": {"must both be": "a scalar has no classes"},
    "nn.functional.pairwise_distance": {"p=-1.0": "no norm has a negative exponent"},
}
"""Operator -> a piece of the message or of the call -> why."""
