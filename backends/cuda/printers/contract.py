"""The printer of contractions: a block makes a tile of the result, shared memory holds what it multiplies.

The roles of axes are read off the index maps: rows are the axes along which only the left operand varies, columns those along which
only the right one does, all others are walked tile by tile. Rows, columns and K may each be several axes, run through as one: so a
convolution is printed like a matrix product, and what lies outside is 0. Each element of an operand is computed once a tile by any
scalar IR (a prologue) while it goes to shared memory; each thread then multiplies a few rows by a few columns in registers, and the
epilogue is any scalar IR again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.errors import CompileError
from graphc.ir.dims import Size, cdiv, coefficient, prod
from graphc.ir.node import Node
from graphc.loops.nest import Axis, Nest, Stage
from graphc.loops.scalar import Scalar, loads, postorder, scalar_symbols
from graphc.schedule.program import Buffer

from .instructions import instruction, literal
from .split import FOUR, split_axis
from .text import VECTOR, KernelText, Printed, Team, multiple

__all__ = ["PRECISIONS", "Tile", "choose_tile", "print_contract"]

PROCESSORS = 132
"""Multiprocessors that tiles are shared among (an H100's)."""
LONG = 40
"""Scalars of an epilogue from which the compiler leaves its loops as they are."""
TYPICAL = 1024
"""What a named size is taken for."""
OVERHEAD = 16.0
"""What moving an operand's element to shared memory costs, in products."""


@dataclass(frozen=True)
class Tile:
    """Rows, columns and depth of a block's tile, and how many of its rows and columns a thread makes."""

    rows: int
    columns: int
    by_rows: int
    by_columns: int
    depth: int = 16

    @property
    def threads(self) -> int:
        return self.rows // self.by_rows * (self.columns // self.by_columns)


TILES = (Tile(128, 128, 8, 8), Tile(64, 64, 4, 4), Tile(32, 32, 4, 4), Tile(128, 32, 4, 4), Tile(32, 128, 4, 4), Tile(128, 16, 4, 4), Tile(16, 128, 4, 4))


TENSOR_TILE = Tile(64, 64, 4, 4)
"""The tile on tensor cores: each of its eight warps makes 32 x 16 sums, by instructions of 16 x 8."""
PRECISIONS = {"float32": 0, "tf32": 1, "bf16": 2}
"""What factors of float32 products may be rounded to, and how many of them a tensor core's word holds. Sums stay float32."""


@dataclass(frozen=True)
class _Side:
    """An operand: its value, the axes along which only it varies, and how they are called in the text."""

    value: Scalar
    axes: tuple[Axis, ...]
    size: Size
    letter: str
    tile: int


def choose_tile(rows: Size, columns: Size, batch: Size) -> Tile:
    """The tile that makes the result soonest: few elements beyond its edges, little to load, work for all processors."""
    m, n, count = (x if isinstance(x, int) else TYPICAL for x in (rows, columns, batch))

    def time(t: Tile) -> float:
        blocks = -(-m // t.rows) * -(-n // t.columns) * count
        return -(-blocks // PROCESSORS) * t.rows * t.columns * (1 + OVERHEAD * (1 / t.rows + 1 / t.columns))

    return min(TILES, key=time)


def print_contract(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "", precision: str = "float32") -> Printed:
    """The kernel of a contraction with its prologue and epilogue; ``precision`` is one of :data:`PRECISIONS`."""
    return _Contraction(nest, buffers, comment, precision).print()


class _Contraction(KernelText):
    def __init__(self, nest: Nest, buffers: Mapping[Node, Buffer], comment: str, precision: str):
        super().__init__(nest, buffers, comment)
        c = nest.contract
        assert c is not None
        self.dtype = c.a.dtype
        left, right = scalar_symbols(c.a), scalar_symbols(c.b)
        live = [x for x in nest.outer if x.size != 1]
        a = (c.a, tuple(x for x in live if x.name in left and x.name not in right))
        b = (c.b, tuple(x for x in live if x.name in right and x.name not in left))
        if _writes_along(nest, a[1]) > _writes_along(nest, b[1]):
            a, b = b, a  # neighbouring threads make neighbouring columns
        self.batch = tuple(x for x in live if x not in a[1] and x not in b[1])
        rows, columns = (prod(x.size for x in axes) for _, axes in (a, b))
        self.precision = precision
        self.pairs = PRECISIONS[precision] if self.dtype.name == "float32" else 0
        self.tile = TENSOR_TILE if self.pairs else choose_tile(rows, columns, prod(x.size for x in self.batch))
        self.left = _Side(*a, rows, "m", self.tile.rows)
        self.right = _Side(*b, columns, "n", self.tile.columns)
        self.k = tuple(x for x in c.k if x.size != 1)
        self.depth = prod(x.size for x in self.k)

    def print(self) -> Printed:
        tile, nest = self.tile, self.nest
        assert nest.contract is not None
        mt, nt = cdiv(self.left.size, tile.rows), cdiv(self.right.size, tile.columns)
        points = prod((mt, nt, *(x.size for x in self.batch)))
        sa, sb = (self.array("shared", tile.depth * (side.tile + VECTOR), self.dtype) for side in (self.left, self.right))
        parts = (4 * self.pairs, 2 * self.pairs) if self.pairs else (tile.by_rows, tile.by_columns)
        ra, rb, acc = (self.array("local", n, self.dtype) for n in (*parts, tile.by_rows * tile.by_columns))
        across = tile.columns // tile.by_columns
        self.line("t = np.int32(cuda.threadIdx.x)")
        self.line(f"tr = np.int32((t >> {_log(across)}) * {min(VECTOR, tile.by_rows)})")
        self.line(f"tc = np.int32((t & {across - 1}) * {min(VECTOR, tile.by_columns)})")
        if self.pairs:
            self.line("group = np.int32((t & 31) >> 2)")
            self.line("place = np.int32(t & 3)")
            self.line("wr = np.int32((t >> 7) * 32)")
            self.line("wc = np.int32(((t >> 5) & 3) * 16)")
        zeros = [x for x in (*nest.outer, *nest.contract.k) if x.size == 1]
        for x in zeros:
            self.line(f"{self.vars[x.name]} = np.int32(0)")
        self.open(f"for u in range(np.int32(cuda.blockIdx.x), {self.typed(points)}, np.int32(cuda.gridDim.x)):", *self.batch)
        self._place_tile(mt, nt)
        self.open(f"for z in range({tile.by_rows * tile.by_columns}):")
        self.line(f"{acc}[z] = {literal(0, self.dtype)}")
        self.close()
        self.open(f"for k0 in range(np.int32(0), {self.typed(self.depth)}, np.int32({tile.depth})):")
        self._fill(sa, self.left)
        self._fill(sb, self.right)
        self.line("cuda.syncthreads()")
        if self.pairs:
            self._multiply_on_tensor_cores(sa, sb, ra, rb, acc)
        else:
            self._multiply(sa, sb, ra, rb, acc)
        self.line("cuda.syncthreads()")
        self.close()
        if self.pairs:
            self._hand_out(acc)
        self._epilogue(acc)
        self.close()
        return self.finish(points, Team("tile", tile.threads, 1))

    def _place_tile(self, mt: Size, nt: Size) -> None:
        """The first row and column of the u-th tile, and its index along the other axes."""
        count = self.size(mt)
        self.line(f"q = np.int32(np.uint32(u) // np.uint32({count}))")
        self.line(f"m0 = np.int32((u - q * {count}) * {self.tile.rows})")
        if self.batch:
            count = self.size(nt)
            self.line(f"b = np.int32(np.uint32(q) // np.uint32({count}))")
            self.line(f"n0 = np.int32((q - b * {count}) * {self.tile.columns})")
            self.decode(self.batch, "b")
        else:
            self.line(f"n0 = np.int32(q * {self.tile.columns})")

    # -- operands --------------------------------------------------------------------------------------------------------
    def _fill(self, shared: str, side: _Side) -> None:
        """A tile of an operand goes to shared memory, K by K; threads walk it as it lies in memory."""
        rows, depth, letter = side.tile, self.tile.depth, side.letter
        along_k = self.k and _walks_along(side.value, self.k[-1].name, side.axes[-1].name if side.axes else "")
        self.open(f"for g in range({rows * depth // self.tile.threads}):", *side.axes, *self.k)
        self.line(f"x = np.int32(t + g * {self.tile.threads})")
        inner = depth if along_k else rows
        first, second = f"x & {inner - 1}", f"x >> {_log(inner)}"
        row, deep = (second, first) if along_k else (first, second)
        self.line(f"{letter}x = np.int32({row})")
        self.line(f"kx = np.int32({deep})")
        self.line(f"{letter} = np.int32({letter}0 + {letter}x)")
        self.line("k = np.int32(k0 + kx)")
        size, total = self.typed(side.size), self.typed(self.depth)
        self.line(f"inside = {letter} < {size} and k < {total}")
        # beyond the edge the last element is read, and not used
        self._clamped(side.axes, letter, size)
        self._clamped(self.k, "k", total)
        value = self.value(side.value)
        value = f"{value} if inside else {literal(0, self.dtype)}"
        self.line(f"{shared}[np.int32(kx * {rows + VECTOR} + {letter}x)] = {self.stored(value, self.dtype)}")
        self.close()

    def _clamped(self, axes: Sequence[Axis], number: str, size: str) -> None:
        if axes:
            self.line(f"{number} = np.int32({number} if {number} < {size} else {size} - 1)")
            self.decode(axes, number)

    def _multiply(self, sa: str, sb: str, ra: str, rb: str, acc: str) -> None:
        tile, dtype = self.tile, self.dtype
        self.device.add("load4")
        self.open(f"for d in range({tile.depth}):")
        for local, shared, start, side, count in ((ra, sa, "tr", tile.rows, tile.by_rows), (rb, sb, "tc", tile.columns, tile.by_columns)):
            for part in range(count // VECTOR):
                far = f" + {part * VECTOR * side // count}" if part else ""
                self.line(f"load4({local}, {part * VECTOR}, {shared}, np.int32(d * {side + VECTOR} + {start}{far}))")
        self.open(f"for i in range({tile.by_rows}):")
        self.open(f"for j in range({tile.by_columns}):")
        at = f"{acc}[i * {tile.by_columns} + j]"
        self.line(f"{at} = {instruction('fma', dtype, (f'{ra}[i]', f'{rb}[j]', at), (dtype, dtype, dtype))}")
        self.close(3)

    def _multiply_on_tensor_cores(self, sa: str, sb: str, ra: str, rb: str, acc: str) -> None:
        """Fragments of 16 rows and 8 columns, as the instruction wants them: lane 4 g + p holds what stands at rows g and g + 8."""
        pairs, name = self.pairs, f"mma_{self.precision}"
        deep = 8 * pairs
        row = self.tile.rows + VECTOR
        self.device.add(name)
        self.open(f"for d in range({self.tile.depth // deep}):")
        self.open("for i in range(2):")
        self.open("for r in range(4):")
        self.open(f"for h in range({pairs}):")
        self.line(f"{ra}[r * {pairs} + h] = {sa}[np.int32((d * {deep} + place * {pairs} + h + (r >> 1) * {deep // 2}) * {row} + wr + i * 16 + group + (r & 1) * 8)]")
        self.close(2)
        self.open("for j in range(2):")
        self.open("for r in range(2):")
        self.open(f"for h in range({pairs}):")
        self.line(f"{rb}[r * {pairs} + h] = {sb}[np.int32((d * {deep} + place * {pairs} + h + r * {deep // 2}) * {row} + wc + j * 8 + group)]")
        self.close(2)
        self.line(f"{name}({acc}, (i * 2 + j) * 4, {ra}, {rb})")
        self.close(3)

    def _hand_out(self, acc: str) -> None:
        """Sums lie as the tensor cores leave them: through shared memory each thread gets rows of four neighbours, as the epilogue wants."""
        row = self.tile.columns + VECTOR
        shared = self.array("shared", self.tile.rows * row, self.dtype)
        self.device.add("load4")
        self.open("for i in range(2):")
        self.open("for j in range(2):")
        self.open("for v in range(4):")
        at = f"np.int32((wr + i * 16 + group + (v >> 1) * 8) * {row} + wc + j * 8 + place * 2 + (v & 1))"
        self.line(f"{shared}[{at}] = {acc}[(i * 2 + j) * 4 + v]")
        self.close(3)
        self.line("cuda.syncthreads()")
        self.open("for i in range(4):")
        self.line(f"load4({acc}, i * 4, {shared}, np.int32((tr + i) * {row} + tc))")
        self.close()
        self.line("cuda.syncthreads()")

    # -- results ---------------------------------------------------------------------------------------------------------
    def _epilogue(self, acc: str) -> None:
        """What a thread has summed goes through the scalars of the nest: four neighbouring columns at a time, row by row."""
        tile, left, right = self.tile, self.left, self.right
        stages, column = self._in_fours()
        if len(postorder([w.value for w in self.nest.writes()])) > LONG:
            # elements that a loop picks lie in memory: a copy does, so that the sums stay in registers
            sums, acc = acc, self.array("local", tile.by_rows * tile.by_columns, self.dtype)
            self.open(f"for z in range({tile.by_rows * tile.by_columns}):")
            self.line(f"{acc}[z] = {sums}[z]")
            self.close()
        self.open(f"for j in range({tile.by_columns // VECTOR}):")
        wide = VECTOR * tile.columns // tile.by_columns
        self.line(f"n = np.int32(n0 + tc + j * {wide})")
        if column is not None:  # in groups of four, which are inside or outside as a whole
            self.open(f"if n < {self.typed(right.size)}:", *right.axes)
            self.line(f"{self.vars[column.name]} = np.int32(n >> 2)")
            self.vector = FOUR
        self.open(f"for i in range({tile.by_rows}):")
        far = f"(i >> 2) * {VECTOR * tile.rows // tile.by_rows}" if tile.by_rows > VECTOR else ""
        self.line(f"m = np.int32(m0 + tr + (i & 3) + {far})" if far else "m = np.int32(m0 + tr + i)")
        self.open(f"if m < {self.typed(left.size)}:", *left.axes)
        self.decode(left.axes, "m")
        self.vars[FOUR] = "e"
        self.ranges[FOUR] = VECTOR
        body = self.open(f"for e in range({VECTOR}):", Axis(FOUR, VECTOR))
        if column is None:
            self.line("c = np.int32(n + e)")
            body = self.open(f"if c < {self.typed(right.size)}:", *right.axes)
            self.decode(right.axes, "c")
        for t in postorder([w.value for st in stages for w in st.points]):
            if t.op == "acc":
                body.known[t] = f"{acc}[i * {tile.by_columns} + j * {VECTOR} + e]"
        if not left.axes or not right.axes:
            # one row or column: threads of others must not read what its thread writes
            self.loads_from = len(self.blocks) - (1 if column is None else 2)
        for st in stages:
            if st.accs or st.writes:
                raise CompileError(f"{self.nest.name}: a contraction followed by a fold in one kernel")
            for w in st.points:
                self.store(w)
        if column is None:
            self.close()
        self.close_vector()
        self.close(4 if column is not None else 3)
        self.vector, self.loads_from = "", 1

    def _in_fours(self) -> tuple[tuple[Stage, ...], Axis | None]:
        """The stages with the column axis in groups of four, and that axis; as they are where it cannot be split."""
        stages = self.nest.stages
        if len(self.right.axes) != 1 or not multiple(self.right.size, VECTOR):
            return stages, None
        axis = self.right.axes[0]
        split, self.origins = split_axis(self.nest, axis)
        return split.stages, axis


def _writes_along(nest: Nest, axes: Sequence[Axis]) -> int:
    """How many results have neighbours along the last of some axes."""
    return sum(coefficient(w.index[0], axes[-1].name) == 1 for w in nest.writes()) if axes else 0


def _walks_along(value: Scalar, axis: str, other: str) -> bool:
    """Whether more loads have neighbours along ``axis`` than along ``other``."""
    return sum((coefficient(t.attr[1][0], axis) == 1) - (coefficient(t.attr[1][0], other) == 1) for t in loads(value)) >= 0


def _log(power: int) -> int:
    return power.bit_length() - 1
