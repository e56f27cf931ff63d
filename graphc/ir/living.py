"""The things of one kind that are alive now."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Living"]

T = TypeVar("T")


class Living(Generic[T]):
    """Like :class:`weakref.WeakSet`, but where a thing dies no Python code runs, in which Ctrl-C could come and be lost.

    >>> class Thing: pass
    >>> things, one = Living(), Thing()
    >>> things.add(one)
    >>> len(list(things))
    1
    >>> del one
    >>> list(things)
    []
    """

    def __init__(self) -> None:
        self._refs: dict[weakref.ref[T], None] = {}

    def add(self, thing: T) -> None:
        self._refs[weakref.ref(thing, self._refs.pop)] = None

    def __iter__(self) -> Iterator[T]:
        """Those of this moment: others may come and go meanwhile."""
        return iter([thing for ref in list(self._refs) if (thing := ref()) is not None])

    def clear(self) -> None:
        self._refs.clear()
