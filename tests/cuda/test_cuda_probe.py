"""Why there is no GPU: one clear sentence each, on drivers that are made up."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest

import graphc as gc
from graphc.backends.cuda import probe
from graphc.errors import DeviceUnavailableError


class Status(int):
    """A result code with a name."""

    def __new__(cls, number=0, name="CUDA_SUCCESS"):
        made = int.__new__(cls, number)
        made.name = name
        return made


OK = Status()


def driver(init=OK, version=13000, count=1, capability=(9, 0), name=b"NVIDIA H200\0\0", memory=(OK, 2**37)):
    """Bindings of a driver that answers so."""
    attribute = SimpleNamespace(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=0, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=1)
    return SimpleNamespace(
        cuInit=lambda flags: (init,), cuDriverGetVersion=lambda: (OK, version), cuDeviceGetCount=lambda: (OK, count),
        cuDeviceGet=lambda i: (OK, i), cuDeviceGetAttribute=lambda a, d: (OK, capability[a]), cuDeviceGetName=lambda n, d: (OK, name),
        cuDeviceTotalMem=lambda d: memory, CUdevice_attribute=attribute,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The packages are there, and no variable stands in the way."""
    for name in ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    real, needed = importlib.metadata.version, probe.RUNTIME
    monkeypatch.setattr(probe.importlib.metadata, "version", lambda name: "1" if name in needed else real(name))


class DynamicLibNotFoundError(RuntimeError):
    """What the bindings raise where there is no libcuda."""


def absent():
    raise DynamicLibNotFoundError('"cuda" is an NVIDIA driver library')


@pytest.mark.parametrize(
    "bindings,cause,fix",
    [
        (absent, "there is no NVIDIA driver on this machine", "install the driver"),
        (lambda: driver(init=Status(100, "CUDA_ERROR_NO_DEVICE")), "the driver finds no GPU", "nvidia-smi -L"),
        (lambda: driver(init=Status(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")), "does not start: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "nvidia-smi"),
        (lambda: driver(version=12040), "too old: it knows CUDA 12.4", "580 or newer"),
        (lambda: driver(count=0), "the driver finds no GPU", "nvidia-smi -L"),
        (lambda: driver(capability=(6, 1), name=b"GeForce GTX 1080\0"), "GeForce GTX 1080 is too old: compute capability 6.1", "2018"),
        (lambda: driver(memory=(Status(999, "CUDA_ERROR_UNKNOWN"), None)), "does not answer: cuDeviceTotalMem gives CUDA_ERROR_UNKNOWN", "nvidia-smi"),
    ],
)
def test_each_reason_is_told_with_what_helps(bindings, cause, fix, monkeypatch):
    monkeypatch.setattr(probe, "_driver", bindings)
    assert not gc.cuda.is_available()
    assert cause in gc.cuda.why_not() and fix in gc.cuda.why_not()
    assert gc.cuda.summary().startswith("no: ")
    with pytest.raises(DeviceUnavailableError, match='target="cuda" cannot be used here') as e:
        probe.require()
    assert cause in str(e.value) and fix in e.value.hint


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(probe, "_driver", driver)
    assert gc.cuda.is_available() and gc.cuda.why_not() == ""
    assert gc.cuda.summary().startswith("NVIDIA H200, compute capability 9.0, 128 GiB, driver for CUDA 13.0")
    assert probe.require().capability == (9, 0)
    with pytest.raises(DeviceUnavailableError, match="no GPU 3: this process sees 1"):
        probe.require(3)


def test_variables_and_packages_that_stand_in_the_way(monkeypatch):
    monkeypatch.setattr(probe, "_driver", lambda: driver(count=0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in gc.cuda.why_not()
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert "unset NUMBA_ENABLE_CUDASIM" in gc.cuda.why_not()
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM")
    monkeypatch.setattr(probe, "RUNTIME", ("no-such-package",))
    assert "no-such-package is not installed" in gc.cuda.why_not() and "graphc-dl[cuda13]" in gc.cuda.why_not()


def test_looking_imports_no_compiler():
    import subprocess
    import sys

    code = "import sys, graphc as gc; gc.cuda.why_not(); assert 'numba' not in sys.modules and 'llvmlite' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
