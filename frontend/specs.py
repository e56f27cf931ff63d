"""Declared inputs: shapes with named dims, and dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.errors import ShapeError, TraceError
from graphc.ir.dims import Expr, Size, sym
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.types import TensorType
from graphc.locate import public

__all__ = ["Dim", "Spec", "as_spec", "spec"]


class Dim:
    """A named dimension: any size at run time, without a new compile.

    ``hint`` is a typical value for the cost model; it is never a limit.

    >>> Dim("N", hint=64)
    Dim('N', hint=64)
    """

    def __init__(self, name: str, hint: int | None = None):
        if not isinstance(name, str) or not name.isidentifier():
            raise ShapeError(f"a dim needs a name, not {name!r}", hint='gc.Dim("N", hint=64)')
        if hint is not None and (not isinstance(hint, int) or hint < 0):
            raise ShapeError(f"dim {name}: the hint must be a size, not {hint!r}", hint='gc.Dim("N", hint=64)')
        self.name, self.hint = name, hint

    def __repr__(self) -> str:
        return f"Dim({self.name!r})" if self.hint is None else f"Dim({self.name!r}, hint={self.hint})"


Axis = int | str | Dim


@dataclass(frozen=True)
class Spec:
    """The declared type of one input; ``hints`` holds typical values of its named dims."""

    type: TensorType
    hints: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> tuple[Size, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"{self.dtype}({shape}{',' if len(self.shape) == 1 else ''})"

    __repr__ = __str__


def spec(*shape: Axis, dtype: Any = "float32") -> Spec:
    """A declared input: each axis is an int, a name, or a :class:`Dim`; without axes it is a scalar.

    Raises :class:`ShapeError` for anything else and :class:`DTypeError` for an unknown dtype.

    >>> spec("N", 1, 28, 28)
    float32(N, 1, 28, 28)
    >>> spec(Dim("T", hint=20), dtype="int32")
    int32(T,)
    """
    axes: Any = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    sizes: list[Size] = []
    hints: dict[str, int] = {}
    for axis in axes:
        if isinstance(axis, str):
            axis = Dim(axis)
        if isinstance(axis, Dim):
            sizes.append(sym(axis.name))
            if axis.hint is not None:
                hints[axis.name] = axis.hint
        elif isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) and axis >= 0:
            sizes.append(int(axis))
        elif isinstance(axis, Expr):
            sizes.append(axis)
        else:
            raise ShapeError(f"axis {axis!r} of a spec", hint='sizes are ints >= 0 or names: gc.spec("N", 784)')
    return Spec(TensorType(tuple(sizes), as_dtype(dtype)), hints)


def as_spec(value: Any) -> Spec:
    """``value`` as a spec; an example array stands for its exact shape and dtype."""
    if isinstance(value, Spec):
        return value
    if isinstance(value, TensorType):
        return Spec(value)
    if isinstance(value, (np.ndarray, np.generic)):
        dtype = "float32" if value.dtype == np.float16 else value.dtype
        return Spec(TensorType(tuple(int(s) for s in value.shape), as_dtype(dtype)))
    raise TraceError(f"{value!r} is not a spec", hint='the sizes of an argument go into one spec: gc.spec("N", 784, dtype="float32")')


public(globals())
