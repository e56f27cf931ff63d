"""Random numbers have statistics instead of oracles; their inverse distribution function has SciPy."""

from __future__ import annotations

import scipy.special

JAX = {"ndtri": scipy.special.ndtri}
EXEMPT = {
    f"random_{name}": "SciPy's distributions, by Kolmogorov-Smirnov and chi-square: test_distributions.py"
    for name in ("bernoulli", "categorical", "exponential", "gumbel", "integers", "normal", "permutation", "truncated_normal", "uniform")
}
