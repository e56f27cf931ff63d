"""How calls of torch's operator database are written with our functions, and what differs on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import ops

__all__ = ["ADAPT", "LEFT_OUT", "REASONS"]

LEFT_OUT: dict[str, str] = {}
"""Names that both have with another meaning, and why they are not compared."""

ADAPT: dict[str, Callable[..., Any]] = {
    "abs": lambda x: ops.absolute(x),
    "amax": lambda x, dim=None, keepdim=False: ops.max(x, dim if dim != () else None, keepdim),
    "bmm": lambda x, y: ops.matmul(x, y),
    "cat": lambda xs, dim=0: ops.concat(list(xs), dim),
    "mm": lambda x, y: ops.matmul(x, y),
    "mv": lambda x, y: ops.matmul(x, y),
    "dot": lambda x, y: ops.matmul(x, y),
}

REASONS: dict[str, dict[str, str]] = {}
"""Operator -> a piece of the message or of the call -> why."""
