"""Canonical, typed encoding of attributes, so that equal nodes are one node and unequal ones never are.

``1``, ``True`` and ``1.0`` are three different attributes, ``nan`` equals itself, ``0.0`` differs from ``-0.0``.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import TraceError
from .dims import Expr
from .dtypes import DType

__all__ = ["attr_key"]


def attr_key(value: Any) -> Any:
    """A hashable key that is equal for two attribute values exactly when they mean the same."""
    kind = type(value)
    if kind is str or kind is DType or kind is Expr or value is None:
        return value
    if kind is int or kind is bool:
        return (kind.__name__, value)
    if kind is tuple or kind is list:
        return ("tuple", *map(attr_key, value))
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return ("bool", bool(value))
    if isinstance(value, (int, np.integer)):
        return ("int", int(value))
    if isinstance(value, (float, np.floating)):
        return ("float", "nan" if value != value else struct.pack("<d", value))
    if isinstance(value, (tuple, list)):
        return ("tuple", *map(attr_key, value))
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    key = getattr(value, "structural_key", None)
    if key is not None:
        return key
    if callable(value):
        return ("function", value)
    raise TraceError(f"a {type(value).__name__} cannot be an attribute of a node")
