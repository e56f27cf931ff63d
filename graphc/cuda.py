"""What there is of CUDA on this machine (``gc.cuda.is_available()``, ``gc.cuda.why_not()``), and arrays on its GPUs."""

from __future__ import annotations

import importlib
from typing import Any

from .locate import public
from .runtime.warming import warm_architectures

__all__ = ["asarray", "from_dlpack", "is_available", "summary", "why_not"]


def _look() -> Any:
    # by name: the core does not depend on backends
    return importlib.import_module("graphc.backends.cuda.probe").look()


def is_available() -> bool:
    """Whether ``target="cuda"`` can run here. It never raises and takes nothing of the GPU; ``graphc warm --arch`` makes it true.

    >>> import graphc as gc
    >>> gc.cuda.is_available() == (gc.cuda.why_not() == "")
    True
    """
    return bool(warm_architectures()) or not hasattr(_look(), "fix")


def why_not() -> str:
    """The first reason why no GPU can be used, and what helps; an empty string where one can."""
    found = _look()
    return f"{found.cause} ({found.fix})" if hasattr(found, "fix") and not warm_architectures() else ""


def asarray(x: Any, device: int = 0) -> Any:
    """``x`` as a :class:`DeviceArray` on a GPU: what is there already (torch's, CuPy's, JAX's) is shared, an array of the host is copied.

    Functions and models of ``target="cuda"`` take it, and then give arrays that stay on the GPU too. Other libraries take it without a copy:
    ``torch.from_dlpack(a)``; ``np.asarray(a)`` copies it to the host.
    """
    return importlib.import_module("graphc.backends.cuda.arrays").asarray(x, device)


def from_dlpack(x: Any) -> Any:
    """The array of another library on a GPU as a :class:`DeviceArray` that shares its memory."""
    return importlib.import_module("graphc.backends.cuda.arrays").from_dlpack(x)


def summary() -> str:
    """One line for ``graphc doctor``: the GPU, or why there is none, and whether kernels can be compiled ahead."""
    found = _look()
    missing = importlib.import_module("graphc.backends.cuda.toolchain").toolchain_missing()
    compiler = f"no compiler ({missing} is not installed), only kernels that were compiled ahead" if missing else "kernels can be compiled ahead"
    if hasattr(found, "fix"):
        return f"no: {found.cause}; {compiler}"
    return f"{found.name}, compute capability {'.'.join(map(str, found.capability))}, {found.memory / 2**30:.0f} GiB, driver for CUDA {found.driver}; {compiler}"


public(globals())
