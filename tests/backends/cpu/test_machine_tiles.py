"""Every tile operation against NumPy, through kernels compiled as the backend compiles them."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from graphc.backends.cpu.machine.compile import compile_text
from graphc.backends.cpu.machine.loader import host_cpu, load_object
from graphc.backends.cpu.machine.tiles import arithmetic
from graphc.errors import KernelCompileError

DTYPES = {
    "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "u32": np.uint32, "b1": np.bool_,
}  # fmt: skip
COUNT: Iterator[int] = itertools.count()
HEAD = """import numpy as np
from graphc.backends.cpu.machine import tiles
from graphc.backends.cpu.machine.tiles import *
"""


class Kernel:
    """Kernel text under test: ``body`` sees ``args`` and whatever the factories at the top define."""

    def __init__(self, top: str, body: str):
        lines = "\n".join("    " + line for line in body.strip().splitlines())
        text = f"{HEAD}{top}\n\ndef kernel(tid, nthreads, args, trip):\n{lines}\n"
        name = f"tile_test_{next(COUNT)}"
        code = compile_text(text, name, f"<{name}>")
        self.call = entry(load_object(code.data, code.symbol))

    def __call__(self, *args: np.ndarray | int) -> None:
        block = np.array([a.ctypes.data if isinstance(a, np.ndarray) else a for a in args], np.int64)
        assert self.call(block) == 0


def entry(address: int):
    word = ctypes.c_void_p
    f = ctypes.CFUNCTYPE(ctypes.c_int32, word, word, ctypes.c_int64, ctypes.c_int64, word, ctypes.c_int64)(address)
    scratch = (ctypes.c_int64 * 4)()  # where the kernel leaves its result; the function keeps it alive
    return lambda block: f(ctypes.addressof(scratch), ctypes.addressof(scratch), 0, 1, block.ctypes.data, 0)


def values(code: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if code == "b1":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if code[0] == "f":
        return rng.normal(0, 3, shape).astype(DTYPES[code])
    info = np.iinfo(DTYPES[code])
    return rng.integers(max(info.min, -100), min(info.max, 100), shape).astype(DTYPES[code])


def apply(expression: str, ins: list[np.ndarray], codes: list[str], out: str, shape: tuple[int, int]) -> np.ndarray:
    """``expression`` over tiles x, y, z loaded whole from the 2-d inputs, stored as ``out``."""
    names = "xyz"[: len(ins)]
    top, body = [f'st = tiles.storer_full("{out}", {shape[0]}, {shape[1]})'], []
    for i, (n, a, c) in enumerate(zip(names, ins, codes, strict=True)):
        top.append(f'ld{n} = tiles.loader_full("{c}", {a.shape[0]}, {a.shape[1]})')
        body.append(f"{n} = ld{n}(ptr_{c}(args[{i}]), 0, {a.shape[1]})")
    body.append(f"st(ptr_{out}(args[{len(ins)}]), 0, {shape[1]}, {expression})")
    got = np.zeros(shape, DTYPES[out])
    Kernel("\n".join(top), "\n".join(body))(*ins, got)
    return got


SHAPES = [(1, 4), (1, 32), (3, 8), (8, 16), (4, 1), (1, 1)]


@pytest.mark.parametrize("code", DTYPES)
def test_masked_loads_and_stores(code: str) -> None:
    rows, lanes = (3, 16)
    k = Kernel(
        f'ld, st = tiles.loader("{code}", {rows}, {lanes}), tiles.storer("{code}", {rows}, {lanes})\n'
        f'full = tiles.storer_full("{code}", {rows}, {lanes})',
        f"x = ld(ptr_{code}(args[0]), 2, args[3], args[4], args[5])\n"
        f"full(ptr_{code}(args[1]), 0, {lanes}, x)\nst(ptr_{code}(args[2]), 2, args[3], x, args[4], args[5])",
    )
    for m, n in ((3, 16), (1, 1), (2, 7), (3, 0), (2, 1 << 33)):
        valid = min(n, lanes)
        data = values(code, (3, 20)).ravel()[: 2 + (m - 1) * 20 + valid]  # exactly what may be read
        whole, edge = np.ones((rows, lanes), DTYPES[code]), np.ones((3, 24), DTYPES[code])
        k(data, whole, edge, 20, m, n)
        want = np.zeros((rows, lanes), DTYPES[code])
        for r in range(rows):
            at = 2 + min(r, m - 1) * 20
            want[r, :valid] = data[at : at + valid]
        np.testing.assert_array_equal(whole, want)
        flat = np.ones(72, DTYPES[code])
        for r in range(m):
            flat[2 + r * 20 : 2 + r * 20 + valid] = want[r, :valid]
        np.testing.assert_array_equal(edge.ravel(), flat)


@pytest.mark.parametrize(("code", "rows", "lanes"), [("f32", 2, 16), ("i8", 3, 8), ("b1", 2, 4), ("f64", 1, 8), ("i64", 4, 1)])
def test_masked_rows_touch_only_what_the_condition_names(code: str, rows: int, lanes: int) -> None:
    shape = f'"{code}", {rows}, {lanes}'
    k = Kernel(
        f'w, full = tiles.loader_masked({shape}), tiles.storer_full({shape})\ncond = tiles.loader_full("b1", {rows}, {lanes})',
        f"full(ptr_{code}(args[1]), 0, {lanes}, w(ptr_{code}(args[0]), 3, args[5], cond(ptr_b1(args[2]), 0, {lanes}), args[3], args[4]))",
    )
    data = values(code, (200,))
    for m, n, step in ((rows, lanes, 40), (1, max(lanes // 2, 1), 40), (rows, 0, 40), (1, lanes, 1 << 40)):  # later rows would fault
        keep = values("b1", (rows, lanes), 2)
        keep[m:], keep[:, n:] = True, True
        out = np.zeros((rows, lanes), DTYPES[code])
        k(data, out, keep, m, n, step)
        want = np.zeros((rows, lanes), DTYPES[code])
        for r in range(m):
            want[r, :n] = np.where(keep[r, :n], data[3 + r * step : 3 + r * step + n], 0)
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize(
    ("code", "rows", "lanes"),
    [("f32", 2, 16), ("i8", 3, 8), ("b1", 2, 4), ("f64", 2, 8), ("u32", 1, 32), ("i64", 4, 1)],
)
def test_strided_gather_scatter_where(code: str, rows: int, lanes: int) -> None:
    shape = f'"{code}", {rows}, {lanes}'
    k = Kernel(
        f"lds, sts = tiles.loader_strided({shape}), tiles.storer_strided({shape})\n"
        f"g, s = tiles.gather({shape}), tiles.scatter({shape})\n"
        f"w, full = tiles.loader_where({shape}), tiles.storer_full({shape})\n"
        f'at = tiles.loader_full("i64", {rows}, {lanes})\ncond = tiles.loader_full("b1", {rows}, {lanes})',
        f"""p, m, n = ptr_{code}(args[0]), args[9], args[10]
x = lds(p, 1, 40, 3, m, n)
full(ptr_{code}(args[1]), 0, {lanes}, x)
sts(ptr_{code}(args[2]), 1, 40, 3, x, m, n)
o = at(ptr_i64(args[3]), 0, {lanes})
y = g(p, o, m, n)
full(ptr_{code}(args[4]), 0, {lanes}, y)
s(ptr_{code}(args[5]), o, y, m, n)
full(ptr_{code}(args[6]), 0, {lanes}, w(p, o, cond(ptr_b1(args[7]), 0, {lanes}), m, n))""",
    )
    data = values(code, (400,))
    rng = np.random.default_rng(1)
    for m, n in ((rows, lanes), (1, max(lanes // 2, 1)), (rows, 0)):
        valid = np.zeros((rows, lanes), bool)
        valid[:m, :n] = True
        offsets = rng.permutation(400)[: rows * lanes].reshape(rows, lanes).astype(np.int64)
        offsets[~valid] = 1 << 60  # would fault if touched
        keep = values("b1", (rows, lanes), 2)
        outs = [np.zeros((rows, lanes), DTYPES[code]) for _ in range(3)]
        strided, scattered = np.zeros(400, DTYPES[code]), np.zeros(400, DTYPES[code])
        k(data, outs[0], strided, offsets, outs[1], scattered, outs[2], keep, 0, m, n)
        place = 1 + 40 * np.arange(rows)[:, None] + 3 * np.arange(lanes)[None]
        np.testing.assert_array_equal(outs[0], np.where(valid, data[place], 0))
        want = np.zeros(400, DTYPES[code])
        want[place[valid]] = data[place[valid]]
        np.testing.assert_array_equal(strided, want)
        inside = np.where(valid, offsets, 0)
        np.testing.assert_array_equal(outs[1], np.where(valid, data[inside], 0))
        want = np.zeros(400, DTYPES[code])
        want[offsets[valid]] = data[offsets[valid]]
        np.testing.assert_array_equal(scattered, want)
        np.testing.assert_array_equal(outs[2], np.where(valid & keep, data[inside], 0))


@pytest.mark.parametrize(
    ("code", "rows", "lanes"),
    [("f32", 16, 16), ("f64", 8, 8), ("f32", 8, 8), ("b1", 4, 4), ("f32", 3, 8), ("f32", 4, 1)],
)
def test_transposing_load(code: str, rows: int, lanes: int) -> None:
    shape = f'"{code}", {rows}, {lanes}'
    k = Kernel(
        f"ld, st = tiles.loader_t({shape}), tiles.storer_full({shape})",
        f"st(ptr_{code}(args[1]), 0, {lanes}, ld(ptr_{code}(args[0]), 1, 19, args[2], args[3]))",
    )
    for m, n in ((rows, lanes), (rows - 1, max(lanes - 2, 1)), (1, 1)):
        data = values(code, (19 * lanes,))[: 1 + (n - 1) * 19 + m]
        out = np.ones((rows, lanes), DTYPES[code])
        k(data, out, m, n)
        want = np.zeros((rows, lanes), DTYPES[code])
        for r, j in itertools.product(range(m), range(n)):
            want[r, j] = data[1 + r + j * 19]
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("code", ["i32", "i64", "u8"])
def test_iota_splat_spread_zeros(code: str) -> None:
    shape = f'"{code}", 3, 8'
    k = Kernel(
        f"iota, splat = tiles.iota({shape}), tiles.splat({shape})\n"
        f"zeros, spread = tiles.zeros({shape}), tiles.spread({shape})\n"
        f'column, st = tiles.iota("{code}", 3, 1), tiles.storer("{code}", 3, 8)',
        f"""p = ptr_{code}(args[0])
st(p, 0, 8, iota(args[1], 10, 2), 3, 8)
st(p, 24, 8, splat(args[1]), 3, 8)
st(p, 48, 8, zeros(), 3, 8)
st(p, 72, 8, spread(column(1, 5, 0)), 3, 8)
st(p, 96, 8, column(2, 5, 0), 3, 8)""",
    )
    out = np.ones((5, 3, 8), DTYPES[code])
    k(out, 7)
    r, j = np.arange(3)[:, None], np.arange(8)[None]
    np.testing.assert_array_equal(out[0], 7 + r * 10 + j * 2)
    assert (out[1] == 7).all() and (out[2] == 0).all()
    np.testing.assert_array_equal(out[3], np.broadcast_to(1 + 5 * r, (3, 8)))
    np.testing.assert_array_equal(out[4], np.broadcast_to(2 + 5 * r, (3, 8)))


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "minimum": np.minimum, "maximum": np.maximum,
    "lt": np.less, "le": np.less_equal, "eq": np.equal, "ne": np.not_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


@pytest.mark.parametrize("code", ["f32", "f64", "i8", "i32", "i64", "u8", "u32"])
def test_binary_and_comparisons_broadcast(code: str) -> None:
    """All operations in one kernel a type: (3, 8) with (1, 8), with (3, 1), with a scalar."""
    sides = {"y": (1, 8), "z": (3, 1)}
    x, y, z = values(code, (3, 8)), values(code, (1, 8), 1), values(code, (3, 1), 2)
    y[0, :3] = x[0, :3]
    scalar = "np.float32(2.5)" if code[0] == "f" else "np.int64(3)"
    if code[0] == "f":
        x[0, 0] = y[0, 1] = z[2, 0] = np.nan
        x[1, 2] = np.inf
    top = [f'l{n} = tiles.loader_full("{code}", {s[0]}, {s[1]})' for n, s in (("x", (3, 8)), *sides.items())]
    top += [f'st_{c} = tiles.storer_full("{c}", 3, 8)' for c in {code, "b1"}] + [f"C = {scalar}"]
    body = [f"{n} = l{n}(ptr_{code}(args[{i}]), 0, {w})" for i, (n, w) in enumerate((("x", 8), ("y", 8), ("z", 1)))]
    body += [f"p = ptr_{code}(args[3])", "q = ptr_b1(args[4])"]
    for i, (name, f) in enumerate(BINARY.items()):
        out, dt = (
            ("q", "b1")
            if f in (np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.greater_equal)
            else ("p", code)
        )
        for j, other in enumerate(("y", "z", "C")):
            body.append(f"st_{dt}({out}, {(3 * i + j) * 24}, 8, {name}(x, {other}))")
    count = 3 * len(BINARY)
    got, flags = np.zeros((count, 3, 8), DTYPES[code]), np.zeros((count, 3, 8), np.bool_)
    Kernel("\n".join(top), "\n".join(body))(x, y, z, got, flags)
    c = DTYPES[code](2.5 if code[0] == "f" else 3)
    with np.errstate(all="ignore"):
        for i, (name, f) in enumerate(BINARY.items()):
            for j, other in enumerate((y, z, c)):
                want = f(x, other)
                at = (flags if want.dtype == np.bool_ else got)[3 * i + j]
                np.testing.assert_array_equal(at, want, err_msg=f"{name} {j}")


@pytest.mark.parametrize("code", ["f32", "f64"])
def test_float_functions(code: str) -> None:
    x = values(code, (2, 16))
    x[0, :5] = [0.5, 1.5, -2.5, np.inf, np.nan]
    names = {
        "neg": np.negative,
        "floor": np.floor,
        "ceil": np.ceil,
        "rint": np.rint,
        "trunc": np.trunc,
        "absolute": np.abs,
    }
    with np.errstate(all="ignore"):
        for name, f in names.items():
            np.testing.assert_array_equal(apply(f"{name}(x)", [x], [code], code, (2, 16)), f(x), err_msg=name)
        np.testing.assert_array_equal(apply("sqrt(x)", [x], [code], code, (2, 16)), np.sqrt(x))
        y, z = values(code, (1, 16), 1), values(code, (2, 1), 2)
        y[0, 3] = 0
        np.testing.assert_array_equal(apply("div(x, y)", [x, y], [code] * 2, code, (2, 16)), x / y)
        exact = (x.astype(np.longdouble) * y + z).astype(DTYPES[code])
        np.testing.assert_allclose(
            apply("fma(x, y, z)", [x, y, z], [code] * 3, code, (2, 16)), exact, rtol=1e-6 if code == "f32" else 1e-14
        )
        np.testing.assert_array_equal(
            apply("select(lt(x, y), x, z)", [x, y, z], [code] * 3, code, (2, 16)), np.where(x < y, x, z)
        )


@pytest.mark.parametrize("code", ["i8", "i32", "i64", "u8", "u32"])
def test_integer_functions(code: str) -> None:
    x, y = values(code, (2, 16)), values(code, (1, 16), 1)
    y[0, :2] = 0
    info = np.iinfo(DTYPES[code])
    x[0, 2] = info.min
    if code[0] == "i":
        y[0, 2] = -1
    run = lambda e: apply(e, [x, y], [code] * 2, code, (2, 16))
    wide, by = x.astype(object), np.broadcast_to(y, x.shape).astype(object)
    c_div = np.array(
        [
            0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            for a, b in zip(wide.ravel(), by.ravel(), strict=True)
        ]
    )
    wrap = lambda a: np.array(
        [(int(v) - info.min) % (info.max - info.min + 1) + info.min for v in np.ravel(a)], DTYPES[code]
    ).reshape(2, 16)
    np.testing.assert_array_equal(run("div(x, y)"), wrap(c_div))
    np.testing.assert_array_equal(
        run("floordiv(x, y)"), wrap([0 if b == 0 else a // b for a, b in zip(wide.ravel(), by.ravel(), strict=True)])
    )
    with np.errstate(all="ignore"):
        for name, f in {"bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor}.items():
            np.testing.assert_array_equal(run(f"{name}(x, y)"), f(x, y))
        np.testing.assert_array_equal(run("bit_not(x)"), ~x)
        np.testing.assert_array_equal(run("neg(x)"), wrap(-wide))
        np.testing.assert_array_equal(run("absolute(x)"), np.abs(x))
        np.testing.assert_array_equal(run("fma(x, y, x)"), wrap(wide * by + wide))
    shift = np.arange(16, dtype=DTYPES[code])[None] * (info.bits // 12)  # also beyond the width
    both = lambda e: apply(e, [x, shift], [code] * 2, code, (2, 16))
    np.testing.assert_array_equal(both("shl(x, y)"), np.left_shift(x, shift))
    np.testing.assert_array_equal(both("shr(x, y)"), np.right_shift(x, shift))
    if code == "u32":
        np.testing.assert_array_equal(run("mulhi(x, y)"), (x.astype(np.uint64) * y >> 32).astype(np.uint32))


@pytest.mark.parametrize("features", ["", "+avx512f,+avx512vl"], ids=["factors", "instruction"])
@pytest.mark.parametrize("code", ["f32", "f64"])
@pytest.mark.parametrize("lanes", [1, 3, 8, 16, 48])
def test_scaling_by_powers_of_two(code: str, lanes: int, features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if features and "+avx512vl" not in host_cpu()[1].split(","):
        pytest.skip("this processor has no AVX-512")
    monkeypatch.setattr(arithmetic, "host_cpu", lambda: ("", features))
    top = 128 if code == "f32" else 1024
    x = values(code, (2, lanes))
    n = np.random.default_rng(1).integers(-top - 20, top + 1, (2, lanes)).astype(x.dtype)
    x[0, 0], n[1, -1] = np.nan, -(top + 15)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(apply("ldexp(x, y)", [x, n], [code] * 2, code, (2, lanes)), np.ldexp(x, n.astype(np.int32)))


def test_booleans() -> None:
    x, y = values("b1", (2, 8)), values("b1", (1, 8), 3)
    for name, f in {"bit_and": np.logical_and, "bit_or": np.logical_or, "bit_xor": np.logical_xor}.items():
        np.testing.assert_array_equal(apply(f"{name}(x, y)", [x, y], ["b1", "b1"], "b1", (2, 8)), f(x, y))
    np.testing.assert_array_equal(apply("bit_not(x)", [x], ["b1"], "b1", (2, 8)), ~x)
    np.testing.assert_array_equal(apply("select(x, y, True)", [x, y], ["b1", "b1"], "b1", (2, 8)), np.where(x, y, True))


def test_casts() -> None:
    """Every pair of types in one kernel a source; in range, so that NumPy and saturation agree."""
    for source in DTYPES:
        x = values(source, (2, 8))
        if source[0] in "fi":
            x = np.abs(x) if source[0] == "i" else np.abs(x) + DTYPES[source](0.25)
        top = [f'ld = tiles.loader_full("{source}", 2, 8)']
        body = [f"x = ld(ptr_{source}(args[0]), 0, 8)"]
        outs = []
        for i, target in enumerate(DTYPES):
            top.append(f'c{i}, s{i} = tiles.cast("{target}"), tiles.storer_full("{target}", 2, 8)')
            body.append(f"s{i}(ptr_{target}(args[{i + 1}]), 0, 8, c{i}(x))")
            outs.append(np.zeros((2, 8), DTYPES[target]))
        Kernel("\n".join(top), "\n".join(body))(x, *outs)
        for out in outs:
            np.testing.assert_array_equal(out, x.astype(out.dtype), err_msg=f"{source} to {out.dtype}")


def test_cast_saturates_and_bitcast_keeps_bits() -> None:
    x = np.array([[np.nan, 1e20, -1e20, 3.9, -3.9, 255.5, 300, -1]], np.float32)
    got, small, raw = np.zeros((1, 8), np.int32), np.zeros((1, 8), np.uint8), np.zeros((1, 8), np.uint32)
    top = ['ld, bits = tiles.loader_full("f32", 1, 8), tiles.bitcast("u32")']
    top += [f'cast_{c}, st_{c} = tiles.cast("{c}"), tiles.storer_full("{c}", 1, 8)' for c in ("i32", "u8", "u32")]
    Kernel(
        "\n".join(top),
        """x = ld(ptr_f32(args[0]), 0, 8)
st_i32(ptr_i32(args[1]), 0, 8, cast_i32(x))
st_u8(ptr_u8(args[2]), 0, 8, cast_u8(x))
st_u32(ptr_u32(args[3]), 0, 8, bits(x))""",
    )(x, got, small, raw)
    assert got[0].tolist() == [0, 2**31 - 1, -(2**31), 3, -3, 255, 300, -1]
    assert small[0].tolist() == [0, 255, 0, 3, 0, 255, 255, 0]
    np.testing.assert_array_equal(raw, x.view(np.uint32))


REDUCE = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}


@pytest.mark.parametrize(
    ("code", "rows", "lanes"),
    [("f32", 3, 16), ("f64", 1, 8), ("i32", 2, 4), ("u8", 1, 32), ("f32", 5, 6), ("i64", 3, 1)],
)
def test_reductions(code: str, rows: int, lanes: int) -> None:
    names = list(REDUCE)
    k = Kernel(
        f'ld = tiles.loader_full("{code}", {rows}, {lanes})\n'
        f'col, row = tiles.storer_full("{code}", {rows}, 1), tiles.storer_full("{code}", 1, {lanes})',
        f"x = ld(ptr_{code}(args[0]), 0, {lanes})\n"
        + "\n".join(f"col(ptr_{code}(args[1]), {i * rows}, 1, h{n}(x, args[3]))" for i, n in enumerate(names))
        + "\n"
        + "\n".join(f"row(ptr_{code}(args[2]), {i * lanes}, {lanes}, v{n}(x, args[4]))" for i, n in enumerate(names)),
    )
    x = values(code, (rows, lanes))
    for m, n in ((rows, lanes), (1, 1), (max(rows - 1, 1), max(lanes - 1, 1))):
        across, down = np.zeros((4, rows), DTYPES[code]), np.zeros((4, lanes), DTYPES[code])
        k(x, across, down, n, m)
        for i, f in enumerate(REDUCE.values()):
            with np.errstate(all="ignore"):
                kind = {"dtype": x.dtype} if f in (np.sum, np.prod) else {}
                np.testing.assert_allclose(across[i], f(x[:, :n], axis=1, **kind), rtol=1e-4)
                np.testing.assert_allclose(down[i], f(x[:m], axis=0, **kind), rtol=1e-4)


def test_reductions_of_booleans_nan_and_item() -> None:
    b = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], np.bool_)
    for n in (3, 4):
        assert apply(f"hall(x, {n})", [b], ["b1"], "b1", (2, 1)).ravel().tolist() == b[:, :n].all(1).tolist()
        assert apply(f"hany(x, {n})", [b], ["b1"], "b1", (2, 1)).ravel().tolist() == b[:, :n].any(1).tolist()
    x = np.array([[1, np.nan, 3, 9]], np.float32)
    assert (
        np.isnan(apply("hmax(x, 4)", [x], ["f32"], "f32", (1, 1)))
        and apply("hmax(x, 1)", [x], ["f32"], "f32", (1, 1)) == 1
    )
    out = np.zeros(4, np.float32)
    Kernel(
        'ld, st = tiles.loader_full("f32", 1, 4), tiles.storer("f32", 1, 4)',
        "st(ptr_f32(args[1]), 0, 0, item(hsum(ld(ptr_f32(args[0]), 0, 0), 1)), 1, 4)",
    )(x, out)
    assert out.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(("code", "rows", "lanes"), [("f32", 8, 32), ("f64", 4, 16), ("f32", 3, 4)])
def test_outer_products(code: str, rows: int, lanes: int) -> None:
    k = Kernel(
        f'zeros, st = tiles.zeros("{code}", {rows}, {lanes}), tiles.storer("{code}", {rows}, {lanes})\n'
        f'ahead = tiles.prefetcher("{code}", 1, {lanes})',
        f"""pa, pb, m, n, depth = ptr_{code}(args[0]), ptr_{code}(args[1]), args[4], args[5], args[6]
acc = zeros()
part = zeros()
for k in range(depth):
    ahead(pb, k * {lanes}, {lanes})
    acc = fma_outer(acc, pa, k, depth, m, pb, k * {lanes})
    part = fma_outer_n(part, pa, k, depth, m, pb, k * {lanes}, n)
st(ptr_{code}(args[2]), 0, {lanes}, acc, m, {lanes})
st(ptr_{code}(args[3]), 0, {lanes}, part, m, {lanes})""",
    )
    for m, n in ((rows, lanes), (rows - 1, lanes - 3)):
        a, b = values(code, (m, 20)), values(code, (20, lanes), 1)
        out, part = np.zeros((rows, lanes), DTYPES[code]), np.zeros((rows, lanes), DTYPES[code])
        k(a, b, out, part, m, n, 20)
        want = np.zeros((rows, lanes), DTYPES[code])
        want[:m] = a @ b
        np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
        want[:, n:] = 0
        np.testing.assert_allclose(part, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("code", "rows", "lanes"), [("f32", 8, 32), ("f64", 3, 8)])
def test_products_lane_by_lane(code: str, rows: int, lanes: int) -> None:
    """Rows at a stride (the last ones read again past the end) and rows at addresses of their own, of which some are zeros."""
    k = Kernel(
        f'zeros, st = tiles.zeros("{code}", {rows}, {lanes}), tiles.storer("{code}", {rows}, {lanes})\niota = tiles.iota("i64", {rows}, 1)',
        f"""pa, pb, pz, m, n = ptr_{code}(args[0]), ptr_{code}(args[1]), ptr_{code}(args[2]), args[7], args[8]
rows = row_addresses(pa, iota(0, 3, 0), lt(iota(0, 1, 0), m), pz)
st(ptr_{code}(args[3]), 0, {lanes}, fma_lanes(zeros(), pa, 1, {lanes}, m, pb, 2), {rows}, {lanes})
st(ptr_{code}(args[4]), 0, {lanes}, fma_lanes_n(zeros(), pa, 1, {lanes}, m, pb, 2, n), {rows}, {lanes})
st(ptr_{code}(args[5]), 0, {lanes}, fma_lanes_rows(zeros(), pa, rows, 1, pb, 2), {rows}, {lanes})
st(ptr_{code}(args[6]), 0, {lanes}, fma_lanes_rows_n(zeros(), pa, rows, 1, pb, 2, n), {rows}, {lanes})""",
    )
    a, b = values(code, (rows + 1, lanes)), values(code, (lanes + 2,), 1)
    outs = [np.full((rows, lanes), 9, DTYPES[code]) for _ in range(4)]
    m, n = rows - 1, lanes - 3
    k(a, b, np.zeros(lanes + 1, DTYPES[code]), *outs, m, n)
    strided = np.stack([a.ravel()[1 + min(r, m - 1) * lanes :][:lanes] for r in range(rows)]) * b[2:]
    apart = np.stack([a.ravel()[1 + 3 * r :][:lanes] if r < m else np.zeros(lanes, DTYPES[code]) for r in range(rows)]) * b[2:]
    below = np.arange(lanes) < n
    for found, wanted in zip(outs, (strided, strided * below, apart, apart * below), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_accumulators_stay_in_registers() -> None:
    """The loop of an 8x32 product has no spill: its vector moves to the stack would cost more than its products."""
    llvm = pytest.importorskip("llvmlite.binding")
    if not llvm.get_host_cpu_features().get("avx512f"):
        pytest.skip("counts registers of AVX-512")
    from numba import njit, types

    from graphc.backends.cpu.machine import tiles

    zeros, store, outer, f32 = tiles.zeros("f32", 8, 32), tiles.storer("f32", 8, 32), tiles.fma_outer, tiles.ptr_f32

    def product(a, b, c, depth, m):  # type: ignore[no-untyped-def]
        acc = zeros()
        for k in range(depth):
            acc = outer(acc, f32(a), k, depth, m, f32(b), k * 32)
        store(f32(c), 0, 32, acc, m, 32)

    compiled = njit((types.int64,) * 5, error_model="numpy")(product)
    (asm,) = compiled.inspect_asm().values()
    assert asm.count("vfmadd") >= 16
    assert not [line for line in asm.splitlines() if "zmm" in line and "Spill" in line]


@pytest.mark.parametrize(
    "expression",
    ["add(x, 1)", 'tiles.spread("f32", 2, 2)(x)', "select(x, x, x)", "mulhi(x, x)", "item(x)"],
    ids=["kind", "shape", "condition", "mulhi", "item"],
)
def test_wrong_operands_are_named(expression: str) -> None:
    with pytest.raises(KernelCompileError):
        Kernel('ld = tiles.loader_full("f32", 1, 8)', f"x = ld(ptr_f32(args[0]), 0, 8)\n{expression}")


def test_factories_are_cached() -> None:
    from graphc.backends.cpu.machine import tiles

    for name in (
        "loader",
        "storer",
        "loader_full",
        "storer_full",
        "loader_strided",
        "storer_strided",
        "gather",
        "scatter",
        "loader_where",
        "loader_masked",
        "loader_t",
        "zeros",
        "splat",
        "iota",
        "spread",
    ):
        make = getattr(tiles, name)
        assert make("i32", 2, 4) is make("i32", 2, 4)
    assert tiles.cast("f32") is tiles.cast("f32") and tiles.bitcast("i32") is tiles.bitcast("i32")
