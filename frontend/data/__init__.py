"""Data on its way into a model: samples, batches, splits."""

from .ahead import Ahead, ahead
from .arrays import batches, split

__all__ = [
    "Ahead",
    "ahead",
    "batches",
    "split",
]
