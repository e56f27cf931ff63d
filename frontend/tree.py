"""Nested tuples, lists and dicts of values: flattened to named leaves and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["leaves", "tree_map", "unflatten"]


def leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """``(path, leaf)`` of each leaf: ``name``, ``name.0``, ``name.key``, in order. None has no leaves.

    >>> list(leaves({"a": 1, "b": (2, 3)}, "x"))
    [('x.a', 1), ('x.b.0', 2), ('x.b.1', 3)]
    """
    if tree is None:
        return
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{name}.{i}" if name else str(i))
    else:
        yield name, tree


def tree_map(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The same structure with ``fn`` applied to each leaf.

    >>> tree_map(lambda v: v + 1, {"a": 1, "b": (2, 3)})
    {'a': 2, 'b': (3, 4)}
    """
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {k: tree_map(fn, v) for k, v in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(fn, v) for v in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(tree_map(fn, v) for v in tree)
    return fn(tree)


def unflatten(structure: Any, values: Iterator[Any]) -> Any:
    """``structure`` with its leaves replaced, in order, by ``values``."""
    return tree_map(lambda _: next(values), structure)
