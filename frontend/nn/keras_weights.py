"""Weights of Keras' layers as a state dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from graphc.errors import ParameterError
from graphc.locate import public

from ..module import Module
from ..parameter import Parameter
from .conv import Conv1d, Conv2d, Conv3d
from .embedding import Embedding
from .linear import Linear
from .normalise import BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm
from .recurrent import GRU, LSTM, RNN

__all__ = ["from_keras"]

Take = Callable[[], np.ndarray]
Named = Iterator[tuple[str, np.ndarray]]


def from_keras(module: Module, weights: Iterable[Any]) -> dict[str, np.ndarray]:
    """The state dict for ``module`` from what ``get_weights()`` of an equal Keras model gives.

    The layers must come in the same order: ``module``'s in that of their assignment, Keras' in that of ``model.layers``. Known are
    Linear (Dense), Conv1d to 3d, Embedding, BatchNorm, LayerNorm, RNN (SimpleRNN), LSTM and GRU, also bidirectional, with a layer of
    Keras for each of ``num_layers``. Keras flattens (H, W, C): before a ``Linear`` that comes after a ``Flatten`` of Keras write
    ``x.permute(0, 2, 3, 1).flatten(1)``.

    >>> net = Linear(2, 3)
    >>> state = from_keras(net, [np.ones((2, 3)), np.zeros(3)])
    >>> net.load_state_dict(state)
    >>> state["weight"].shape
    (3, 2)
    """
    left = [np.asarray(w) for w in weights]
    given = len(left)

    def take() -> np.ndarray:
        if not left:
            raise ParameterError(
                f"{type(module).__name__} has more parameters than the {given} arrays given",
                hint="model.get_weights() of a model with the same layers in the same order",
            )
        return left.pop(0)

    state: dict[str, np.ndarray] = {}
    for path, layer in (("", module), *module.named_modules()):
        own = [k for k, v in vars(layer).items() if isinstance(v, Parameter) and k != "num_batches_tracked"]
        if not own:
            continue
        rule = next((r for kinds, r in _RULES if isinstance(layer, kinds)), None)
        if rule is None:
            raise ParameterError(f"no layer of Keras is known for {path or 'the module'} ({type(layer).__name__})", hint="fill the state dict by hand")
        for name, value in rule(layer, take):
            state[f"{path}.{name}" if path else name] = value
        if "num_batches_tracked" in vars(layer):  # Keras counts none; it matters for momentum=None only
            state[f"{path}.num_batches_tracked" if path else "num_batches_tracked"] = np.zeros((), np.int64)
    if left:
        raise ParameterError(
            f"{type(module).__name__} takes {given - len(left)} of the {given} arrays",
            hint="model.get_weights() of a model with the same layers in the same order",
        )
    return state


def _affine(layer: Any, take: Take) -> Named:
    """Kernels are (*sizes, in, out) in Keras, (out, in, *sizes) here."""
    kernel = take()
    yield "weight", np.transpose(kernel, (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2)))
    if layer.bias is not None:
        yield "bias", take()


def _in_order(layer: Any, take: Take) -> Named:
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(layer, name, None) is not None:
            yield name, take()


def _recurrent(layer: Any, take: Take) -> Named:
    """Gates stand side by side in columns, those of a GRU as z, r, h; all but the GRU have one bias for both products."""
    h = layer.hidden_size

    def gates(a: np.ndarray) -> np.ndarray:  # rows, in torch's order
        rows = a.T if a.ndim == 2 else a
        return np.concatenate([rows[h : 2 * h], rows[:h], rows[2 * h :]]) if isinstance(layer, GRU) else rows

    for _, suffix in layer._suffixes():
        yield "weight_ih" + suffix, gates(take())
        yield "weight_hh" + suffix, gates(take())
        if layer.bias:
            bias = take()
            of_input, of_state = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))
            yield "bias_ih" + suffix, gates(of_input)
            yield "bias_hh" + suffix, gates(of_state)


_RULES: tuple[tuple[tuple[type, ...], Callable[[Any, Take], Named]], ...] = (
    ((Linear, Conv1d, Conv2d, Conv3d), _affine),
    ((BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm, Embedding), _in_order),
    ((RNN, LSTM, GRU), _recurrent),
)


public(globals())
