"""A table of things of which equal ones are one object, for as long as somebody holds it."""

from __future__ import annotations

from _weakref import _remove_dead_weakref  # type: ignore[attr-defined]  # what the weakref module itself is made of
from collections import deque
from collections.abc import Hashable
from typing import Any, ClassVar, Generic, TypeVar
from weakref import KeyedRef

__all__ = ["Interned", "forget"]

T = TypeVar("T")


class Interned(Generic[T]):
    """Like :class:`weakref.WeakValueDictionary`, but no Python code runs where a thing dies: Ctrl-C would come there, since a graph
    dies node by node, and be lost. What is left of the dead is thrown away when the next thing is added to any table.
    """

    tables: ClassVar[list[Interned[Any]]] = []

    def __init__(self) -> None:
        self._refs: dict[Hashable, KeyedRef[Hashable, T]] = {}
        self._dead: deque[KeyedRef[Hashable, T]] = deque()
        self.tables.append(self)

    def get(self, key: Hashable) -> T | None:
        """The living thing of a key."""
        ref = self._refs.get(key)
        return None if ref is None else ref()

    def add(self, key: Hashable, value: T) -> T:
        """Adds a thing, unless another thread was quicker: gives the one that counts."""
        forget()
        mine = KeyedRef(value, self._dead.append, key)
        while (ref := self._refs.setdefault(key, mine)) is not mine:
            found = ref()
            if found is not None:
                return found
            _remove_dead_weakref(self._refs, key)  # in one step: whoever is quicker is not taken out
        return value

    def __len__(self) -> int:
        forget()
        return len(self._refs)


def forget() -> None:
    """Throws away the entries of the dead; an entry's key may have been the last to hold a thing of another table."""
    again = True
    while again:
        again = False
        for table in Interned.tables:
            while table._dead:
                again = True
                try:
                    _remove_dead_weakref(table._refs, table._dead.popleft().key)
                except IndexError:  # another thread took the last one
                    break
