"""What others say an operator computes: functions of NumPy arrays, none of them written by us.

Each file of this folder is one family and is found by itself. It may define three tables, keyed by operator name:

- ``JAX``: functions of NumPy arrays by JAX, NumPy, SciPy or scikit-learn; these packages are always there for tests;
- ``TORCH``: functions of torch tensors (through :mod:`tests.ops.lazy_torch`), called where PyTorch is installed;
- ``EXEMPT``: the reason why there is no such function, or the test that stands in for it.

Every operator stands in ``JAX``, ``TORCH`` or ``EXEMPT``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.ops import lazy_torch

__all__ = ["EXEMPT", "JAX", "TORCH", "in_double", "on_tensors"]

JAX: dict[str, Callable[..., Any]] = {}
TORCH: dict[str, Callable[..., Any]] = {}
EXEMPT: dict[str, str] = {}


def in_double(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a JAX function with 64-bit types, whatever the process has set."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True):
            out = fn(*args, **kwargs)
            return tuple(np.asarray(o) for o in out) if isinstance(out, tuple) else np.asarray(out)

    return run


def on_tensors(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of torch tensors as one of arrays; int32 arrays become torch's index type."""
    def lift(a: Any) -> Any:
        if isinstance(a, list):
            return [lift(v) for v in a]
        if isinstance(a, (np.ndarray, np.generic)):
            t = lazy_torch.torch.from_numpy(np.array(a))
            return t.long() if t.dtype == lazy_torch.torch.int32 else t
        return a

    def run(*args: Any, **kwargs: Any) -> Any:
        out = fn(*map(lift, args), **kwargs)
        return tuple(o.numpy() for o in out) if isinstance(out, (tuple, list)) else out.numpy()

    return run


def _collect() -> None:
    for found in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{found.name}")
        JAX.update(getattr(module, "JAX", {}))
        EXEMPT.update(getattr(module, "EXEMPT", {}))
        TORCH.update({name: on_tensors(fn) for name, fn in getattr(module, "TORCH", {}).items()})


_collect()
