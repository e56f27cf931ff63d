"""Einstein summation on ``dot_general``, and the products that it expresses: tensordot, inner, outer, kron.

``einsum`` takes sums and products of any number of operands apart into pairs. A pair with indices to sum is a contraction; one
without is an elementwise product. Repeated indices of one operand become its diagonal.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from ..errors import ShapeError
from ..ir.dims import Expr, Size
from ..ir.node import Node
from ..ir.op import lookup, sugar
from .contract import dot_general
from .define import as_node, normal_axis, show
from .matrices import diagonal
from .reductions import sum as reduce_sum
from .views import expand_dims, reshape, transpose

__all__ = ["einsum", "inner", "kron", "outer", "tensordot", "vdot"]

Labels = tuple[str, ...]


# -- reading the equation ------------------------------------------------------------------------------------------------------
def _read(equation: str, operands: Sequence[Node]) -> tuple[list[Labels], Labels]:
    """Labels of every axis of the operands and of the result; an ellipsis becomes labels ``.0``, ``.1``, ... from the right."""
    text = equation.replace(" ", "")
    if not re.fullmatch(r"[a-zA-Z.,]*(->[a-zA-Z.]*)?", text):
        raise ShapeError(f"einsum: cannot read {equation!r}", hint="letters, commas, '...' and '->', as in 'bij,bjk->bik'")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum: {equation!r} names {len(terms)} operands, got {len(operands)}")
    labels, deepest = [], 0
    for i, (term, x) in enumerate(zip(terms, operands, strict=True)):
        names = re.findall(r"\.\.\.|[a-zA-Z]|\.", term)
        if "." in names or names.count("...") > 1:
            raise ShapeError(f"einsum: cannot read {term!r} in {equation!r}", hint="one ellipsis of three dots an operand")
        rest = x.ndim - (len(names) - names.count("..."))
        if rest < 0 or (rest and "..." not in names):
            raise ShapeError(f"einsum: {term!r} names {len(names) - names.count('...')} axes, operand {i} is {show(x.shape)}")
        at = names.index("...") if "..." in names else len(names)
        labels.append((*names[:at], *(f".{k}" for k in reversed(range(rest))), *names[at + 1 :]))
        deepest = max(deepest, rest)
    dots = tuple(f".{k}" for k in reversed(range(deepest)))
    if arrow:
        names = re.findall(r"\.\.\.|[a-zA-Z]|\.", right)
        if "." in names or names.count("...") > 1:
            raise ShapeError(f"einsum: cannot read the result {right!r} in {equation!r}")
        result: Labels = tuple(n for name in names for n in (dots if name == "..." else (name,)))
    else:
        every = [n for term in labels for n in term if not n.startswith(".")]
        result = (*dots, *sorted(n for n in set(every) if every.count(n) == 1))
    for n in result:
        if result.count(n) > 1:
            raise ShapeError(f"einsum: {n!r} stands twice in the result of {equation!r}")
        if all(n not in term for term in labels):
            raise ShapeError(f"einsum: {n!r} of the result is in no operand of {equation!r}")
    return labels, result


# -- operands with one axis a label ----------------------------------------------------------------------------------------------
def _sizes(labels: Sequence[Labels], operands: Sequence[Node]) -> dict[str, Size]:
    """The size of every label; an axis of size 1 broadcasts."""
    sizes: dict[str, Size] = {}
    for i, (term, x) in enumerate(zip(labels, operands, strict=True)):
        for n, size in zip(term, x.shape, strict=True):
            known = sizes.get(n, 1)
            if known == 1:
                sizes[n] = size
            elif size not in (1, known) and not (isinstance(size, Expr) and isinstance(known, Expr)):
                raise ShapeError(f"einsum: {n!r} has size {known} and, in operand {i} {show(x.shape)}, {size}")
    return sizes


def _simple(x: Node, term: Labels, sizes: dict[str, Size]) -> tuple[Node, Labels]:
    """Without axes that broadcast, and with repeated labels as diagonals; named sizes agree by a guard."""
    keep = [i for i, n in enumerate(term) if x.shape[i] != 1 or sizes[n] == 1]
    x, term = reshape(x, tuple(x.shape[i] for i in keep)), tuple(term[i] for i in keep)
    x = lookup("assume").call(x, tuple(sizes[n] for n in term))
    while (double := next((n for n in term if term.count(n) > 1), None)) is not None:
        a = term.index(double)
        b = term.index(double, a + 1)
        x, term = diagonal(x, 0, a, b), (*(n for i, n in enumerate(term) if i not in (a, b)), double)
    return x, term


def _sum_out(x: Node, term: Labels, wanted: set[str]) -> tuple[Node, Labels]:
    """Without the axes that nobody else needs."""
    axes = [i for i, n in enumerate(term) if n not in wanted]
    return (reduce_sum(x, axes), tuple(n for n in term if n in wanted)) if axes else (x, term)


def _arranged(x: Node, term: Labels, order: Labels) -> Node:
    """Axes in the order of the labels, with axes of size 1 for those that ``x`` lacks."""
    x = transpose(x, *(term.index(n) for n in order if n in term))
    for i, n in enumerate(order):
        if n not in term:
            x = expand_dims(x, i)
    return x


def _pair(a: tuple[Node, Labels], b: tuple[Node, Labels], wanted: set[str]) -> tuple[Node, Labels]:
    """The product of two operands, summed over what they share and nobody else needs."""
    (x, s), (y, t) = _sum_out(*a, wanted | set(b[1])), _sum_out(*b, wanted | set(a[1]))
    shared = [n for n in s if n in t]
    summed, batch = [n for n in shared if n not in wanted], [n for n in shared if n in wanted]
    order = (*batch, *(n for n in s if n not in t), *(n for n in t if n not in s))
    if summed and x.dtype.is_float and y.dtype.is_float:
        where = [tuple(term.index(n) for n in names) for names in (summed, batch) for term in (s, t)]
        return dot_general(x, y, contract=(where[0], where[1]), batch=(where[2], where[3])), order
    full = (*order, *summed)
    return _sum_out(_arranged(x, s, full) * _arranged(y, t, full), full, set(order))


def _cost(s: Labels, t: Labels, wanted: set[str], sizes: dict[str, Size]) -> float:
    """Elements of the product of a pair; a named size counts as 64."""
    total = 1.0
    for n in {*s, *t} & wanted:
        size = sizes[n]
        total *= size if isinstance(size, int) else 64
    return total


@sugar
def einsum(equation: str, *operands: Any) -> Node:
    """Sums of products of any number of operands by named axes: ``einsum("bij,bjk->bik", a, b)``, as NumPy's and torch's.

    A label that the result lacks is summed over; one that an operand repeats takes its diagonal; ``...`` stands for axes that
    broadcast. Without ``->`` the result has the labels that occur once, in alphabetical order. Pairs are multiplied in the order
    that keeps intermediate results small.
    """
    if not isinstance(equation, str):
        raise ShapeError("einsum: the first argument is the equation", hint="einsum('ij,jk->ik', a, b)")
    nodes = [as_node(x) for x in operands]
    labels, result = _read(equation, nodes)
    sizes = _sizes(labels, nodes)
    left = [_simple(x, term, sizes) for x, term in zip(nodes, labels, strict=True)]
    while len(left) > 1:
        needed = {p: set(result).union(*(t for k, (_, t) in enumerate(left) if k not in p)) for p in itertools.combinations(range(len(left)), 2)}
        i, j = min(needed, key=lambda p, now=left, rest=needed: _cost(now[p[0]][1], now[p[1]][1], rest[p], sizes))  # type: ignore[misc]
        left = [*(x for k, x in enumerate(left) if k not in (i, j)), _pair(left[i], left[j], needed[i, j])]
    x, term = _sum_out(*left[0], set(result))
    return _arranged(x, term, result)


# -- products by name --------------------------------------------------------------------------------------------------------------
@sugar
def tensordot(a: Any, b: Any, axes: int | Sequence[Any] = 2) -> Node:
    """Sums of products over the last ``axes`` axes of ``a`` and the first of ``b``, or over two lists of axes (NumPy's ``tensordot``)."""
    x, y = as_node(a), as_node(b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: {axes} axes of {show(x.shape)} and {show(y.shape)}")
        first, second = list(range(x.ndim - axes, x.ndim)), list(range(axes))
    else:
        first, second = ([i] if isinstance(i, int) else list(i) for i in axes)
        if len(first) != len(second):
            raise ShapeError(f"tensordot: {len(first)} axes against {len(second)}")
    return dot_general(x, y, contract=([normal_axis(i, x.ndim) for i in first], [normal_axis(i, y.ndim) for i in second]))


@sugar
def inner(a: Any, b: Any) -> Node:
    """Sums of products over the last axis of both (NumPy's ``inner``)."""
    x, y = as_node(a), as_node(b)
    return x * y if 0 in (x.ndim, y.ndim) else tensordot(x, y, (-1, -1))


@sugar
def vdot(a: Any, b: Any) -> Node:
    """The inner product of all elements in order (NumPy's ``vdot``)."""
    x, y = as_node(a), as_node(b)
    return inner(reshape(x, (x.size,)), reshape(y, (y.size,)))


@sugar
def outer(a: Any, b: Any) -> Node:
    """All products of an element of ``a`` and one of ``b``, both taken as vectors: shape (size a, size b)."""
    x, y = as_node(a), as_node(b)
    return reshape(x, (x.size, 1)) * reshape(y, (1, y.size))


@sugar
def kron(a: Any, b: Any) -> Node:
    """The Kronecker product: every element of ``a`` times ``b``, laid out in blocks."""
    x, y = as_node(a), as_node(b)
    rank = max(x.ndim, y.ndim)
    s, t = ((1,) * (rank - n.ndim) + n.shape for n in (x, y))
    wide = reshape(x, tuple(d for size in s for d in (size, 1))) * reshape(y, tuple(d for size in t for d in (1, size)))
    return reshape(wide, tuple(m * n for m, n in zip(s, t, strict=True)))


