"""Kernels as NumPy programs: what runs a kernel again after a checked launch of the same sizes.

:mod:`.interpret` walks a kernel's tree and watches every access. Here the text becomes a Python function over arrays of lanes once: types are
settled while it is written, integers that a conversion to 32 bits ends are computed in 32 bits, and loops of a fixed length whose rounds do
not depend on each other become one more axis. It computes the same bits in the same order; :mod:`.lanes` has what it calls.

An access whose place follows from sizes and thread numbers alone touches what it touched in the checked launch. One that depends on data (a
gather, a scatter, anything below a condition on values) is looked at again: bounds, and that something was written there. Races, alignment,
divergence, and shared or local memory that was never written are not looked for; kernels that use something unknown here are not translated.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from graphc.errors import SimulationError

from .flow import affine, assigned_in, fixed, height, live, live_behind, names
from .interpret import BINARY, COMPARE, HALVES, LIBDEVICE, TYPES, shown, value_of
from .lanes import HELPERS, fma32, lanes_of
from .memory import Memory
from .parallel import COPIES, Axis, Parallel, Stores

__all__ = ["Quick", "translated"]

F4, F8, I4, I8, U8 = (np.dtype(k) for k in ("float32", "float64", "int32", "int64", "uint64"))
WORDS = dict(zip((ast.Add, ast.Sub, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor), "+-*&|^"))
"""Operators whose low bits depend on the operands' low bits only."""


class UnknownError(Exception):
    """The text has something that is not translated."""


class Quick(NamedTuple):
    """A translated kernel; ``source`` is its text in NumPy."""

    run: Callable[..., None]
    source: str

    def launch(self, blocks: int, threads: int, args: Mapping[str, Any], name: str) -> None:
        with np.errstate(all="ignore"):
            try:
                for lanes in lanes_of(blocks, threads):
                    self.run(lanes, **args)
            except SimulationError as e:
                e.message = f"{name}: {e.message}"
                raise


def translated(text: str, args: Mapping[str, Any]) -> Quick | None:
    """The program of a kernel for arguments of these types, or None where it has something that is not translated."""
    buffers = [m for m in args.values() if isinstance(m, Memory)]
    same = tuple(next(i for i, o in enumerate(buffers) if o is m) for m in buffers)  # one buffer may be two parameters
    kinds = tuple((n, (m.data if isinstance(m, Memory) else m).dtype, isinstance(m, Memory)) for n, m in args.items())
    return _translated(text, kinds, same)


@lru_cache(maxsize=1024)
def _translated(text: str, kinds: tuple[tuple[str, np.dtype[Any], bool], ...], same: tuple[int, ...]) -> Quick | None:
    try:
        return _Writer(text, kinds, same).quick()
    except UnknownError:
        return None


NUMBERS: Any = SimpleNamespace(constants={"np.inf": np.float64(np.inf), "np.nan": np.float64(np.nan)})
"""All of a grid that the value of a constant expression needs."""


class _Writer:
    """Writes the program. ``types`` holds the types of variables, ``arrays`` the kind, size and type of buffers."""

    def __init__(self, text: str, kinds: tuple[tuple[str, np.dtype[Any], bool], ...], same: tuple[int, ...]):
        (self.fn,) = (n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef))
        self.space: dict[str, Any] = dict(HELPERS)
        self.lines: list[str] = []
        self.depth = 1
        self.types: dict[str, np.dtype[Any]] = {n: t for n, t, buffer in kinds if not buffer}
        self.arrays: dict[str, tuple[str, int, np.dtype[Any]]] = {n: ("memory", 0, t) for n, t, buffer in kinds if buffer}
        buffers = [n for n, _, buffer in kinds if buffer]
        self.alias = {n: buffers[i] for n, i in zip(buffers, same)}
        self.params = [n for n, _, _ in kinds]
        for s in ast.walk(self.fn):
            if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call) and isinstance(s.targets[0], ast.Name):
                made = ast.unparse(s.value.func)
                if made in ("cuda.shared.array", "cuda.local.array"):
                    size, kind = s.value.args[0].value, np.dtype(ast.unparse(s.value.args[1])[3:])  # type: ignore[attr-defined]
                    self.arrays[s.targets[0].id] = (made.split(".")[1], size, kind)
        self.axes: dict[str, Axis] = {}
        self.steady: set[str] = {n for n, _, buffer in kinds if not buffer}
        """Variables that are one number for all lanes."""
        self.data = self._data()
        self.below_data = False
        self.kept: set[str] = set()
        self.made = 0

    def quick(self) -> Quick:
        for name in self.arrays:
            if self.arrays[name][0] == "memory":
                self.line(f"{name}_ = {name}.data")
        start = len(self.lines)
        self.block(self.fn.body, set(), "None", set())
        zeros = [f"    {v} = {self.constant(self.types[v].type(0))}" for v in sorted(self.kept)]
        self.lines[start:start] = zeros
        source = f"def kernel(_g, {', '.join(self.params)}):\n" + "\n".join(self.lines or ["    pass"]) + "\n"
        exec(compile(source, "<kernel>", "exec"), self.space)
        return Quick(self.space["kernel"], source)

    # -- small things ------------------------------------------------------------------------------------------------------
    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def constant(self, value: Any) -> str:
        name = f"_K{len(self.space)}"
        self.space[name] = value
        return name

    def fresh(self) -> str:
        self.made += 1
        return f"_M{self.made}"

    def _data(self) -> set[str]:
        """The variables that depend on what memory holds."""
        found: set[str] = set()

        def walk(body: list[ast.stmt], below: bool) -> None:
            for s in body:
                if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name) and (below or self.depends(s.value, found)):
                    found.add(s.targets[0].id)
                elif isinstance(s, ast.For):
                    if below or self.depends(s.iter, found):
                        found.add(s.target.id)  # type: ignore[attr-defined]
                    walk(s.body, below or self.depends(s.iter, found))
                elif isinstance(s, (ast.If, ast.While)):
                    inside = below or self.depends(s.test, found)
                    walk(s.body, inside)
                    walk(s.orelse, inside)

        size = -1
        while size != len(found):
            size = len(found)
            walk(self.fn.body, False)
        return found

    def depends(self, e: ast.AST, found: set[str] | None = None) -> bool:
        found = self.data if found is None else found
        return any(isinstance(n, ast.Subscript) or (isinstance(n, ast.Name) and n.id in found) for n in ast.walk(e))

    # -- statements --------------------------------------------------------------------------------------------------------
    def block(self, body: list[ast.stmt], out: set[str], mask: str, keep: set[str]) -> None:
        """``out``: what is live behind the statements; ``keep``: what threads outside of the mask still read."""
        outs = [out]
        for s in reversed(body):
            outs.append(live(s, outs[-1]))
        for s, behind in zip(body, reversed(outs[:-1])):
            self.statement(s, behind, mask, keep)

    def statement(self, s: ast.stmt, out: set[str], mask: str, keep: set[str]) -> None:
        if isinstance(s, ast.Assign) and len(s.targets) == 1:
            target = s.targets[0]
            if isinstance(target, ast.Name):
                return self.assign(s, target.id, mask, keep)
            if isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                return self.store(s, target.value.id, target.slice, mask)
        if isinstance(s, ast.For) and isinstance(s.target, ast.Name) and isinstance(s.iter, ast.Call) and not s.orelse:
            return self.loop(s, s.target.id, s.iter.args, out, mask, keep)
        if isinstance(s, ast.While) and not s.orelse:
            here = self.fresh()
            self.line(f"{here} = {mask}")
            self.line("while True:")
            with self.inside(s.test):
                self.line(f"{here} = _part({self.value(s.test, here)[0]}, {here})")
                self.line(f"if {here} is False: break")
                self.block(s.body, live_behind(s, out), here, keep | out)
            return None
        if isinstance(s, ast.If):
            return self.branch(s, out, mask, keep)
        if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call):
            return self.call_statement(s.value, mask)
        if not isinstance(s, ast.Pass):
            raise UnknownError(shown(s))
        return None

    def inside(self, condition: ast.AST) -> Any:
        """Deeper lines, below a condition."""
        return _Deeper(self, self.depends(condition))

    def assign(self, s: ast.Assign, name: str, mask: str, keep: set[str]) -> None:
        if name in self.arrays:
            kind, size, dtype = self.arrays[name]
            if kind == "shared":
                self.line(f"{name}_, {name}_at = _g.shared({size}, {self.constant(dtype)})")
            else:
                self.line(f"{name}_ = np.zeros(({size}, _g.count), {self.constant(dtype)})")
            return
        code, dtype = self.value(s.value, mask)
        if self.types.setdefault(name, dtype) != dtype:
            raise UnknownError(f"{name} changes its type: {shown(s)}")
        if _rows(s.value, self.arrays):
            code = f"({code}).copy()"
        if mask != "None" and name in keep:
            self.kept.add(name)
            code = f"{code} if {mask} is None else np.where({mask}, {code}, {name})"
        self.line(f"{name} = {code}")

    def branch(self, s: ast.If, out: set[str], mask: str, keep: set[str]) -> None:
        test, here = self.fresh(), self.fresh()
        self.line(f"{test} = {self.value(s.test, mask)[0]}")
        for body, condition in ((s.body, test), (s.orelse, f"~{test}")):
            if body:
                self.line(f"{here} = _part({condition}, {mask})")
                self.line(f"if {here} is not False:")
                with self.inside(s.test):
                    self.block(body, out, here, keep | out)
                    self.line("pass")

    def loop(self, s: ast.For, name: str, bounds: list[ast.expr], out: set[str], mask: str, keep: set[str]) -> None:
        numbers, behind = fixed(s), live_behind(s, out)
        if numbers is not None:
            self.types[name] = I8
            if Parallel(self).may(s, out):
                inner = height(s) - 1
                self.axes[name] = Axis(numbers, inner)
                self.line(f"{name} = {self.constant(np.array(numbers, np.int64).reshape(-1, *[1] * (inner + 1)))}")
                self.block(s.body, behind, mask, keep)
                del self.axes[name]
                return
            if self.axes:
                raise UnknownError("a loop in steps inside one that is an axis")
            ahead = self.fetched_ahead(s, name, numbers, mask)
            rows = "".join(f", {h}" for h in ahead.values())
            these = self.constant([np.int64(i) for i in numbers])
            self.line(f"for {name}{''.join(f', {h}_' for h in ahead.values())} in {f'zip({these}{rows})' if ahead else these}:")
            self.depth += 1
            fresh = name not in self.steady
            self.steady.add(name)
            for load, h in ahead.items():
                local = load.args[0].id  # type: ignore[attr-defined]
                start = self.value(load.args[1], mask)[0]
                if self.arrays[local][1] == 4 and mask == "None":
                    self.line(f"{local}_ = {h}_")
                else:
                    self.line(f"np.copyto({local}_[{start}:{start} + 4], {h}_, where=True if {mask} is None else {mask})")
            rest = [x for x in s.body if not (isinstance(x, ast.Expr) and x.value in ahead)]
            self.block(rest, behind, mask, keep)
            if fresh:
                self.steady.discard(name)
            self.line("pass")
            self.depth -= 1
            return
        got = [self.value(b, mask) for b in bounds]
        kind = I4 if all(t == I4 for _, t in got) else I8
        code = [c if t == kind else f"({c}).astype({self.constant(kind)})" for c, t in got]
        zero, one = self.constant(kind.type(0)), self.constant(kind.type(1))
        start, stop, step = (zero, code[0], one) if len(code) == 1 else (*code, one) if len(code) == 2 else code
        here = self.fresh()
        self.types[name] = kind
        self.line(f"for {name}, {here} in _loop({start}, {stop}, {step}, {mask}):")
        steady = name not in self.steady and all(names(b) <= self.steady and "cuda." not in ast.unparse(b) for b in bounds)
        if steady:
            self.steady.add(name)
        with self.inside(s.iter):
            self.block(s.body, behind, mask if steady else here, keep if steady else keep | out)
            self.line("pass")
        if steady:
            self.steady.discard(name)

    def fetched_ahead(self, s: ast.For, name: str, numbers: range, mask: str) -> dict[ast.Call, str]:
        """Loads of four at the beginning of a loop's rounds, done for all rounds at once where nothing in the loop changes what they read."""
        found: dict[ast.Call, str] = {}
        stored, changed = Stores(self).of(s.body), assigned_in(s.body)
        for x in s.body:
            call = x.value if isinstance(x, ast.Expr) and isinstance(x.value, ast.Call) else None
            if call is None or ast.unparse(call.func) != "load4":
                break
            local, source = (a.id for a in (call.args[0], call.args[2]))  # type: ignore[attr-defined]
            calls = [ast.unparse(n.func) for n in ast.walk(s) if isinstance(n, ast.Call)]
            if (
                self.alias.get(source, source) in stored
                or any(c.startswith("cuda.sync") or c == "shuffle_xor" for c in calls)
                or names(call.args[3]) & changed
                or self.depends(call.args[3])
                or self.below_data
                or sum(stored_to == local for stored_to in Stores(self).all(s.body)) != 1
            ):
                break
            self.axes[name] = Axis(numbers, 0)
            at = self.value(call.args[3], mask)[0]
            del self.axes[name]
            h = self.fresh()
            if not found:
                self.line(f"{name} = {self.constant(np.array(numbers, np.int64).reshape(-1, 1))}")
            self.line(f"{h} = _ahead({source}_, {at}{self.base(source)}, {len(numbers)}, _g.count)")
            found[call] = h
        return found

    def base(self, name: str) -> str:
        return f" + {name}_at" if self.arrays[name][0] == "shared" else ""

    def store(self, s: ast.stmt, name: str, index: ast.expr, mask: str) -> None:
        kind, _, dtype = self.array(name, s)
        value, got = self.value(s.value, mask)  # type: ignore[attr-defined]
        if got != dtype:
            raise UnknownError(f"a {got} value is stored to {name}: {shown(s)}")
        if kind == "local":
            view = self.local_view(name, index, mask)
            if view is None:
                self.line(f"_put_row({name}_, {self.value(index, mask)[0]}, {value}, {mask}, _g)")
            elif mask == "None":
                self.line(f"{view}[...] = {value}")
            else:
                self.line(f"np.copyto({view}, {value}, where=True if {mask} is None else {mask})")
            return
        at = self.place(name, self.value(index, mask)[0], mask, 1, s, False, self.depends(index))
        self.line(f"_put({name}_, {f'_unwritten({name})' if kind == 'memory' else 'None'}, {at}, {value}, {mask})")

    def array(self, name: str, node: ast.AST) -> tuple[str, int, np.dtype[Any]]:
        if name not in self.arrays:
            raise UnknownError(f"{name} is no buffer: {shown(node)}")
        return self.arrays[name]

    def place(self, name: str, at: str, mask: str, width: int, node: ast.AST, load: bool, depends: bool) -> str:
        """An index, looked at where it depends on data."""
        kind, size, _ = self.arrays[name]
        if depends or self.below_data:
            m, n = (name, f"{name}_.size") if kind == "memory" else ("None", str(size))
            at = f"_checked(_g, {name!r}, {m}, {n}, {at}, {mask}, {width}, {shown(node)!r}, {load})"
        return at + self.base(name)

    def local_view(self, name: str, index: ast.expr, mask: str) -> str | None:
        """Rows of a local array, as a view; None for an index that lanes differ in."""
        parts = affine(index, self.axes)
        if parts is None or not names(*parts[0]) <= self.steady or any("cuda." in ast.unparse(e) for e in parts[0]):
            if self.axes and names(index) & set(self.axes):
                raise UnknownError(f"an index into {name}: {ast.unparse(index)}")
            return None
        base = " + ".join([str(parts[1]), *(f"int({self.value(e, mask)[0]})" for e in parts[0])])
        used = [(a, parts[2].get(n, 0)) for n, a in self.axes.items()]
        if not any(k for _, k in used):
            return f"{name}_[{base}]"
        dims = sorted(((a.inner, a.numbers, k) for a, k in used), key=lambda d: -d[0])
        shape = [1] * (dims[0][0] + 1)
        offset, step, size = 0, 1, 1
        for inner, numbers, k in reversed(dims):
            if k:
                offset += k * numbers.start
                if k * numbers.step != step:
                    raise UnknownError(f"rows of {name} that are not neighbours: {ast.unparse(index)}")
                shape[len(shape) - 1 - inner] = len(numbers)
                step, size = step * len(numbers), size * len(numbers)
        return f"{name}_[{base} + {offset}:{base} + {offset + size}].reshape({', '.join(map(str, shape))}, _g.count)"

    def call_statement(self, e: ast.Call, mask: str) -> None:
        word = ast.unparse(e.func)
        if word in ("cuda.syncthreads", "cuda.syncwarp", "commit_copies", "wait_copies0", "wait_copies1"):
            return
        if word in COPIES:
            return self.copy(e, COPIES[word], mask)
        if word not in ("load4", "store4"):
            raise UnknownError(shown(e))
        memory, index, local = (e.args[2], e.args[3], e.args[0]) if word == "load4" else (e.args[0], e.args[1], e.args[2])
        name, rows = ast.unparse(memory), ast.unparse(local)
        if self.array(name, e)[0] == "local" or self.array(rows, e)[0] != "local" or self.arrays[name][2] != self.arrays[rows][2] or self.axes:
            raise UnknownError(shown(e))
        at = self.place(name, self.value(index, mask)[0], mask, 4, e, word == "load4", self.depends(index))
        if word == "load4":
            self.line(f"_load4({rows}_, int({self.value(e.args[1], mask)[0]}), {name}_, {at}, {mask})")
        else:
            self.line(f"_put({name}_, {f'_unwritten({name})' if self.arrays[name][0] == 'memory' else 'None'}, {at} + _FOUR, {rows}_, {mask})")

    def copy(self, e: ast.Call, width: int, mask: str) -> None:
        """A copy beside the threads is there at once: that nobody looks before it has arrived was checked."""
        to, source = ast.unparse(e.args[0]), ast.unparse(e.args[2])
        if self.array(to, e)[0] != "shared" or self.array(source, e)[0] != "memory" or self.arrays[to][2] != self.arrays[source][2] or self.depends(e.args[1]):
            raise UnknownError(shown(e))
        at, start, count = (self.value(a, mask)[0] for a in (e.args[1], e.args[3], e.args[4]))
        if self.below_data or self.depends(e.args[3]) or self.depends(e.args[4]):
            if width > 1:
                raise UnknownError(shown(e))
            n, here = self.fresh(), self.fresh()
            self.line(f"{n} = {count}")
            self.line(f"{here} = _both({mask}, {n} > 0)")
            start, count = self.place(source, start, here, 1, e, True, True), n
        self.line(f"_copy({to}_, {at}{self.base(to)}, {source}_, {start}, {count}, {width}, {mask})")

    # -- expressions -------------------------------------------------------------------------------------------------------
    def value(self, e: ast.expr, mask: str) -> tuple[str, np.dtype[Any]]:
        """Code and type of an expression."""
        if _constant(e):
            v = value_of(e)(NUMBERS, None)  # type: ignore[arg-type]
            return self.constant(v), v.dtype
        if isinstance(e, ast.Name):
            if e.id not in self.types:
                raise UnknownError(f"{e.id} has no value: {shown(e)}")
            return e.id, self.types[e.id]
        if isinstance(e, ast.Attribute):
            return f"_g.constants[{ast.unparse(e)!r}]", I4
        if isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name):
            return self.load(e, e.value.id, mask)
        if isinstance(e, ast.BinOp):
            return self.binary(e, mask)
        if isinstance(e, ast.Compare) and len(e.ops) == 1 and type(e.ops[0]) in COMPARE:
            x, y, _ = self.common(e.left, e.comparators[0], mask, False)
            return f"({x} {SIGNS[type(e.ops[0])]} {y})", np.dtype(bool)
        if isinstance(e, ast.BoolOp):
            both, parts = isinstance(e.op, ast.And), [self.value(e.values[0], mask)[0]]
            for v in e.values[1:]:
                here = mask
                if self.careful(v):
                    here, before = self.fresh(), f" {'&' if both else '|'} ".join(parts)
                    self.line(f"{here} = _both({mask}, {'' if both else '~'}({before}))")
                parts.append(self.value(v, here)[0])
            return f"({f' {chr(38) if both else chr(124)} '.join(parts)})", np.dtype(bool)
        if isinstance(e, ast.IfExp):
            return self.choice(e, mask, None)
        if isinstance(e, ast.UnaryOp):
            code, dtype = self.value(e.operand, mask)
            if isinstance(e.op, ast.Not):
                return f"(~{code})", dtype
            to = _wide(dtype, dtype)
            return f"({'-' if isinstance(e.op, ast.USub) else '~'}{self.cast(code, dtype, to)})", to
        if isinstance(e, ast.Call):
            return self.call(e, mask)
        raise UnknownError(shown(e))

    def cast(self, code: str, dtype: np.dtype[Any], to: np.dtype[Any]) -> str:
        if dtype == to:
            return code
        if isinstance(self.space.get(code), np.generic):
            return self.constant(self.space[code].astype(to))
        return f"({code}).astype({self.constant(to)})"

    def careful(self, e: ast.expr) -> bool:
        """Whether evaluating an expression on lanes that should not would matter: it loads from a place that depends on data."""
        loads = [n for n in ast.walk(e) if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name)]
        return any(self.array(n.value.id, n)[0] != "local" and (self.below_data or self.depends(n.slice)) for n in loads)  # type: ignore[attr-defined]

    def common(self, left: ast.expr, right: ast.expr, mask: str, exact: bool) -> tuple[str, str, np.dtype[Any]]:
        """Operands in the type in which Numba computes, or (not ``exact``) in a narrower one that compares alike."""
        (x, a), (y, b) = self.value(left, mask), self.value(right, mask)
        if not exact and a == b and a.kind in "iu":
            return x, y, a
        if not exact and a.kind in "iu" and b == I8 and _constant(right) and _fits(self.space[y], a):
            return x, self.constant(a.type(self.space[y])), a
        to = _wide(a, b)
        return self.cast(x, a, to), self.cast(y, b, to), to

    def binary(self, e: ast.BinOp, mask: str) -> tuple[str, np.dtype[Any]]:
        if type(e.op) not in BINARY:
            raise UnknownError(shown(e))
        x, y, to = self.common(e.left, e.right, mask, True)
        if isinstance(e.op, ast.Div) and to.kind != "f":
            x, y, to = self.cast(x, to, F8), self.cast(y, to, F8), F8
        return f"({x} {SIGNS[type(e.op)]} {y})", to

    def choice(self, e: ast.IfExp, mask: str, to: np.dtype[Any] | None) -> tuple[str, np.dtype[Any]]:
        """``x if c else y``; ``to``: the integers that it is converted to."""
        test, sides = self.value(e.test, mask)[0], []
        if not test.isidentifier():
            name = self.fresh()
            self.line(f"{name} = {test}")
            test = name
        before, self.below_data = self.below_data, self.below_data or self.depends(e.test)
        for side, condition in ((e.body, test), (e.orelse, f"~{test}")):
            here = mask
            if self.careful(side):
                here = self.fresh()
                self.line(f"{here} = _both({mask}, {condition})")
            sides.append(self.value(side, here) if to is None else (self.narrow(side, to, here), to))
        self.below_data = before
        (x, a), (y, b) = sides
        if a != b:
            x, y, a = self.cast(x, a, _wide(a, b)), self.cast(y, b, _wide(a, b)), _wide(a, b)
        return f"_choose({test}, {x}, {y})", a

    def narrow(self, e: ast.expr, to: np.dtype[Any], mask: str) -> str:
        """An integer expression whose value is converted to integers of ``to``: sums and products are computed in that type from the start."""
        if isinstance(e, ast.BinOp) and type(e.op) in WORDS and not _constant(e):
            return f"({self.narrow(e.left, to, mask)} {WORDS[type(e.op)]} {self.narrow(e.right, to, mask)})"
        if isinstance(e, ast.IfExp):
            return self.choice(e, mask, to)[0]
        if isinstance(e, ast.BinOp) and isinstance(e.op, (ast.RShift, ast.FloorDiv, ast.Mod)):
            (x, a), (y, b) = self.value(e.left, mask), self.value(e.right, mask)
            if a == to and (b == to or (b == I8 and _constant(e.right) and _fits(self.space[y], to))):
                y = y if b == to else self.constant(to.type(self.space[y]))
                return f"({x} {SIGNS[type(e.op)]} {y})"
        code, dtype = self.value(e, mask)
        if dtype.kind not in "iub":
            raise UnknownError(shown(e))
        return self.cast(code, dtype, to)

    def load(self, e: ast.Subscript, name: str, mask: str) -> tuple[str, np.dtype[Any]]:
        kind, _, dtype = self.array(name, e)
        if kind == "local":
            view = self.local_view(name, e.slice, mask)
            return view or f"_row({name}_, {self.value(e.slice, mask)[0]}, _g)", dtype
        at = self.place(name, self.value(e.slice, mask)[0], mask, 1, e, True, self.depends(e.slice))
        return f"_clip({name}_, {at})", dtype

    def call(self, e: ast.Call, mask: str) -> tuple[str, np.dtype[Any]]:
        name = ast.unparse(e.func)
        if name in TYPES:
            to = np.dtype(name[3:])
            if to.kind in "iu" and self.whole(e.args[0]):
                return self.narrow(e.args[0], to, mask), to
            code, dtype = self.value(e.args[0], mask)
            if dtype.kind == "f" and to.kind in "iu":
                return f"{self.constant(TYPES[name])}({code})", to
            return self.cast(code, dtype, to), to
        args = [self.value(a, mask) for a in e.args]
        if name.startswith("libdevice.") and name[10:] in LIBDEVICE:
            f = fma32 if name == "libdevice.fmaf" else LIBDEVICE[name[10:]]
            dtype = args[0][1]
            out = {"float_as_int": I4, "int_as_float": F4, "double_as_longlong": I8, "longlong_as_double": F8}.get(name[10:], dtype)
            return f"{self.constant(f)}({', '.join(c for c, _ in args)})", out
        if name in HALVES:
            kind, to_half = HALVES[name]
            return f"_half({args[0][0]}, {self.constant(kind)}, {to_half})", np.dtype(np.uint16) if to_half else F4
        if name == "shuffle_xor":
            return f"_shuffle({args[0][0]}, {args[1][0]}, _g)", args[0][1]
        if name == "ballot" and not self.axes:
            return f"_ballot({args[0][0]}, {mask}, _g)", np.dtype(np.uint32)
        if name == "lowest_bit":
            return f"_lowest_bit({args[0][0]})", I4
        raise UnknownError(shown(e))

    def whole(self, e: ast.expr) -> bool:
        """Whether an expression is an integer, as far as one sees without writing it."""
        if isinstance(e, ast.Name):
            return e.id in self.types and self.types[e.id].kind in "iu"
        if isinstance(e, ast.Constant):
            return isinstance(e.value, int)
        if isinstance(e, ast.BinOp):
            return not isinstance(e.op, ast.Div) and self.whole(e.left) and self.whole(e.right)
        if isinstance(e, ast.IfExp):
            return self.whole(e.body) and self.whole(e.orelse)
        if isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name):
            return self.array(e.value.id, e)[2].kind in "iu"
        if isinstance(e, ast.Attribute):
            return ast.unparse(e) not in NUMBERS.constants
        if isinstance(e, ast.Call):
            return ast.unparse(e.func) in TYPES and np.dtype(ast.unparse(e.func)[3:]).kind in "iu"
        return False


class _Deeper:
    """Lines one level deeper, for a while; and whether they stand below a condition that depends on data."""

    def __init__(self, writer: _Writer, depends: bool):
        self.writer, self.depends = writer, depends

    def __enter__(self) -> None:
        self.before = self.writer.below_data
        self.writer.below_data |= self.depends
        self.writer.depth += 1

    def __exit__(self, *_: Any) -> None:
        self.writer.below_data = self.before
        self.writer.depth -= 1


SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.LShift: "<<", ast.RShift: ">>",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


def _wide(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which Numba computes with two."""
    if "f" in (a.kind, b.kind):
        return F4 if a == b == F4 else F8
    return U8 if a.kind == b.kind == "u" else I8


def _constant(e: ast.AST) -> bool:
    """Whether an expression is a number that is known now."""
    if isinstance(e, ast.Call) and ast.unparse(e.func) not in TYPES:
        return False
    return not any(isinstance(n, (ast.Subscript, ast.IfExp)) or (isinstance(n, ast.Name) and n.id not in ("np",)) for n in ast.walk(e))


def _fits(value: Any, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(limits.min <= int(value) <= limits.max)


def _rows(e: ast.expr, arrays: Mapping[str, Any]) -> bool:
    """Whether a value may be a view into a local array."""
    if isinstance(e, ast.IfExp):
        return _rows(e.body, arrays) or _rows(e.orelse, arrays)
    return isinstance(e, ast.Subscript) and isinstance(e.value, ast.Name) and arrays.get(e.value.id, ("",))[0] == "local"
