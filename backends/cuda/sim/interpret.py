"""A small SIMT simulator: runs the text of a printed kernel on NumPy, all threads of the grid at once as lanes of arrays.

The text is parsed, never imported, so neither Numba nor a GPU is needed. Types follow Numba's rules and not NumPy's: two
int32 give an int64, an untyped literal is an int64 or float64, an integer with a float32 gives a float64; so a constant that
was left untyped shows here as it would on the device.

It raises :class:`SimulationError`, naming buffer, index, thread and line, for

* loads and stores out of bounds, and 16-byte accesses that are not aligned,
* loads of memory that nothing has written: global, shared or local,
* races within a launch, in global and in shared memory: two threads that write different values to one address, or one that
  writes what another reads, unless their warp or their block has met in between,
* shuffles and votes that not all threads of a warp reach, and barriers that not all threads of a block reach,
* elements of shared memory that are read or written while a copy to them is on its way (:mod:`.tensor`),
* variables and stores whose type changes (Numba would widen them silently).

What it does not model: atomics and the timing inside a warp (threads run in lock step).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from graphc.errors import SimulationError

from .memory import WARP, Copy, Local, Memory, Order, Shared, first
from .report import Report

__all__ = ["launch"]

Code = Callable[["Grid", np.ndarray], Any]
Array = Memory | Shared | Local


class Grid:
    """The state of one launch: who the lanes are, their variables, and how often each warp and block has met."""

    def __init__(self, blocks: int, threads: int, names: Mapping[str, Any], report: Report | None = None):
        if threads % WARP:
            raise SimulationError(f"{threads} threads a block are no whole warps")
        self.count, self.blocks, self.threads = blocks * threads, blocks, threads
        self.lane = np.arange(self.count, dtype=np.int64)
        self.block = self.lane // threads
        self.all = np.ones(self.count, bool)
        self.warp_met = np.zeros(self.count // WARP, np.int64)
        self.block_met = np.zeros(blocks, np.int64)
        self.names: dict[str, Any] = dict(names)
        self.report = report
        if report is not None:
            report.threads = threads
        self._order: Order | None = None
        self.copies: list[Copy] = []
        self.commits = np.zeros(self.count, np.int64)
        i32 = np.int32
        self.constants: dict[str, Any] = {
            "cuda.threadIdx.x": (self.lane % threads).astype(i32),
            "cuda.blockIdx.x": self.block.astype(i32),
            "cuda.blockDim.x": i32(threads),
            "cuda.gridDim.x": i32(blocks),
            "np.inf": np.float64(np.inf),
            "np.nan": np.float64(np.nan),
        }

    def spread(self, value: Any, mask: np.ndarray) -> np.ndarray:
        """The values on the lanes of a mask."""
        return value[mask] if np.ndim(value) else np.full(int(mask.sum()), value)

    def order(self, mask: np.ndarray) -> Order:
        """Who accesses memory now."""
        if mask is self.all and self._order is not None:
            return self._order
        who = self.lane[mask]
        found = Order(who, self.block[mask], self.warp_met[who // WARP], self.block_met[self.block[mask]])
        if mask is self.all:
            self._order = found
        return found

    def where(self, lane: int) -> str:
        return f"block {lane // self.threads}, thread {lane % self.threads}"

    def whole(self, mask: np.ndarray, node: ast.AST, size: int = WARP) -> np.ndarray:
        """Which warps (or blocks) are in a mask: as a whole, or it is an error."""
        parts = mask.reshape(-1, size)
        some, whole = np.asarray(parts.any(1)), parts.all(1)
        if (some != whole).any():
            p = int(np.argmax(some != whole))
            lane = p * size + int(np.argmin(parts[p]))
            raise SimulationError(f"divergent {'warp' if size == WARP else 'block'}: {self.where(lane)} does not reach {shown(node)}")
        return some

    def met(self, mask: np.ndarray, node: ast.AST, size: int = WARP) -> None:
        """The warps (or blocks) of a mask, which must be whole; they have met from now on."""
        some = self.whole(mask, node, size)
        self._order = None
        self.warp_met += np.repeat(some, size // WARP)
        if size != WARP or size == self.threads:  # a block of one warp has met when its warp has
            self.block_met += some
            if some.all():
                for m in self.names.values():
                    if isinstance(m, Shared):
                        m.barrier()

    def set(self, name: str, value: Any, mask: np.ndarray, node: ast.AST) -> None:
        """A variable takes a value where the mask holds; its type stays."""
        old = self.names.get(name)
        if old is not None and old.dtype != value.dtype:
            raise SimulationError(f"{name} changes its type from {old.dtype} to {value.dtype}: {shown(node)}")
        self.names[name] = value if old is None or mask is self.all or mask.all() else np.where(mask, value, old)
        if self.report is not None:
            self.report.assigned(node, name, self.names[name], mask)


def launch(text: str, blocks: int, threads: int, args: Mapping[str, Any], name: str = "kernel", report: Report | None = None) -> None:
    """Runs a kernel. ``args``: a :class:`Memory` or a typed NumPy number for every parameter; a report takes notes."""
    params, body, stored = _compiled(text)
    if set(params) != set(args):
        raise SimulationError(f"{name} takes {', '.join(params)}; given {', '.join(args)}")
    for p, m in args.items():
        if isinstance(m, Memory):
            m.watch(any(args[q] is m for q in stored))
        elif not isinstance(m, np.generic):
            raise SimulationError(f"{name}: {p} is an untyped {type(m).__name__}")
    grid = Grid(blocks, threads, args, report)
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
    params = tuple(a.arg for a in fn.args.args)
    stored = {t.value.id for s in ast.walk(fn) if isinstance(s, ast.Assign) for t in s.targets if isinstance(t, ast.Subscript) and isinstance(t.value, ast.Name)}
    calls = [n for n in ast.walk(fn) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "store4"]
    stored |= {n.args[0].id for n in calls if isinstance(n.args[0], ast.Name)}
    return params, _block(fn.body), frozenset(stored & set(params))


def shown(node: ast.AST) -> str:
    return f"line {getattr(node, 'lineno', '?')}: {ast.unparse(node)}"


def _block(body: list[ast.stmt]) -> list[Code]:
    return [_statement(s) for s in body if not isinstance(s, ast.Pass)]


def _statement(s: ast.stmt) -> Code:
    if isinstance(s, ast.Assign) and len(s.targets) == 1:
        target = s.targets[0]
        if isinstance(target, ast.Name):
            made = ast.unparse(s.value.func) if isinstance(s.value, ast.Call) else ""
            if made in ("cuda.shared.array", "cuda.local.array"):
                return _array(s, target.id, s.value, made == "cuda.shared.array")
            return _assign(s, target.id, value_of(s.value))
        if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            return _store(s, target.value.id, value_of(target.slice), value_of(s.value))
    if isinstance(s, ast.For) and isinstance(s.target, ast.Name) and isinstance(s.iter, ast.Call) and not s.orelse:
        return _for(s.target.id, [value_of(a) for a in s.iter.args], _block(s.body))
    if isinstance(s, ast.While) and not s.orelse:
        return _while(value_of(s.test), _block(s.body))
    if isinstance(s, ast.If):
        return _if(value_of(s.test), _block(s.body), _block(s.orelse))
    if isinstance(s, ast.Expr):
        return value_of(s.value)
    raise SimulationError(f"a statement that the simulator does not know: {shown(s)}")


def _assign(s: ast.stmt, name: str, value: Code) -> Code:
    return lambda g, mask: g.set(name, value(g, mask), mask, s)


def _array(s: ast.stmt, name: str, e: Any, shared: bool) -> Code:
    """``cuda.shared.array(size, type)`` or ``cuda.local.array(size, type)``."""
    if not isinstance(e.args[0], ast.Constant) or not isinstance(e.args[0].value, int):
        raise SimulationError(f"the size of an array is a literal: {shown(s)}")
    size, kind = e.args[0].value, ast.unparse(e.args[1])
    if kind not in TYPES:
        raise SimulationError(f"an array of {kind}: {shown(s)}")
    dtype = np.dtype(kind[3:])

    def run(g: Grid, mask: np.ndarray) -> None:
        if not mask.all():
            raise SimulationError(f"an array that only some threads declare: {shown(s)}")
        g.names[name] = Shared(name, size, dtype, g.blocks) if shared else Local(name, size, dtype, g.count)

    return run


def _for(name: str, bounds: list[Code], body: list[Code]) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        got = [b(g, mask) for b in bounds]
        kind = np.int32 if all(v.dtype == np.int32 for v in got) else np.int64
        start, stop, step = (kind(0), got[0], kind(1)) if len(got) == 1 else (*got, kind(1)) if len(got) == 2 else got
        g.names.pop(name, None)
        at = kind(start) if np.ndim(start) == 0 else start.astype(kind)
        while True:
            inside = at < stop
            if inside.all():
                here = mask
            else:
                here = mask & inside
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
        if c.all():  # the usual case: nothing to tell apart
            for statement in body:
                statement(g, mask)
            return
        for here, part in ((mask & c, body), (mask & ~c, orelse)):
            if part and here.any():
                for statement in part:
                    statement(g, here)

    return run


def find_memory(g: Grid, name: str, node: ast.AST) -> Array:
    m = g.names.get(name)
    if not isinstance(m, Array):
        raise SimulationError(f"{name} is no buffer: {shown(node)}")
    return m


def places_of(g: Grid, m: Memory | Shared, at: Any, mask: np.ndarray, width: int, what: str, node: ast.AST) -> tuple[np.ndarray, Order]:
    """Where the lanes of a mask touch an array, after looking at bounds and alignment; ``width`` elements each."""
    order, places = g.order(mask), g.spread(at, mask)
    size = m.data.size if isinstance(m, Memory) else m.size
    if places.size and (places.min() < 0 or places.max() + width > size):
        out = int(np.argmax((places < 0) | (places + width > size)))
        raise SimulationError(f"{what} out of bounds: {m} at {places[out]} by {g.where(order.who[out])}, {shown(node)}")
    if width > 1:
        step = min(16 // m.data.itemsize, width)
        bad = first(places % step != 0)
        if bad is not None:
            raise SimulationError(f"misaligned {what} of {width}: {m} at {places[bad]} by {g.where(order.who[bad])}, {shown(node)}")
    if g.report is not None:
        if isinstance(m, Memory):
            g.report.touched(node, m, places, order.who, width)
        else:
            g.report.banked(node, m, places, order.who, width)
    if isinstance(m, Shared):
        places = places + order.block * size
    if width > 1:
        places = (places[:, None] + np.arange(width)).reshape(-1)
        order = Order(*(np.repeat(x, width) for x in order))
    return places, order


def arrived(g: Grid, m: Memory | Shared, places: np.ndarray, order: Order, what: str, node: ast.AST) -> None:
    """No copy to these places is on its way."""
    bad = m.expected(places) if isinstance(m, Shared) else None
    if bad is not None:
        where = f"{m} at {shown_place(m, places[bad])} is {what} by {g.where(order.who[bad])}"
        raise SimulationError(f"copy on its way: {where} before the copy to it was committed and waited for, {shown(node)}")


def shown_place(m: Memory | Shared, at: int) -> int:
    return at % m.size if isinstance(m, Shared) else at


def fetch(g: Grid, m: Memory | Shared, at: Any, mask: np.ndarray, width: int, node: ast.AST) -> np.ndarray:
    """What the lanes of a mask load, one after another."""
    places, order = places_of(g, m, at, mask, width, "load", node)
    arrived(g, m, places, order, "read", node)
    bad = m.unwritten(places)
    if bad is not None:
        where = f"{m} at {shown_place(m, places[bad])} by {g.where(order.who[bad])}"
        raise SimulationError(f"load of memory that was never written: {where}, {shown(node)}")
    bad = m.reads(places, order, g.threads)
    if bad is not None:
        where = f"{m} at {shown_place(m, places[bad])} is read by {g.where(order.who[bad])}"
        raise SimulationError(f"race: {where} and written by another thread, {shown(node)}")
    return m.data[places]


def put_value(g: Grid, m: Memory | Shared, at: Any, values: np.ndarray, mask: np.ndarray, width: int, node: ast.AST) -> None:
    """The lanes of a mask store values, one after another."""
    places, order = places_of(g, m, at, mask, width, "store", node)
    arrived(g, m, places, order, "written", node)
    bad = m.writes(places, values, order, g.threads)
    if bad is not None:
        where = f"{m} at {shown_place(m, places[bad])} is written by {g.where(order.who[bad])}"
        raise SimulationError(f"race: {where} and used by another thread, {shown(node)}")


def _local_places(g: Grid, m: Local, at: Any, mask: np.ndarray, node: ast.AST) -> tuple[Any, Any]:
    """An index into a local array: a row where all lanes mean the same element."""
    low, high = (int(at), int(at)) if np.ndim(at) == 0 else (int(at[mask].min()), int(at[mask].max()))
    if low < 0 or high >= m.size:
        raise SimulationError(f"access out of bounds: {m} at {low if low < 0 else high}, {shown(node)}")
    return (int(at), slice(None)) if low == high else (np.where(mask, at, low), g.lane)


def _load(node: ast.Subscript, name: str, index: Code) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        m, at = find_memory(g, name, node), index(g, mask)
        if isinstance(m, Local):
            if m.full and np.ndim(at) == 0 and 0 <= at < m.size:
                return m.data[at].copy()
            if not mask.any():
                return np.zeros(g.count, m.data.dtype)
            where = _local_places(g, m, at, mask, node)
            if not (m.written[where] | ~mask).all():
                raise SimulationError(f"load of memory that was never written: {m} at {at if np.ndim(at) == 0 else '...'}, {shown(node)}")
            return m.data[where].copy()
        if np.ndim(at) == 0 and isinstance(m, Memory) and not m.watched:  # one for all
            if not mask.any():
                return np.zeros((), m.data.dtype)[()]
            one = np.zeros(g.count, bool)
            one[np.argmax(mask)] = True
            return fetch(g, m, at, one, 1, node)[0]
        out = np.zeros(g.count, m.data.dtype)
        if mask.any():
            out[mask] = fetch(g, m, at, mask, 1, node)
        return out

    return run


def _store(node: ast.stmt, name: str, index: Code, value: Code) -> Code:
    def run(g: Grid, mask: np.ndarray) -> None:
        v, at, m = value(g, mask), index(g, mask), find_memory(g, name, node)
        if v.dtype != m.data.dtype:
            raise SimulationError(f"a {v.dtype} value is stored to {m}: {shown(node)}")
        if isinstance(m, Local):
            if m.full and mask is g.all and np.ndim(at) == 0 and 0 <= at < m.size:
                m.data[at] = v
            else:
                where = _local_places(g, m, at, mask, node)
                m.data[where] = v if mask is g.all else np.where(mask, v, m.data[where])
                m.written[where] |= mask
                m.full = m.full or bool(m.written.all())
        else:
            put_value(g, m, at, g.spread(v, mask), mask, 1, node)
        if g.report is not None:
            g.report.assigned(node, f"{name}[...]", v, mask)

    return run


def _load4(e: ast.Call) -> Code:
    """``load4(local, first, memory, at)``: four neighbours by one access."""
    to, start, source, index = ast.unparse(e.args[0]), value_of(e.args[1]), ast.unparse(e.args[2]), value_of(e.args[3])

    def run(g: Grid, mask: np.ndarray) -> None:
        m, local = find_memory(g, source, e), find_memory(g, to, e)
        n = int(start(g, mask))
        if not isinstance(local, Local) or isinstance(m, Local) or not 0 <= n <= local.size - 4 or local.data.dtype != m.data.dtype:
            raise SimulationError(f"load4 goes from global or shared memory to four local elements of its type: {shown(e)}")
        if mask.any():
            four = fetch(g, m, index(g, mask), mask, 4, e).reshape(-1, 4).T
            if mask is g.all:
                local.data[n : n + 4] = four
            else:
                local.data[n : n + 4, mask] = four
            if not local.full:
                local.written[n : n + 4] |= mask
                local.full = bool(local.written.all())

    return run


def _store4(e: ast.Call) -> Code:
    """``store4(memory, at, local)``: four neighbours by one access."""
    to, index, source = ast.unparse(e.args[0]), value_of(e.args[1]), ast.unparse(e.args[2])

    def run(g: Grid, mask: np.ndarray) -> None:
        m, local = find_memory(g, to, e), find_memory(g, source, e)
        if not isinstance(local, Local) or isinstance(m, Local) or local.size != 4 or local.data.dtype != m.data.dtype:
            raise SimulationError(f"store4 goes from four local elements to global or shared memory of their type: {shown(e)}")
        if not local.full and not local.written[:, mask].all():
            raise SimulationError(f"load of memory that was never written: {local}, {shown(e)}")
        put_value(g, m, index(g, mask), np.ascontiguousarray(local.data[:, mask].T).reshape(-1), mask, 4, e)

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


AS_THEY_ARE = {np.dtype(k) for k in ("float32", "float64", "int64", "uint64")}
"""Types of two operands that need no conversion."""


def _common(*values: Any) -> list[Any]:
    """Operands as Numba computes with them: integers in 64 bits, an integer beside a float as a float64."""
    kinds = {v.dtype.kind for v in values}
    if "f" in kinds:
        narrow = all(v.dtype == np.float32 for v in values)
        return list(values) if narrow else [v.astype(np.float64) for v in values]
    return [v.astype(np.uint64 if kinds == {"u"} else np.int64) for v in values]


def value_of(e: ast.expr) -> Code:
    if isinstance(e, ast.Constant):
        c = np.bool_(e.value) if isinstance(e.value, bool) else np.int64(e.value) if isinstance(e.value, int) else np.float64(e.value)  # type: ignore[arg-type]
        return lambda g, mask: c
    if isinstance(e, ast.Name):
        return _name(e)
    if isinstance(e, ast.Attribute):
        word = ast.unparse(e)
        return lambda g, mask: g.constants[word]
    if isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name):
        return _load(e, e.value.id, value_of(e.slice))
    if isinstance(e, ast.BinOp):
        return _binary(BINARY[type(e.op)], value_of(e.left), value_of(e.right), isinstance(e.op, ast.Div))
    if isinstance(e, ast.Compare) and len(e.ops) == 1:
        compare, left, right = COMPARE[type(e.ops[0])], value_of(e.left), value_of(e.comparators[0])
        return lambda g, mask: compare(*_common(left(g, mask), right(g, mask)))
    if isinstance(e, ast.BoolOp):
        return _logic(isinstance(e.op, ast.And), [value_of(v) for v in e.values])
    if isinstance(e, ast.IfExp):
        return _choice(e, value_of(e.test), value_of(e.body), value_of(e.orelse))
    if isinstance(e, ast.UnaryOp):
        return _unary(e)
    if isinstance(e, ast.Call):
        return _call(e)
    raise SimulationError(f"an expression that the simulator does not know: {shown(e)}")


def _name(e: ast.Name) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        try:
            return g.names[e.id]
        except KeyError:
            raise SimulationError(f"{e.id} has no value, {shown(e)}") from None

    return run


def _binary(op: Callable[[Any, Any], Any], left: Code, right: Code, divide: bool) -> Code:
    def run(g: Grid, mask: np.ndarray) -> Any:
        x, y = left(g, mask), right(g, mask)
        if x.dtype is y.dtype and x.dtype in AS_THEY_ARE and not (divide and x.dtype.kind != "f"):
            return op(x, y)
        x, y = _common(x, y)
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
        return value_of(ast.copy_location(ast.Constant(-e.operand.value), e))  # type: ignore[operator]
    x = value_of(e.operand)
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
    **{"ldexp": np.ldexp, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "trunc": np.trunc, "fabs": np.abs, "fma": _fma},
    "float_as_int": _bits(np.float32, np.int32),
    "int_as_float": _bits(np.int32, np.float32),
    "double_as_longlong": _bits(np.float64, np.int64),
    "longlong_as_double": _bits(np.int64, np.float64),
}
LIBDEVICE |= {n + "f": LIBDEVICE[n] for n in ("ldexp", "sqrt", "floor", "ceil", "rint", "trunc", "fabs", "fma")}


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


TYPES = {f"np.{n}": _convert(np.dtype(n)) for n in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")}


CALLS: dict[str, Callable[[ast.Call], Code]] = {}
"""Functions that take arrays; :mod:`.tensor` adds its own."""


def _call(e: ast.Call) -> Code:
    name = ast.unparse(e.func)
    if name in ("load4", "store4"):
        return _load4(e) if name == "load4" else _store4(e)
    if name in CALLS:
        return CALLS[name](e)
    args = [value_of(a) for a in e.args]
    if name in TYPES:
        convert, x = TYPES[name], args[0]
        return lambda g, mask: convert(x(g, mask))
    if name.startswith("libdevice.") and name[10:] in LIBDEVICE:
        return _libdevice(e, name, LIBDEVICE[name[10:]], args)
    if name == "cuda.syncwarp":
        return lambda g, mask: g.met(mask, e)
    if name == "cuda.syncthreads":
        return lambda g, mask: g.met(mask, e, g.threads)
    if name in HALVES:
        return _convert_half(e, *HALVES[name], args[0])
    if name == "shuffle_xor":
        return _shuffle(e, args)
    if name == "ballot":
        return _ballot(e, args)
    if name == "lowest_bit":
        return lambda g, mask: lowest_bit(args[0](g, mask))
    raise SimulationError(f"a function that the simulator does not know: {shown(e)}")


def _libdevice(e: ast.Call, name: str, f: Callable[..., Any], args: list[Code]) -> Code:
    wants = np.float64
    if (name.endswith("f") and name[10:-1] in LIBDEVICE) or name.endswith("float_as_int"):
        wants = np.float32  # type: ignore[assignment]
    elif name.endswith(("int_as_float", "longlong_as_double")):
        wants = np.int32 if name.endswith("int_as_float") else np.int64  # type: ignore[assignment]

    def run(g: Grid, mask: np.ndarray) -> Any:
        values = [a(g, mask) for a in args]
        kinds = [wants, np.int32] if "ldexp" in name else [wants] * len(values)
        for v, kind in zip(values, kinds, strict=True):
            if v.dtype != kind:
                raise SimulationError(f"{name} takes {np.dtype(kind)}, not {v.dtype}: {shown(e)}")
        return f(*values)

    return run


HALVES: dict[str, tuple[Any, bool]] = {
    "from_half": (np.float16, False), "to_half": (np.float16, True),
    "from_bfloat16": (ml_dtypes.bfloat16, False), "to_bfloat16": (ml_dtypes.bfloat16, True), "round_bfloat16": (ml_dtypes.bfloat16, True),
}  # fmt: skip


def _convert_half(e: ast.Call, kind: Any, to: bool, x: Code) -> Code:
    """From float32 to the bits of a type of 16 bits, or back."""

    def run(g: Grid, mask: np.ndarray) -> Any:
        value = x(g, mask)
        if value.dtype != (np.float32 if to else np.uint16):
            raise SimulationError(f"a conversion of {value.dtype}: {shown(e)}")
        return value.astype(kind).view(np.uint16) if to else value.view(kind).astype(np.float32)

    return run


def _shuffle(e: ast.Call, args: list[Code]) -> Code:
    """``shuffle_xor(value, distance)``: the value of the lane whose number differs in these bits."""

    def run(g: Grid, mask: np.ndarray) -> Any:
        value, distance = (a(g, mask) for a in args)
        if value.dtype.name not in ("int32", "int64", "float32", "float64"):
            raise SimulationError(f"a shuffle of {value.dtype}: {shown(e)}")
        g.met(mask, e)
        return value if np.ndim(value) == 0 else value[g.lane ^ int(distance)]

    return run


def _ballot(e: ast.Call, args: list[Code]) -> Code:
    """``ballot(condition)``: a uint32 with the conditions of the warp's lanes."""

    def run(g: Grid, mask: np.ndarray) -> Any:
        condition = args[0](g, mask)
        if condition.dtype != bool:
            raise SimulationError(f"a vote about a {condition.dtype}: {shown(e)}")
        g.met(mask, e)
        votes = np.broadcast_to(condition, g.count).reshape(-1, WARP)
        return np.repeat(np.packbits(votes, axis=1, bitorder="little").view(np.uint32).reshape(-1), WARP)

    return run


def lowest_bit(x: Any) -> Any:
    """``lowest_bit(word)``: the number of the lowest bit that is set."""
    low = np.asarray(x & (~x + np.uint32(1)))
    return np.log2(np.maximum(low, 1)).astype(np.int32)[()]
