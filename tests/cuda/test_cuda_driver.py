"""The driver of a real GPU, over bindings that are made up here: what it calls, with which arguments; and that the real bindings have it."""

from __future__ import annotations

import ctypes
import inspect
import re
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from graphc.backends.cuda import driver as module
from graphc.backends.cuda import probe
from graphc.backends.cuda.driver import Driver
from graphc.backends.cuda.gpu import Gpu
from graphc.backends.cuda.toolchain import Cubin
from graphc.errors import DeviceUnavailableError
from graphc.runtime.exchange import DeviceView


class Status(int):
    name = "CUDA_ERROR_ILLEGAL_ADDRESS"


class Bindings:
    """cuda.bindings.driver on memory of the host; ``calls`` are the calls that order something."""

    CUresult = SimpleNamespace(CUDA_ERROR_OUT_OF_MEMORY=2)
    CUevent_flags = SimpleNamespace(CU_EVENT_DEFAULT=0, CU_EVENT_DISABLE_TIMING=2)

    def __init__(self):
        self.calls, self.memory, self.fails, self.current = [], {}, "", 11

    CUstream = staticmethod(lambda handle: f"stream {handle}")

    def __getattribute__(self, name):
        found = object.__getattribute__(self, name)
        if name.startswith("cu") and name == self.fails:
            return lambda *args: (Status(700),)
        return found

    def _new(self, nbytes):
        data = (ctypes.c_uint8 * nbytes)()
        self.memory[ctypes.addressof(data)] = data
        return Status(0), ctypes.addressof(data)

    cuMemAlloc = cuMemAllocHost = _new
    cuCtxGetCurrent = lambda self: (Status(0), self.current)
    cuMemGetInfo = lambda self: (Status(0), 5, 10)

    def cuCtxSetCurrent(self, context):
        self.current = context
        return (Status(0),)

    def cuMemFree(self, address):
        del self.memory[address]
        return (Status(0),)

    def _copy(self, kind):
        def copy(to, source, nbytes, stream):
            self.calls.append((kind, nbytes, stream))
            ctypes.memmove(to, source, nbytes)
            return (Status(0),)

        return copy

    cuMemcpyHtoDAsync = property(lambda self: self._copy("in"))
    cuMemcpyDtoHAsync = property(lambda self: self._copy("out"))
    cuMemcpyDtoDAsync = property(lambda self: self._copy("copy"))

    def cuEventCreate(self, flags):
        self.memory[len(self.memory)] = flags
        return Status(0), SimpleNamespace(flags=flags)

    def _noted(self, kind):
        def note(*args):
            self.calls.append((kind, *[a for a in args if isinstance(a, str)]))
            return (Status(0),)

        return note

    cuEventRecord = property(lambda self: self._noted("record"))
    cuEventSynchronize = property(lambda self: self._noted("finish"))
    cuStreamWaitEvent = property(lambda self: self._noted("wait"))
    cuEventQuery = lambda self, event: (Status(600),)
    cuEventElapsedTime = lambda self, a, b: (Status(0), 2.5)


class Stream:
    def __init__(self, handle, log):
        self.handle, self.log = handle, log

    def sync(self):
        self.log.append(("sync", self.handle))

    def create_graph_builder(self):
        log = self.log
        graph = SimpleNamespace(upload=lambda s: log.append(("upload", s.handle)), launch=lambda s: log.append(("graph", s.handle)))
        return SimpleNamespace(handle="builder", begin_building=lambda: None, end_building=lambda: None, complete=lambda: graph)


@pytest.fixture
def made(monkeypatch):
    """A driver over made-up bindings, and these."""
    bindings = Bindings()
    handles = iter(["compute", "copies"])
    device = SimpleNamespace(set_current=lambda: None, create_stream=lambda: Stream(next(handles), bindings.calls))
    core = ModuleType("cuda.core")
    core.Device = lambda index: device
    core.LaunchConfig = lambda grid, block: (grid, block)
    core.launch = lambda stream, config, kernel, *args: bindings.calls.append(("launch", stream.handle, config, kernel, args))
    core.ObjectCode = SimpleNamespace(from_cubin=lambda code: SimpleNamespace(get_kernel=lambda name: (code, name)))
    package, parent = ModuleType("cuda.bindings"), ModuleType("cuda")
    package.driver = bindings
    for name, value in (("cuda", parent), ("cuda.bindings", package), ("cuda.core", core)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.setattr(module, "require", lambda index: probe.Seen("a GPU", (9, 0), 2**30, "13.0"))
    return Driver(0), bindings


def test_arrays_go_there_and_back(made):
    driver, bindings = made
    gpu = Gpu(driver)
    x = np.arange(100, dtype=np.float32)
    with gpu.entered():
        place, owner = gpu.allocate(400, "x")
        gpu.send([(place, x)])
        assert [c for c in bindings.calls if c[0] != "finish"] == [
            ("wait", "copies"), ("in", 400, "copies"), ("record", "copies"), ("wait", "compute"), ("copy", 400, "compute"), ("record", "compute"),
        ]  # fmt: skip
        bindings.calls.clear()
        back = np.zeros_like(x)
        gpu.fetch([(back, place)])
        assert bindings.calls[:2] == [("record", "compute"), ("wait", "copies")] and ("out", 400, "copies") in bindings.calls
        assert bindings.calls[-1] == ("finish",)
    np.testing.assert_array_equal(back, x)
    view = DeviceView(place, (100,), x.dtype, 0, 7, owner)
    other, _keep = gpu.allocate(400, "y")
    bindings.calls.clear()
    gpu.send([(other, view)])
    assert bindings.calls == [
        ("record", "stream 7"), ("wait", "compute"), ("copy", 400, "compute"), ("record", "compute"), ("wait", "stream 7"), ("record", "compute"),
    ]  # fmt: skip
    assert ctypes.string_at(other, 400) == x.tobytes()
    assert driver.memory() == (5, 10)
    assert place in bindings.memory
    del owner, view
    gpu._held.clear()
    assert place not in bindings.memory


def test_kernels_are_launched_and_captured(made, monkeypatch):
    driver, bindings = made
    asked = []
    monkeypatch.setattr(module, "find_kernel", lambda printed, archs, name: asked.append((archs, name)) or Cubin(b"code", "entry", "sm_90a", 1, 0, 0, 0))
    kernel = driver.load("printed")
    assert asked == [(["sm_90a", "sm_90"], "a GPU")] and kernel == (b"code", "entry")
    driver.launch(kernel, 3, 128, (4096, np.int32(7)))
    bindings.calls.clear()
    run = driver.capture(lambda: driver.launch(kernel, 3, 128, (4096, np.int32(7))))
    assert bindings.calls == [("launch", "builder", (3, 128), kernel, (4096, 7)), ("upload", "compute")]
    run()
    driver.launch(kernel, 1, 32, ())
    assert bindings.calls[2:] == [("graph", "compute"), ("launch", "compute", (1, 32), kernel, ())]
    driver.synchronize()
    assert {("sync", "compute"), ("sync", "copies")} <= set(bindings.calls)


def test_another_gpu_of_the_thread_is_put_back(made):
    driver, bindings = made
    gpu = Gpu(driver)
    for before, after in ((11, 11), (22, 22), (0, 11)):  # ours, another library's, none
        bindings.current = before
        with gpu.entered():
            assert bindings.current == 11
            _, owner = gpu.allocate(8, "x")
        assert bindings.current == after
        bindings.current = before
        del owner
        assert bindings.current == after


def test_events(made):
    driver, _ = made
    assert driver.event(True).flags == 0 and driver.event().flags == 2
    assert driver.elapsed(None, None) == 2.5e-3 and driver.is_over(None) is False


def test_what_the_driver_refuses_is_one_error(made):
    driver, bindings = made
    bindings.fails = "cuMemcpyHtoDAsync"
    with pytest.raises(DeviceUnavailableError, match="a GPU: cuMemcpyHtoDAsync gives CUDA_ERROR_ILLEGAL_ADDRESS") as e:
        Gpu(driver).send([(1, np.zeros(4, np.uint8))])
    assert "nvidia-smi" in e.value.hint
    bindings.fails = "cuMemAlloc"
    with pytest.raises(DeviceUnavailableError, match="cuMemAlloc gives"):
        driver.allocate(10)


def test_a_gpu_that_no_code_is_made_for(made, monkeypatch):
    monkeypatch.setattr(module, "require", lambda index: probe.Seen("NVIDIA X", (99, 0), 2**30, "13.0"))
    with pytest.raises(DeviceUnavailableError, match=r"compiles for nothing that NVIDIA X \(compute capability 99.0\) runs"):
        Driver(0)


def test_the_real_bindings_have_what_is_called():
    real, core, graph = (pytest.importorskip(name, reason="pip install 'graphc-dl[cuda13]'") for name in ("cuda.bindings.driver", "cuda.core", "cuda.core.graph"))
    text = inspect.getsource(module)
    names = {n for pair in re.findall(r'"(cu[A-Z]\w+)"|_driver\.(\w+)', text) for n in pair if n}
    assert len(names) > 15
    for name in names:
        assert hasattr(real, name), name
        words = re.match(rf"{name}\((.*)\)", getattr(real, name).__doc__ or "")
        if words:  # as many arguments as are given
            given = [re.sub(r"\[[^]]*\]|\([^()]*\)", "", a).count(",") for a in re.findall(rf'_ask\("{name}"(.*?)\)$', text, re.M)]
            assert all(g == len([w for w in words[1].split(",") if w.strip()]) for g in given), name
    for owner, methods in (
        (core.Device, "set_current create_stream"), (core.Stream, "handle sync create_graph_builder"), (core.ObjectCode, "from_cubin get_kernel"),
        (graph.GraphBuilder, "begin_building end_building complete"), (graph.Graph, "upload launch"),
    ):  # fmt: skip
        for method in methods.split():
            assert hasattr(owner, method), (owner, method)
    assert callable(core.launch) and callable(core.LaunchConfig) and int(real.CUstream(1)) == 1
