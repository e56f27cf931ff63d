"""Every operator record on the simulated CUDA target: its samples give what the reference gives."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

from graphc.backends.cuda import sim
from graphc.backends.cuda.printers.instructions import TABLE
from graphc.compiler import compile_graph
from graphc.loops.scalar import INSTRUCTIONS
from graphc.ops.elementwise import div
from tests.ops.cases import OPS, assert_close, sample_graph

from .cases import CASES, HALVES, SLOPES, slope_graph

DEVICE = {
    "ballot", "commit_copies", "copy1", "copy4", "copy8", "ldmatrix", "ldmatrix_transposed", "load4", "lowest_bit", "mma_bf16", "mma_tf32", "round_bfloat16",
    "shuffle_xor", "store4", "store4_bfloat16", "wait_copies0", "wait_copies1", "from_half", "to_half", "from_bfloat16", "to_bfloat16",
}  # fmt: skip
FOREIGN = re.compile(r"tile|avx|simd|splat|gather|<\d+ x|backends\.cpu|machine", re.IGNORECASE)


def test_one_table_prints_every_scalar_instruction():
    assert set(TABLE) == set(INSTRUCTIONS)


@pytest.mark.parametrize("op,dtype", CASES, ids=lambda v: getattr(v, "name", v))
def test_the_simulator_computes_what_the_reference_says(op, dtype, monkeypatch):
    graph, arrays, labels = sample_graph(op, dtype)
    exe = compile_graph(graph, "cuda-sim")
    found = exe(arrays)
    exact = compile_graph(graph, "reference", mode="exact" if dtype == "float32" else "faithful")(arrays)
    for (name, node), label in zip(graph.outputs, labels, strict=True):
        assert found[name].dtype == node.dtype.numpy, label
        assert_close(found[name], exact[name], op.tolerance.get(dtype, 0.0), label)
    # the second run is translated, and not checked in full: the same bits
    monkeypatch.setattr(sim, "launch", None)
    for name, value in exe(arrays).items():
        assert found[name].tobytes() == value.tobytes(), name
    for k in exe.kernels:
        _is_plain_cuda(k.printed.text)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", HALVES)
def test_types_of_16_bits_are_rounded_as_the_reference_does(name, dtype):
    op = next(op for op in OPS if op.name == name)
    graph, arrays, labels = sample_graph(op, dtype)
    found, wanted = (compile_graph(graph, target)(arrays) for target in ("cuda-sim", "reference"))
    for (k, node), label in zip(graph.outputs, labels, strict=True):
        assert found[k].dtype == node.dtype.numpy, label
        # sums in another order may end at the next number
        assert_close(found[k].astype(np.float32), wanted[k].astype(np.float32), 2 ** -(10 if dtype == "float16" else 7), label)


@pytest.mark.parametrize("op", SLOPES, ids=lambda op: op.name)
def test_gradients_are_those_of_the_reference(op, monkeypatch):
    """Of operators that have a rule: others are differentiated through these."""
    slope, arrays = slope_graph(op)
    exe = compile_graph(slope, "cuda-sim")
    found, exact = exe(arrays), compile_graph(slope, "reference")(arrays)
    for name, value in exact.items():
        assert_close(found[name], value, 10 * op.tolerance["float64"], f"{op.name}: gradient of {name}")
    monkeypatch.setattr(sim, "launch", None)
    for name, value in exe(arrays).items():
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("name", ["random_bits", "random_uniform", "dropout"])
def test_random_numbers_have_the_bits_of_the_cpu(name):
    graph, arrays, _ = sample_graph(next(op for op in OPS if op.name == name), "float32")
    found, wanted = (compile_graph(graph, target)(arrays) for target in ("cuda-sim", "cpu"))
    for k, v in wanted.items():
        assert found[k].tobytes() == v.tobytes(), k


def _is_plain_cuda(text: str) -> None:
    """It parses, imports NumPy, Numba and a few device functions alone, and speaks of threads and not of vector registers."""
    module = ast.parse(text)
    imports = [ast.unparse(n) for n in module.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert imports[:3] == ["import numpy as np", "from numba import cuda", "from numba.cuda import libdevice"]
    assert all(i.startswith("from graphc.backends.cuda.device import ") for i in imports[3:])
    assert {n.name for i in module.body[3:] if isinstance(i, ast.ImportFrom) for n in i.names} <= DEVICE
    (kernel,) = (n for n in module.body if isinstance(n, ast.FunctionDef))
    assert [ast.unparse(d) for d in kernel.decorator_list] == ["cuda.jit"]
    code = "\n".join(line.split("#")[0] for line in text.splitlines())
    assert not FOREIGN.search(code), FOREIGN.search(code)
    assert "cuda.threadIdx.x" in code


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32"])
def test_integers_wrap_and_divide_as_the_reference(dtype):
    from graphc.testing import build_graph

    info = np.iinfo(dtype)
    x = np.array([info.min, info.max, info.max - 1, 7, info.min + 7, 0, 3], dtype)
    y = np.array([info.max, info.max, 2, 0, 2, 5, info.max], dtype)

    def f(a, b):
        return [a + b, a - b, a * b, a.maximum(b), a.minimum(b), a < b, (a * a).sum(), div(a, b)]

    graph, arrays = build_graph(f, x, y)
    with np.errstate(all="ignore"):
        wanted = compile_graph(graph, "reference")(arrays)
    # towards zero, and 0 where the divisor is: in Python's integers, which have no width to lose digits in
    quotients = [0 if v == 0 else abs(u) // abs(v) * (1 if (u < 0) == (v < 0) else -1) for u, v in zip(x.tolist(), y.tolist(), strict=True)]
    wanted["o7"] = np.array(quotients, dtype)
    found = compile_graph(graph, "cuda-sim")(arrays)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, name)
        assert found[name].dtype == value.dtype
