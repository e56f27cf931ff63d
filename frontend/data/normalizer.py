"""Scaling by statistics of the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.locate import public

__all__ = ["Normalizer"]


class Normalizer:
    """Scales data with the statistics of the data that :meth:`fit` has seen, which must be the training data alone.

    ``kind`` "standard" gives mean 0 and standard deviation 1, "minmax" the range 0 to 1. Statistics are taken over ``axis``: 0
    means one for each feature, (0, 2, 3) one for each channel of images (N, C, H, W), None one for all. A feature that never
    changes is moved, not scaled. Floats keep their dtype, integers become float32; the arithmetic is in float64.

    >>> n = Normalizer().fit(np.array([[0.0], [2.0]]))
    >>> n(np.array([[4.0]])), n.inverse(np.array([[3.0]]))
    (array([[3.]]), array([[4.]]))
    """

    def __init__(self, kind: str = "standard", axis: int | Sequence[int] | None = 0):
        if kind not in ("standard", "minmax"):
            raise ArgumentError(f"kind {kind!r}", hint='"standard" or "minmax"')
        self.kind = kind
        self.axis = axis if axis is None or isinstance(axis, int) else tuple(axis)
        self.count = 0
        self._first: np.ndarray | None = None  # mean, or minimum, with the reduced axes kept as 1
        self._second: np.ndarray | None = None  # sum of squared deviations, or maximum

    def fit(self, x: Any) -> Normalizer:
        """Takes the statistics of ``x``, and forgets others."""
        self.count, self._first, self._second = 0, None, None
        return self.partial_fit(x)

    def partial_fit(self, x: Any) -> Normalizer:
        """Adds a batch to the statistics: the result is that of all batches together, up to rounding."""
        a = np.asarray(x, dtype=np.float64)
        if not a.size:
            raise ShapeError("no data to take statistics of", hint="fit(x_train) needs one row at least")
        if not np.isfinite(a).all():
            raise ArgumentError("the data holds NaN or infinite values", hint="fill or leave them out first")
        if self.kind == "minmax":
            low, high = a.min(self.axis, keepdims=True), a.max(self.axis, keepdims=True)
            self._first = low if self._first is None else np.minimum(self._first, self._same(low))
            self._second = high if self._second is None else np.maximum(self._second, high)
            self.count += a.size // low.size
            return self
        mean = a.mean(self.axis, keepdims=True)
        square = ((a - mean) ** 2).sum(self.axis, keepdims=True)
        n = a.size // mean.size
        if self._first is None or self._second is None:
            self._first, self._second, self.count = mean, square, n
            return self
        delta = self._same(mean) - self._first  # Chan, Golub and LeVeque (1979)
        total = self.count + n
        self._first = self._first + delta * (n / total)
        self._second = self._second + square + delta**2 * (self.count * n / total)
        self.count = total
        return self

    def _same(self, a: np.ndarray) -> np.ndarray:
        assert self._first is not None
        if a.shape != self._first.shape:
            raise ShapeError(
                f"statistics of shape {a.shape}, but those so far have {self._first.shape}", hint="all parts need the same features"
            )
        return a

    @property
    def offset(self) -> np.ndarray:
        """What is subtracted."""
        if self._first is None:
            raise ArgumentError("this Normalizer has seen no data", hint="normalizer.fit(x_train)")
        return self._first

    @property
    def scale(self) -> np.ndarray:
        """What is divided by."""
        offset = self.offset
        assert self._second is not None
        scale = self._second - offset if self.kind == "minmax" else np.sqrt(self._second / self.count)
        # below the rounding of the mean a deviation is noise
        return np.where(scale > 1e-14 * np.maximum(1.0, np.abs(offset)), scale, 1.0)

    def transform(self, x: Any) -> np.ndarray:
        """``x``, scaled."""
        a, dtype = self._take(x)
        return ((a - self.offset) / self.scale).astype(dtype)

    __call__ = transform

    def fit_transform(self, x: Any) -> np.ndarray:
        """:meth:`fit` and :meth:`transform` of the training data."""
        return self.fit(x).transform(x)

    def inverse(self, x: Any) -> np.ndarray:
        """What :meth:`transform` has made ``x`` of."""
        a, dtype = self._take(x)
        return (a * self.scale + self.offset).astype(dtype)

    def _take(self, x: Any) -> tuple[np.ndarray, np.dtype[Any]]:
        a = np.asarray(x)
        fits = a.ndim == self.offset.ndim and all(s in (1, n) for s, n in zip(self.offset.shape, a.shape, strict=True))
        if not fits:
            raise ShapeError(f"data of shape {a.shape}, but the statistics have {self.offset.shape}", hint="the same features as in fit")
        return a.astype(np.float64), a.dtype if a.dtype.kind == "f" else np.dtype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as numbers and lists that JSON holds without loss."""
        axis = list(self.axis) if isinstance(self.axis, tuple) else self.axis
        first, second = self.offset.tolist(), self._second.tolist()  # type: ignore[union-attr]
        return {"kind": self.kind, "axis": axis, "count": self.count, "first": first, "second": second}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        fresh = Normalizer(state["kind"], state["axis"])
        fresh.count = int(state["count"])
        fresh._first, fresh._second = (np.array(state[k], dtype=np.float64) for k in ("first", "second"))
        self.__dict__.update(fresh.__dict__)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Normalizer:
        """A normalizer from :meth:`state_dict`."""
        made = cls()
        made.load_state_dict(state)
        return made


public(globals())
