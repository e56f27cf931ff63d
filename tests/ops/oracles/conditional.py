"""Branches: JAX runs the sample functions themselves."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

JAX = {
    "cond": lambda p, a, b, *operands: lax.cond(bool(p), a, b, *map(jnp.asarray, operands)),
    "gate": lambda x, condition: np.asarray(x),
    "switch": lambda i, branches, *operands: lax.switch(int(i), branches, *map(jnp.asarray, operands)),
}
