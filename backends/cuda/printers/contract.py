"""The printer of contractions: a block makes a tile of the result, shared memory holds what it multiplies.

The roles of axes are read off the index maps: rows are the axes along which only the left operand varies, columns those along which
only the right one does, all others are walked tile by tile. Rows, columns and K may each be several axes, run through as one: so a
convolution is printed like a matrix product, and what lies outside is 0. Tiles of operands go to shared memory (:mod:`.operands`) in
two or three stages: while one is multiplied, the next ones are on their way. Each thread multiplies a few rows by a few columns in
registers, or each warp on tensor cores, and the epilogue is any scalar IR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.errors import CompileError
from graphc.ir.dims import Size, cdiv, coefficient, prod
from graphc.ir.dtypes import DType, uint32
from graphc.ir.node import Node
from graphc.loops.nest import Axis, Nest, Stage
from graphc.loops.scalar import postorder, scalar_symbols
from graphc.schedule.program import Buffer

from .instructions import WORD, instruction, literal
from .operands import Side, make_side
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
TENSOR_TILES = (Tile(128, 64, 8, 4), Tile(64, 64, 4, 4))
"""Tiles on tensor cores: each of eight warps makes 64 x 16 or 32 x 16 sums, by instructions of 16 x 8."""
LINE = 64
"""Bytes of a row, where a tile for them lies row by row."""
HELD = 16
"""Sums of a thread up to which it has registers left for elements on their way."""
TENSOR_OVERHEAD = 128.0
"""What moving an operand's element costs there, in products."""
PRECISIONS = {"float32": 0, "tf32": 1, "bf16": 2}
"""What factors of float32 products may be rounded to, and how many of them a tensor core's word holds. Sums stay float32."""
SHARED = 48 * 1024
"""Bytes of shared memory that a block may take without asking for more."""
STAGES = 3
"""Most tiles of an operand in shared memory; two where threads bring them, since they bring one at a time."""


def choose_tile(rows: Size, columns: Size, batch: Size, tiles: Sequence[Tile] = TILES, overhead: float = OVERHEAD) -> Tile:
    """The tile that makes the result soonest: few elements beyond its edges, little to load, work for all processors."""
    m, n, count = (x if isinstance(x, int) else TYPICAL for x in (rows, columns, batch))

    def time(t: Tile) -> float:
        blocks = -(-m // t.rows) * -(-n // t.columns) * count
        return -(-blocks // PROCESSORS) * t.rows * t.columns * (1 + overhead * (1 / t.rows + 1 / t.columns))

    return min(tiles, key=time)


def print_contract(nest: Nest, buffers: Mapping[Node, Buffer], comment: str = "", precision: str = "float32") -> Printed:
    """The kernel of a contraction with its prologue and epilogue; ``precision`` is one of :data:`PRECISIONS`."""
    assert nest.contract is not None
    tensor = PRECISIONS[precision] and nest.contract.a.dtype.name == "float32"
    return (_OnTensorCores if tensor else _Contraction)(nest, buffers, comment, precision if tensor else "").print()


class _Contraction(KernelText):
    """The text of one kernel. Threads multiply themselves; ``tensor`` is "" here."""

    def __init__(self, nest: Nest, buffers: Mapping[Node, Buffer], comment: str, tensor: str):
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
        self.k = tuple(x for x in c.k if x.size != 1)
        self.single = [x.name for x in (*nest.outer, *c.k) if x.size == 1]
        self.depth = prod(x.size for x in self.k)
        sizes = prod(x.size for x in a[1]), prod(x.size for x in b[1])
        self.tensor = tensor
        self.tile = self.choose(sizes[0], sizes[1], prod(x.size for x in self.batch))
        self.left, self.right = (
            make_side(*side, size, self.k, letter, rows, self.tile.depth, tensor, self.single)
            for side, size, letter, rows in ((a, sizes[0], "m", self.tile.rows), (b, sizes[1], "n", self.tile.columns))
        )
        nbytes = sum(side.elements * side.kept.itemsize for side in (self.left, self.right))
        copied = self.left.copied or self.right.copied
        self.stages = max(1, min(STAGES if copied else 2, SHARED // nbytes))
        self.held: dict[str, str] = {}
        self.later = self.tile.by_rows * self.tile.by_columns <= HELD

    def choose(self, rows: Size, columns: Size, batch: Size) -> Tile:
        """The tile of a block."""
        return choose_tile(rows, columns, batch)

    @property
    def across(self) -> int:
        """Groups of four columns that a thread makes."""
        return self.tile.by_columns // VECTOR

    def print(self) -> Printed:
        tile = self.tile
        mt, nt = cdiv(self.left.size, tile.rows), cdiv(self.right.size, tile.columns)
        points = prod((mt, nt, *(x.size for x in self.batch)))
        tiles = [self.array("shared", self.stages * side.elements, side.kept) for side in (self.left, self.right)]
        parts = [self.array("local", n, self._part_type(side)) for n, side in zip(self._parts(), (self.left, self.right), strict=True)]
        sums = tile.by_rows * tile.by_columns
        acc = self.array("local", sums, self.dtype)
        self._who()
        for name in self.single:
            self.line(f"{self.vars[name]} = np.int32(0)")
        self.open(f"for u in range(np.int32(cuda.blockIdx.x), {self.typed(points)}, np.int32(cuda.gridDim.x)):", *self.batch)
        self._place_tile(mt, nt)
        self.open(f"for z in range({sums}):")
        self.line(f"{acc}[z] = {literal(0, self.dtype)}")
        self.close()
        self._walk_k(tiles, parts, acc)
        self._hand_out(acc)
        self._epilogue(acc)
        self.close()
        return self.finish(points, Team("tile", tile.threads, 1))

    def _who(self) -> None:
        """What the thread makes of a tile: its first row and column."""
        tile = self.tile
        across = tile.columns // tile.by_columns
        self.line("t = np.int32(cuda.threadIdx.x)")
        self.line(f"tr = np.int32((t >> {_log(across)}) * {min(VECTOR, tile.by_rows)})")
        self.line(f"tc = np.int32((t & {across - 1}) * {min(VECTOR, tile.by_columns)})")

    def _parts(self) -> tuple[int, int]:
        """How many elements of each operand a thread holds in registers."""
        return self.tile.by_rows, self.tile.by_columns

    def _part_type(self, side: Side) -> DType:
        """The type of those."""
        return side.kept

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
    def _walk_k(self, tiles: list[str], parts: list[str], acc: str) -> None:
        """Tile by tile along K. The loop begins before the first tile, so that its text fills stages in one place: tile ``kf`` sets out while the tile at
        ``k0``, which stands in stage ``now``, is multiplied; the barrier says that the one has arrived and that the other's stage is free."""
        total, depth, ahead = self.typed(self.depth), self.tile.depth, (self.stages - 1) * self.tile.depth
        copied = any(side.copied for side in (self.left, self.right))
        sides = list(zip(tiles, (self.left, self.right), strict=True))
        if self.stages == 1:
            self.open(f"for k0 in range(np.int32(0), {total}, np.int32({depth})):")
            self.line("cuda.syncthreads()")
            for shared, side in sides:
                self._fill(shared, side, "0", "k0")
            if copied:
                self._bare("commit_copies")
                self._bare("wait_copies0")
            self.line("cuda.syncthreads()")
            self._multiply(tiles, parts, acc, "0")
            self.close()
            return
        self.line("fill = np.int32(0)")
        self.open(f"for k0 in range(np.int32({-ahead}), {total}, np.int32({depth})):")
        if copied:
            self._bare(f"wait_copies{self.stages - 2}")
        self.line("cuda.syncthreads()")
        self.line(f"kf = np.int32(k0 + {ahead})")
        self.open(f"if kf < {total}:")
        for shared, side in sides:
            self._fill(shared, side, "fill", "kf")
        self.close()
        if copied:
            self._bare("commit_copies")
        self.line(f"now = np.int32(fill + 1 if fill < {self.stages - 1} else 0)")
        self.open("if k0 >= 0:")
        self._multiply(tiles, parts, acc, "now")
        self.close()
        if self.later and any(side.held for _, side in sides):
            self.open(f"if kf < {total}:")
            for shared, side in sides:
                if side.held:
                    self._put(shared, side, "fill")
            self.close()
        self.line("fill = np.int32(now)")
        self.close()

    def _bare(self, name: str) -> None:
        self.device.add(name)
        self.line(f"{name}()")

    def _fill(self, shared: str, side: Side, stage: str, start: str) -> None:
        """A tile of an operand, from K ``start`` on, sets out for a stage of its shared memory; threads walk it as it lies in memory."""
        letter = side.letter
        self._open_pieces(side, *side.axes, *self.k)
        self.line(f"{letter} = np.int32({letter}0 + {letter}x)")
        self.line(f"k = np.int32({start} + kx)")
        size, total = self.typed(side.size), self.typed(self.depth)
        self.line(f"inside = {letter} < {size} and k < {total}")
        if side.held:
            self._hold(side)
        elif side.copied:
            self._copy(shared, side, self._spot(side, stage))
        else:
            # beyond the edge the last element is read, and not used
            for axes, number, end in ((side.axes, letter, size), (self.k, "k", total)):
                if axes:
                    self.line(f"{number} = np.int32({number} if {number} < {end} else {end} - 1)")
                    self.decode(axes, number)
            value = f"{self.value(side.value)} if inside else {literal(0, self.dtype)}"
            if side.kept is WORD:
                self.device.add("round_bfloat16")
                value = f"round_bfloat16({value})"
            self.line(f"{shared}[{self._spot(side, stage)}] = {self.stored(value, self.dtype)}")
        self._close_pieces(side)
        if side.held and not self.later:
            self._put(shared, side, stage)

    def _open_pieces(self, side: Side, *axes: Axis) -> None:
        """The loop over the thread's pieces of a tile, and where each of them stands in it."""
        letter, width, threads = side.letter, side.width, self.tile.threads
        self.open(f"for g in range({side.pieces(threads)}):", *axes)
        self.line(f"x = np.int32(t + g * {threads})")
        if side.rows * side.depth < width * threads:
            self.open(f"if x < {side.rows * side.depth // width}:", *axes)
        inner = (side.depth if side.along_k else side.rows) // width
        first, second = f"x & {inner - 1}", f"x >> {_log(inner)}"
        if width > 1:
            first = f"({first}) * {width}"
        row, deep = (second, first) if side.along_k else (first, second)
        if side.along_k and not side.deep:  # a warp takes eight of each of four rows, which go to different banks
            row, deep = f"(x >> 3) & {side.rows - 1}", f"(x & 7) + (x >> {_log(side.rows) + 3}) * 8"
        self.line(f"{letter}x = np.int32({row})")
        self.line(f"kx = np.int32({deep})")

    def _close_pieces(self, side: Side) -> None:
        self.close(2 if side.rows * side.depth < side.width * self.tile.threads else 1)

    def _spot(self, side: Side, stage: str) -> str:
        """Where a piece lies in shared memory."""
        base = f"{stage} * {side.elements} + " if self.stages > 1 else ""
        return f"np.int32({base}{side.place(f'{side.letter}x', 'kx')})"

    def _load(self, side: Side) -> tuple[str, str, str]:
        """Under which condition a plain load is made, its buffer, and where. Nothing is read outside, so addresses may be anything there."""
        for axes, number in ((side.axes, side.letter), (self.k, "k")):
            self.decode(axes, number)
        inside = " and ".join(["inside", *(self.value(condition) for condition in side.value.args)])
        node, (at,) = side.value.attr
        return inside, self.pointer(node), self.index(at)

    def _copy(self, shared: str, side: Side, place: str) -> None:
        inside, memory, at = self._load(side)
        name = f"copy{side.width}"
        self.device.add(name)
        self.line(f"{name}({shared}, {place}, {memory}, {at}, np.int32({side.width}) if {inside} else np.int32(0))")

    def _hold(self, side: Side) -> None:
        """Elements that are rounded on their way come to registers first, and stay there, where there are enough, until the tile before them is
        multiplied: nobody waits for them."""
        held = self.held[side.letter] = self.held.get(side.letter) or self.array("local", side.pieces(self.tile.threads) * side.width, self.dtype)
        inside, memory, at = self._load(side)
        self.device.add("load4")
        self.open(f"for e in range({VECTOR}):")
        self.line(f"{held}[g * {VECTOR} + e] = {literal(0, self.dtype)}")
        self.close()
        self.open(f"if {inside}:")
        self.line(f"load4({held}, np.int32(g * {VECTOR}), {memory}, {at})")
        self.close()

    def _put(self, shared: str, side: Side, stage: str) -> None:
        """What was held goes to shared memory."""
        self._open_pieces(side)
        self.device.add("store4_bfloat16")
        self.line(f"store4_bfloat16({shared}, {self._spot(side, stage)}, {self.held[side.letter]}, np.int32(g * {VECTOR}))")
        self._close_pieces(side)

    def _multiply(self, tiles: list[str], parts: list[str], acc: str, stage: str) -> None:
        tile, dtype = self.tile, self.dtype
        self.device.add("load4")
        self.open(f"for d in range({tile.depth}):")
        for local, shared, start, side, count in ((parts[0], tiles[0], "tr", self.left, tile.by_rows), (parts[1], tiles[1], "tc", self.right, tile.by_columns)):
            base = f"{stage} * {side.elements} + " if self.stages > 1 else ""
            for part in range(count // VECTOR):
                far = f" + {part * VECTOR * side.rows // count}" if part else ""
                self.line(f"load4({local}, {part * VECTOR}, {shared}, np.int32({base}{side.place(start, 'd')}{far}))")
        self.open(f"for i in range({tile.by_rows}):")
        self.open(f"for j in range({tile.by_columns}):")
        at = f"{acc}[i * {tile.by_columns} + j]"
        self.line(f"{at} = {instruction('fma', dtype, (f'{parts[0]}[i]', f'{parts[1]}[j]', at), (dtype, dtype, dtype))}")
        self.close(3)

    def _hand_out(self, acc: str) -> None:
        """Sums lie in the threads as the epilogue wants them."""

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
        self.open(f"for j in range({self.across}):")
        self.line(f"n = np.int32(n0 + {self._column()})")
        if column is not None:  # in groups of four, which are inside or outside as a whole
            self.open(f"if n < {self.typed(right.size)}:", *right.axes)
            self.line(f"{self.vars[column.name]} = np.int32(n >> 2)")
            self.vector = FOUR
        self.open(f"for i in range({tile.by_rows * tile.by_columns // VECTOR // self.across}):")
        self.line(f"m = np.int32(m0 + {self._row()})")
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
                body.known[t] = f"{acc}[i * {self.across * VECTOR} + j * {VECTOR} + e]"
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

    def _row(self) -> str:
        """The thread's i-th row in the tile."""
        tile = self.tile
        return f"tr + (i & 3) + (i >> 2) * {VECTOR * tile.rows // tile.by_rows}" if tile.by_rows > VECTOR else "tr + i"

    def _column(self) -> str:
        """Its j-th group of four columns."""
        return f"tc + j * {VECTOR * self.tile.columns // self.tile.by_columns}"

    def _in_fours(self) -> tuple[tuple[Stage, ...], Axis | None]:
        """The stages with the column axis in groups of four, and that axis; as they are where it cannot be split."""
        stages = self.nest.stages
        if len(self.right.axes) != 1 or not multiple(self.right.size, VECTOR):
            return stages, None
        axis = self.right.axes[0]
        split, self.origins = split_axis(self.nest, axis)
        return split.stages, axis


class _OnTensorCores(_Contraction):
    """The same by ``mma.sync``: eight warps, two along the rows and four along the columns, each of which makes sums of 16 rows by 8 columns
    at a time. Lane 4 g + p of a warp holds what stands at rows (or columns) g and g + 8."""

    def choose(self, rows: Size, columns: Size, batch: Size) -> Tile:
        tile = choose_tile(rows, columns, batch, TENSOR_TILES, TENSOR_OVERHEAD)
        return replace(tile, depth=LINE // 2 if self.tensor == "bf16" else LINE // 4)

    @property
    def across(self) -> int:
        return self.tile.columns // 32

    @property
    def down(self) -> int:
        return self.tile.rows // 32

    def _parts(self) -> tuple[int, int]:
        return 4 * self.down, 2 * self.across

    def _part_type(self, side: Side) -> DType:
        return uint32 if side.kept is WORD else side.kept

    def _who(self) -> None:
        self.line("t = np.int32(cuda.threadIdx.x)")
        self.line("group = np.int32((t & 31) >> 2)")
        self.line("place = np.int32(t & 3)")
        self.line("odd = place & 1 != 0")
        self.line(f"wr = np.int32((t >> 7) * {16 * self.down})")
        self.line(f"wc = np.int32(((t >> 5) & 3) * {8 * self.across})")
        for side, start, own, deep in ((self.left, "wr", 3, 4), (self.right, "wc", 4, 3)):
            # which row of which matrix the lane points to: two matrices along the rows (or columns), two along K
            row, k = f"{start} + ((t >> {own}) & 1) * 8", f"((t >> {deep}) & 1) * {side.chunk}"
            if side.deep:
                self.line(f"{side.letter}l = np.int32(({row} + (t & 7)) * {side.stride})")
                self.line(f"{side.letter}k = np.int32({k})")
                self.line(f"{side.letter}s = np.int32{side.turn('t')}")
            elif side.kept is WORD:
                self.line(f"{side.letter}l = np.int32({side.place(f'({row})', f'({k} + (t & 7))')})")

    def _multiply(self, tiles: list[str], parts: list[str], acc: str, stage: str) -> None:
        mma = f"mma_{self.tensor}"
        deep = 16 if self.tensor == "bf16" else 8
        self.device.add(mma)
        self.open(f"for d in range({self.tile.depth // deep}):")
        for side, shared, part, count in zip((self.left, self.right), tiles, parts, (self.down, self.across // 2), strict=True):
            base = f"{stage} * {side.elements} + " if self.stages > 1 else ""
            self.open(f"for i in range({count}):")
            if side.deep or side.kept is WORD:
                name, letter = "ldmatrix" if side.deep else "ldmatrix_transposed", side.letter
                self.device.add(name)
                at = f"i * {16 * side.stride} + ((d * {deep} + {letter}k) ^ {letter}s)" if side.deep else f"d * {deep * side.stride} + i * 16"
                self.line(f"{name}({part}, i * 4, {shared}, np.int32({base}{letter}l + {at}))")
            else:
                row, k = ("(r & 1)", "(r >> 1)") if side is self.left else ("(r >> 1)", "(r & 1)")
                start = "wr" if side is self.left else "wc"
                self.open("for r in range(4):")
                at = side.place(f"({start} + i * 16 + group + {row} * 8)", f"(d * {deep} + place + {k} * 4)")
                self.line(f"{part}[i * 4 + r] = {shared}[np.int32({base}{at})]")
                self.close()
            self.close()
        self.open(f"for i in range({self.down}):")
        self.open(f"for j in range({self.across}):")
        self.line(f"{mma}({acc}, (i * {self.across} + j) * 4, {parts[0]}, i * 4, {parts[1]}, j * 2)")
        self.close(3)

    def _hand_out(self, acc: str) -> None:
        """A lane has two neighbouring columns in each of two rows, and the next lane the two columns beside them: they exchange a pair, so that each has
        four columns of one row."""
        self.device.add("shuffle_xor")
        self.open(f"for z in range({self.down * self.across}):")
        for n in range(4):  # values first: what is picked among elements would have an address
            self.line(f"c{n} = {acc}[z * 4 + {n}]")
        for n in range(2):
            self.line(f"b{n} = shuffle_xor(c{n} if odd else c{n + 2}, 1)")
        for n in range(4):
            self.line(f"{acc}[z * 4 + {n}] = {f'b{n} if odd else c{n}' if n < 2 else f'c{n} if odd else b{n - 2}'}")
        self.close()

    def _row(self) -> str:
        return "wr + i * 16 + group + (place & 1) * 8"

    def _column(self) -> str:
        return "wc + j * 8 + (place >> 1) * 4"


def _writes_along(nest: Nest, axes: Sequence[Axis]) -> int:
    """How many results have neighbours along the last of some axes."""
    return sum(coefficient(w.index[0], axes[-1].name) == 1 for w in nest.writes()) if axes else 0


def _log(power: int) -> int:
    return power.bit_length() - 1
