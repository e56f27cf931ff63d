"""What goes past the registers of one thread: copies that run beside the threads (``cp.async``), ``ldmatrix``, and tensor cores.

A copy to shared memory is on its way from the line that starts it until its thread has committed it to a group and has waited for
that group; until then nobody may read or write what it goes to. From then on it is a store of the thread that waited, so others
have to meet that thread at a barrier before they read it.
"""

from __future__ import annotations

import ast
from typing import Any

import ml_dtypes
import numpy as np

from graphc.errors import SimulationError

from .interpret import CALLS, Code, Grid, arrived, fetch, find_memory, places_of, put_value, shown, shown_place, value_of
from .memory import NEVER, WARP, Copy, Local, Memory, Order, Shared, first

__all__: list[str] = []


def _copy(e: ast.Call, width: int) -> Code:
    """``copy4(shared, at, memory, start, count)``: four elements by one copy, of which ``count`` are read and the others are 0."""
    to, index, source, start, number = ast.unparse(e.args[0]), value_of(e.args[1]), ast.unparse(e.args[2]), value_of(e.args[3]), value_of(e.args[4])

    def run(g: Grid, mask: np.ndarray) -> None:
        m, memory = find_memory(g, to, e), find_memory(g, source, e)
        if not isinstance(m, Shared) or not isinstance(memory, Memory) or m.data.dtype != memory.data.dtype or width * m.data.itemsize not in (4, 8, 16):
            raise SimulationError(f"a copy goes from global to shared memory of its type, by 4, 8 or 16 bytes: {shown(e)}")
        count, at = number(g, mask), start(g, mask)
        if count.dtype != np.int32:
            raise SimulationError(f"the number of elements is an int32: {shown(e)}")
        count = np.broadcast_to(count, g.count)
        if ((count < 0) | (count > width))[mask].any():
            raise SimulationError(f"a copy of {width} elements reads none to all of them: {shown(e)}")
        places, order = places_of(g, m, index(g, mask), mask, width, "copy", e)
        values = np.zeros(places.size // width * width, m.data.dtype).reshape(-1, width)
        whole = mask & (count == width)
        if whole.any():
            here = mask if whole.all() else whole
            values[whole[mask]] = fetch(g, memory, at, here, width, e).reshape(-1, width)
        rest = mask & (count > 0) & ~whole
        if rest.any():
            values[rest[mask]] = _part(g, memory, np.broadcast_to(at, g.count), count, rest, width, e)
        arrived(g, m, places, order, "copied to", e)
        bad = m.begins(places, order, g.threads)
        if bad is not None:
            where = f"{m} at {shown_place(m, places[bad])} is copied to by {g.where(order.who[bad])}"
            raise SimulationError(f"race: {where} and used by another thread, {shown(e)}")
        g.copies.append(Copy(m, places, values.reshape(-1), order.who, np.full(places.size, NEVER, np.int64)))

    return run


def _part(g: Grid, memory: Memory, at: np.ndarray, count: np.ndarray, mask: np.ndarray, width: int, e: ast.Call) -> np.ndarray:
    """What copies bring that read less than they fill."""
    bad = first(mask & (at * memory.data.itemsize % (width * memory.data.itemsize) != 0))
    if bad is not None:
        raise SimulationError(f"misaligned load of {width}: {memory} at {at[bad]} by {g.where(bad)}, {shown(e)}")
    values = np.zeros((g.count, width), memory.data.dtype)
    for k in range(width):
        some = mask & (count > k)
        if some.any():
            values[some, k] = fetch(g, memory, at + k, some, 1, e)
    return values[mask]


def _commit(e: ast.Call) -> Code:
    """``commit_copies()``: the copies that the thread has started since the last commit are a group."""

    def run(g: Grid, mask: np.ndarray) -> None:
        for c in g.copies:
            new = (c.group == NEVER) & mask[c.who]
            c.group[new] = g.commits[c.who[new]]
        g.commits[mask] += 1

    return run


def _wait(e: ast.Call, left: int) -> Code:
    """``wait_copies1()``: all groups of the thread but the last one have arrived."""

    def run(g: Grid, mask: np.ndarray) -> None:
        kept = []
        for c in g.copies:
            there = (c.group != NEVER) & (c.group < g.commits[c.who] - left) & mask[c.who]
            if not there.any():
                kept.append(c)
                continue
            who = c.who[there]
            block = who // g.threads
            c.target.lands(c.places[there], c.values[there], Order(who, block, g.warp_met[who // WARP], g.block_met[block]))
            if not there.all():
                kept.append(Copy(c.target, c.places[~there], c.values[~there], c.who[~there], c.group[~there]))
        g.copies = kept

    return run


GROUP, PLACE = np.arange(WARP) // 4, np.arange(WARP) % 4
"""Where a lane's part of a matrix stands: a row of eight, and a fourth of its 16 bytes."""


def _ldmatrix(e: ast.Call, transposed: bool) -> Code:
    """``ldmatrix(local, first, shared, at)``: four matrices of eight rows of 16 bytes; lane ``l`` says where row ``l % 8`` of matrix
    ``l // 8`` begins. A lane gets four bytes of each matrix: the ``l % 4``-th of row ``l // 4``, or, transposed, column ``l // 4``
    of the rows ``2 (l % 4)`` and the next."""
    to, start, source, index = ast.unparse(e.args[0]), value_of(e.args[1]), ast.unparse(e.args[2]), value_of(e.args[3])

    def run(g: Grid, mask: np.ndarray) -> None:
        m, local = find_memory(g, source, e), find_memory(g, to, e)
        if not isinstance(m, Shared) or not isinstance(local, Local):
            raise SimulationError(f"ldmatrix goes from shared memory to local elements: {shown(e)}")
        size, n = m.data.itemsize, int(start(g, mask))
        if local.data.dtype != (np.uint32 if size == 2 else m.data.dtype) or size not in (2, 4) or (transposed and size != 2) or not 0 <= n <= local.size - 4:
            raise SimulationError(f"ldmatrix gives four words, of elements of 2 bytes or (not transposed) of 4: {shown(e)}")
        warps = np.flatnonzero(g.whole(mask, e))
        at = np.broadcast_to(index(g, mask), g.count)
        bad = first(mask & (at * size % 16 != 0))
        if bad is not None:
            raise SimulationError(f"misaligned row of ldmatrix: {m} at {at[bad]} by {g.where(bad)}, {shown(e)}")
        if g.report is not None:
            g.report.banked(e, m, at[mask], g.lane[mask], 16 // size, row=True)
        wide, half = 16 // size, 4 // size
        outside = mask & ((at < 0) | (at + wide > m.size))
        if outside.any():
            bad = int(np.argmax(outside))
            raise SimulationError(f"load out of bounds: {m} at {at[bad]} by {g.where(bad)}, {shown(e)}")
        rows = (at.astype(np.int64) + g.block * m.size).reshape(-1, 4, 8)[warps]  # warp, matrix, row
        # what each lane gets of each matrix: warp, matrix, lane, half
        if transposed:
            places = rows[:, :, PLACE[:, None] * 2 + np.arange(2)] + GROUP[:, None]
        else:
            places = rows[:, :, GROUP][..., None] + (PLACE[:, None] * half + np.arange(half))
        who = np.broadcast_to(g.lane.reshape(-1, 1, WARP, 1)[warps], places.shape).reshape(-1)
        order = Order(who, who // g.threads, g.warp_met[who // WARP], g.block_met[who // g.threads])
        flat = places.reshape(-1)
        arrived(g, m, flat, order, "read", e)
        bad = m.unwritten(flat)
        if bad is not None:
            raise SimulationError(f"load of memory that was never written: {m} at {shown_place(m, flat[bad])} by {g.where(order.who[bad])}, {shown(e)}")
        bad = m.reads(flat, order, g.threads)
        if bad is not None:
            where = f"{m} at {shown_place(m, flat[bad])} is read by {g.where(order.who[bad])}"
            raise SimulationError(f"race: {where} and written by another thread, {shown(e)}")
        words = np.ascontiguousarray(m.data[places]).view(local.data.dtype)[..., 0]
        lanes = g.lane.reshape(-1, WARP)[warps].reshape(-1)
        for j in range(4):
            local.data[n + j, lanes] = words[:, j].reshape(-1)
        local.written[n : n + 4, lanes] = True
        local.full = bool(local.written.all())

    return run


def _store4_bfloat16(e: ast.Call) -> Code:
    """``store4_bfloat16(shared, at, local, first)``: four float32, rounded to bfloat16, by one access of 8 bytes."""
    to, index, source, start = ast.unparse(e.args[0]), value_of(e.args[1]), ast.unparse(e.args[2]), value_of(e.args[3])

    def run(g: Grid, mask: np.ndarray) -> None:
        m, local = find_memory(g, to, e), find_memory(g, source, e)
        n = int(start(g, mask))
        if not isinstance(local, Local) or local.data.dtype != np.float32 or not isinstance(m, Shared) or m.data.dtype != np.uint16 or not 0 <= n <= local.size - 4:
            raise SimulationError(f"store4_bfloat16 goes from four local float32 to shared memory: {shown(e)}")
        if not local.written[n : n + 4, mask].all():
            raise SimulationError(f"load of memory that was never written: {local}, {shown(e)}")
        four = np.ascontiguousarray(local.data[n : n + 4, mask].T).astype(ml_dtypes.bfloat16).view(np.uint16)
        put_value(g, m, index(g, mask), four.reshape(-1), mask, 4, e)

    return run


def _mma(e: ast.Call, pairs: int) -> Code:
    """``mma_...(c, first, a, from, b, from)``: 16 x 8 sums of a warp, four a lane, plus a product of fragments of 16 x K and K x 8, of
    four and two words a lane; K is 8, or 16 where a word is two bfloat16."""
    names, starts = [ast.unparse(e.args[i]) for i in (0, 2, 4)], [value_of(e.args[i]) for i in (1, 3, 5)]
    depth, kind = 8 * pairs, np.float32 if pairs == 1 else np.uint32

    def factors(words: np.ndarray) -> list[np.ndarray]:
        """What the tensor core makes of words: one factor each, or two."""
        if pairs == 1:
            bits = (words.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
            return [bits.view(np.float32).astype(np.float64)]
        return [half.view(np.float32).astype(np.float64) for half in (words << np.uint32(16), words & np.uint32(0xFFFF0000))]

    def run(g: Grid, mask: np.ndarray) -> None:
        arrays = [find_memory(g, name, e) for name in names]
        counts = (4, 4, 2)
        parts = []
        for m, start, count, dtype in zip(arrays, starts, counts, (np.float32, kind, kind), strict=True):
            n = int(start(g, mask))
            if not isinstance(m, Local) or m.data.dtype != dtype or not 0 <= n <= m.size - count:
                raise SimulationError(f"sums are four float32, fragments four and two {np.dtype(kind)}: {shown(e)}")
            if not m.full and not m.written[n : n + count, mask].all():
                raise SimulationError(f"load of memory that was never written: {m}, {shown(e)}")
            parts.append(m.data[n : n + count])
        g.whole(mask, e)
        c, a, b = parts
        warps = g.count // WARP
        left, right, sums = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8)), np.zeros((warps, 16, 8), np.float32)
        for r in range(4):
            for h, x in enumerate(factors(a[r])):
                left[:, GROUP + 8 * (r & 1), PLACE * pairs + h + (r >> 1) * depth // 2] = x.reshape(-1, WARP)
        for r in range(2):
            for h, x in enumerate(factors(b[r])):
                right[:, PLACE * pairs + h + r * depth // 2, GROUP] = x.reshape(-1, WARP)
        at = [(GROUP + 8 * (v >> 1), PLACE * 2 + (v & 1)) for v in range(4)]
        for v, (row, column) in enumerate(at):
            sums[:, row, column] = c[v].reshape(-1, WARP)
        made = (sums + np.matmul(left, right)).astype(np.float32)
        for v, (row, column) in enumerate(at):
            c[v] = np.where(mask, made[:, row, column].reshape(-1), c[v])

    return run


def _by(f: Any, value: Any) -> Any:
    return lambda e: f(e, value)


CALLS |= {
    **{f"copy{n}": _by(_copy, n) for n in (1, 4, 8)},
    "commit_copies": _commit,
    **{f"wait_copies{n}": _by(_wait, n) for n in (0, 1)},
    "ldmatrix": _by(_ldmatrix, False), "ldmatrix_transposed": _by(_ldmatrix, True),
    "mma_tf32": _by(_mma, 1), "mma_bf16": _by(_mma, 2),
    "store4_bfloat16": _store4_bfloat16,
}  # fmt: skip
