"""Arrays on a GPU, in and out: by DLPack and ``__cuda_array_interface__``, on a GPU that is made up. Its memory is the host's, so that
NumPy and torch can look at what is exchanged; only the name of the device in a capsule has to be changed for them."""

from __future__ import annotations

import ctypes
import gc as collector
import weakref

import ml_dtypes
import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cuda import gpu as gpu_module
from graphc.backends.cuda.arrays import DeviceArray
from graphc.errors import ArgumentError, DTypeError, NonFiniteError, ShapeError
from graphc.runtime import exchange
from graphc.runtime.exchange import CPU, CUDA

from .fake_gpu import RaceError, fake_gpu


@pytest.fixture
def gpu(monkeypatch):
    made = fake_gpu()
    monkeypatch.setattr(gpu_module, "open_gpu", lambda index=0: made)
    return made


def moved(capsule, device):
    """The capsule, which says that its memory is on another device."""
    name = next(n for n in exchange._KINDS if exchange._is_valid(id(capsule), n))
    managed = exchange._KINDS[name].from_address(exchange._pointer(id(capsule), name))
    managed.tensor.device.kind, managed.tensor.device.index = device
    return capsule


class Foreign:
    """Another library's array on the GPU: NumPy's or torch's memory, lent to the made-up one."""

    def __init__(self, gpu, array, stream="stream 1", device=0):
        self.gpu, self.array, self.device, self.asked = gpu, array, device, []
        gpu.driver.lend(np.asarray(array))
        self.write(stream)

    def write(self, stream="stream 1"):
        """Its values are made, or change, on a stream of that library."""
        x = np.asarray(self.array)
        self.gpu.driver._touch(stream, "a foreign kernel", writes=[(x.ctypes.data, x.ctypes.data + x.nbytes)])

    def __dlpack_device__(self):
        return CUDA, self.device

    def __dlpack__(self, *, stream=None, max_version=None):
        self.asked.append(stream)
        kinds = {} if type(self.array) is not np.ndarray else {"max_version": max_version}
        return moved(self.array.__dlpack__(**kinds), (CUDA, self.device))


class Interface:
    """The same by ``__cuda_array_interface__``."""

    def __init__(self, foreign, **more):
        self.foreign = foreign
        x = np.asarray(foreign.array)
        said = {"shape": x.shape, "typestr": x.dtype.str, "data": (x.ctypes.data, False), "version": 3, "strides": None, "stream": 1}
        self.__cuda_array_interface__ = {k: v for k, v in (said | more).items() if v is not ...}


class Taker:
    """Lets NumPy and torch take an array of the made-up GPU."""

    def __init__(self, array, stream=None):
        self.array, self.stream = array, stream

    def __dlpack_device__(self):
        return CPU, 0

    def __dlpack__(self, *, max_version=None, **given):
        return moved(self.array.__dlpack__(stream=self.stream, max_version=max_version), (CPU, 0))


def double(gpu):
    return gc.compile(lambda x: x * 2.0, gc.spec("N", 4), target="cuda")


X = np.arange(12, dtype=np.float32).reshape(3, 4)


def given(kind, gpu):
    """The same array in the hands of each library."""
    if kind == "torch":
        return Foreign(gpu, pytest.importorskip("torch").from_numpy(X.copy()))
    foreign = Foreign(gpu, X.copy())
    return foreign if kind == "dlpack" else Interface(foreign)


@pytest.mark.parametrize("kind", ["dlpack", "torch", "interface"])
def test_what_is_on_the_gpu_is_read_there_and_the_result_stays(kind, gpu):
    f = double(gpu)
    f(X)
    gpu.driver.log.clear()
    y = f(given(kind, gpu))
    assert isinstance(y, DeviceArray) and not {"copy in", "copy out", "pin"} & set(gpu.driver.log)  # nothing went through the host
    assert y.shape == (3, 4) and y.dtype == np.float32 and y.nbytes == 48 and len(y) == 3 and "float32(3, 4) on cuda:0" in repr(y)
    np.testing.assert_array_equal(np.asarray(y), X * 2)
    np.testing.assert_array_equal(f(y).numpy(), X * 4)  # what a function gave is an argument of the next
    assert isinstance(f(X), np.ndarray)  # results are where the arguments are


def test_a_result_is_not_overwritten_by_the_next_call(gpu):
    f, x = double(gpu), given("dlpack", gpu)
    first, second = f(x), f(gc.cuda.asarray(X + 1))
    np.testing.assert_array_equal(first.numpy(), X * 2)
    np.testing.assert_array_equal(second.numpy(), X * 2 + 2)
    assert first.tolist() == (X * 2).tolist()
    total = gc.compile(lambda x: x.sum(), gc.spec("N", 4), target="cuda")(x)
    assert float(total) == total.item() == X.sum() and int(total) == 66 and total.shape == ()


def test_memory_of_results_is_used_again_unless_others_have_seen_it(gpu):
    f, x = double(gpu), given("dlpack", gpu)
    first = f(x)
    where = first.address
    del first
    gpu.driver.log.clear()
    second = f(x)
    assert second.address == where and "allocate" not in gpu.driver.log
    both = [second, f(x)]
    assert both[1].address != where
    for show in (lambda y: y.__dlpack__(), lambda y: y.__cuda_array_interface__):
        y = f(x)
        seen = y.address
        show(y)
        del y
        assert seen not in gpu.driver.blocks and f(x).address != seen


def test_memory_that_waits_is_given_back_where_it_is_needed(gpu):
    arrays = [gc.cuda.asarray(np.zeros(n, np.uint8)) for n in range(512, 512 * 40, 512)]
    gpu.driver.log.clear()
    del arrays
    assert len(gpu._returned) == 16
    gpu.driver.left = 600
    gc.cuda.asarray(np.zeros(1 << 16, np.uint8))
    assert len(gpu._returned) == 1


@pytest.mark.parametrize("kind", ["dlpack", "interface"])
def test_the_givers_stream_is_waited_for(kind, gpu):
    """The made-up GPU finds a race where our work does not wait for the stream that fills an array, or is not waited for."""
    f, foreign = double(gpu), Foreign(gpu, X.copy())
    x = foreign if kind == "dlpack" else Interface(foreign)
    kept = [f(x)]
    if kind == "dlpack":
        assert foreign.asked == [1]  # that library makes the default stream wait for its own
    foreign.write()  # it may change its array at once: its stream waits for our copy
    kept.append(f(x))
    with pytest.raises(RaceError, match="a foreign kernel"):
        foreign.write("stream 9")  # one that nobody named
    gpu.driver.synchronize()
    foreign.write("stream 9")
    with pytest.raises(RaceError, match=r"copy \(compute\) does not wait for a foreign kernel \(stream 9\)"):
        kept.append(f(x))
    if kind == "interface":
        kept.append(f(Interface(foreign, stream=9)))  # the interface can name it


def test_an_array_that_is_there_already_needs_no_stream(gpu):
    foreign = Foreign(gpu, X.copy())
    gpu.driver.clocks["host"]["stream 1"] = gpu.driver.clocks["stream 1"]["stream 1"]  # the host has waited for it
    gpu.driver.log.clear()
    np.testing.assert_array_equal(double(gpu)(Interface(foreign, stream=None)).numpy(), X * 2)
    fresh = Foreign(gpu, X.copy())
    np.testing.assert_array_equal(double(gpu)(Interface(fresh, version=2, stream=...)).numpy(), X * 2)  # before version 3: the default stream


def test_an_argument_lives_until_it_is_copied(gpu):
    f, array = double(gpu), X.copy()
    seen = weakref.ref(array)
    y = f(Foreign(gpu, array))
    gpu.driver.blocks.pop(array.ctypes.data)  # the made-up GPU needs it no longer
    del array
    collector.collect()
    assert seen() is not None  # on another one the copy may not have begun
    np.testing.assert_array_equal(y.numpy(), X * 2)  # the host has waited for everything
    f(gc.cuda.asarray(X))  # what is over is let go when something new is taken
    assert seen() is None


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool", "bfloat16"])
def test_other_libraries_share_our_arrays(library, dtype, gpu):
    if library == "numpy" and dtype == "bfloat16":
        pytest.skip("NumPy exchanges no bfloat16")
    take = np.from_dlpack if library == "numpy" else pytest.importorskip("torch").from_dlpack
    values = (X % 2).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    a = gc.cuda.asarray(values)
    gpu.driver.log.clear()
    shared = take(Taker(a))
    assert not gpu.driver.log
    where = shared.ctypes.data if library == "numpy" else shared.data_ptr()
    assert where == a.address and tuple(shared.shape) == (3, 4) and dtype in str(shared.dtype)
    assert (np.asarray(shared.float() if library == "torch" else shared) == values.astype(np.float32)).all()
    seen = weakref.ref(a)
    del a
    assert seen() is not None
    del shared
    assert seen() is None


def test_the_takers_stream_waits_for_our_work(gpu):
    y = double(gpu)(Foreign(gpu, X.copy()))
    span = (y.address, y.address + y.nbytes)
    for stream, name in ((None, "stream 1"), (1, "stream 1"), (2, "stream 2"), (1234, "stream 1234")):
        y.__dlpack__(stream=stream)
        gpu.driver._touch(name, "a reader", reads=[span])
    y.__dlpack__(stream=-1)
    with pytest.raises(RaceError):
        gpu.driver._touch("stream 5", "a reader", reads=[span])
    for wrong in (0, -2, True, "x"):
        with pytest.raises(ValueError, match="stream = "):
            y.__dlpack__(stream=wrong)


def test_what_others_have_changed_is_waited_for(gpu):
    f = double(gpu)
    y = f(Foreign(gpu, X.copy()))
    y.__dlpack__(stream=1)

    def change():
        gpu.driver._touch("stream 1", "a foreign kernel", writes=[(y.address, y.address + y.nbytes)])

    change()
    f(y)
    change()
    y.numpy()
    change()
    gpu.driver.ignored.add("wait compute")
    with pytest.raises(RaceError, match="a foreign kernel"):
        f(y)


def test_requests_of_the_protocol(gpu):
    a = gc.cuda.asarray(X)
    assert a.__dlpack_device__() == (CUDA, 0)
    copied = np.from_dlpack(moved_taker(a, copy=True))
    assert copied.ctypes.data != a.address and (copied == X).all()
    assert (np.from_dlpack(CpuTaker(a)) == X).all()  # what np.from_dlpack(a, device="cpu") asks for
    with pytest.raises(BufferError):
        a.__dlpack__(dl_device=(CPU, 0), copy=False)
    with pytest.raises(BufferError):
        a.__dlpack__(dl_device=(CUDA, 3))
    with pytest.raises(ValueError, match="copied"):
        np.asarray(a, copy=False) if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else a.__array__(copy=False)
    said = a.__cuda_array_interface__
    assert said["version"] == 3 and said["stream"] == 77 and said["strides"] is None
    there = np.ctypeslib.as_array((ctypes.c_float * 12).from_address(said["data"][0])).reshape(said["shape"])
    assert (there == X).all() and said["typestr"] == "<f4"
    assert not hasattr(gc.cuda.asarray(X.astype(ml_dtypes.bfloat16)), "__cuda_array_interface__")


def moved_taker(a, **given):
    class One(Taker):
        def __dlpack__(self, *, max_version=None, **other):
            return moved(self.array.__dlpack__(max_version=max_version, **given), (CPU, 0))

    return One(a)


class CpuTaker(Taker):
    def __dlpack__(self, *, max_version=None, **given):
        return self.array.__dlpack__(max_version=max_version, dl_device=(CPU, 0))


def test_asarray_and_from_dlpack_share_what_is_there(gpu):
    foreign = Foreign(gpu, X.copy())
    gpu.driver.log.clear()
    for made in (gc.cuda.asarray(foreign), gc.cuda.from_dlpack(foreign), gc.cuda.asarray(Interface(foreign))):
        assert made.address == foreign.array.ctypes.data
    assert gc.cuda.asarray(made) is made and gc.cuda.from_dlpack(made).address == made.address and not gpu.driver.log
    np.testing.assert_array_equal(gc.cuda.asarray([[1.0, 2.0]]).numpy(), [[1.0, 2.0]])
    with pytest.raises(ArgumentError, match=r"memory on a GPU that DLPack gives"):
        gc.cuda.from_dlpack(X)


def test_models_take_batches_on_the_gpu(gpu):
    gc.set_seed(1)
    model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer=optim.SGD(0.1), target="cuda")
    gc.set_seed(1)
    same = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer=optim.SGD(0.1), target="cuda-sim")
    y = np.array([0, 2, 1])
    x, labels = Foreign(gpu, X / 12), Foreign(gpu, y.copy())
    wanted = same.train_on_batch(X / 12, y)["loss"]
    assert model.train_on_batch(x, labels)["loss"] == pytest.approx(wanted, rel=1e-6)
    assert isinstance(model.predict(x), DeviceArray) and isinstance(model.predict(X), np.ndarray)
    np.testing.assert_allclose(model.predict(x).numpy(), same.predict(X / 12), rtol=1e-5)
    history = model.fit([(x, labels), (X / 12, y)], epochs=2, verbose=0)
    assert history["loss"][1] < history["loss"][0]


def test_a_loss_that_is_not_finite_is_explained(gpu):
    bad = X.copy()
    bad[1, 1] = np.nan
    model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer=optim.SGD(0.1), target="cuda")
    with pytest.raises(NonFiniteError, match="loss is not finite"):
        model.train_on_batch(Foreign(gpu, bad), np.array([0, 2, 1]))


@pytest.mark.parametrize(
    "make,error,message",
    [
        (lambda gpu: Foreign(gpu, X.astype(np.float64)), DTypeError, r"x: expected float32\(N, 4\), got float64\(3, 4\) on a GPU"),
        (lambda gpu: Foreign(gpu, X[:, :3].copy()), ShapeError, r"got float32\(3, 3\) on a GPU"),
        (lambda gpu: Interface(Foreign(gpu, X.copy()), strides=(4, 12)), ArgumentError, "does not lie row by row"),
        (lambda gpu: Interface(Foreign(gpu, X.copy()), mask=X), ArgumentError, "has a mask"),
        (lambda gpu: Foreign(gpu, X.copy(), device=2), ArgumentError, "an array is on GPU 2, the program on GPU 0"),
    ],
)
def test_what_cannot_be_taken_as_it_lies_is_an_error(make, error, message, gpu):
    with pytest.raises(error, match=message):
        double(gpu)(make(gpu))


def test_arrays_on_a_gpu_are_no_arguments_of_other_targets(gpu):
    x = Foreign(gpu, X.copy())
    with pytest.raises(ArgumentError, match="x is on a GPU, and an array of the host is needed") as e:
        gc.compile(lambda x: x + 1.0, gc.spec("N", 4), target="cuda-sim")(x)
    assert ".cpu()" in e.value.hint
    model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="mse", optimizer=optim.SGD(0.1), target="cuda")
    with pytest.raises(ArgumentError, match="an array of the host is needed"):
        model.predict(gc.cuda.asarray(X), batch_size=2)  # rows are cut on the host


def test_programs_without_rows_give_arrays_without_elements(gpu):
    y = double(gpu)(gc.cuda.asarray(np.zeros((0, 4), np.float32)))
    assert y.shape == (0, 4) and y.numpy().shape == (0, 4) and np.from_dlpack(Taker(y)).shape == (0, 4)
    assert y.__cuda_array_interface__["data"] == (0, False)
