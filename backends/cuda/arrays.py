"""Arrays that stay on a GPU: what a program gives where its inputs were there, for other libraries to take without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, SettingError
from graphc.ir.dtypes import as_dtype
from graphc.runtime.exchange import CPU, CUDA, LEGACY, DeviceView, as_array, capsule_of, device_view, interface_of

from . import gpu as gpus
from .gpu import Gpu, Loan

__all__ = ["DeviceArray", "asarray", "from_dlpack", "shared"]


class DeviceArray:
    """An array in the memory of a GPU. ``torch.from_dlpack(a)``, ``cupy.from_dlpack(a)`` and ``jax.dlpack.from_dlpack(a)`` share it, compiled
    functions take it as an argument, and ``np.asarray(a)`` copies it to the host.

    It may be there before its values are: whoever takes it by a protocol waits on the GPU and not on the host.
    """

    def __init__(self, gpu: Gpu, address: int, shape: Sequence[int], dtype: Any, keep: Any):
        self.gpu, self.address, self.shape, self.dtype, self._keep = gpu, address, tuple(shape), np.dtype(dtype), keep

    @classmethod
    def empty(cls, gpu: Gpu, shape: Sequence[int], dtype: Any, what: str = "an array") -> DeviceArray:
        """Memory without values. To be called while the GPU is entered, as all that starts work there."""
        address, keep = gpu.lend(prod(shape) * np.dtype(dtype).itemsize, what)
        return cls(gpu, address, shape, dtype, keep)

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: prod(self.shape))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    device = property(lambda self: f"cuda:{self.gpu.index}")

    def __len__(self) -> int:
        if not self.shape:
            raise ArgumentError("len() of an array without axes")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<DeviceArray {as_dtype(self.dtype)}({', '.join(map(str, self.shape))}) on {self.device}>"

    # -- to the host -----------------------------------------------------------------------------------------------------
    def numpy(self) -> np.ndarray:
        """A copy on the host."""
        made = np.empty(self.shape, self.dtype)
        with self.gpu.entered():
            self.gpu.receive(self.__graphc_view__())
            self.gpu.fetch([(made, self.address)])
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise SettingError("copy=False: an array on a GPU is copied to the host")
        return self.numpy() if dtype is None else self.numpy().astype(dtype, copy=False)

    def item(self) -> Any:
        """The one element."""
        return self.numpy().item()

    def tolist(self) -> Any:
        return self.numpy().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    # -- to other libraries ----------------------------------------------------------------------------------------------
    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.gpu.index

    def __dlpack__(
        self, *, stream: int | None = None, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None, copy: bool | None = None
    ) -> Any:
        """A capsule over this memory. The taker's ``stream`` waits for the values (None: CUDA's default stream; -1: it sees to that itself)."""
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            if tuple(dl_device) != (CPU, 0) or copy is False:
                raise BufferError(f"an array on {self.device} is not on the device {tuple(dl_device)}")
            made = self.numpy()
            return capsule_of(made.ctypes.data, made.shape, made.dtype, (CPU, 0), made, max_version)
        if stream is not None and (isinstance(stream, bool) or not isinstance(stream, int) or stream < -1 or stream == 0):
            raise SettingError(f"stream = {stream!r}: None, -1, 1 (the default stream), 2 (the thread's) or a handle")
        lent = self
        with self.gpu.entered():
            if copy:
                lent = DeviceArray.empty(self.gpu, self.shape, self.dtype)
                self.gpu.driver.copy(lent.address, self.address, self.nbytes)
            if stream != -1:
                self.gpu.hand_over(LEGACY if stream is None else stream)
        lent._show()
        return capsule_of(lent.address, lent.shape, lent.dtype, lent.__dlpack_device__(), lent, max_version)

    def _show(self) -> None:
        """Others see this memory from now on."""
        if isinstance(self._keep, Loan):
            self._keep.seen = True

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        self._show()
        return interface_of(self.address if self.size else 0, self.shape, self.dtype, self.gpu.driver.handle_of(self.gpu.driver.compute))

    def __graphc_view__(self) -> DeviceView:
        # values that are ours come on the stream that will read them; others may have changed them on CUDA's default stream
        ours = isinstance(self._keep, Loan) and not self._keep.seen
        return DeviceView(self.address, self.shape, self.dtype, self.gpu.index, None if ours else LEGACY, self)


def asarray(x: Any, device: int = 0) -> DeviceArray:
    """``x`` on a GPU: memory that is there already is shared, an array of the host is copied."""
    if isinstance(x, DeviceArray) and x.gpu.index == device:
        return x
    view = device_view(x)
    if view is not None:
        return shared(view, gpus.open_gpu(device))
    gpu, array = gpus.open_gpu(device), as_array(x)
    as_dtype(array.dtype)
    with gpu.entered():
        made = DeviceArray.empty(gpu, array.shape, array.dtype)
        gpu.send([(made.address, array)])
    return made


def from_dlpack(x: Any) -> DeviceArray:
    """The array of another library on a GPU, whose memory is shared."""
    view = device_view(x) if hasattr(x, "__dlpack__") else None
    if view is None:
        raise ArgumentError(f"{type(x).__name__} has no memory on a GPU that DLPack gives", hint="gc.cuda.asarray(x) copies an array of the host")
    return shared(view, gpus.open_gpu(view.device))


def shared(view: DeviceView, gpu: Gpu) -> DeviceArray:
    """A view as an array, which what is started from now on finds whole."""
    with gpu.entered():
        gpu.receive(view)
    return DeviceArray(gpu, view.address, view.shape, view.dtype, view.keep)
