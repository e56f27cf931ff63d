"""float16 and bfloat16: stored in 16 bits, computed in float32, rounded once an operator."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.dtypes import ALL, as_dtype, bfloat16, float16, promote
from graphc.ir.graph import Graph, Input
from graphc.ir.op import MOVES
from graphc.ir.text import parse_graph
from graphc.ops.define import constant
from graphc.testing import assert_graph_equal, build_graph
from tests.ops.cases import OPS, run, sample_graph, takes

HALVES = ("float16", "bfloat16")
FLOAT_OPS = [op for op in OPS if takes(op, "float64")]
ROUNDS_INSIDE = {"scan": "its body is made of operators, each of which rounds"}


def as32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x).astype(np.float32)


# -- the type ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("a", ALL, ids=str)
@pytest.mark.parametrize("b", ALL, ids=str)
def test_promotion_is_that_of_jax(a, b):
    with jax.enable_x64(True):
        assert promote(a, b) == as_dtype(jnp.promote_types(a.numpy, b.numpy))


@pytest.mark.parametrize("dtype", HALVES)
def test_python_numbers_are_weak(dtype):
    graph, arrays = build_graph(lambda x: (x * 0.1, 3 - x, ops.where(x < 0.5, x, 2.0)), np.full(3, 0.7, as_dtype(dtype).numpy))
    x = jnp.full(3, 0.7, dtype)
    for found, wanted in zip(run(graph, arrays, "reference").values(), (x * 0.1, 3 - x, jnp.where(x < 0.5, x, 2.0)), strict=True):
        assert found.dtype == as_dtype(dtype).numpy
        np.testing.assert_array_equal(as32(found), as32(wanted))


@pytest.mark.parametrize("dtype", HALVES)
def test_constants_and_text(dtype):
    x = ops.input("x", (3,), as_dtype(dtype))
    large = np.linspace(-3, 3, 40).astype(as_dtype(dtype).numpy)
    outs = (x + 0.1, ops.concat([x, constant(large)], 0), x * constant(np.array([1.5, -2, 0.1], as_dtype(dtype).numpy)), x * float("-inf"))
    graph = Graph("g", (Input("x", x),), tuple((f"o{i}", n) for i, n in enumerate(outs)))
    again = parse_graph(str(graph))
    assert_graph_equal(graph, again)
    assert f"{as_dtype(dtype).code}[3]" in str(graph)


# -- every operator ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", FLOAT_OPS, ids=lambda op: op.name)
def test_an_operator_computes_in_float32_and_rounds_once(op, dtype):
    half = as_dtype(dtype).numpy
    graph, arrays, labels = sample_graph(op, dtype)
    full, same, _ = sample_graph(op, "float32")
    same = {k: as32(arrays[k]) if v.dtype == np.float32 else v for k, v in same.items()}
    found, wanted = run(graph, arrays, "reference"), run(full, same, "reference")
    for (name, _), label in zip(graph.outputs, labels, strict=True):
        f, w = found[name], wanted[name]
        assert f.dtype in (half, w.dtype), label
        if op.name in ROUNDS_INSIDE:
            np.testing.assert_allclose(as32(f), w, rtol=0, atol=4 * as_dtype(dtype).finfo.eps * max(1.0, np.abs(w).max(initial=0.0)))
        else:
            np.testing.assert_array_equal(f.astype(np.float64), w.astype(f.dtype).astype(np.float64), label)


@pytest.mark.parametrize("op", FLOAT_OPS, ids=lambda op: op.name)
def test_no_operator_meets_16_bits_but_those_that_move_them(op):
    graph, _, _ = sample_graph(op, "bfloat16")
    for node in graph.nodes:
        if any(getattr(getattr(i, "type", None), "dtype", None) == bfloat16 for i in node.inputs):
            assert node.op.storage and (node.op.kind in MOVES or node.op.name in ("cast", "cond", "switch")), node


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["mul", "exp", "max", "sum", "take", "dot_general", "conv", "softmax", "layer_norm", "pad", "concat", "linear", "sort"])
def test_gradients_have_the_dtype_of_what_they_belong_to(name, dtype):
    """Against the gradients of the same function of float32 values; both round where the operator ends."""
    op = next(op for op in OPS if op.name == name)

    def slopes(kind: str, values: dict[str, np.ndarray] | None) -> tuple[Graph, dict[str, np.ndarray]]:
        graph, arrays, _ = sample_graph(op, kind)
        if values is not None:
            arrays = {k: as32(values[k]) if v.dtype == np.float32 else v for k, v in arrays.items()}
        wrt = [i for i in graph.inputs if i.node.dtype.is_float]
        total = constant(0.0)
        for _, n in graph.outputs:
            if n.dtype.is_float:
                total = total + (n.cast("float32") * n.cast("float32")).sum()
        grads = gradients([total], None, [i.node for i in wrt], allow_unused=True)
        assert all(g.dtype == i.node.dtype for g, i in zip(grads, wrt, strict=True))
        return Graph("slopes", graph.inputs, tuple((i.name, g) for i, g in zip(wrt, grads, strict=True))), arrays

    graph, arrays = slopes(dtype, None)
    full, same = slopes("float32", arrays)
    found, wanted = run(graph, arrays, "reference"), run(full, same, "reference")
    for k, w in wanted.items():
        assert found[k].dtype == as_dtype(dtype).numpy
        scale = max(1.0, np.abs(w).max(initial=0.0))
        np.testing.assert_allclose(as32(found[k]), w, rtol=0, atol=4 * as_dtype(dtype).finfo.eps * scale, err_msg=k)


# -- conversions ---------------------------------------------------------------------------------------------------------------
def floats_to_round(dtype: str) -> np.ndarray:
    """Every value of the type, the ties between neighbours and what lies just beside them, numbers beyond its range, NaN."""
    half = as_dtype(dtype).numpy
    every = np.arange(2**16, dtype=np.uint16).view(half).astype(np.float32)
    finite = np.sort(every[np.isfinite(every)])
    ties = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    more = np.array([1e30, -1e30, 3.4e38, -3.4e38, 1e-45, -1e-45, 65519.9, 65520.0, 0.0, -0.0], np.float32)
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32).view(np.float32)  # only low bits, and bits that would carry
    return np.concatenate([every, nans, ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf)), more])


@pytest.mark.parametrize("target", ["reference", "cpu", "cuda-sim"])
@pytest.mark.parametrize("dtype", HALVES)
def test_conversions_of_every_value(dtype, target):
    half = as_dtype(dtype).numpy
    every = np.arange(2**16, dtype=np.uint16).view(half)
    graph, arrays = build_graph(lambda h, f: (h.cast("float32"), f.cast(dtype)), every, floats_to_round(dtype))
    wide, narrow = run(graph, arrays, target).values()
    np.testing.assert_array_equal(wide, every.astype(np.float32))
    wanted = np.asarray(jnp.asarray(arrays["x1"]).astype(dtype))
    nan = np.isnan(as32(wanted))
    np.testing.assert_array_equal(np.isnan(as32(narrow)), nan)
    np.testing.assert_array_equal(narrow.view(np.uint16)[~nan], wanted.view(np.uint16)[~nan])


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", HALVES)
def test_casts_between_all_types(dtype, target):
    values = {d.name: np.array([0, 1, 2, 3, 100, 127]).astype(d.numpy) for d in ALL}
    there, arrays = build_graph(lambda *xs: tuple(x.cast(dtype) for x in xs), *values.values())
    for v, f in zip(values.values(), run(there, arrays, target).values(), strict=True):
        assert f.dtype == as_dtype(dtype).numpy
        np.testing.assert_array_equal(as32(f), as32(v))
    x = np.array([0.0, -1.5, 2.75, 100.0], as_dtype(dtype).numpy)
    back, arrays = build_graph(lambda x: tuple(x.cast(d) for d in ALL if d.kind != "u"), x)
    for d, f in zip([d for d in ALL if d.kind != "u"], run(back, arrays, target).values(), strict=True):
        np.testing.assert_array_equal(f.astype(np.float64), (x != 0 if d.kind == "b" else as32(x).astype(d.numpy)).astype(np.float64))


# -- others' results -----------------------------------------------------------------------------------------------------------
MODELS = {
    "matmul": (lambda x, w, b: x @ w, lambda x, w, b: x @ w, lambda t, x, w, b: x @ w),
    "softmax": (lambda x, w, b: ops.softmax(x, -1), lambda x, w, b: jax.nn.softmax(x, -1), lambda t, x, w, b: t.softmax(x, -1)),
    "layer_norm": (
        lambda x, w, b: ops.layer_norm(x, None, None),
        lambda x, w, b: jax.nn.standardize(x, -1, epsilon=1e-5),
        lambda t, x, w, b: t.nn.functional.layer_norm(x, x.shape[-1:]),
    ),
    "dense": (
        lambda x, w, b: ops.relu(x @ w + b), lambda x, w, b: jax.nn.relu(x @ w + b), lambda t, x, w, b: t.relu(x @ w + b),
    ),
    "sum": (lambda x, w, b: x.sum(1), lambda x, w, b: x.sum(1), lambda t, x, w, b: x.sum(1)),
    "gelu": (lambda x, w, b: ops.gelu(x), lambda x, w, b: jax.nn.gelu(x, approximate=False), lambda t, x, w, b: t.nn.functional.gelu(x)),
}


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", MODELS)
def test_results_of_jax_and_torch(name, dtype, target):
    """JAX rounds between the operators of its compositions, torch where ours do: so torch is closer."""
    ours, by_jax, by_torch = MODELS[name]
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(as_dtype(dtype).numpy) for s in ((37, 130), (130, 70), (70,))]
    graph, values = build_graph(ours, *arrays)
    (found,) = run(graph, values, target).values()
    eps = float(as_dtype(dtype).finfo.eps)
    found = as32(found)
    scale = np.abs(found).max()
    np.testing.assert_allclose(found, as32(by_jax(*map(jnp.asarray, arrays))), rtol=2 * eps, atol=2 * eps * scale)
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(as32(a)).to(getattr(torch, dtype)) for a in arrays]
    np.testing.assert_allclose(found, by_torch(torch, *tensors).float().numpy(), rtol=eps, atol=eps / 4 * scale)


# -- kernels -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", HALVES)
def test_long_sums_are_accumulated_in_float32(dtype, target):
    ones = np.ones((3, 5000), as_dtype(dtype).numpy)  # neither type counts so far by ones
    graph, arrays = build_graph(lambda x: (x.sum(1), x @ x.T, x.mean(1), ops.cumsum(x, 1)[:, -1]), ones)
    wanted = as32(np.array(5000.0, as_dtype(dtype).numpy))
    total, product, mean, last = run(graph, arrays, target).values()
    assert (as32(total) == wanted).all() and (as32(product) == wanted).all() and (as32(mean) == 1).all() and (as32(last) == wanted).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_a_rounding_stays_inside_a_fused_kernel(dtype):
    """1 + eps/4 is 1 in storage, so subtracting 1 again gives 0, fused or not."""
    eps = float(as_dtype(dtype).finfo.eps)
    graph, arrays = build_graph(lambda x: (x + eps / 4) - 1.0, np.ones(40, as_dtype(dtype).numpy))
    e = compile_graph(graph, "cpu")
    assert len(e.kernels) == 1
    assert (as32(next(iter(e(arrays).values()))) == 0).all()


def test_weights_of_16_bits_are_widened_inside_the_product():
    f = gc.compile(lambda x, w: x @ w, gc.spec(2, 96, dtype="bfloat16"), gc.spec(96, 64, dtype="bfloat16"), target="cpu")
    assert len(f.executable.kernels) == 1
    assert "ptr_f32" not in f.executable.as_text("kernels"), "something is kept in float32"


@pytest.mark.parametrize("rows", [1, 3, "N"])
def test_weights_of_8_bits_are_widened_inside_the_product(rows):
    """Weight-only quantisation: ``x @ (w * scale)``."""
    rng = np.random.default_rng(0)
    w, scale = rng.integers(-127, 128, (96, 40)).astype(np.int8), rng.random(40).astype(np.float32)
    x = rng.normal(size=(5 if rows == "N" else rows, 96)).astype(np.float32)
    f = gc.compile(
        lambda x, w, s: x @ (w.cast("float32") * s), gc.spec(rows, 96), gc.spec(96, 40, dtype="int8"), gc.spec(40), target="cpu"
    )
    np.testing.assert_allclose(f(x, w, scale), x @ (w * scale), rtol=1e-5, atol=1e-3)
    if rows != "N":  # an unknown number of rows would compute the operand again and again
        assert len(f.executable.kernels) == 1
        assert "fma_outer_tile" in f.executable.as_text("kernels")


# -- at the boundary -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", HALVES)
def test_arguments(dtype):
    f = gc.compile(lambda x: x * 2, gc.spec("N", dtype=dtype), target="reference")
    half = as_dtype(dtype).numpy
    for given in (np.array([1.1, 2.2]), np.array([1.1, 2.2], np.float32), np.array([1.1, 2.2], half), [1.1, 2.2]):
        found = f(given)
        assert found.dtype == half
        np.testing.assert_array_equal(as32(found), as32(np.asarray(given).astype(half)) * 2)
    with pytest.raises(gc.DTypeError, match=f"expected {dtype}"):
        f(np.arange(3))
    with pytest.raises(gc.DTypeError, match="expected int32"):
        gc.compile(lambda x: x, gc.spec(3, dtype="int32"), target="reference")(np.ones(3, half))


def test_what_these_types_cannot_be():
    with pytest.raises(gc.DTypeError, match="dtype float8"):
        gc.spec(3, dtype="float8")
    x = ops.input("x", (3,), bfloat16)
    with pytest.raises(gc.DTypeError, match="bitwise_and"):
        ops.bitwise_and(x, x)
    with pytest.raises(gc.GradientError):
        gradients([ops.input("i", (), as_dtype("int32"))], None, [x])
    assert (x + ops.input("y", (3,), float16)).dtype.name == "float32"
