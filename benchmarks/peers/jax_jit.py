"""JAX: each case as one jitted function, state donated, optimisers written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import NotAvailable, Prepared
from benchmarks.workload import SGD, Adam, Task

try:
    import jax
    import jax.numpy as jnp

    from benchmarks.peers.jax_layers import apply, to_jax, to_torch
except ImportError as error:
    raise NotAvailable("JAX is not installed: pip install 'graphc-dl[bench]'") from error


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def adam(rule: Adam, params, grads, state):
    m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: rule.beta1 * m + (1 - rule.beta1) * g, m, grads)
    v = jax.tree.map(lambda v, g: rule.beta2 * v + (1 - rule.beta2) * g * g, v, grads)
    c1, c2 = 1 - rule.beta1**t, 1 - rule.beta2**t
    return jax.tree.map(lambda p, m, v: p - rule.lr * (m / c1) / (jnp.sqrt(v / c2) + rule.eps), params, m, v), (m, v, t)


def sgd(rule: SGD, params, grads, state):
    state = jax.tree.map(lambda m, g: rule.momentum * m + g, state, grads)
    return jax.tree.map(lambda p, m: p - rule.lr * m, params, state), state


class Runner:
    """One task: ``function`` does a case once, ``jitted`` and ``args`` are what it calls."""

    def __init__(self, task: Task, case: str, dtype: Any = np.float32) -> None:
        self.task, self.dtype = task, dtype
        weights = {k: self.array(v) for k, v in to_jax(task.net, task.weights()).items()}
        # statistics are carried along, not trained
        self.fixed = {k: v for k, v in weights.items() if k.rpartition(".")[2].startswith("running")}
        self.params = {k: v for k, v in weights.items() if k not in self.fixed}
        self.inputs = [self.images(a) for a in task.values()]
        self.jitted: Any = None
        self.args: tuple[Any, ...] = ()
        self.function = getattr(self, f"_{case}")()

    def array(self, a: np.ndarray) -> Any:
        return jnp.asarray(a.astype(self.dtype if a.dtype.kind == "f" else np.int32))

    def images(self, a: np.ndarray) -> Any:
        return self.array(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a)

    def net(self, params, inputs, train=False):
        stats: dict[str, Any] = {}
        x = inputs[0] if len(inputs) == 1 else tuple(inputs)
        return apply(self.task.net, params, x, train, stats), stats

    def loss(self, out, y):
        if self.task.loss == "mse":
            return jnp.mean((out - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1))

    def stateless(self, function, *args):
        self.jitted, self.args = jax.jit(function), args
        return lambda: jax.block_until_ready(self.jitted(*args))

    def _forward(self):
        return self.stateless(lambda p, xs: self.net(p, xs)[0], {**self.params, **self.fixed}, self.inputs)

    def _backward(self):
        moving = [i for i, x in enumerate(self.inputs) if jnp.issubdtype(x.dtype, jnp.floating)]

        def both(params, inputs, dy):
            def of(params, moved):
                xs = list(inputs)
                for i, x in zip(moving, moved):
                    xs[i] = x
                return self.net({**params, **self.fixed}, xs)[0]

            y, pull = jax.vjp(of, params, [inputs[i] for i in moving])
            return y, *pull(dy)

        return self.stateless(both, self.params, self.inputs, self.images(self.task.output_gradient()))

    def _loss(self):
        y = self.array(self.task.label_values())
        return self.stateless(jax.value_and_grad(lambda x, y: self.loss(self.net(self.params, [x])[0], y)), self.inputs[0], y)

    def _train(self):
        def step(params, fixed, state, xs, y):
            def loss_of(params):
                out, stats = self.net({**params, **fixed}, xs, True)
                return self.loss(out, y), stats

            (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
            params, state = self.update(params, grads, state)
            return params, stats, state, loss

        y = self.array(self.task.label_values())
        self.jitted = jax.jit(step, donate_argnums=(0, 1, 2))
        self.state = self.fresh()
        self.args = (self.params, self.fixed, self.state, self.inputs, y)

        def call():
            self.params, self.fixed, self.state, loss = self.jitted(self.params, self.fixed, self.state, self.inputs, y)
            jax.block_until_ready((self.params, loss))
            return loss

        return call

    def _update(self):
        grads = {k: self.array(v) for k, v in to_jax(self.task.net, self.task.gradients()).items()}
        self.jitted = jax.jit(self.update, donate_argnums=(0, 2))
        self.state = self.fresh()

        def call():
            self.params, self.state = jax.block_until_ready(self.jitted(self.params, grads, self.state))

        return call

    def update(self, params, grads, state):
        rule = self.task.optimizer
        return adam(rule, params, grads, state) if isinstance(rule, Adam) else sgd(rule, params, grads, state)

    def fresh(self):
        zeros = jax.tree.map(jnp.zeros_like, self.params)
        return (zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), self.dtype)) if isinstance(self.task.optimizer, Adam) else zeros

    def check(self, case: str) -> list[Any]:
        """See ``Prepared.check``; for a new runner."""
        if case == "train":
            return [[float(self.function()) for _ in range(3)]]
        if case == "update":
            for _ in range(3):
                self.function()
            return to_torch(self.task.net, self.params)
        if case == "backward":
            y, params, inputs = self.function()
            arrays = [*map(_channels_first, (y, *inputs)), *to_torch(self.task.net, params)]
            return arrays
        out = self.function()
        return [_channels_first(o) for o in (out if isinstance(out, tuple) else (out,))]


def _channels_first(a: Any) -> np.ndarray:
    a = np.asarray(a)
    return a.transpose(0, 3, 1, 2) if a.ndim == 4 else a


def prepare(task: Task, case: str, threads: int) -> Prepared:
    runner = Runner(task, case)
    return Prepared(runner.function, lambda: runner.check(case), "state donated" if case in ("train", "update") else "")


def first(task: Task, case: str, threads: int) -> None:
    Runner(task, case).function()


def in_float64(task: Task, case: str) -> list[Any]:
    """The reference where there is no torch."""
    with jax.enable_x64(True):
        return Runner(task, case, np.float64).check(case)


def memory(task: Task, case: str, threads: int) -> int:
    """Bytes that a call needs, by XLA's plan: arguments, results that share none of their memory, and temporaries."""
    runner = Runner(task, case)
    plan = runner.jitted.lower(*runner.args).compile().memory_analysis()
    return plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
