"""Every operator's samples on the CPU against the reference: dtypes, vector widths, thread counts."""

from __future__ import annotations

import pytest

from graphc.compiler import compile_graph
from graphc.ir.dtypes import as_dtype
from tests.ops.cases import OPS, assert_close, sample_graph

BY_NAME = {op.name: op for op in OPS}
# one operator of every kind of kernel, for what is not repeated with all of them
SOME = [
    "add", "exp", "where", "cast", "max", "sum", "take", "scatter_add", "dot_general", "conv", "reduce_window", "scan", "softmax",
    "pad", "concat", "transpose", "random_bits", "layer_norm",
]  # fmt: skip
FEW = ["add", "max", "sum", "take", "scatter_add", "dot_general", "conv", "softmax", "pad", "concat"]
CASES = [(op.name, "float32", None) for op in OPS]
CASES += [(name, "float64", None) for name in SOME if name != "random_bits"]
CASES += [(name, dtype, None) for name in SOME if name not in ("random_bits", "scan") for dtype in ("bfloat16", "float16")]
CASES += [(name, "float32", width) for width in (16, 8, 4) for name in SOME if width == 8 or name in FEW]


def graph_of(name: str, dtype: str, width: int | None):
    """All samples; every third where they differ in shape alone, or where the same was done in another dtype or width."""
    op, count = BY_NAME[name], iter(range(1000))
    if op.kind in ("elementwise", "composite") or dtype != "float32" or width:
        return sample_graph(op, dtype, lambda sample: next(count) % 3 == 0)
    return sample_graph(op, dtype)


def to_compile():
    """Graphs whose kernels are compiled before the tests."""
    for name, dtype, width in CASES:
        yield graph_of(name, dtype, width)[0], width


@pytest.mark.parametrize("name,dtype,width", CASES)
def test_samples_equal_the_reference(name: str, dtype: str, width: int | None):
    graph, arrays, labels = graph_of(name, dtype, width)
    wanted = compile_graph(graph, "reference")(arrays)
    found = compile_graph(graph, "cpu", width=width)(arrays)
    for label, (k, value) in zip(labels, wanted.items(), strict=True):
        assert found[k].dtype == value.dtype, label
        if as_dtype(dtype).is_storage:  # an error in float32 may decide a rounding
            assert_close(found[k].astype("float32"), value.astype("float32"), float(as_dtype(dtype).finfo.eps), label)
        else:
            assert_close(found[k], value, BY_NAME[name].tolerance.get(dtype, 2e-6) * 4, label)


@pytest.mark.parametrize("mode", ["schedule", "bounds"])
@pytest.mark.parametrize("name", SOME)
def test_samples_pass_the_checks(name: str, mode: str):
    graph, arrays, _ = graph_of(name, "float32", None)
    e = compile_graph(graph, "cpu")
    e.check = mode
    e(arrays)


def assert_same_bits_for_any_number_of_threads(graph, arrays, labels, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAPHC_THREADS", "3")  # otherwise small graphs run on one thread
    monkeypatch.setenv("GRAPHC_SMALL_WORK", "0")
    e = compile_graph(graph, "cpu")
    results = []
    for threads in (1, 2, 3, 3):
        e.threads = threads
        e._bindings.clear()
        results.append(e(arrays))
        assert [b.nthreads for b in e._bindings.values()] == [threads]
    for label, k in zip(labels, results[0], strict=True):
        # a value over all elements may be summed in another order
        assert all(r[k].tobytes() == results[0][k].tobytes() for r in results[1:] if r[k].ndim), label


@pytest.mark.parametrize("name", ["add", "sum", "dot_general", "layer_norm"])
def test_bits_in_storage_do_not_depend_on_the_number_of_threads(name: str, monkeypatch: pytest.MonkeyPatch):
    assert_same_bits_for_any_number_of_threads(*graph_of(name, "bfloat16", None), monkeypatch)


@pytest.mark.parametrize("name", SOME)
def test_bits_do_not_depend_on_the_number_of_threads(name: str, monkeypatch: pytest.MonkeyPatch):
    assert_same_bits_for_any_number_of_threads(*graph_of(name, "float32", None), monkeypatch)
