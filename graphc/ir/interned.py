"""A table of things of which equal ones are one object, for as long as somebody holds it."""

from __future__ import annotations

from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # what the weakref module itself is made of
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar
from weakref import KeyedRef

__all__ = ["Interned"]

T = TypeVar("T")


class Interned(Generic[T]):
    """Like :class:`weakref.WeakValueDictionary`, but no Python code runs where a thing dies: Ctrl-C would come there, since a graph
    dies node by node, and be lost. What is left of the dead is thrown away when the next thing is added.
    """

    def __init__(self) -> None:
        self._refs: dict[Hashable, KeyedRef[Hashable, T]] = {}
        self._dead: deque[KeyedRef[Hashable, T]] = deque()

    def get(self, key: Hashable) -> T | None:
        """The living thing of a key."""
        ref = self._refs.get(key)
        return None if ref is None else ref()

    def add(self, key: Hashable, value: T) -> T:
        """Adds a thing, unless another thread was quicker: gives the one that counts."""
        self._forget()
        mine = KeyedRef(value, self._dead.append, key)
        while (ref := self._refs.setdefault(key, mine)) is not mine:
            found = ref()
            if found is not None:
                return found
            _remove_dead_weakref(self._refs, key)  # in one step: whoever is quicker is not taken out
        return value

    def _forget(self) -> None:
        while self._dead:
            try:
                _remove_dead_weakref(self._refs, self._dead.popleft().key)
            except IndexError:  # another thread took the last one
                return

    def __len__(self) -> int:
        self._forget()
        return len(self._refs)
