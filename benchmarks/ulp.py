"""The error of vector math, measured on compiled CPU kernels: python -m benchmarks.ulp [names] [--step N] [--write FILE]

Functions of one operand run over all 2**32 float32 values (with ``--step N`` over every N-th and the special ones), against NumPy and
SciPy in float64. float64, and functions of two operands, run over random values: half of them random bit patterns, half from everyday
ranges, against NumPy's 80-bit extended precision; erf and erfc over fewer, against mpmath.

An error is the distance to the true value in units of the last place of the result's type at the true value; beyond the largest
number the units continue, so an infinity that should be the largest number is one unit off. NaN must meet NaN and a zero must have
the right sign, or the error is infinite.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special

from graphc import ops
from graphc.compiler import compile_graph
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.ir.op import lookup

__all__ = ["FUNCTIONS", "Worst", "measure", "main"]

CHUNK = 1 << 16
RANDOM = 1 << 22


@dataclass(frozen=True)
class Function:
    """The truth in float64 and in extended precision, the operands, and the everyday range from which they are drawn."""

    truth: Callable[..., Any]
    precise: str = ""
    """The function of mpmath that is the truth for float64 where NumPy has no extended precision."""
    arity: int = 1
    low: float = -20.0
    high: float = 20.0
    largest: float = np.inf
    """Where the float64 program stops being accurate."""


FUNCTIONS: dict[str, Function] = {
    "acos": Function(np.arccos, low=-1, high=1), "acosh": Function(np.arccosh, low=1, high=50), "asin": Function(np.arcsin, low=-1, high=1),
    "asinh": Function(np.arcsinh), "atan": Function(np.arctan), "atanh": Function(np.arctanh, low=-1, high=1), "cbrt": Function(np.cbrt),
    "cos": Function(np.cos, largest=2.0**40), "cosh": Function(np.cosh), "erf": Function(scipy.special.erf, "erf", low=-6, high=6),
    "erfc": Function(scipy.special.erfc, "erfc", low=-6, high=27), "exp": Function(np.exp), "exp2": Function(np.exp2), "expm1": Function(np.expm1),
    "log": Function(np.log, low=0, high=20), "log10": Function(np.log10, low=0, high=20), "log1p": Function(np.log1p, low=-1, high=20),
    "log2": Function(np.log2, low=0, high=20), "rsqrt": Function(lambda x: 1 / np.sqrt(x), low=0, high=20),
    "sin": Function(np.sin, largest=2.0**40), "sinh": Function(np.sinh), "sqrt": Function(np.sqrt, low=0, high=20), "tan": Function(np.tan, largest=2.0**40),
    "tanh": Function(np.tanh, low=-10, high=10),
    "atan2": Function(np.arctan2, arity=2), "fmod": Function(np.fmod, arity=2, largest=1e18), "hypot": Function(np.hypot, arity=2),
    "mod": Function(np.mod, arity=2, largest=1e18), "pow": Function(np.power, arity=2, low=0, high=20),
}  # fmt: skip


@dataclass
class Worst:
    """The largest error seen, and the operands it was seen at."""

    error: float = 0.0
    at: tuple[float, ...] = ()
    count: int = 0

    def see(self, errors: np.ndarray, operands: Sequence[np.ndarray]) -> None:
        self.count += errors.size
        if errors.size and (top := float(errors.max())) > self.error:
            i = int(errors.argmax())
            self.error, self.at = top, tuple(float(x[i]) for x in operands)


def ulps(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The distance of ``found`` from ``truth`` (of a wider type) in units of the last place of ``found``'s type."""
    info = np.finfo(found.dtype)
    wide = truth.dtype.type
    end = np.ldexp(wide(1.0), int(info.maxexp))
    t, f = np.clip(truth, -end, end), np.clip(found.astype(wide), -end, end)
    exponent = np.frexp(np.where(np.isfinite(t), t, 0))[1] - 1
    unit = np.ldexp(wide(1.0), np.clip(exponent, info.minexp, info.maxexp - 1) - info.nmant)
    error = np.abs(f - t) / unit
    wrong = np.isnan(found) != np.isnan(truth)
    wrong |= (truth == 0) & (found == 0) & (np.signbit(found) != np.signbit(truth))
    return np.where(np.isnan(found) & np.isnan(truth), 0.0, np.where(wrong, np.inf, error)).astype(float)


def program(name: str, dtype: str) -> Callable[..., np.ndarray]:
    """The compiled function of 1-D arrays."""
    inputs = [ops.input(f"x{i}", (sym("N"),), dtype) for i in range(FUNCTIONS[name].arity)]
    graph = Graph(name, tuple(Input(n.attrs["name"], n) for n in inputs), (("out", lookup(name).call(*inputs)),))
    executable = compile_graph(graph, "cpu")
    return lambda *xs: executable({f"x{i}": x for i, x in enumerate(xs)})["out"]


SPECIAL = [0.0, 1.0, 0.5, 2.0, np.inf, np.nan, 1e-45, 1.1754944e-38, 3.4028234e38, 1e-30, 1e30, 0.99999994, 1.0000001, np.pi, np.e, np.pi / 2, 1.6367173e38]


def every_float(step: int) -> Iterator[tuple[np.ndarray]]:
    """float32 values by bit pattern: all of them, or every ``step``-th and the special ones with their neighbours."""
    if step > 1:
        some = np.array([s * v for v in SPECIAL for s in (1, -1)], np.float32)
        with np.errstate(over="ignore"):
            some = np.concatenate([some, np.nextafter(some, np.float32(np.inf)), np.nextafter(some, np.float32(-np.inf))])
        yield (some,)
    for start in range(0, 1 << 32, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, 1 << 32), step, dtype=np.int64)
        yield (bits.astype(np.uint32).view(np.float32),)


def at_random(f: Function, dtype: str, count: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Random operands: special values in every combination, random bit patterns, everyday numbers."""
    rng = np.random.default_rng(1)
    kind = np.dtype(dtype)
    ends = np.array([s * v for v in SPECIAL for s in (1, -1)], kind)
    yield tuple(x.ravel() for x in np.meshgrid(*[ends] * f.arity))
    for _ in range(max(count // CHUNK, 1)):
        n = min(count, CHUNK)
        yield tuple(rng.integers(0, 1 << (8 * kind.itemsize), n, np.uint64).astype(f"u{kind.itemsize}").view(kind) for _ in range(f.arity))
        yield tuple(rng.uniform(f.low, f.high, n).astype(kind) for _ in range(f.arity))


def _precise(f: Function) -> Callable[[np.ndarray], np.ndarray]:
    """The error functions by mpmath, as an array of extended precision; where they are constant, at 0 and at NaN SciPy is exact."""
    import mpmath

    def one(x: Any) -> Any:
        if x == 0 or not abs(x) < 40:
            return np.longdouble(f.truth(float(x)))
        with mpmath.workprec(120):
            value = getattr(mpmath, f.precise)(mpmath.mpf(float(x)))
            high = float(value)
            return np.longdouble(high) + np.longdouble(float(value - high))

    return lambda xs: np.array([one(x) for x in xs], np.longdouble)


def measure(name: str, dtype: str = "float32", step: int = 1, count: int = RANDOM) -> Worst:
    """The worst error of an operator in a dtype."""
    f, run, worst = FUNCTIONS[name], program(name, dtype), Worst()
    wide = np.float64 if dtype == "float32" else np.longdouble
    truth = f.truth if dtype == "float32" or not f.precise else _precise(f)
    count = count if truth is f.truth else min(count, 5000)
    chunks = every_float(step) if dtype == "float32" and f.arity == 1 else at_random(f, dtype, count)
    for xs in chunks:
        if dtype == "float64" and np.isfinite(f.largest):
            keep = np.isfinite(xs[0]) & (np.abs(xs[0]) < f.largest)
            if f.arity == 2:
                with np.errstate(all="ignore"):
                    keep &= np.abs(xs[0] / xs[1]) < f.largest
            xs = tuple(x[keep] for x in xs)
        with np.errstate(all="ignore"):
            worst.see(ulps(run(*xs), np.asarray(truth(*(x.astype(wide) for x in xs)))), xs)
    return worst


HEAD = f"""# Vector math: errors

Largest errors in units of the last place (ulp) of compiled CPU kernels. float32 with one operand: all 2^32 values, or every so many-th and
the special ones, as the column "values" says. float64 and two operands: special values, random bit patterns and everyday numbers
({RANDOM:,} each). Below 0.5 an error is the rounding of the true value. NaN, infinities, subnormal numbers and the signs of zeros are part
of it. The limit is what the operator's record states and a test holds.

`python -m benchmarks.ulp [names] [--step N] --write docs/vector_math.md` measures rows and replaces them here; how errors are counted
stands in `benchmarks/ulp.py`.

| function | values | float32 | limit | at | float64 | limit | at |
|---|---|---|---|---|---|---|---|
"""


def row(name: str, step: int, single: Worst, double: Worst) -> str:
    values = "random" if FUNCTIONS[name].arity > 1 else "all" if step == 1 else f"every {step}th"
    cells = [name, values]
    for worst, limit in zip((single, double), lookup(name).ulp or (0.0, 0.0), strict=True):
        cells += [f"{worst.error:.2f}", f"{limit:g}", ", ".join(f"{v:.9g}" for v in worst.at)]
    return "| " + " | ".join(cells) + " |"


def page(old: str, rows: dict[str, str]) -> str:
    """The page with rows replaced; rows of other functions stay."""
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in old.splitlines() if line.startswith("| ")}
    found = {name: rows.get(name, kept.get(name)) for name in sorted(FUNCTIONS)}
    return HEAD + "".join(f"{line}\n" for line in found.values() if line)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ulp", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help="of " + ", ".join(FUNCTIONS))
    parser.add_argument("--step", type=int, default=1, help="every how many-th float32 (1: all, some minutes a function)")
    parser.add_argument("--write", metavar="FILE", help="replace the rows of a page, after each function")
    args = parser.parse_args(argv)
    if unknown := [n for n in args.names if n not in FUNCTIONS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    beyond, rows = [], {}
    print(HEAD, end="")
    for name in args.names or sorted(FUNCTIONS):
        found = measure(name, "float32", args.step), measure(name, "float64")
        if any(w.error > limit for w, limit in zip(found, lookup(name).ulp or (0.0, 0.0), strict=True)):
            beyond.append(name)
        rows[name] = row(name, args.step, *found)
        print(rows[name], flush=True)
        if args.write:
            path = Path(args.write)
            path.write_text(page(path.read_text() if path.exists() else "", rows))
    if beyond:
        print(f"beyond the limit: {', '.join(beyond)}", file=sys.stderr)
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
