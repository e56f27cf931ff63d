"""JAX: the whole step as one jitted function with its state donated, Adam written by hand."""

from __future__ import annotations

from benchmarks.peers import NotAvailable, Prepared
from benchmarks.workloads import BETA1, BETA2, EPS, LEARNING_RATE, MLP

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise NotAvailable("JAX is not installed: pip install 'graphc-dl[bench]'") from error


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def logits(weights, x):
    for i, (w, b) in enumerate(weights):
        x = x @ w + b
        x = x if i == len(weights) - 1 else jax.nn.relu(x)
    return x


def loss_of(weights, x, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits(weights, x)), y[:, None], 1))


def adam_step(state, x, y):
    weights, m, v, t = state
    loss, grads = jax.value_and_grad(loss_of)(weights, x, y)
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    c1, c2 = 1 - BETA1**t, 1 - BETA2**t
    weights = jax.tree.map(
        lambda p, m, v: p - LEARNING_RATE * (m / c1) / (jnp.sqrt(v / c2) + EPS), weights, m, v
    )
    return (weights, m, v, t), loss


def prepare(workload: MLP, case: str, threads: int) -> Prepared:
    weights = jax.tree.map(jnp.asarray, workload.weights())
    x, y = map(jnp.asarray, workload.data())
    if case == "forward":
        forward = jax.jit(logits)
        return Prepared(
            lambda: forward(weights, x).block_until_ready(),
            lambda: [float(jnp.abs(forward(weights, x)).sum())],
            "jit",
        )
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.float32))
    step = jax.jit(adam_step, donate_argnums=0)

    def call():
        nonlocal state
        state, loss = step(state, x, y)
        jax.block_until_ready((state, loss))
        return loss

    return Prepared(call, lambda: [float(call()) for _ in range(3)], "jit, state donated")
