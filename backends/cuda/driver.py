"""The driver of one GPU as this package uses it: memory, two streams, events, copies, kernels and captured graphs.

Nothing of CUDA is imported before a :class:`Driver` is made. What is built on it (:mod:`.gpu`, :mod:`.staging`, :mod:`.binding`) runs in tests on a
made-up one with the same methods (``tests/cuda/fake_gpu.py``), which checks the order of everything that touches memory. Written against
cuda-core 1.2 and cuda-bindings 13 and not yet run on a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from graphc.errors import DeviceUnavailableError

from .printers.text import Printed
from .probe import require
from .toolchain import architectures, find_kernel

__all__ = ["Args", "Driver", "Pinned", "Runtime"]

Args = Sequence[np.generic | int]
Pinned = Any
"""Memory of the host that the GPU copies from and to by itself."""


class Runtime(Protocol):
    """What :class:`.gpu.Gpu` needs. Addresses are integers, so that they can be baked into launches and graphs.

    Work on a stream is in order; between streams, and towards the host, events make it so. ``compute`` has kernels and copies within the
    GPU, ``copies`` has those between it and pinned memory.
    """

    name: str
    index: int
    compute: Any
    copies: Any

    def activate(self) -> Any: ...
    def restore(self, before: Any) -> None: ...
    def allocate(self, nbytes: int) -> int | None: ...
    def free(self, address: int) -> None: ...
    def memory(self) -> tuple[int, int]: ...
    def pin(self, nbytes: int) -> Pinned: ...
    def fill(self, pinned: Pinned, at: int, data: np.ndarray) -> None: ...
    def drain(self, into: np.ndarray, pinned: Pinned, at: int) -> None: ...
    def copy_in(self, address: int, pinned: Pinned, at: int, nbytes: int) -> None: ...
    def copy_out(self, pinned: Pinned, at: int, address: int, nbytes: int) -> None: ...
    def copy(self, address: int, source: int, nbytes: int) -> None: ...
    def event(self, timed: bool = False) -> Any: ...
    def record(self, event: Any, stream: Any) -> None: ...
    def wait(self, stream: Any, event: Any) -> None: ...
    def finish(self, event: Any) -> None: ...
    def is_over(self, event: Any) -> bool: ...
    def elapsed(self, start: Any, end: Any) -> float: ...
    def stream_of(self, handle: int) -> Any: ...
    def handle_of(self, stream: Any) -> int: ...
    def load(self, printed: Printed) -> Any: ...
    def launch(self, kernel: Any, blocks: int, threads: int, args: Args) -> None: ...
    def capture(self, launches: Callable[[], None]) -> Callable[[], None]: ...
    def synchronize(self) -> None: ...


class Driver:
    """One GPU by cuda.bindings (memory, events, copies) and cuda.core (kernels, graphs)."""

    def __init__(self, index: int = 0):
        seen = require(index)
        self.archs = architectures(seen.capability)
        if not self.archs:
            words = ".".join(map(str, seen.capability))
            raise DeviceUnavailableError(f"CUDA 13.0 compiles for nothing that {seen.name} (compute capability {words}) runs", hint="a newer graphc")
        from cuda.bindings import driver
        from cuda.core import Device

        self._driver = driver
        self.name, self.index = seen.name, index
        device = Device(index)
        device.set_current()
        self._context = self._ask("cuCtxGetCurrent")
        self._stream, self._side = device.create_stream(), device.create_stream()
        self.compute, self.copies = self._stream.handle, self._side.handle
        self._target: Any = self._stream  # a graph builder while launches are captured

    def _ask(self, name: str, *args: Any) -> Any:
        """Calls the driver: its value, or one error with the name of what failed."""
        return self._value(name, getattr(self._driver, name)(*args))

    def _value(self, name: str, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if int(status) != 0:
            word = getattr(status, "name", status)
            raise DeviceUnavailableError(f"{self.name}: {name} gives {word}", hint="an earlier kernel may have failed: a new process starts afresh; nvidia-smi says more")
        return values[0] if len(values) == 1 else values

    def activate(self) -> Any:
        """Makes the GPU that of this thread; what was before, for :meth:`restore`: other libraries may work with another one."""
        before = self._ask("cuCtxGetCurrent")
        self._ask("cuCtxSetCurrent", self._context)
        return before

    def restore(self, before: Any) -> None:
        if int(before) not in (0, int(self._context)):
            self._ask("cuCtxSetCurrent", before)

    # -- memory ----------------------------------------------------------------------------------------------------------
    def allocate(self, nbytes: int) -> int | None:
        """The address of memory on the GPU; None where there is not enough."""
        result = self._driver.cuMemAlloc(max(nbytes, 1))
        if result[0] == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            return None
        return int(self._value("cuMemAlloc", result))

    def free(self, address: int) -> None:
        """Gives memory back, when all work on the GPU is done."""
        with suppress(DeviceUnavailableError):  # called by destructors, perhaps when the process ends: there is nobody to tell
            before = self.activate()
            self._ask("cuMemFree", address)
            self.restore(before)

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and that there are."""
        free, total = self._ask("cuMemGetInfo")
        return int(free), int(total)

    def pin(self, nbytes: int) -> Pinned:
        """Pinned memory of the host, for as long as the process lives."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(int(self._ask("cuMemAllocHost", nbytes))))

    def fill(self, pinned: Pinned, at: int, data: np.ndarray) -> None:
        pinned[at : at + data.nbytes] = data

    def drain(self, into: np.ndarray, pinned: Pinned, at: int) -> None:
        into[:] = pinned[at : at + into.nbytes]

    def copy_in(self, address: int, pinned: Pinned, at: int, nbytes: int) -> None:
        """Host to GPU, on the stream of copies."""
        self._ask("cuMemcpyHtoDAsync", address, pinned.ctypes.data + at, nbytes, self.copies)

    def copy_out(self, pinned: Pinned, at: int, address: int, nbytes: int) -> None:
        """GPU to host, on the stream of copies."""
        self._ask("cuMemcpyDtoHAsync", pinned.ctypes.data + at, address, nbytes, self.copies)

    def copy(self, address: int, source: int, nbytes: int) -> None:
        """Within the GPU (or from another one), in order with kernels."""
        self._ask("cuMemcpyDtoDAsync", address, source, nbytes, self.compute)

    # -- order -----------------------------------------------------------------------------------------------------------
    def event(self, timed: bool = False) -> Any:
        flags = self._driver.CUevent_flags
        return self._ask("cuEventCreate", int(flags.CU_EVENT_DEFAULT if timed else flags.CU_EVENT_DISABLE_TIMING))

    def record(self, event: Any, stream: Any) -> None:
        """The event stands behind all that the stream has been given so far."""
        self._ask("cuEventRecord", event, stream)

    def wait(self, stream: Any, event: Any) -> None:
        """What the stream gets from now on waits for the event, as it was last recorded."""
        self._ask("cuStreamWaitEvent", stream, event, 0)

    def finish(self, event: Any) -> None:
        """The host waits for the event; one that was never recorded is over."""
        self._ask("cuEventSynchronize", event)

    def is_over(self, event: Any) -> bool:
        """Whether all before an event has ended."""
        (status,) = self._driver.cuEventQuery(event)
        return int(status) == 0

    def elapsed(self, start: Any, end: Any) -> float:
        """Seconds between two events that are over."""
        return float(self._ask("cuEventElapsedTime", start, end)) * 1e-3

    def stream_of(self, handle: int) -> Any:
        """A stream of another library, by its handle (1: the default stream of the process, 2: that of the thread)."""
        return self._driver.CUstream(handle)

    def handle_of(self, stream: Any) -> int:
        return int(stream)

    # -- kernels ---------------------------------------------------------------------------------------------------------
    def load(self, printed: Printed) -> Any:
        """The kernel on the GPU: its machine code is read, or compiled."""
        from cuda.core import ObjectCode

        made = find_kernel(printed, self.archs, self.name)
        return ObjectCode.from_cubin(made.code).get_kernel(made.entry)

    def launch(self, kernel: Any, blocks: int, threads: int, args: Args) -> None:
        """Starts a kernel, or adds it to the graph that is being captured. Addresses are Python's integers, numbers NumPy's."""
        from cuda.core import LaunchConfig, launch

        launch(self._target, LaunchConfig(grid=blocks, block=threads), kernel, *args)

    def capture(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches that a function makes, as one graph: a function that starts all of them."""
        builder = self._stream.create_graph_builder()
        builder.begin_building()
        self._target = builder
        try:
            launches()
        finally:
            self._target = self._stream
            builder.end_building()
        graph = builder.complete()
        graph.upload(self._stream)
        return lambda: graph.launch(self._stream)

    def synchronize(self) -> None:
        """Waits for all work."""
        self._side.sync()
        self._stream.sync()
