"""Locks that a fork waits for, so that the child gets what they guard whole, and free."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from ..ir.living import Living

__all__ = ["COMPILING", "FUNCTION", "MEMORY", "RUNNING", "STORE", "held_for_forks"]

FUNCTION, STORE, RUNNING, COMPILING, MEMORY = range(5)
"""The order in which a thread may take locks of several kinds, and in which a fork takes all of them."""
PATIENCE = 10.0
"""Seconds that a fork waits in all. Compiling may take longer: then the child gets new locks, and makes anew what is half made."""

_locks: tuple[Living[Any], ...] = tuple(Living() for _ in range(MEMORY + 1))
_one_fork = threading.Lock()
_held: list[Any] = []


def held_for_forks(lock: Any, kind: int) -> Any:
    """The same lock, known to forks from now on. Otherwise a child whose parent's other threads hold it would wait for ever."""
    _locks[kind].add(lock)
    return lock


def _before() -> None:
    end = time.monotonic() + PATIENCE
    _one_fork.acquire()
    for group in _locks:
        for lock in group:
            if lock.acquire(timeout=max(end - time.monotonic(), 0)):
                _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    _one_fork.release()


def _after_in_child() -> None:
    held = {id(lock) for lock in _held}
    for group in _locks:
        for lock in group:
            if id(lock) not in held:
                lock._at_fork_reinit()  # as the standard library does with its own
    _after_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
