"""Activations: JAX's ``nn`` where it has them, PyTorch for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.ops.lazy_torch import F, torch

JAX: dict[str, Callable[..., Any]] = {
    "celu": jax.nn.celu, "elu": jax.nn.elu, "glu": jax.nn.glu, "hardsigmoid": jax.nn.hard_sigmoid, "hardswish": jax.nn.hard_swish,
    "heaviside": lambda x, v=0.0: np.heaviside(x, v), "leaky_relu": jax.nn.leaky_relu, "logsigmoid": jax.nn.log_sigmoid, "mish": jax.nn.mish, "relu6": jax.nn.relu6,
    "selu": jax.nn.selu, "softmin": lambda x, axis: jax.nn.softmax(-jnp.asarray(x), axis), "softsign": jax.nn.soft_sign,
}  # fmt: skip


def _prelu(x: Any, w: Any) -> Any:
    return F.prelu(x[None] if x.ndim == 1 else x, w.reshape(-1)).reshape(x.shape)


TORCH: dict[str, Callable[..., Any]] = {
    "celu": lambda x: F.celu(x), "elu": lambda x: F.elu(x), "glu": lambda x, axis=-1: F.glu(x, axis), "hardshrink": lambda x: F.hardshrink(x),
    "hardsigmoid": lambda x: F.hardsigmoid(x), "hardswish": lambda x: F.hardswish(x), "hardtanh": lambda x, **k: F.hardtanh(x, **k),
    "heaviside": lambda x, v=None: torch.heaviside(x, torch.zeros_like(x) if v is None else v), "leaky_relu": lambda x, **k: F.leaky_relu(x, **k), "logsigmoid": lambda x: F.logsigmoid(x),
    "mish": lambda x: F.mish(x), "prelu": _prelu, "relu6": lambda x: F.relu6(x), "selu": lambda x: F.selu(x), "softmin": lambda x, axis: F.softmin(x, axis),
    "softplus": lambda x, **k: F.softplus(x, **k), "softshrink": lambda x: F.softshrink(x), "softsign": lambda x: F.softsign(x),
    "tanhshrink": lambda x: F.tanhshrink(x), "threshold": lambda x, **k: F.threshold(x, **k),
}  # fmt: skip
