"""The layers in JAX: ``apply(layer, params, x)``. Images are channels-last, which XLA prefers on a CPU."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks import layers as L

Params = dict[str, Any]


def to_jax(net: L.Layer, weights: dict[str, np.ndarray]) -> Params:
    """Weights in the layouts that suit JAX: matrices (in, out), filters (height, width, in, out); statistics stay behind."""
    out: Params = {}
    for prefix, layer in L.walk(net):
        for name in layer.params():
            array = weights[prefix + name]
            if isinstance(layer, (L.Linear, L.Recurrent)) and array.ndim == 2:
                array = array.T
            elif isinstance(layer, L.Conv) and array.ndim == 4:
                array = array.transpose(2, 3, 1, 0)
            out[prefix + name] = np.ascontiguousarray(array)
    return out


def to_torch(net: L.Layer, params: Params) -> list[np.ndarray]:
    """Arrays of the trained parameters in torch's layouts and order."""
    out = []
    for prefix, layer in L.walk(net):
        for name in layer.params():
            if name.startswith("running"):
                continue
            array = np.asarray(params[prefix + name])
            if isinstance(layer, (L.Linear, L.Recurrent)) and array.ndim == 2:
                array = array.T
            elif isinstance(layer, L.Conv) and array.ndim == 4:
                array = array.transpose(3, 2, 0, 1)
            out.append(array)
    return out


def inside(params: Params, name: str) -> Params:
    """The parameters of a layer inside."""
    prefix = name + "."
    return {k[len(prefix) :]: v for k, v in params.items() if k.startswith(prefix)}


@singledispatch
def apply(layer: Any, p: Params, x: Any, train: bool, stats: Params) -> Any:
    """The layer's output. In training, new running statistics go into ``stats`` under the names in ``p``."""
    raise NotImplementedError(type(layer).__name__)


def inner(layer: L.Layer, name: str, p: Params, x: Any, train: bool, stats: Params) -> Any:
    own: Params = {}
    out = apply(layer, inside(p, name), x, train, own)
    stats.update({f"{name}.{k}": v for k, v in own.items()})
    return out


@apply.register
def _(layer: L.Chain, p, x, train, stats):
    for i, one in enumerate(layer.layers):
        x = inner(one, str(i), p, x, train, stats)
    return x


@apply.register
def _(layer: L.Residual, p, x, train, stats):
    short = x if layer.shortcut is None else inner(layer.shortcut, "shortcut", p, x, train, stats)
    return inner(layer.body, "body", p, x, train, stats) + short


@apply.register
def _(layer: L.Flatten, p, x, train, stats):
    x = jnp.transpose(x, (0, 3, 1, 2)) if x.ndim == 4 else x
    return x.reshape(x.shape[0], -1)


@apply.register
def _(layer: L.Rows, p, x, train, stats):
    return x.reshape(-1, layer.width)


@apply.register
def _(layer: L.LastStep, p, x, train, stats):
    return x[:, -1]


@apply.register
def _(layer: L.Relu, p, x, train, stats):
    return jax.nn.relu(x)


@apply.register
def _(layer: L.Gelu, p, x, train, stats):
    return jax.nn.gelu(x, approximate=layer.approximate == "tanh")


@apply.register
def _(layer: L.Scale, p, x, train, stats):
    return x * layer.factor + layer.term


@apply.register
def _(layer: L.Softmax, p, x, train, stats):
    return jax.nn.log_softmax(x) if layer.log else jax.nn.softmax(x)


def normalised(x, axes):
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5), mean, var


@apply.register
def _(layer: L.LayerNorm, p, x, train, stats):
    return normalised(x, -1)[0] * p["weight"] + p["bias"]


@apply.register
def _(layer: L.RMSNorm, p, x, train, stats):
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5) * p["weight"]


@apply.register
def _(layer: L.BatchNorm, p, x, train, stats):
    if layer.running and not train:
        return (x - p["running_mean"]) * (lax.rsqrt(p["running_var"] + 1e-5) * p["weight"]) + p["bias"]
    axes = tuple(range(x.ndim - 1))
    y, mean, var = normalised(x, axes)
    if layer.running:
        n = x.size // layer.width
        stats["running_mean"] = 0.9 * p["running_mean"] + 0.1 * mean.ravel()
        stats["running_var"] = 0.9 * p["running_var"] + 0.1 * var.ravel() * n / (n - 1)
    return y * p["weight"] + p["bias"]


@apply.register
def _(layer: L.Linear, p, x, train, stats):
    return x @ p["weight"] + p["bias"]


@apply.register
def _(layer: L.Product, p, x, train, stats):
    a, b = x
    return jax.nn.relu(a @ b + p["bias"])


@apply.register
def _(layer: L.Conv, p, x, train, stats):
    pad = [(layer.padding, layer.padding)] * 2
    y = lax.conv_general_dilated(x, p["weight"], (layer.stride,) * 2, pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + p["bias"] if layer.bias else y


@apply.register
def _(layer: L.MaxPool, p, x, train, stats):
    window = (1, layer.size, layer.size, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


@apply.register
def _(layer: L.MeanPool, p, x, train, stats):
    return x.mean((1, 2))


@apply.register
def _(layer: L.Embedding, p, x, train, stats):
    return p["weight"][x]


@apply.register
def _(layer: L.Positions, p, x, train, stats):
    return x + p["table"]


@apply.register
def _(layer: L.Recurrent, p, x, train, stats):
    w_ih, w_hh, b_ih, b_hh = (p[f"layer.{k}_l0"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    start = jnp.zeros((x.shape[0], layer.hidden), x.dtype)
    lstm = layer.kind == "LSTM"
    xs = jnp.swapaxes(x @ w_ih + (b_ih + b_hh if lstm else b_ih), 0, 1)

    def lstm_step(state, x):
        h, c = state
        i, f, g, o = jnp.split(x + h @ w_hh, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru_step(h, x):
        (xr, xz, xn), (hr, hz, hn) = jnp.split(x, 3, -1), jnp.split(h @ w_hh + b_hh, 3, -1)
        z, n = jax.nn.sigmoid(xz + hz), jnp.tanh(xn + jax.nn.sigmoid(xr + hr) * hn)
        h = (1 - z) * n + z * h
        return h, h

    _, outputs = lax.scan(lstm_step, (start, start), xs) if lstm else lax.scan(gru_step, start, xs)
    return jnp.swapaxes(outputs, 0, 1)


@apply.register
def _(layer: L.Attention, p, x, train, stats):
    n, t, _ = x.shape
    size = layer.width // layer.heads
    qkv = (x @ p["qkv.weight"] + p["qkv.bias"]).reshape(n, t, 3, layer.heads, size)
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores = jnp.einsum("nthd,nshd->nhts", q, k) * size**-0.5
    scores = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf))
    mixed = jnp.einsum("nhts,nshd->nthd", scores, v).reshape(n, t, layer.width)
    return mixed @ p["out.weight"] + p["out.bias"]
