"""Elementwise mathematics: NumPy and SciPy by name, JAX where they have none, PyTorch for its own composites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.special

from tests.ops.lazy_torch import torch


def _quiet(fn: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return fn(*args, **kwargs)

    return run


JAX: dict[str, Callable[..., Any]] = {
    "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh, "atan": jnp.arctan, "atan2": jnp.arctan2, "atanh": jnp.arctanh,
    "bitwise_and": jnp.bitwise_and, "bitwise_not": jnp.bitwise_not, "bitwise_or": jnp.bitwise_or, "bitwise_xor": jnp.bitwise_xor,
    "cbrt": scipy.special.cbrt, "ceil": jnp.ceil, "clip": lambda x, min=None, max=None: jnp.clip(x, min, max), "copysign": jnp.copysign, "cos": jnp.cos, "cosh": jnp.cosh,
    "erfc": scipy.special.erfc, "exp2": scipy.special.exp2, "expm1": scipy.special.expm1, "floor": jnp.floor, "floor_divide": _quiet(jnp.floor_divide),
    "fmod": _quiet(jnp.fmod), "hypot": jnp.hypot, "log10": jnp.log10, "log1p": scipy.special.log1p, "log2": jnp.log2, "logaddexp": jnp.logaddexp,
    "logical_xor": jnp.logical_xor, "logit": scipy.special.logit, "mod": _quiet(jnp.mod), "nan_to_num": jnp.nan_to_num, "reciprocal": jnp.reciprocal, "round": jnp.round,
    "rsqrt": lambda x: 1 / jnp.sqrt(x), "shift_left": jnp.left_shift, "sign": jnp.sign, "sin": jnp.sin, "sinc": jnp.sinc, "sinh": jnp.sinh, "square": jnp.square,
    "tan": jnp.tan, "trunc": jnp.trunc, "xlogy": scipy.special.xlogy,
}  # fmt: skip

TORCH: dict[str, Callable[..., Any]] = {
    "lerp": lambda a, b, w: torch.lerp(*torch.broadcast_tensors(a, b), w), "logit": lambda x, **k: torch.logit(x, **k), "rsqrt": lambda x: torch.rsqrt(x),
    "clip": lambda x, *bounds: torch.clamp(x, *(b if b is None else torch.as_tensor(b, dtype=x.dtype) for b in bounds)),
}  # fmt: skip

JAX |= {
    "diagonal": jnp.diagonal, "tril": lambda x, offset=0: jnp.tril(x, offset), "triu": lambda x, offset=0: jnp.triu(x, offset),
}  # fmt: skip
TORCH |= {"diag_embed": lambda x, offset=0, axis1=-2, axis2=-1: torch.diag_embed(x, offset, axis1, axis2)}
