"""What translated kernels call: lanes, masks, loads and stores. ``HELPERS`` has them under names that begin with an underscore, so that none
is a variable of a kernel. A mask is None where all lanes work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.errors import SimulationError

from .interpret import lowest_bit
from .memory import WARP, Memory

__all__ = ["HELPERS", "Lanes", "fma32", "lanes_of"]

LANES = 2048
"""Blocks run together up to so many threads: what they compute stays in the cache."""

FOUR = np.arange(4)[:, None]


class Lanes:
    """Some blocks of a launch: who the lanes are. One block has a number, several have an array of numbers."""

    def __init__(self, first: int, blocks: int, of: int, threads: int):
        lane = np.arange(blocks * threads)
        self.count, self.first, self.blocks, self.threads, self.lane = lane.size, first, blocks, threads, lane
        self.constants = {
            "cuda.threadIdx.x": (lane % threads).astype(np.int32),
            "cuda.blockIdx.x": np.int32(first) if blocks == 1 else (first + lane // threads).astype(np.int32),
            "cuda.blockDim.x": np.int32(threads),
            "cuda.gridDim.x": np.int32(of),
        }

    def shared(self, size: int, dtype: Any) -> tuple[np.ndarray, Any]:
        """An array of each block, and where each lane's begins."""
        return np.zeros(self.blocks * size, dtype), np.int64(0) if self.blocks == 1 else self.lane // self.threads * size


@lru_cache(maxsize=256)
def lanes_of(blocks: int, threads: int) -> list[Lanes]:
    step = max(LANES // threads, 1)
    return [Lanes(b, min(step, blocks - b), blocks, threads) for b in range(0, blocks, step)]


def part(condition: Any, mask: np.ndarray | None) -> Any:
    """The lanes of a mask where a condition holds: None for all, False for none."""
    if np.ndim(condition) == 0:
        return mask if condition else False
    if mask is not None:
        condition = mask & condition
    n = np.count_nonzero(condition)
    return False if n == 0 else None if mask is None and n == condition.size else condition


def both(mask: np.ndarray | None, condition: Any) -> Any:
    """A mask for evaluating one side of a choice."""
    return np.asarray(condition) if mask is None else mask & condition


def choose(condition: Any, x: Any, y: Any) -> Any:
    if np.ndim(condition) == 0:
        return x if condition else y
    return np.where(condition, x, y)


def loop(start: Any, stop: Any, step: Any, mask: np.ndarray | None) -> Iterator[tuple[Any, Any]]:
    """The numbers of a loop with the lanes that are still in it."""
    kind = start.dtype.type
    if start.ndim == stop.ndim == step.ndim == 0:
        for i in range(int(start), int(stop), int(step)):
            yield kind(i), mask
        return
    at = start
    while True:
        inside = at < stop
        here = mask if inside.all() else part(inside, mask)
        if here is False:
            return
        yield at, here
        at = at + step


def clip(data: np.ndarray, at: Any) -> Any:
    """What lies at places; lanes without work may mean any place."""
    return data.take(at, mode="clip") if data.size else np.zeros(np.shape(at), data.dtype)[()]


def spread(x: Any, mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(x, shape)[mask]


def selected(mask: np.ndarray, *values: Any) -> list[np.ndarray]:
    shape = np.broadcast_shapes(mask.shape, *(np.shape(v) for v in values))
    mask = np.broadcast_to(mask, shape)
    return [spread(v, mask, shape) for v in values]


def put(data: np.ndarray, written: np.ndarray | None, at: Any, value: Any, mask: np.ndarray | None) -> None:
    """Lanes store; where several mean one element, the last one's value stays."""
    if mask is not None:
        if np.shape(at) == np.shape(value) == mask.shape:
            at, value = at[mask], value[mask]
        else:
            at, value = selected(mask, at, value)
    elif np.ndim(value) and np.shape(at) != np.shape(value):
        at = np.broadcast_to(at, np.broadcast_shapes(np.shape(at), value.shape))
    data[at] = value
    if written is not None:
        written[at] = True


def unwritten(m: Memory) -> np.ndarray | None:
    return None if m.full else m.written


def load4(local: np.ndarray, n: int, data: np.ndarray, at: Any, mask: np.ndarray | None) -> None:
    four = clip(data, at + FOUR)
    if mask is None:
        local[n : n + 4] = four
    else:
        np.copyto(local[n : n + 4], four, where=mask)


def ahead(data: np.ndarray, at: Any, rounds: int, count: int) -> list[np.ndarray]:
    """Four neighbours a lane, for each round of a loop."""
    four = clip(data, np.atleast_1d(at)[..., None, :] + FOUR)
    whole = (rounds, 4, count)
    return list(four if four.shape == whole else np.broadcast_to(four, whole).copy())


def copy(shared: np.ndarray, at: Any, data: np.ndarray, start: Any, count: Any, width: int, mask: np.ndarray | None) -> None:
    """Neighbours go to shared memory; what lies behind the first ``count`` of them is 0."""
    if width == 1:
        put(shared, None, at, choose(count != 0, clip(data, start), data.dtype.type(0)), mask)
        return
    at, start, count = (np.asarray(x)[..., None] for x in (at, start, count))
    offsets = np.arange(width)
    values = np.where(offsets < count, clip(data, start + offsets), data.dtype.type(0))
    put(shared, None, at + offsets, values, None if mask is None else mask[..., None])


def row(local: np.ndarray, at: Any, g: Lanes) -> Any:
    """An element of a local array."""
    return local[at] if np.ndim(at) == 0 else local[np.clip(at, 0, local.shape[0] - 1), g.lane]


def put_row(local: np.ndarray, at: Any, value: Any, mask: np.ndarray | None, g: Lanes) -> None:
    if np.ndim(at) == 0:
        np.copyto(local[at], value, where=True if mask is None else mask)
    else:
        at = np.clip(at, 0, local.shape[0] - 1)
        local[at, g.lane] = value if mask is None else np.where(mask, value, local[at, g.lane])


def checked(g: Lanes, name: str, m: Any, size: int, at: Any, mask: np.ndarray | None, width: int, where: str, load: bool) -> Any:
    """Places that depend on data, after a look at them."""
    places = np.asarray(at) if mask is None else selected(mask, at)[0]
    bad = (places < 0) | (places + width > size)
    problem = f"{'load' if load else 'store'} out of bounds"
    if not bad.any() and load and isinstance(m, Memory) and not m.full:
        bad, problem = ~np.logical_and.reduce([m.written[places + i] for i in range(width)]), "load of memory that was never written"
    if bad.any():
        n = int(np.argmax(bad))
        shape = np.broadcast_shapes(np.shape(at), (g.count,) if mask is None else mask.shape)
        who = int(np.broadcast_to(g.lane, shape)[... if mask is None else np.broadcast_to(mask, shape)].reshape(-1)[n])
        block, thread = divmod(who, g.threads)
        raise SimulationError(f"{problem}: {m if isinstance(m, Memory) else name} at {places.reshape(-1)[n]} by block {g.first + block}, thread {thread}, {where}")
    return at


def fma32(x: Any, y: Any, z: Any) -> Any:
    """See ``interpret._fma``."""
    product = x.astype(np.float64) * y.astype(np.float64)
    if product.shape == z.shape and product.ndim:
        product += z  # no new memory: pages of large arrays are slow to come by
    else:
        product = np.add(product, z, dtype=np.float64)
    return product.astype(np.float32)


def ballot(condition: Any, mask: np.ndarray | None, g: Lanes) -> np.ndarray:
    votes = np.broadcast_to(condition, g.count).reshape(-1, WARP)
    return np.repeat(np.packbits(votes, axis=1, bitorder="little").view(np.uint32).reshape(-1), WARP)


def shuffle(value: Any, distance: Any, g: Lanes) -> Any:
    return value if np.ndim(value) == 0 else value.take(g.lane ^ int(distance), axis=-1)


def half(value: Any, kind: Any, to: bool) -> Any:
    return value.astype(kind).view(np.uint16) if to else value.view(kind).astype(np.float32)


HELPERS = {
    f"_{f.__name__}": f
    for f in (part, both, choose, loop, clip, put, unwritten, load4, ahead, copy, row, put_row, checked, ballot, shuffle, half, lowest_bit)
} | {"np": np, "_FOUR": FOUR}
