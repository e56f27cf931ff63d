"""Samples put together into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

__all__ = ["Pad", "collate"]


def collate(samples: Sequence[Any]) -> Any:
    """Samples of equal structure as one structure of arrays with a batch axis in front. Texts stay a list.

    >>> collate([(np.zeros(2), {"label": 1}), (np.ones(2), {"label": 0})])
    (array([[0., 0.],
           [1., 1.]]), {'label': array([1, 0])})
    """
    return _together(samples, "", lambda path, arrays: _stack(path, arrays))


def _together(samples: Sequence[Any], path: str, join: Any) -> Any:
    first = samples[0]
    kind = type(first)
    if any((type(s) is not kind) if isinstance(first, (tuple, list, Mapping)) else isinstance(s, (tuple, list, Mapping)) for s in samples):
        kinds = sorted({type(s).__name__ for s in samples})
        raise ArgumentError(
            f"samples of different structure{_at(path)}: {', '.join(kinds)}",
            hint="every sample needs the same tuples and dicts; collate_fn=your own function",
        )
    if isinstance(first, Mapping):
        for s in samples:
            if set(s) != set(first):
                raise ArgumentError(
                    f"samples with different keys{_at(path)}: {sorted(map(str, set(s) ^ set(first)))}",
                    hint="every sample needs the same keys; collate_fn=your own function",
                )
        return {k: _together([s[k] for s in samples], _join(path, k), join) for k in first}
    if isinstance(first, (tuple, list)):
        sizes = {len(s) for s in samples}
        if len(sizes) != 1:
            raise ArgumentError(
                f"samples of different lengths{_at(path)}: {sorted(sizes)}",
                hint="sequences that are to be padded are arrays, not lists: np.asarray(sequence), and collate_fn=data.Pad()",
            )
        parts = [_together([s[i] for s in samples], _join(path, i), join) for i in range(len(first))]
        return kind(*parts) if hasattr(first, "_fields") else kind(parts)
    if isinstance(first, (str, bytes)):
        return list(samples)
    if first is None:
        return None
    return join(path, [np.asarray(s) for s in samples])


def _stack(path: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {a.shape for a in arrays}
    if len(shapes) != 1:
        raise ShapeError(f"samples of different shapes{_at(path)}: {sorted(shapes)}", hint="collate_fn=data.Pad() fills them up")
    if arrays[0].dtype.hasobject:
        raise ArgumentError(f"samples that are no numbers{_at(path)}: {arrays[0]!r}", hint="collate_fn=your own function")
    return np.stack(arrays)


class Pad:
    """A ``collate_fn`` that fills arrays of unequal lengths up to the longest of the batch.

    ``value`` is what they are filled with, or a dict of it by place in the sample ("0" is the first part of a tuple, "x.ids" a
    part of dicts). ``multiple`` rounds lengths up, so that fewer different shapes occur; ``length`` is that of all batches.
    ``only`` names the places to fill (all, otherwise). Each place in ``lengths`` becomes a pair: the array, and the true length of each sample. All axes of which sizes differ are
    filled at their end (at their beginning with ``left=True``), but ``multiple`` and ``length`` are those of the first axis.

    >>> Pad(value=-1)([np.array([1, 2, 3]), np.array([4])])
    array([[ 1,  2,  3],
           [ 4, -1, -1]])
    >>> (x, n), y = Pad(lengths=["0"])([(np.ones(3), 0), (np.ones(1), 1)])
    >>> x.shape, n.tolist(), y.tolist()
    ((2, 3), [3, 1], [0, 1])
    """

    def __init__(
        self,
        value: float | Mapping[str, float] = 0,
        *,
        multiple: int = 1,
        length: int | None = None,
        only: Sequence[str] | None = None,
        lengths: Sequence[str] = (),
        left: bool = False,
    ):
        if multiple < 1 or (length is not None and length < 0):
            raise ArgumentError(f"multiple = {multiple}, length = {length}", hint="whole numbers of 1 or more")
        self.value, self.multiple, self.length, self.lengths, self.left = value, multiple, length, tuple(lengths), left
        self.only = None if only is None else tuple(only)

    def __call__(self, samples: Sequence[Any]) -> Any:
        found: set[str] = set()

        def join(path: str, arrays: Sequence[np.ndarray]) -> Any:
            found.add(path)
            made = self._pad(path, arrays) if self.only is None or path in self.only else _stack(path, arrays)
            return (made, np.array([len(a) for a in arrays])) if path in self.lengths else made

        out = _together(samples, "", join)
        named = {*self.lengths, *(self.only or ()), *(self.value if isinstance(self.value, Mapping) else ())} - found
        if named:
            raise ArgumentError(f"no part {', '.join(sorted(named))} in the samples", hint="parts: " + ", ".join(sorted(found)))
        return out

    def _pad(self, path: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
        ranks = {a.ndim for a in arrays}
        if len(ranks) != 1:
            raise ShapeError(
                f"samples of different ranks{_at(path)}: {sorted(ranks)}",
                hint="Pad fills sizes up, not axes: reshape the samples in __getitem__",
            )
        shape = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
        if not shape:
            return _stack(path, arrays)
        shape[0] = -(-shape[0] // self.multiple) * self.multiple
        if self.length is not None:
            if shape[0] > self.length:
                raise ShapeError(
                    f"a sample of {shape[0]} values{_at(path)} is longer than length = {self.length}",
                    hint="a larger length=, or cut the samples",
                )
            shape[0] = self.length
        value = self.value.get(path, 0) if isinstance(self.value, Mapping) else self.value
        out = np.full((len(arrays), *shape), value, dtype=np.result_type(*arrays))
        for row, a in zip(out, arrays, strict=True):
            row[tuple(slice(-n if n else s, None) if self.left else slice(n) for n, s in zip(a.shape, shape, strict=True))] = a
        return out


def _join(path: str, part: Any) -> str:
    return f"{path}.{part}" if path else str(part)


def _at(path: str) -> str:
    return f" at {path}" if path else ""


public(globals())
