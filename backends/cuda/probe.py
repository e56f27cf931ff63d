"""Whether a GPU can be used here, and if not, the first reason why, with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any, NamedTuple

from graphc.errors import DeviceUnavailableError

from .toolchain import INSTALL

__all__ = ["Problem", "Seen", "find_problem", "look", "require"]

DRIVER = 13000
"""The CUDA version that the driver must know, as it tells it: kernels are compiled by CUDA 13.0."""
CAPABILITY = (7, 5)
RUNTIME = ("cuda-core", "cuda-bindings")


class Problem(NamedTuple):
    """Why there is no GPU, and what helps."""

    cause: str
    fix: str


class Seen(NamedTuple):
    """A GPU that can be used."""

    name: str
    capability: tuple[int, int]
    memory: int
    driver: str


def _driver() -> Any:
    """The bindings of the driver's library."""
    from cuda.bindings import driver

    return driver


def look(index: int = 0) -> Seen | Problem:
    """The GPU with that number, or why it cannot be used. Nothing is allocated, and nothing is raised."""
    for name in ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA"):
        if os.environ.get(name, "0") not in ("", "0"):
            return Problem(f"{name} is set: Numba then has no GPU", f"unset {name}")
    for package in RUNTIME:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return Problem(f"the package {package} is not installed", INSTALL)
    try:
        driver = _driver()
        return _ask(driver, index)
    except DeviceUnavailableError as e:
        return Problem(f"the NVIDIA driver does not answer: {e.message}", "nvidia-smi says more")
    except Exception as e:  # the bindings raise errors of their own where the driver's library is not there
        if "NotFound" in type(e).__name__ or isinstance(e, (ImportError, OSError)):
            return Problem("there is no NVIDIA driver on this machine (libcuda.so.1 is not found)", 'install the driver (580 or newer), or take target="cpu"')
        return Problem(f"the NVIDIA driver does not answer: {type(e).__name__}: {e}", "nvidia-smi says more")


def _ask(driver: Any, index: int) -> Seen | Problem:
    def call(name: str, *args: Any) -> Any:
        status, *values = getattr(driver, name)(*args)
        if int(status) != 0:
            raise DeviceUnavailableError(f"{name} gives {getattr(status, 'name', status)}")
        return values[0] if values else None

    (status,) = driver.cuInit(0)
    if getattr(status, "name", "") == "CUDA_ERROR_NO_DEVICE":
        return _no_gpu()
    if int(status) != 0:
        return Problem(f"the NVIDIA driver does not start: {getattr(status, 'name', status)}", "nvidia-smi says more; a restart often helps after an update of the driver")
    version = call("cuDriverGetVersion")
    words = f"{version // 1000}.{version % 1000 // 10}"
    if version < DRIVER:
        return Problem(f"the NVIDIA driver is too old: it knows CUDA {words}, kernels are compiled by CUDA 13.0", "update the driver to 580 or newer")
    count = call("cuDeviceGetCount")
    if count == 0:
        return _no_gpu()
    if not 0 <= index < count:
        return Problem(f"there is no GPU {index}: this process sees {count}", "they are numbered from 0; CUDA_VISIBLE_DEVICES chooses them")
    device = call("cuDeviceGet", index)
    attribute = driver.CUdevice_attribute
    major = call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device)
    minor = call("cuDeviceGetAttribute", attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device)
    name = call("cuDeviceGetName", 128, device).split(b"\0")[0].decode()
    if (major, minor) < CAPABILITY:
        return Problem(f"{name} is too old: compute capability {major}.{minor}, CUDA 13 needs {CAPABILITY[0]}.{CAPABILITY[1]}", "a GPU of 2018 or later")
    return Seen(name, (major, minor), int(call("cuDeviceTotalMem", device)), words)


def _no_gpu() -> Problem:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return Problem(f"the driver shows no GPU to this process: CUDA_VISIBLE_DEVICES is {visible!r}", "unset CUDA_VISIBLE_DEVICES, or name a GPU that exists")
    return Problem("the driver finds no GPU", "nvidia-smi -L lists them; in a container, start it with access to GPUs")


def find_problem(index: int = 0) -> Problem | None:
    """Why GPU ``index`` cannot be used, or None."""
    found = look(index)
    return found if isinstance(found, Problem) else None


def require(index: int = 0) -> Seen:
    """The GPU, or one clear error; nothing ever runs on the CPU instead."""
    found = look(index)
    if isinstance(found, Problem):
        raise DeviceUnavailableError(f'target="cuda" cannot be used here: {found.cause}', hint=found.fix)
    return found
