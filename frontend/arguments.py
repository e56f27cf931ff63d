"""Arrays at call time against declared specs: every mismatch names the argument and the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, GuardError, ShapeError
from graphc.ir.dims import symbols
from graphc.ir.dtypes import as_dtype, kind_of
from graphc.runtime.exchange import DeviceView, as_array, device_view

from .specs import Spec
from .tree import leaves

__all__ = ["Arguments", "convert"]


def _given(array: np.ndarray) -> str:
    return f"{array.dtype}({', '.join(map(str, array.shape))}{',' if array.ndim == 1 else ''})"


def convert(name: str, value: Any, spec: Spec, device: bool = False) -> Any:
    """``value`` as a contiguous array of the spec's dtype; with ``device``, what lies on a GPU stays there, as a :class:`DeviceView`.

    Floats are cast to a spec of another float dtype (rounded, where it has fewer digits), integers to other integers that hold them, Python lists of numbers as numbers;
    anything else raises :class:`DTypeError`; another rank or static size raises :class:`ShapeError`.
    """
    view = device_view(value)
    if view is not None:
        return _on_device(name, view, spec, device)
    try:
        array = as_array(value)
    except ValueError:
        raise ShapeError(
            f"{name}: the values form no array: the lists in it have different lengths", hint="rows of one length; data.Pad() fills samples up"
        ) from None
    wanted = spec.dtype.numpy
    if array.dtype != wanted:
        array = _cast(name, array, wanted, spec, weak=not isinstance(value, (np.ndarray, np.generic)))
    if array.ndim != len(spec.shape) or any(
        isinstance(s, int) and s != n for s, n in zip(spec.shape, array.shape, strict=True)
    ):
        raise ShapeError(f"{name}: expected {spec}, got {_given(array)}", hint=_shape_hint(name, array, spec))
    return np.ascontiguousarray(array).reshape(array.shape)  # which would make a scalar 1-D


def _on_device(name: str, view: DeviceView, spec: Spec, allowed: bool) -> DeviceView:
    """Memory on a GPU that fits as it is: nothing is converted there."""
    if not allowed:
        raise ArgumentError(
            f"{name} is on a GPU, and an array of the host is needed",
            hint='np.asarray(x.cpu()); calls, predict(x), train_on_batch and loaders take batches on a GPU with target="cuda"',
        )
    given = f"{as_dtype(view.dtype)}({', '.join(map(str, view.shape))}) on a GPU"
    if view.dtype != spec.dtype.numpy:
        raise DTypeError(f"{name}: expected {spec}, got {given}", hint=f"convert it there, to {spec.dtype}")
    if view.ndim != len(spec.shape) or any(isinstance(s, int) and s != n for s, n in zip(spec.shape, view.shape, strict=True)):
        raise ShapeError(f"{name}: expected {spec}, got {given}", hint=_shape_hint(name, view, spec))
    return view


def _cast(name: str, array: np.ndarray, wanted: np.dtype[Any], spec: Spec, weak: bool) -> np.ndarray:
    kind, target = kind_of(array.dtype), kind_of(wanted)
    fits = (
        kind == target
        or (kind in "iu" and target in "iu")
        or (weak and target == "f" and kind in "iub")
        or (not array.size and weak)
    )
    if not fits or kind not in "fiub":
        hint = f"{name}.astype({str(spec.dtype)!r})" if kind in "fiub" else "numbers are needed: map texts to numbers, fill what is missing"
        if kind == "f" and target == "i" and array.ndim == len(spec.shape) + 1:
            hint = f'{name}.argmax(-1) makes labels of one-hot rows; loss="categorical_crossentropy" takes the rows as they are'
        raise DTypeError(f"{name}: expected {spec}, got {_given(array)}", hint=hint)
    if kind in "iu" and target in "iu" and array.size:
        info = np.iinfo(wanted)
        low, high = int(array.min()), int(array.max())
        if low < info.min or high > info.max:
            raise DTypeError(
                f"{name}: values from {low} to {high} do not fit {spec}", hint='a spec of a wider dtype: gc.spec(..., dtype="int64")'
            )
    return array.astype(wanted)


def _shape_hint(name: str, array: Any, spec: Spec) -> str:
    if array.ndim == len(spec.shape) - 1:
        if spec.shape[-1] == 1 and array.shape != (1,) * array.ndim:
            return f"{name}[..., None]"
        return f"one sample needs a batch axis: {name}[None]"
    if array.ndim == len(spec.shape) + 1 and array.shape[-1] == 1:
        return f"{name}[..., 0]"
    if array.ndim == len(spec.shape):
        wrong = [f"axis {i} has {n}, not {s}" for i, (s, n) in enumerate(zip(spec.shape, array.shape, strict=True)) if isinstance(s, int) and s != n]
        return ", ".join(wrong)
    return f"{len(spec.shape)} axes are needed"


def _axes(spec: Spec) -> tuple[int, tuple[tuple[int, int], ...], tuple[tuple[int, str], ...]]:
    """(rank, static axes, axes that are one named dim) of a spec."""
    fixed = tuple((i, s) for i, s in enumerate(spec.shape) if isinstance(s, int))
    named = tuple((i, str(s)) for i, s in enumerate(spec.shape) if str(s) in symbols(s))
    return len(spec.shape), fixed, named


class Arguments:
    """The declared arguments of an executable: ``structure`` maps each name to a tree of specs."""

    def __init__(self, structure: Mapping[str, Any], device: bool = False):
        """``device``: whether arrays on a GPU may be given."""
        self.structure, self.device = dict(structure), device
        self.flat: dict[str, Spec] = {
            path: s for label, tree in self.structure.items() for path, s in leaves(tree, label)
        }
        plain = all(isinstance(tree, Spec) for tree in self.structure.values())
        self._quick = [(n, s.dtype.numpy, *_axes(s)) for n, s in self.flat.items()] if plain else None

    def __str__(self) -> str:
        return "(" + ", ".join(f"{n}: {s}" for n, s in self.flat.items()) + ")"

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Arrays by input name, checked and converted.

        Raises :class:`ArgumentError` for a wrong number or an unknown name, and what :func:`convert` and
        :meth:`check_dims` raise.
        """
        if not kwargs and self._quick is not None and len(args) == len(self._quick):
            quick = self._bind_quick(args)
            if quick is not None:
                return quick
        names = list(self.structure)
        given = dict(zip(names, args, strict=False))
        extra = dict(kwargs or {})
        unknown = [k for k in extra if k not in names or k in given]
        given |= extra
        missing = [n for n in names if n not in given]
        if len(args) > len(names) or unknown or missing:
            what = (
                f"unexpected {', '.join(unknown)}"
                if unknown
                else f"missing {', '.join(missing)}"
                if missing
                else f"{len(args)} given"
            )
            raise ArgumentError(
                f"takes {len(names)} argument{'s' * (len(names) != 1)} {self}: {what}",
                hint="one value for each argument, in order or by name",
            )
        arrays: dict[str, np.ndarray] = {}
        for label, tree in self.structure.items():
            self._match(label, tree, given[label], arrays)
        self.check_dims({n: a.shape for n, a in arrays.items()})
        return arrays

    def _bind_quick(self, args: Sequence[Any]) -> dict[str, np.ndarray] | None:
        """The usual case in a microsecond: arrays that fit as they are. None where anything is left to check or convert."""
        arrays: dict[str, np.ndarray] = {}
        dims: dict[str, int] = {}
        assert self._quick is not None
        for value, (name, dtype, rank, fixed, named) in zip(args, self._quick, strict=True):
            if type(value) is not np.ndarray or value.dtype != dtype or not value.flags.c_contiguous:
                return None
            shape = value.shape
            if len(shape) != rank:
                return None
            for axis, size in fixed:
                if shape[axis] != size:
                    return None
            for axis, symbol in named:
                if dims.setdefault(symbol, shape[axis]) != shape[axis]:
                    return None
            arrays[name] = value
        return arrays

    def _match(self, path: str, tree: Any, value: Any, arrays: dict[str, np.ndarray]) -> None:
        if isinstance(tree, Spec):
            arrays[path] = convert(path, value, tree, self.device)
            return
        if isinstance(tree, Mapping):
            if not isinstance(value, Mapping) or set(value) != set(tree):
                raise ArgumentError(
                    f"{path}: expected a dict with the keys {', '.join(map(str, tree))}", hint="the structure that the spec has"
                )
            for k, sub in tree.items():
                self._match(f"{path}.{k}", sub, value[k], arrays)
        elif tree is not None:
            if not isinstance(value, (tuple, list)) or len(value) != len(tree):
                raise ArgumentError(f"{path}: expected {len(tree)} arrays in a tuple", hint="the structure that the spec has")
            for i, (sub, v) in enumerate(zip(tree, value, strict=True)):
                self._match(f"{path}.{i}", sub, v, arrays)

    def check_dims(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The value of each dim that stands alone in a spec; raises :class:`GuardError` where two arguments disagree.

        Sizes that are formulas are checked by the executable when it binds them.
        """
        dims: dict[str, int] = {}
        source: dict[str, str] = {}
        for name, shape in shapes.items():
            for axis, (size, n) in enumerate(zip(self.flat[name].shape, shape, strict=True)):
                symbol = str(size)
                if symbol not in symbols(size):
                    continue
                if dims.setdefault(symbol, n) != n:
                    raise GuardError(
                        f"{name}: {symbol} is {n} on axis {axis}, but {source[symbol]} has {symbol} = {dims[symbol]}",
                        notes=tuple(f"{k}: {self.flat[k]}" for k in (source[symbol], name)),
                        hint=f"{name} and {source[symbol]} need the same number of rows" if axis == 0 else f"all axes named {symbol} have one size",
                    )
                source.setdefault(symbol, name)
        return dims
