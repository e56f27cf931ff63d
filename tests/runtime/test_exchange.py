"""Arrays of other libraries by DLPack, in this host's memory: shared and not copied, whoever gives them."""

from __future__ import annotations

import subprocess
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError
from graphc.runtime import exchange
from graphc.runtime.exchange import CPU, as_array, capsule_of

DTYPES = ["float32", "float64", "float16", "int8", "int32", "int64", "uint8", "bool"]


class Bare:
    """An array that has DLPack and nothing else."""

    def __init__(self, array, versions=True):
        self.array, self.versions = array, versions

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **given):
        if given and not self.versions:
            raise TypeError("unexpected keyword")
        return self.array.__dlpack__(**given)


class Given:
    """Our capsule as an array of its own."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return CPU, 0

    def __dlpack__(self, *, max_version=None, **given):
        a = self.array
        return capsule_of(a.ctypes.data, a.shape, a.dtype, (CPU, 0), a, max_version)


@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_numpy_gives_is_shared(dtype, versions):
    x = np.arange(12).astype(dtype).reshape(3, 4)
    found = as_array(Bare(x, versions))
    assert found.dtype == x.dtype and found.shape == x.shape and np.shares_memory(found, x)
    np.testing.assert_array_equal(found, x)
    turned = as_array(Bare(x.T[::2]))  # strides come along
    assert np.shares_memory(turned, x)
    np.testing.assert_array_equal(turned, x.T[::2])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)])
def test_shapes_without_axes_or_elements(shape):
    assert as_array(Bare(np.zeros(shape, np.float32))).shape == shape
    assert np.from_dlpack(Given(np.zeros(shape, np.float32))).shape == shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_takes_what_we_give(dtype):
    x = np.arange(12).astype(dtype).reshape(3, 4)
    found = np.from_dlpack(Given(x))
    assert np.shares_memory(found, x) and found.dtype == x.dtype
    np.testing.assert_array_equal(found, x)


def test_memory_lives_as_long_as_somebody_needs_it():
    x = np.arange(5.0)
    seen = weakref.ref(x)
    found = np.from_dlpack(Given(x))
    before = len(exchange._lent)
    del x
    assert seen() is not None and found.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    del found
    assert seen() is None and len(exchange._lent) == before - 1
    y = np.arange(5.0)
    seen, taken = weakref.ref(y), as_array(Bare(y))
    del y
    assert seen() is not None
    del taken
    assert seen() is None


def test_a_capsule_that_nobody_takes_frees_its_memory():
    x = np.arange(5.0)
    seen = weakref.ref(x)
    for version in (None, (1, 0)):
        Given(x).__dlpack__(max_version=version)
    del x
    assert seen() is None


def test_torch_tensors_are_arguments_without_a_copy(monkeypatch):
    torch = pytest.importorskip("torch")
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    f = gc.compile(lambda x: x * 2.0, gc.spec("N", 4))
    bound = f.arguments.bind((x,))["x"]
    assert bound.ctypes.data == x.data_ptr()
    np.testing.assert_array_equal(f(x), x.numpy() * 2)
    shared = torch.from_dlpack(f(x))  # results are NumPy's arrays, which torch takes
    assert shared[1, 1] == 10
    b = as_array(x.bfloat16())
    assert b.dtype == ml_dtypes.bfloat16 and b.ctypes.data != x.data_ptr()
    np.testing.assert_array_equal(b.astype(np.float32), x.numpy())
    assert torch.equal(torch.from_dlpack(Given(b)), x.bfloat16())  # NumPy has no bfloat16 to exchange
    with pytest.raises(ArgumentError, match=r"torch's Tensor gives no memory: .*grad") as e:
        f(x.requires_grad_())
    assert "detach" in e.value.hint


def test_jax_arrays_are_arguments_without_a_copy():
    jnp = pytest.importorskip("jax.numpy")
    x = jnp.arange(12, dtype=jnp.float32).reshape(3, 4)
    found = as_array(x)
    assert found.ctypes.data == x.unsafe_buffer_pointer() and not found.flags.writeable  # JAX's arrays do not change
    f = gc.compile(lambda x: x * 2.0, gc.spec("N", 4))
    np.testing.assert_array_equal(f(x), np.asarray(x) * 2)


def test_a_process_ends_well_with_memory_lent_out():
    code = "import numpy as np, sys; from tests.runtime.test_exchange import Given; sys.kept = np.from_dlpack(Given(np.arange(9.0)))"
    code += "\ntry:\n import torch; sys.torch = torch.from_dlpack(Given(np.arange(9.0)))\nexcept ImportError: pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
