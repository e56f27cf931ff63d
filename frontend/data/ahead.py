"""The next item is made while the last one is used."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from graphc.errors import ArgumentError
from graphc.ir.living import Living
from graphc.locate import leaving, public

__all__ = ["Ahead", "ahead", "converted"]

T = TypeVar("T")
_END, _ITEM, _ERROR = range(3)


class _Channel:
    """A bounded queue between one maker and one user; closing it lets both go."""

    def __init__(self, size: int):
        self.size, self.items, self.closed, self.pid = size, deque[tuple[int, Any]](), False, os.getpid()
        self.changed = threading.Condition()

    def put(self, kind: int, value: Any = None) -> bool:
        """Waits for a free place; False where nobody will take it."""
        with self.changed:
            while len(self.items) >= self.size and not self.closed:
                self.changed.wait()
            if not self.closed:
                self.items.append((kind, value))
                self.changed.notify_all()
            return not self.closed

    def get(self) -> tuple[int, Any]:
        with self.changed:
            while not self.items and not self.closed:
                self.changed.wait()
            if not self.items:
                return _END, None
            kind, value = self.items.popleft()
            self.changed.notify_all()
            return kind, value

    def close(self) -> None:
        if os.getpid() != self.pid:  # after a fork: there is no thread here, but it may have held the lock
            return
        with self.changed:
            self.closed = True
            self.items.clear()
            self.changed.notify_all()


def _make(source: Iterator[Any], channel: _Channel) -> None:
    """The thread: knows the channel only, so that whoever reads it can be freed."""
    try:
        while channel.put(_ITEM, next(source)):
            pass
    except StopIteration:
        channel.put(_END)
    except BaseException as e:
        channel.put(_ERROR, e)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


_threads: Living[threading.Thread] = Living()
_channels: Living[_Channel] = Living()


@atexit.register
def _stop_all() -> None:
    """No thread may be inside NumPy while the interpreter goes away."""
    for channel in _channels:
        channel.close()
    for thread in _threads:
        thread.join(1.0)


os.register_at_fork(after_in_child=_threads.clear)


class Ahead(Iterator[T], Generic[T]):
    """The items of an iterator, of which a thread makes up to ``size`` before they are asked for.

    An exception of the source is raised where its item would have come, with the traceback of the thread. The thread ends with
    the source, with ``close()``, when this object is freed, and with the interpreter.

    >>> list(Ahead(iter("abc")))
    ['a', 'b', 'c']
    """

    def __init__(self, source: Iterable[T], size: int = 2):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"size = {size!r}", hint="the number of items that wait, at least 1")
        self._channel = _Channel(size)
        self._thread = threading.Thread(target=_make, args=(iter(source), self._channel), name="graphc-data", daemon=True)
        weakref.finalize(self, self._channel.close).atexit = False  # _stop_all closes them in order
        _channels.add(self._channel)
        _threads.add(self._thread)
        self._thread.start()

    def __next__(self) -> T:
        if os.getpid() != self._channel.pid:
            raise ArgumentError("batches that another process prepares", hint="start iterating after the fork, in the process that uses the data")
        kind, value = self._channel.get()
        if kind == _ITEM:
            return value  # type: ignore[no-any-return]
        self._channel.close()
        if kind == _ERROR:
            try:
                raise value
            except Exception:
                leaving(value)
                raise
            finally:
                del value  # no cycle from the traceback to this frame
        raise StopIteration

    def close(self, timeout: float = 1.0) -> None:
        """Ends the thread; waits for an item that it is making up to ``timeout`` seconds."""
        self._channel.close()
        if self._thread is not threading.current_thread() and os.getpid() == self._channel.pid:
            self._thread.join(timeout)

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ahead(source: Any, size: int = 2, convert: Callable[[Any], Any] | None = None) -> Any:
    """An iterator over ``source`` whose next items are made, and converted, in a thread meanwhile.

    A source that can do so itself (a :class:`DataLoader`, whose place in the data must count what was used) is asked to.
    """
    own = getattr(source, "ahead", None)
    if callable(own):
        return own(size, convert)
    return Ahead(source if convert is None else converted(source, convert), size)


def converted(source: Iterable[Any], convert: Callable[[Any], Any]) -> Iterator[Any]:
    """Like ``map``, but closing it closes the source."""
    items = iter(source)
    try:
        for item in items:
            yield convert(item)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


public(globals())
