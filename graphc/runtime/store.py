"""The one owner of parameters, optimiser moments and other state of a model.

Every executable of a model works on the same :class:`ParameterStore`. Values have a logical shape, which is all that users,
files and gradients see, and a storage layout, which the first training executable chooses.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..ir.dtypes import as_dtype, kind_of
from ..ir.layout import Layout, row_major
from ..ir.types import TensorType
from .interrupts import no_interrupts
from .locks import STORE, held_for_forks
from .memory import aligned_empty

__all__ = ["ParameterStore", "Slot"]


@dataclass(eq=False)
class Slot:
    """One value: its type, role ("param" or "state"), whether it trains, and its buffer in ``layout``."""

    name: str
    type: TensorType
    role: str
    trainable: bool
    layout: Layout
    buffer: np.ndarray
    fixed: bool = False
    """Whether a training executable has chosen the layout."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape  # type: ignore[return-value]

    def numpy(self) -> np.ndarray:
        return self.layout.unpack(self.buffer, self.shape)


class ParameterStore:
    """Named values with logical views, all-or-nothing writes and one lock.

    ``version`` counts writes from outside (loading, assignment), so that whatever was derived from the values knows when
    to derive again.

    >>> store = ParameterStore()
    >>> store.add("w", np.ones((2, 3), np.float32))
    >>> store.numpy("w").shape
    (2, 3)
    """

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.lock = held_for_forks(threading.RLock(), STORE)
        self.version = 0
        self.epoch = 0
        """Counts replaced buffers: addresses taken before the last one are stale."""
        self.fetch: Callable[[], None] | None = None
        """Brings values here that a device holds in a newer state; called before anybody looks at one."""
        self.owners: dict[str, weakref.ref[Any]] = {}
        """Whose the values below a prefix are: nobody needs them when that one is gone."""

    def add(self, name: str, value: Any, role: str = "param", trainable: bool = True) -> None:
        """Adds a value; raises :class:`ParameterError` when the name is taken."""
        if name in self.slots:
            raise ParameterError(f"{name!r} is already in the store")
        array = np.asarray(value)
        array = array.astype(as_dtype(array.dtype).numpy, copy=False)  # in this machine's byte order
        layout = row_major(array.ndim)
        buffer = aligned_empty(array.size, array.dtype, f"{role} {name!r} of shape {array.shape}")
        buffer[:] = array.reshape(-1)
        kind = TensorType(tuple(int(s) for s in array.shape), as_dtype(array.dtype))
        self.slots[name] = Slot(name, kind, role, trainable and role == "param", layout, buffer)

    def claim(self, prefix: str, owner: Any) -> bool:
        """Gives the names below a prefix to an owner, with what one left that is gone taken out; False where they are another's."""
        with self.lock:
            known = self.owners.get(prefix)
            names = [n for n in self.slots if n.startswith(f"{prefix}.")]
            if names and (known is None or known() is not None):
                return False
            for n in names:
                del self.slots[n]
            self.epoch += bool(names)
            self.owners[prefix] = weakref.ref(owner)
            return True

    def __contains__(self, name: str) -> bool:
        return name in self.slots

    def __getitem__(self, name: str) -> Slot:
        self._bring()
        return self._slot(name)

    def _slot(self, name: str) -> Slot:
        """A value as it is here: a device may hold a newer one."""
        try:
            return self.slots[name]
        except KeyError:
            raise ParameterError(f"no parameter or state {name!r}", hint="names: " + ", ".join(list(self.slots)[:8])) from None

    def _bring(self) -> None:
        fetch = self.fetch
        if fetch is not None:
            with self.lock:
                fetch()

    def names(self, role: str | None = None) -> list[str]:
        return [n for n, s in self.slots.items() if role is None or s.role == role]

    def type(self, name: str) -> TensorType:
        return self._slot(name).type

    def numpy(self, name: str) -> np.ndarray:
        """A logical copy."""
        with self.lock:
            return self[name].numpy()

    def trainable(self, name: str) -> bool:
        return self._slot(name).trainable

    def set_trainable(self, name: str, value: bool) -> None:
        self._slot(name).trainable = bool(value)

    def write(self, values: Mapping[str, Any]) -> None:
        """Writes values, all or none: every name, shape and dtype is checked before the first byte changes."""
        self._bring()
        ready: list[tuple[Slot, np.ndarray]] = []
        problems: list[str] = []
        for name, value in values.items():
            slot = self.slots.get(name)
            array = np.asarray(value)
            if slot is None:
                problems.append(f"{name}: not in this model")
            elif tuple(array.shape) != slot.shape:
                problems.append(f"{name}: shape {tuple(array.shape)}, expected {slot.shape}")
            elif array.dtype != slot.type.dtype.numpy and not (kind_of(array.dtype) == "f" and slot.type.dtype.is_float):
                problems.append(f"{name}: dtype {array.dtype}, expected {slot.type.dtype}")
            else:
                ready.append((slot, array))
        if problems:
            raise ParameterError("values do not fit the model", notes=tuple(problems[:20]))
        with self.lock:
            packed = [(slot, slot.layout.pack(array.astype(slot.type.dtype.numpy, copy=False))) for slot, array in ready]
            with no_interrupts():
                for slot, data in packed:
                    slot.buffer[:] = data
                self.version += 1

    def copy(self) -> ParameterStore:
        """A store of its own with the same values in the same layouts: what runs on it leaves this one as it is."""
        self._bring()
        made = ParameterStore()
        with self.lock:
            for name, slot in self.slots.items():
                buffer = aligned_empty(slot.buffer.size, slot.buffer.dtype, f"a copy of {slot.role} {name!r}")
                buffer[:] = slot.buffer
                made.slots[name] = replace(slot, buffer=buffer)
        return made

    def relayout(self, name: str, layout: Layout) -> None:
        """Stores a value in another layout from now on (its logical value stays)."""
        with self.lock:
            slot = self[name]
            if layout == slot.layout:
                return
            data = layout.pack(slot.numpy())
            buffer = aligned_empty(data.size, data.dtype, f"{slot.role} {name!r} of shape {slot.shape}")
            buffer[:] = data
            with no_interrupts():
                slot.buffer, slot.layout = buffer, layout
                self.version += 1
                self.epoch += 1
