"""An axis in groups of four: what a thread loads and stores by one access of 16 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.ir.dims import Size, coefficient, floordiv, substitute, sym
from graphc.loops.nest import Axis, Nest, Stage, Write
from graphc.loops.scalar import Scalar, postorder, substitute_scalar

from .text import VECTOR, multiple

__all__ = ["FOUR", "best_vector_axis", "split_axis"]

FOUR = "four"
"""The name of the axis of the four elements."""
LONG = 200
"""Scalars of a kernel above which four copies of them are too much text for the compiler."""


def best_vector_axis(nest: Nest, axes: Sequence[Axis]) -> Axis | None:
    """The axis along which most accesses are vectors; None where none is, or where the kernel is long already."""
    if len(postorder(nest.roots())) > LONG:
        return None
    addresses = [w.index[0] for w in nest.writes()]
    addresses += [t.attr[1][0] for t in postorder(nest.roots()) if t.op == "load" and not t.args]
    best, most = None, 0
    for axis in axes:
        if floordiv(axis.size, VECTOR) * VECTOR != axis.size:
            continue
        good = sum(_is_vector(e, axis.name) for e in addresses)
        if good > most:
            best, most = axis, good
    return best


def _is_vector(e: Size, axis: str) -> bool:
    return coefficient(e, axis) == 1 and multiple(substitute(e, {axis: 0}), VECTOR)


def split_axis(nest: Nest, axis: Axis) -> tuple[Nest, dict[Scalar, Scalar]]:
    """The nest with ``axis`` counting groups of four, :data:`FOUR` their elements; and what each of its scalars was before."""
    values: dict[str, Size] = {axis.name: sym(axis.name) * VECTOR + sym(FOUR)}
    image: dict[Scalar, Scalar] = {}

    def scalar(x: Scalar) -> Scalar:
        return substitute_scalar(x, values, image=image)

    def write(w: Write) -> Write:
        return Write(w.node, tuple(substitute(e, values) for e in w.index), scalar(w.value))

    def axes(given: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(Axis(a.name, floordiv(a.size, VECTOR)) if a is axis else a for a in given)

    stages = tuple(
        Stage(tuple(map(write, st.points)), tuple(replace(a, value=scalar(a.value)) for a in st.accs), tuple(map(write, st.writes)))
        for st in nest.stages
    )
    made = replace(nest, outer=axes(nest.outer), inner=axes(nest.inner), stages=stages)
    return made, {new: old for old, new in image.items()}
