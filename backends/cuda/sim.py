"""A small SIMT simulator: runs the text of a printed kernel on NumPy, all threads of the grid at once as lanes of arrays.

The text is parsed, never imported, so neither Numba nor a GPU is needed. Types follow Numba's rules and not NumPy's: two
int32 give an int64, an untyped literal is an int64 or float64, an integer with a float32 gives a float64; so a constant that
was left untyped shows here as it would on the device.

It raises :class:`SimulationError`, naming buffer, index, thread and line, for

* loads and stores out of bounds,
* loads of memory that nothing has written,
* races within a launch: two threads that write different values to one address, or one that writes what another reads,
  unless both are in one warp and have met (a shuffle or ``syncwarp``) in between,
* shuffles that not all threads of a warp reach,
* variables and stores whose type changes (Numba would widen them silently).

What it does not model: shared memory, block barriers, atomics and the timing inside a warp (threads run in lock step).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.errors import SimulationError

__all__ = ["Memory", "launch"]

WARP = 32
Code = Callable[["Grid", np.ndarray], Any]


class Memory:
    """Global memory of one buffer; bools are bytes. ``written`` says which elements hold a value: all, or none yet."""

    def __init__(self, name: str, data: np.ndarray, written: bool = True):
        self.name = name
        self.data = data.reshape(-1).view(np.uint8) if data.dtype == bool else data.reshape(-1)
        self.written = np.full(self.data.size, written)
        self.bits = self.data.view(f"u{self.data.itemsize}")
        self._watch: dict[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        return f"{self.name} ({self.data.dtype}[{self.data.size}])"

    def watch(self, on: bool) -> None:
        """Begins a launch. Only memory that the kernel writes needs its accesses remembered."""
        n = self.data.size
        empty = {k: np.full(n, -1, np.int64) for k in ("writer", "wrote", "reader", "read", "readers")}
        self._watch = empty if on else None

    def reads(self, at: np.ndarray, who: np.ndarray, epoch: np.ndarray) -> int | None:
        """Notes loads; the position of the first one that races with an earlier store, or None."""
        w = self._watch
        if w is None:
            return None
        bad = _races(w["writer"][at], w["wrote"][at], who, epoch)
        warp, old = who // WARP, w["reader"][at]
        first = np.full(self.data.size, -1, np.int64)
        first[at] = who  # of several threads in this very load, one stays; the others see that it is not them
        many = ((old >= 0) & (old != who)) | (first[at] != who)
        across = ((old >= 0) & (old // WARP != warp)) | (first[at] // WARP != warp)
        w["reader"][at], w["read"][at] = who, epoch
        # 0: one thread, 1: several of one warp, 2: several warps; only ever more
        np.maximum.at(w["readers"], at, np.where(across, 2, np.where(many, 1, 0)))
        return _first(bad)

    def writes(self, at: np.ndarray, values: np.ndarray, who: np.ndarray, epoch: np.ndarray) -> int | None:
        """Stores; the position of the first store that races with another access, or None."""
        w = self._watch
        assert w is not None
        before = self.bits[at].copy()
        reader, readers = w["reader"][at], w["readers"][at]
        bad = _races(reader, w["read"][at], who, epoch, several=readers) | (readers == 2)
        new = np.ascontiguousarray(values).view(self.bits.dtype)
        bad |= _races(w["writer"][at], w["wrote"][at], who, epoch) & (before != new)
        self.bits[at] = new
        bad |= self.bits[at] != new  # two threads in this very store
        w["writer"][at], w["wrote"][at] = who, epoch
        self.written[at] = True
        return _first(bad)


def _races(other: np.ndarray, when: np.ndarray, who: np.ndarray, epoch: np.ndarray, several: np.ndarray | None = None) -> np.ndarray:
    """Where another thread's access is not ordered before this one: another warp, or this warp since it last met."""
    mine = other == who if several is None else (other == who) & (several < 1)
    apart = (other // WARP != who // WARP) | (when == epoch)
    return (other >= 0) & ~mine & apart


def _first(bad: np.ndarray) -> int | None:
    return int(np.argmax(bad)) if bad.any() else None


class Grid:
    """The state of one launch: who the lanes are, their variables, and how often each warp has met."""

    def __init__(self, blocks: int, threads: int, names: Mapping[str, Any]):
        if threads % WARP:
            raise SimulationError(f"{threads} threads a block are no whole warps")
        self.count = blocks * threads
        self.lane = np.arange(self.count, dtype=np.int64)
        self.all = np.ones(self.count, bool)
        self.epoch = np.zeros(self.count // WARP, np.int64)
        self.threads = threads
        self.names: dict[str, Any] = dict(names)
        i32 = np.int32
        self.constants: dict[str, Any] = {
            "cuda.threadIdx.x": (self.lane % threads).astype(i32),
            "cuda.blockIdx.x": (self.lane // threads).astype(i32),
            "cuda.blockDim.x": i32(threads),
            "cuda.gridDim.x": i32(blocks),
            "np.inf": np.float64(np.inf),
            "np.nan": np.float64(np.nan),
        }

    def spread(self, value: Any, mask: np.ndarray) -> np.ndarray:
        """The values on the lanes of a mask."""
        return value[mask] if np.ndim(value) else np.full(int(mask.sum()), value)

    def where(self, lane: int) -> str:
        return f"block {lane // self.threads}, thread {lane % self.threads}"

    def met(self, mask: np.ndarray, node: ast.AST) -> np.ndarray:
        """The warps of a mask, which must be whole; they have met from now on."""
        warps = mask.reshape(-1, WARP)
        some, whole = warps.any(1), warps.all(1)
        if (some != whole).any():
            w = int(np.argmax(some != whole))
            lane = w * WARP + int(np.argmin(warps[w]))
            raise SimulationError(f"divergent warp: {self.where(lane)} does not reach {_show(node)}")
        self.epoch[some] += 1
        return np.asarray(whole)


def launch(text: str, blocks: int, threads: int, args: Mapping[str, Any], name: str = "kernel") -> None:
    """Runs a kernel. ``args``: a :class:`Memory` or a typed NumPy number for every parameter."""
    params, body, stored = _compiled(text)
    if set(params) != set(args):
        raise SimulationError(f"{name} takes {', '.join(params)}; given {', '.join(args)}")
    for p, m in args.items():
        if isinstance(m, Memory):
            m.watch(any(args[q] is m for q in stored))
        elif not isinstance(m, np.generic):
            raise SimulationError(f"{name}: {p} is an untyped {type(m).__name__}")
    grid = Grid(blocks, threads, args)
    with np.errstate(all="ignore"):
        try:
            for statement in body:
                statement(grid, grid.all)
        except SimulationError as e:
            e.message = f"{name}: {e.message}"
            raise


# -- from text to closures -------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1024)
def _compiled(text: str) -> tuple[tuple[str, ...], list[Code], frozenset[str]]:
    (fn,) = (n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef))
    targets = [t for s in ast.walk(fn) if isinstance(s, ast.Assign) for t in s.targets if isinstance(t, ast.Subscript)]
    stored = frozenset(t.value.id for t in targets if isinstance(t.value, ast.Name))
    return tuple(a.arg for a in fn.args.args), _block(fn.body), stored


def _show(node: ast.AST) -> str:
    return f"line {getattr(node, 'lineno', '?')}: {ast.unparse(node)}"


def _block(body: list[ast.stmt]) -> list[Code]:
    return [_statement(s) for s in body if not isinstance(s, ast.Pass)]


def _statement(s: ast.stmt) -> Code:
    if isinstance(s, ast.Assign) and len(s.targets) == 1:
        target = s.targets[0]
        if isinstance(target, ast.Name):
            return _assign(s, target.id, _value(s.value))
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            return _store(s, target.value.id, _value(target.slice), _value(s.value))
    if isinstance(s, ast.For) and isinstance(s.target, ast.Name) and isinstance(s.iter, ast.Call) and not s.orelse:
        return _for(s.target.id, [_value(a) for a in s.iter.args], _block(s.body))
    if isinstance(s, ast.While) and not s.orelse:
        return _while(_value(s.test), _block(s.body))
    if isinstance(s, ast.If):
        return _if(_value(s.test), _block(s.body), _block(s.orelse))
    if isinstance(s, ast.Expr):
        return _value(s.value)
    raise SimulationError(f"a statement that the simulator does not know: {_show(s)}")


def _set(g: Grid, name: str, value: Any, mask: np.ndarray, node: ast.AST) -> None:
    old = g.names.get(name)
    if old is not None and old.dtype != value.dtype:
        raise SimulationError(f"{name} changes its type from {old.dtype} to {value.dtype}: {_show(node)}")
    g.names[name] = value if old is None or mask is g.all or mask.all() else np.where(mask, value, old)


def _assign(s: ast.stmt, name: str, value: Code) -> Code:
    return lambda g, mask: _set(g, name, value(g, mask), mask, s)


def _for(name: str, bounds: list[Code], body: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        got = [b(g, mask) for b in bounds]
        kind = np.int32 if all(v.dtype == np.int32 for v in got) else np.int64
        start, stop, step = (kind(0), got[0], kind(1)) if len(got) == 1 else (*got, kind(1)) if len(got) == 2 else got
        g.names.pop(name, None)
        at = kind(start) if np.ndim(start) == 0 else start.astype(kind)
        while True:
            inside = at < stop
            here = mask if np.ndim(inside) == 0 and inside else mask & inside
            if not here.any():
                return
            g.names[name] = at
            for statement in body:
                statement(g, here)
            at = at + kind(step)

    return run


def _while(test: Code, body: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        while (here := mask & test(g, mask)).any():
            for statement in body:
                statement(g, here)
            mask = here

    return run


def _if(test: Code, body: list[Code], orelse: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        c = test(g, mask)
        for here, part in ((mask & c, body), (mask & ~c, orelse)):
            if part and here.any():
                for statement in part:
                    statement(g, here)

    return run


def _memory(g: Grid, name: str, node: ast.AST) -> Memory:
    m = g.names.get(name)
    if not isinstance(m, Memory):
        raise SimulationError(f"{name} is no buffer: {_show(node)}")
    return m


def _bounds(g: Grid, m: Memory, at: np.ndarray, who: np.ndarray, what: str, node: ast.AST) -> None:
    bad = _first((at < 0) | (at >= m.data.size))
    if bad is not None:
        raise SimulationError(f"{what} out of bounds: {m} at {at[bad]} by {g.where(who[bad])}, {_show(node)}")


def _load(node: ast.Subscript, name: str, index: Code) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        m, at = _memory(g, name, node), index(g, mask)
        alone = np.ndim(at) == 0 and m._watch is None
        who = g.lane[mask][:1] if alone else g.lane[mask]
        if not who.size:
            return np.zeros((), m.data.dtype)[()]
        places = np.full(1, at) if alone else g.spread(at, mask)
        _bounds(g, m, places, who, "load", node)
        bad = _first(~m.written[places])
        if bad is not None:
            raise SimulationError(f"load of memory that was never written: {m} at {places[bad]} by {g.where(who[bad])}, {_show(node)}")
        bad = m.reads(places, who, g.epoch[who // WARP])
        if bad is not None:
            raise SimulationError(f"race: {m} at {places[bad]} is read by {g.where(who[bad])} and written by another thread, {_show(node)}")
        if np.ndim(at) == 0:
            return m.data[at]
        out = np.zeros(g.count, m.data.dtype)
        out[mask] = m.data[places]
        return out

    return run


def _store(node: ast.stmt, name: str, index: Code, value: Code) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        v, at, m = value(g, mask), index(g, mask), _memory(g, name, node)
        if v.dtype != m.data.dtype:
            raise SimulationError(f"a {v.dtype} value is stored to {m}: {_show(node)}")
        who, places = g.lane[mask], g.spread(at, mask)
        _bounds(g, m, places, who, "store", node)
        bad = m.writes(places, g.spread(v, mask), who, g.epoch[who // WARP])
        if bad is not None:
            raise SimulationError(f"race: {m} at {places[bad]} is written by {g.where(who[bad])} and used by another thread, {_show(node)}")

    return run


# -- expressions -----------------------------------------------------------------------------------------------------------
BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


def _common(*values: Any) -> list[Any]:
    """Operands as Numba computes with them: integers in 64 bits, an integer beside a float as a float64."""
    kinds = {v.dtype.kind for v in values}
    if "f" in kinds:
        narrow = all(v.dtype == np.float32 for v in values)
        return list(values) if narrow else [v.astype(np.float64) for v in values]
    return [v.astype(np.uint64 if kinds == {"u"} else np.int64) for v in values]


def _value(e: ast.expr) -> Code:
    if isinstance(e, ast.Constant):
        c = np.bool_(e.value) if isinstance(e.value, bool) else np.int64(e.value) if isinstance(e.value, int) else np.float64(e.value)  # type: ignore[arg-type]
        return lambda g, mask: c
    if isinstance(e, ast.Name):
        return _name(e)
    if isinstance(e, ast.Attribute):
        word = ast.unparse(e)
        return lambda g, mask: g.constants[word]
    if isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name):
        return _load(e, e.value.id, _value(e.slice))
    if isinstance(e, ast.BinOp):
        return _binary(BINARY[type(e.op)], _value(e.left), _value(e.right), isinstance(e.op, ast.Div))
    if isinstance(e, ast.Compare) and len(e.ops) == 1:
        compare, left, right = COMPARE[type(e.ops[0])], _value(e.left), _value(e.comparators[0])
        return lambda g, mask: compare(*_common(left(g, mask), right(g, mask)))
    if isinstance(e, ast.BoolOp):
        return _logic(isinstance(e.op, ast.And), [_value(v) for v in e.values])
    if isinstance(e, ast.IfExp):
        return _choice(e, _value(e.test), _value(e.body), _value(e.orelse))
    if isinstance(e, ast.UnaryOp):
        return _unary(e)
    if isinstance(e, ast.Call):
        return _call(e)
    raise SimulationError(f"an expression that the simulator does not know: {_show(e)}")


def _name(e: ast.Name) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        try:
            return g.names[e.id]
        except KeyError:
            raise SimulationError(f"{e.id} has no value, {_show(e)}") from None

    return run


def _binary(op: Callable[[Any, Any], Any], left: Code, right: Code, divide: bool) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        x, y = _common(left(g, mask), right(g, mask))
        return op(x, y) if not divide or x.dtype.kind == "f" else op(x.astype(np.float64), y.astype(np.float64))

    return run


def _logic(both: bool, parts: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        out = parts[0](g, mask)
        for part in parts[1:]:
            open_ = mask & (out if both else ~out)
            out = (out & part(g, open_)) if both else (out | part(g, open_))
        return out

    return run


def _choice(e: ast.IfExp, test: Code, body: Code, orelse: Code) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        c = test(g, mask)
        x, y = body(g, mask & c), orelse(g, mask & ~c)
        if x.dtype != y.dtype:
            x, y = _common(x, y)
        out: Any = np.where(c, x, y)
        return out[()]

    return run


def _unary(e: ast.UnaryOp) -> Code:
    if isinstance(e.op, ast.USub) and isinstance(e.operand, ast.Constant):
        return _value(ast.copy_location(ast.Constant(-e.operand.value), e))  # type: ignore[operator]
    x = _value(e.operand)
    if isinstance(e.op, ast.Not):
        return lambda g, mask: ~x(g, mask)
    op: Callable[[Any], Any] = operator.neg if isinstance(e.op, ast.USub) else operator.invert
    return lambda g, mask: op(_common(x(g, mask))[0])


def _fma(x: Any, y: Any, z: Any) -> Any:
    """Rounded once: a product of two float32 is exact in float64 (float64 takes the widest type of this machine)."""
    wide: Any = np.float64 if x.dtype == np.float32 else np.longdouble
    return (x.astype(wide) * y.astype(wide) + z.astype(wide)).astype(x.dtype)


def _bits(source: Any, target: Any) -> Callable[[Any], Any]:
    return lambda x: x.astype(source).view(target)


LIBDEVICE: dict[str, Callable[..., Any]] = {
    **{"sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "trunc": np.trunc, "fabs": np.abs, "fma": _fma},
    "float_as_int": _bits(np.float32, np.int32),
    "int_as_float": _bits(np.int32, np.float32),
    "double_as_longlong": _bits(np.float64, np.int64),
    "longlong_as_double": _bits(np.int64, np.float64),
}
LIBDEVICE |= {n + "f": LIBDEVICE[n] for n in ("sqrt", "floor", "ceil", "rint", "trunc", "fabs", "fma")}


def _convert(dtype: np.dtype[Any]) -> Callable[[Any], Any]:
    """Conversion as the device does it: integers wrap, floats go to integers saturated, NaN to 0."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None

    def f(x: Any) -> Any:
        if limits is None or x.dtype.kind != "f":
            return x.astype(dtype)
        low, high = x <= float(limits.min), x >= float(limits.max)
        safe = np.where(low | high | (x != x), 0, x).astype(dtype)
        ends = np.where(high, dtype.type(limits.max), dtype.type(limits.min))
        out: Any = np.where(low | high, ends, safe)
        return out[()]

    return f


TYPES = {f"np.{n}": _convert(np.dtype(n)) for n in ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64")}


def _call(e: ast.Call) -> Code:
    name, args = ast.unparse(e.func), [_value(a) for a in e.args]
    if name in TYPES:
        convert, x = TYPES[name], args[0]
        return lambda g, mask: convert(x(g, mask))
    if name.startswith("libdevice.") and name[10:] in LIBDEVICE:
        return _libdevice(e, name, LIBDEVICE[name[10:]], args)
    if name == "cuda.syncwarp":
        return lambda g, mask: g.met(mask, e)
    if name == "cuda.shfl_xor_sync":
        return _shuffle(e, args)
    if name == "cuda.ballot_sync":
        return _ballot(e, args)
    if name == "cuda.ffs":
        x = args[0]
        return lambda g, mask: _find_first(x(g, mask))
    raise SimulationError(f"a function that the simulator does not know: {_show(e)}")


def _libdevice(e: ast.Call, name: str, f: Callable[..., Any], args: list[Code]) -> Code:
    wants = np.float64
    if (name.endswith("f") and name[10:-1] in LIBDEVICE) or name.endswith("float_as_int"):
        wants = np.float32  # type: ignore[assignment]
    elif name.endswith(("int_as_float", "longlong_as_double")):
        wants = np.int32 if name.endswith("int_as_float") else np.int64  # type: ignore[assignment]

    def run(g: Grid, mask: np.ndarray) -> Any:
        values = [a(g, mask) for a in args]
        for v in values:
            if v.dtype != wants:
                raise SimulationError(f"{name} takes {np.dtype(wants)}, not {v.dtype}: {_show(e)}")
        return f(*values)

    return run


def _shuffle(e: ast.Call, args: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        who, value, distance = (a(g, mask) for a in args)
        if int(who) != 0xFFFFFFFF:
            raise SimulationError(f"a shuffle of part of a warp: {_show(e)}")
        if value.dtype.name not in ("int32", "int64", "float32", "float64"):
            raise SimulationError(f"a shuffle of {value.dtype}: {_show(e)}")
        g.met(mask, e)
        return value if np.ndim(value) == 0 else value[g.lane ^ int(distance)]

    return run


def _ballot(e: ast.Call, args: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        who, condition = (a(g, mask) for a in args)
        if int(who) != 0xFFFFFFFF or condition.dtype != bool:
            raise SimulationError(f"a ballot of part of a warp, or of something that is no condition: {_show(e)}")
        g.met(mask, e)
        votes = np.broadcast_to(condition, g.count).reshape(-1, WARP)
        return np.repeat(np.packbits(votes, axis=1, bitorder="little").view(np.int32).reshape(-1), WARP)

    return run


def _find_first(x: Any) -> Any:
    """The number of the lowest bit that is set, from 1; 0 for none."""
    low = np.asarray(x.astype(np.uint32) & -x.astype(np.uint32))
    return np.where(low == 0, 0, np.log2(np.maximum(low, 1)) + 1).astype(np.int32)[()]
