"""One GPU of this process: memory with its owners, copies that overlap work, and kernels that are loaded once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, OutOfMemoryError
from graphc.runtime.exchange import DeviceView
from graphc.runtime.memory import said_bytes

from .driver import Args, Driver, Runtime
from .printers.text import Printed
from .staging import Staging

__all__ = ["Gpu", "open_gpu"]


KEPT = 16
"""Pieces of memory that wait for another result."""


class Gpu:
    """What bindings and mirrors work with. One thread at a time, within :meth:`entered`."""

    def __init__(self, driver: Runtime):
        self.driver = driver
        self.name, self.index = driver.name, driver.index
        self.lock = threading.RLock()
        self.staging = Staging(driver, self.allocate)
        self._kernels: dict[str, Any] = {}
        self._returned: deque[tuple[int, int, Any]] = deque(maxlen=KEPT)
        self._order = driver.event()
        self._spare: list[Any] = []
        self._held: deque[tuple[Any, tuple[DeviceView, ...]]] = deque()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The GPU is this thread's while the body runs."""
        with self.lock:
            before = self.driver.activate()
            try:
                yield
            finally:
                self.driver.restore(before)

    def allocate(self, nbytes: int, what: str) -> tuple[int, Any]:
        """Memory that lives as long as the second value. An error says what was needed and what was free."""
        address = self.driver.allocate(nbytes)
        if address is None and self._returned:
            self._returned.clear()
            address = self.driver.allocate(nbytes)
        if address is None:
            free, total = self.driver.memory()
            raise OutOfMemoryError(f"out of memory on {self.name}: {what} needs {said_bytes(nbytes)}, {said_bytes(free)} of {said_bytes(total)} are free")
        return address, _Owner(self.driver.free, address)

    def lend(self, nbytes: int, what: str) -> tuple[int, Loan]:
        """Memory for a result: when nobody needs it, the next of its size gets it, since giving memory back waits for all work."""
        nbytes = -(-max(nbytes, 1) // 512) * 512
        for _ in range(len(self._returned)):
            size, address, owner = self._returned.popleft()
            if size == nbytes:
                return address, Loan(self._returned, size, address, owner)
            self._returned.append((size, address, owner))
        address, owner = self.allocate(nbytes, what)
        return address, Loan(self._returned, nbytes, address, owner)

    def send(self, items: Sequence[tuple[int, Any]]) -> None:
        """Arrays of the host, or views of memory on a GPU, to addresses, seen by all work that is started from now on."""
        self.staging.send([(address, a) for address, a in items if not isinstance(a, DeviceView)])
        views = [(address, a) for address, a in items if isinstance(a, DeviceView)]
        for address, view in views:
            self.receive(view)
            if view.nbytes:
                self.driver.copy(address, view.address, view.nbytes)
        if views:
            self._hold(*(view for _, view in views))

    def receive(self, view: DeviceView) -> None:
        """Work that is started from now on sees what the view's stream has been given so far."""
        if view.device != self.index:
            raise ArgumentError(f"an array is on GPU {view.device}, the program on GPU {self.index}", hint="gc.compile(..., device=)")
        if view.stream is not None:
            stream = self.driver.stream_of(view.stream)
            self.driver.record(self._order, stream)
            self.driver.wait(self.driver.compute, self._order)

    def hand_over(self, handle: int) -> None:
        """What another library's stream gets from now on sees all that was started so far."""
        self.driver.record(self._order, self.driver.compute)
        self.driver.wait(self.driver.stream_of(handle), self._order)

    def _hold(self, *views: DeviceView) -> None:
        """Copies from views were started: their memory must not change, nor be given back, before they have ended."""
        for stream in {view.stream for view in views if view.stream is not None}:
            self.hand_over(stream)
        while self._held and self.driver.is_over(self._held[0][0]):
            self._spare.append(self._held.popleft()[0])
        over = self._spare.pop() if self._spare else self.driver.event()
        self.driver.record(over, self.driver.compute)
        self._held.append((over, views))

    def fetch(self, items: Sequence[tuple[np.ndarray, int]]) -> None:
        """Contiguous arrays from addresses: they are whole when this returns."""
        self.staging.fetch(items)

    def load(self, printed: Printed) -> Any:
        """The kernel on the GPU."""
        if printed.text not in self._kernels:
            self._kernels[printed.text] = self.driver.load(printed)
        return self._kernels[printed.text]

    def launch(self, kernel: Any, blocks: int, threads: int, args: Args) -> None:
        """Starts a kernel, or adds it to the graph that is being captured."""
        self.driver.launch(kernel, blocks, threads, args)

    def capture(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches that a function makes, as one graph: a function that starts all of them."""
        return self.driver.capture(launches)

    def synchronize(self) -> None:
        """Waits for all work."""
        self.driver.synchronize()


class _Owner:
    """Memory of the GPU, given back when nobody needs it."""

    def __init__(self, free: Callable[[int], None], address: int):
        self._free, self._address = free, address

    def __del__(self) -> None:
        self._free(self._address)


class Loan:
    """Memory of a result. What other libraries have seen is given back and not used again: their work on it may not have ended."""

    def __init__(self, returned: deque[tuple[int, int, Any]], size: int, address: int, owner: Any):
        self._returned, self._held, self.seen = returned, (size, address, owner), False

    def __del__(self) -> None:
        if not self.seen:
            self._returned.append(self._held)


@cache
def open_gpu(index: int = 0) -> Gpu:
    """The GPU of this process with that number."""
    return Gpu(Driver(index))
