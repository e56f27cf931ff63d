"""Binding: from arrays at call time to the values of named dims, with every check that a wrong array can fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DTypeError, GuardError, ParameterError, ShapeError
from ..locate import used_line
from .dims import Expr, Size, coefficient, evaluate, substitute, symbols
from .dtypes import as_dtype
from .graph import Graph
from .types import TensorType

__all__ = ["bind_dims", "fit"]


def fit(name: str, value: Any, spec: TensorType) -> np.ndarray:
    """``value`` as an array of the declared dtype and rank.

    Floats are cast to the declared float width, integers to the declared integer width if every value fits. Any other
    difference of kind raises :class:`DTypeError`, another rank :class:`ShapeError`; both name the argument and its spec.
    """
    array = np.asarray(value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    want = spec.dtype
    try:
        have = as_dtype(array.dtype)
    except DTypeError:
        raise DTypeError(f"input {name!r} has dtype {array.dtype}, declared {spec}") from None
    if have != want:
        if have.kind != want.kind:
            raise DTypeError(f"input {name!r} has dtype {have}, declared {spec}", hint=f"{name}.astype({want.name!r})")
        if want.is_int and array.size:
            limits = np.iinfo(want.numpy)
            if array.min() < limits.min or array.max() > limits.max:
                raise DTypeError(f"input {name!r} has {have} values that do not fit the declared {spec}")
        array = array.astype(want.numpy)
    if array.ndim != spec.rank:
        raise ShapeError(f"input {name!r} has shape {tuple(array.shape)}, declared {spec}: rank {array.ndim} instead of {spec.rank}")
    return array


def bind_dims(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The value of every named dim, solved from the shapes of the graph's inputs.

    A static size that differs raises :class:`ShapeError`; one name with two values, a size equation without a solution and
    a dim that no shape determines raise :class:`GuardError`. Each message names the argument and its declared spec.
    """
    dims: dict[str, int] = {}
    origin: dict[str, str] = {}
    pending: list[tuple[str, int, Size, int, TensorType]] = []
    for item in graph.inputs:
        spec = item.node.tensor
        if item.name not in inputs:
            raise ParameterError(
                f"input {item.name!r} is missing: declared {spec}", hint="inputs: " + ", ".join(i.name for i in graph.inputs)
            )
        shape = tuple(int(s) for s in inputs[item.name].shape)
        if len(shape) != spec.rank:
            raise ShapeError(f"input {item.name!r} has shape {shape}, declared {spec}: rank {len(shape)} instead of {spec.rank}")
        for axis, (want, have) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(want, int):
                if want != have:
                    raise ShapeError(f"input {item.name!r} has shape {shape}, declared {spec}: axis {axis} has size {have}, not {want}")
            else:
                pending.append((item.name, axis, want, have, spec))
    # sizes that are a lone unknown first, then whatever became linear in one unknown; each round settles at least one
    while pending:
        later = []
        for entry in pending:
            name, axis, want, have, spec = entry
            left = substitute(want, dims)
            if isinstance(left, int):
                if left != have:
                    known = ", ".join(f"{d} = {dims[d]} (from {origin[d]})" for d in sorted(symbols(want)))
                    raise GuardError(f"input {name!r} has size {have} on axis {axis}, declared {spec}: {want} is {left}, since {known}")
                continue
            solved = _solve(left, have)
            if solved is None:
                later.append(entry)
                continue
            unknown, value = solved
            if value is None:
                raise GuardError(
                    f"input {name!r} has size {have} on axis {axis}, declared {spec}: no {unknown} >= 0 makes {want} equal {have}"
                )
            dims[unknown] = value
            origin[unknown] = f"{name!r} axis {axis}"
        if len(later) == len(pending):
            name, axis, want, have, spec = later[0]
            missing = ", ".join(sorted(symbols(want) - set(dims)))
            raise GuardError(f"the size of {missing} cannot be told from {want} = {have} (input {name!r}, declared {spec})")
        pending = later
    _check_guards(graph, dims)
    return dims


def _check_guards(graph: Graph, dims: Mapping[str, int]) -> None:
    """What the graph claims of its sizes must hold."""
    for node in graph.guards:
        where = tuple(used_line(loc) for loc in graph.provenance.locs(node))
        if node.op.name == "at_least":
            size, least, why = (node.attrs[k] for k in ("size", "least", "why"))
            if (found := evaluate(size, dims)) < least:
                raise GuardError(f"{size} = {found} where at least {least} are needed{why and ': '}{why}", where=where, hint=f"larger {' or '.join(sorted(symbols(size)))}")
            continue
        for have, want in zip(node.inputs[0].shape, node.shape, strict=True):
            a, b = evaluate(have, dims), evaluate(want, dims)
            if a != b:
                raise GuardError(f"{have} = {a} and {want} = {b} must be equal here", where=where, hint="one name for both in gc.spec(...) says so where the model is compiled", notes=_sources(graph, have, want))


def _sources(graph: Graph, *sizes: Size) -> tuple[str, ...]:
    """The inputs that have the dims of these sizes."""
    dims = {d for s in sizes for d in symbols(s)}
    found = [i for i in graph.inputs if i.role == "arg" and any(symbols(s) & dims for s in i.node.shape)]
    return tuple(f"{i.name}: {i.node.tensor}" for i in found)


def _solve(size: Size, value: int) -> tuple[str, int | None] | None:
    """(unknown, its value or None if there is no solution) for a size that is affine in one unknown; None for others."""
    assert isinstance(size, Expr)
    unknowns = symbols(size)
    if len(unknowns) != 1:
        return None
    (name,) = unknowns
    factor = coefficient(size, name)
    if not isinstance(factor, int) or factor == 0:
        return None
    rest = value - evaluate(size, {name: 0})
    return name, rest // factor if rest % factor == 0 and rest // factor >= 0 else None
