"""A GPU by cuda.core: memory, copies, kernels, launches and captured graphs. Nothing of CUDA is imported before one is opened.

Everything goes through one stream of its own, so work is in order and nothing waits for work of others. Written against cuda-core 1.2
and not yet run on a GPU; the class in ``tests/cuda/fake_gpu.py`` offers the same methods on NumPy memory with simulated kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from graphc.errors import OutOfMemoryError
from graphc.runtime.memory import said_bytes

from .printers.text import Printed
from .probe import require
from .toolchain import ARCHITECTURES, compile_kernel

__all__ = ["Device", "Gpu", "open_gpu"]

Args = Sequence[np.generic | int]


class Device(Protocol):
    """What a binding needs of a GPU. Addresses are integers, so that they can be baked into launches and graphs."""

    def allocate(self, nbytes: int, what: str) -> tuple[int, Any]: ...
    def upload(self, address: int, array: np.ndarray) -> None: ...
    def download(self, array: np.ndarray, address: int) -> None: ...
    def load(self, printed: Printed) -> Any: ...
    def launch(self, kernel: Any, blocks: int, threads: int, args: Args) -> None: ...
    def capture(self, launches: Callable[[], None]) -> Callable[[], None]: ...
    def synchronize(self) -> None: ...


class Gpu:
    """One GPU. ``allocate`` gives an address and what keeps it alive; copies are asynchronous until :meth:`synchronize`."""

    def __init__(self, index: int = 0):
        seen = require(index)
        from cuda.bindings import driver
        from cuda.core import Device as CoreDevice

        self._driver = driver
        self.name = seen.name
        self.memory = seen.memory
        self.device = CoreDevice(index)
        self.device.set_current()
        self.stream = self.device.create_stream()
        self.arch = _architecture(seen.capability)
        self._target: Any = self.stream  # a graph builder while launches are captured
        self._staging: list[tuple[Any, np.ndarray]] = []
        self._kernels: dict[str, Any] = {}

    # -- memory ----------------------------------------------------------------------------------------------------------
    def allocate(self, nbytes: int, what: str) -> tuple[int, Any]:
        """Memory that lives as long as the second value. An error says what was needed and what was free."""
        status, address = self._driver.cuMemAlloc(max(nbytes, 1))
        if status == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            _, free, total = self._driver.cuMemGetInfo()
            raise OutOfMemoryError(f"out of memory on {self.name}: {what} needs {said_bytes(nbytes)}, {said_bytes(int(free))} of {said_bytes(int(total))} are free")
        self._check(status, "cuMemAlloc")
        return int(address), _Memory(self._driver, int(address))

    def _pinned(self, nbytes: int) -> np.ndarray:
        """Memory of the host that the GPU copies from and to by itself; kept until the next :meth:`synchronize`."""
        status, address = self._driver.cuMemAllocHost(max(nbytes, 1))
        self._check(status, "cuMemAllocHost")
        data = np.ctypeslib.as_array((ctypes.c_uint8 * max(nbytes, 1)).from_address(int(address)))[:nbytes]
        self._staging.append((int(address), data))
        return data

    def upload(self, address: int, array: np.ndarray) -> None:
        """Host to GPU, behind all work that was started before."""
        if array.nbytes:
            stage = self._pinned(array.nbytes)
            stage[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self._check(self._driver.cuMemcpyHtoDAsync(address, stage.ctypes.data, array.nbytes, self.stream.handle)[0], "cuMemcpyHtoDAsync")

    def download(self, array: np.ndarray, address: int) -> None:
        """GPU to host: the array is whole when this returns."""
        if array.nbytes:
            stage = self._pinned(array.nbytes)
            self._check(self._driver.cuMemcpyDtoHAsync(stage.ctypes.data, address, array.nbytes, self.stream.handle)[0], "cuMemcpyDtoHAsync")
            self.stream.sync()
            array.reshape(-1).view(np.uint8)[:] = stage
        self.synchronize()

    def synchronize(self) -> None:
        """Waits for all work; staging memory is given back."""
        self.stream.sync()
        for address, _ in self._staging:
            self._check(self._driver.cuMemFreeHost(address)[0], "cuMemFreeHost")
        self._staging.clear()

    # -- kernels ---------------------------------------------------------------------------------------------------------
    def load(self, printed: Printed) -> Any:
        """The kernel on the GPU: from the cache of machine code, or compiled."""
        if printed.text not in self._kernels:
            from cuda.core import ObjectCode

            made = compile_kernel(printed, self.arch)
            self._kernels[printed.text] = ObjectCode.from_cubin(made.code).get_kernel(made.entry)
        return self._kernels[printed.text]

    def launch(self, kernel: Any, blocks: int, threads: int, args: Args) -> None:
        """Starts a kernel, or adds it to the graph that is being captured. Addresses are Python's integers, numbers NumPy's."""
        from cuda.core import LaunchConfig, launch

        launch(self._target, LaunchConfig(grid=blocks, block=threads), kernel, *args)

    def capture(self, launches: Callable[[], None]) -> Callable[[], None]:
        """The launches that a function makes, as one graph: a function that starts all of them."""
        builder = self.stream.create_graph_builder()
        builder.begin_building()
        self._target = builder
        try:
            launches()
        finally:
            self._target = self.stream
            builder.end_building()
        graph = builder.complete()
        graph.upload(self.stream)
        return lambda: graph.launch(self.stream)

    def _check(self, status: Any, what: str) -> None:
        if int(status) != 0:
            from graphc.errors import DeviceUnavailableError

            raise DeviceUnavailableError(f"{self.name}: {what} gives {getattr(status, 'name', status)}", hint="an earlier kernel may have failed; nvidia-smi says more")


class _Memory:
    """Memory of the GPU, given back when nobody needs it."""

    def __init__(self, driver: Any, address: int):
        self._free, self._address = driver.cuMemFree, address

    def __del__(self) -> None:
        self._free(self._address)


def _architecture(capability: tuple[int, int]) -> str:
    """The newest architecture that a GPU of a compute capability can run."""
    return max((a for a, c in ARCHITECTURES.items() if c[0] == capability[0] and c <= capability and not a.endswith("a")), key=lambda a: ARCHITECTURES[a])


@cache
def open_gpu(index: int = 0) -> Gpu:
    """The GPU of this process with that number."""
    return Gpu(index)
