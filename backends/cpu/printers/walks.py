"""The ways to walk the tiles of a contraction, and which one is taken.

- "columns": down the columns of the result, so that a panel of the right operand stays in cache while rows of the left one stream past;
- "rows": along its rows, in the order in which the result lies in memory: for sums so short that writing it is most of the work;
- "passes": many tiles get a part of their sums at a time (:mod:`.passes`): for sums so long that tiles one by one would read both
  operands from far memory, again and again.

All give the same result within rounding (every element is summed in the order of K; nobody may rely on the bits). A cost model
chooses, unless the table of measured walks in the facts says otherwise (``gc.tune``). A walk is chosen by the :func:`signature` of a
contraction, which says what its time depends on and nothing else: equal layers share an entry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from graphc.ir.dims import Size, coefficient, prod
from graphc.loops.nest import Nest
from graphc.loops.scalar import Scalar, postorder

from ..machine_facts import Facts
from .products import is_stored

__all__ = ["WALKS", "chosen", "digest", "jumps", "legal", "modelled", "signature"]

WALKS = ("columns", "rows", "passes")

SHALLOW = 64
"""Steps of K up to which tiles are made in the order of the result's rows."""
LONG = 768
"""Steps of K from which on passes pay."""
MANY = 1 << 14
"""Elements of a result from which on a sum over a batch of unknown size is made in passes."""


def chosen(nest: Nest, buffers: Mapping[Any, Any], facts: Facts) -> str:
    """The walk of a contraction: the measured one where the facts have one that is legal, else the cost model's."""
    measured = facts.walks.get(digest(signature(nest, buffers, facts))) if facts.walks else None
    return measured if measured in legal(nest) else modelled(nest)


def legal(nest: Nest) -> tuple[str, ...]:
    """The walks that the printer can write: passes need operands that are stored, since they read a part of them at a time."""
    c = nest.contract
    assert c is not None
    stored = is_stored(c.b) and (is_stored(c.a) if len(c.k) == 1 else c.a.op == "load")
    return WALKS if stored else WALKS[:2]


def modelled(nest: Nest) -> str:
    """The walk that the cost model takes."""
    c = nest.contract
    assert c is not None
    if "passes" in legal(nest) and _passes_pay(nest):
        return "passes"
    steps = prod(k.size for k in c.k)
    return "rows" if isinstance(steps, int) and steps <= SHALLOW else "columns"


def _passes_pay(nest: Nest) -> bool:
    """Whether K is so long that tiles one by one would read both operands from far memory, again and again."""
    c = nest.contract
    assert c is not None
    steps = prod(k.size for k in c.k)
    if not isinstance(steps, int):
        return _tall(nest)
    if len(c.k) > 1:
        return steps >= LONG and _tall(nest)
    wide = not isinstance(c.m.size, int) or c.m.size >= 128
    return steps >= LONG or (steps >= 128 and wide and jumps(nest, 32))


def _tall(nest: Nest) -> bool:
    """Whether the result is known to have many elements, so that it is K that is summed over a batch."""
    c = nest.contract
    assert c is not None
    sizes = [x.size for x in (*c.batch, c.m, c.n)]
    return all(isinstance(x, int) for x in sizes) and (len(c.k) > 1 or prod(sizes) >= MANY)  # type: ignore[operator]


def jumps(nest: Nest, lanes: int) -> bool:
    """Whether the rows of the right operand lie so far apart that a part of it is better copied to one place first."""
    c = nest.contract
    assert c is not None
    step = coefficient(c.b.attr[1][0], c.k[-1].name)
    return not isinstance(step, int) or step > 4 * lanes


# -- signatures ------------------------------------------------------------------------------------------------------------
def signature(nest: Nest, buffers: Mapping[Any, Any], facts: Facts) -> str:
    """What the time of a contraction depends on, in words without names: vector width, sizes, and the type, place and layout of all
    that it reads and writes. Named dims are numbered, so that what they are called says nothing."""
    c = nest.contract
    assert c is not None
    axes = (*c.batch, c.m, c.n, *c.k)
    names = {a.name: f"i{n}" for n, a in enumerate(axes)}

    def size(e: Size) -> str:
        return re.sub(r"[A-Za-z_][\w.]*", lambda found: names.setdefault(found[0], f"d{len(names)}"), str(e))

    def place(node: Any, e: Size) -> str:
        b = buffers[node]
        return f"{b.type.dtype.code}[{size(e)}] {b.layout} {b.space}"

    def value(root: Scalar) -> str:
        words = [f"load {place(x.attr[0], x.attr[1][0])}" if x.op == "load" else f"{x.op} {x.dtype.code}" for x in postorder([root])]
        return ", ".join(words)

    batch, m, n, k = (" x ".join(size(a.size) for a in part) for part in (c.batch, (c.m,), (c.n,), c.k))
    parts = [
        f"{c.a.dtype.code} {f'{batch} times ' if batch else ''}({m}, {k}) @ ({k}, {n})",
        f"width {facts.width}",
        f"left {value(c.a)}",
        f"right {value(c.b)}",
        *(f"write {place(w.node, w.index[0])}" for w in nest.writes()),
    ]
    return "; ".join(parts)


def digest(text: str) -> str:
    """The key of a signature in the table."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
