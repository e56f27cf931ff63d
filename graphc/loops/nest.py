"""The loop IR: what one kernel computes, independent of how a backend runs it.

A :class:`Nest` has parallel ``outer`` axes, folded ``inner`` axes and a list of stages. At each outer point the stages run
in order: first the point values of the stage (which may read accumulators of earlier stages), then one pass over the
inner axes that feeds accumulators and writes elements. A map is a nest without inner axes; a softmax row is three passes.
A contraction adds a :class:`Contract`: its stage-0 accumulator is a sum of products, which backends tile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ir.dims import Size
from ..ir.node import Node
from .scalar import Scalar, scalar_symbols

__all__ = ["Acc", "Axis", "Contract", "Nest", "Scatter", "Stage", "Write"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop: its symbol and its extent."""

    name: str
    size: Size


@dataclass(frozen=True, slots=True)
class Acc:
    """An accumulator: number (as the ``acc`` instruction names it), combining instruction, neutral element, fed value."""

    number: int
    combine: str
    neutral: float
    value: Scalar


@dataclass(frozen=True, slots=True)
class Write:
    """A store of ``value`` to the buffer of ``node`` at ``index`` (one flat address once the nest is resolved)."""

    node: Node
    index: tuple[Size, ...]
    value: Scalar


@dataclass(frozen=True, slots=True)
class Stage:
    """``points`` are written once an outer point, before the pass; ``accs`` and ``writes`` belong to the pass."""

    points: tuple[Write, ...] = ()
    accs: tuple[Acc, ...] = ()
    writes: tuple[Write, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """``acc[batch, m, n] = sum over k of a * b``; ``a`` and ``b`` are loads with affine addresses, or scalar IR over such
    loads (a prologue).

    ``m``, along which only ``a`` varies, and ``n``, along which only ``b`` does, are one axis each. Or both vary along ``n``, side by side in
    memory (each channel by itself): a lanewise contraction. ``batch`` are the other axes
    of the outer space; ``k`` are summed over, the last one innermost. Where there are several, ``a`` may be a load under conditions
    and at any address that is affine in the last of them: a convolution.
    """

    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: tuple[Axis, ...]
    a: Scalar
    b: Scalar

    @property
    def is_lanewise(self) -> bool:
        return self.n.name in scalar_symbols(self.a)


@dataclass(frozen=True, slots=True)
class Scatter:
    """``out = base; out[index[i], j] = combine(out[index[i], j], update[i, j])`` in the order of i, for any thread count.

    ``combine`` is a scalar instruction, or "set": the update itself, so that the last one of a row stays. Updates whose
    index is no row are left out.
    """

    combine: str
    rows: Size
    columns: Size
    count: Size
    base: Node
    index: Node
    update: Node
    out: Node
    fill: float | None = None
    """The number that the base is everywhere, if it is one: then it is not read."""

    @property
    def reads(self) -> tuple[Node, ...]:
        return (self.index, self.update) if self.fill is not None else (self.base, self.index, self.update)


@dataclass(frozen=True)
class Nest:
    """One kernel. ``kind`` is map, row, contract or scatter."""

    kind: str
    name: str
    outer: tuple[Axis, ...]
    inner: tuple[Axis, ...]
    stages: tuple[Stage, ...]
    contract: Contract | None = None
    scatter: Scatter | None = None
    nodes: tuple[Node, ...] = field(default=(), compare=False)
    """The graph nodes it computes, for names and provenance."""
    values: tuple[tuple[Node, Scalar], ...] = field(default=(), compare=False)
    """The scalar of each node that has one: says which line of a kernel computes what."""

    @property
    def ranges(self) -> dict[str, Size]:
        axes = self.outer + self.inner
        if self.contract is not None:
            axes = (*axes, *self.contract.k)
        return {a.name: a.size for a in axes}

    def writes(self) -> list[Write]:
        return [w for st in self.stages for w in (*st.points, *st.writes)]

    def roots(self) -> list[Scalar]:
        """Every scalar the nest needs."""
        found = [w.value for w in self.writes()] + [a.value for st in self.stages for a in st.accs]
        if self.contract is not None:
            found += [self.contract.a, self.contract.b]
        return found
