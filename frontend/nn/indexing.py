"""Functions on indices and order whose torch form differs from the operator's: part of :mod:`graphc.nn.functional`."""

from __future__ import annotations

from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node

__all__ = ["one_hot", "scatter_add", "sort", "take_along_dim"]


def sort(x: Node, dim: int = -1, descending: bool = False, stable: bool = True) -> tuple[Node, Node]:
    """(values, indices) in order along ``dim``; always stable, NaN counts as the largest."""
    return ops.sort(x, dim, descending), ops.argsort(x, dim, descending)


def take_along_dim(x: Node, indices: Any, dim: int) -> Node:
    """``gather`` whose indices broadcast against ``x``."""
    return ops.take_along_axis(x, indices, dim)  # type: ignore[no-any-return]


def scatter_add(x: Node, dim: int, index: Any, src: Any) -> Node:
    """``x`` with the elements of ``src`` added at ``index`` along ``dim``."""
    return ops.scatter_add(x, dim, index, src)  # type: ignore[no-any-return]


def one_hot(x: Node, num_classes: int = -1) -> Node:
    """1 at each index of a new last axis of ``num_classes``, 0 elsewhere: int64, as torch's (``ops.one_hot`` gives floats)."""
    if num_classes < 1:
        raise ShapeError(
            "one_hot: how many classes there are cannot be read off the values", hint="one_hot(x, num_classes)"
        )
    return ops.one_hot(x, num_classes, "int64")  # type: ignore[no-any-return]
