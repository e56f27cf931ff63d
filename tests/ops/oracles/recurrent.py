"""Recurrent cells and layers, CTC: PyTorch's own; ONNX's reference where PyTorch lacks the convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ops.lazy_torch import F, torch


def onnx_gru(x, h, w_ih, w_hh, b_ih=None, b_hh=None, reset_after=False):
    """GRU over (time, batch, input) by ONNX's reference. ONNX orders the gates z, r, n."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    def order(w):
        w = np.asarray(w)
        size = len(w) // 3
        return np.concatenate([w[size : 2 * size], w[:size], w[2 * size :]])[None]

    rows = len(w_hh)
    bias = [np.zeros((1, rows)) if b is None else order(b) for b in (b_ih, b_hh)]
    node = helper.make_node("GRU", ["x", "w", "r", "b", "", "h"], ["y", "last"], hidden_size=rows // 3, linear_before_reset=int(reset_after))
    kinds = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in ("x", "w", "r", "b", "h", "y", "last")]
    model = helper.make_model(helper.make_graph([node], "gru", kinds[:5], kinds[5:]))
    feeds = {"x": np.asarray(x), "w": order(w_ih), "r": order(w_hh), "b": np.concatenate(bias, 1), "h": np.asarray(h)[None]}
    y, last = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(y)[:, 0], np.asarray(last)[0]


def _opposite(w):
    """Weights of the gate z with the other sign: sigmoid(-a) = 1 - sigmoid(a), so keeping and taking are exchanged."""
    if w is None:
        return None
    size = len(w) // 3
    return torch.cat([w[:size], -w[size : 2 * size], w[2 * size :]])


def _rnn_cell(x, h, w_ih, w_hh, b_ih=None, b_hh=None, nonlinearity="tanh"):
    return getattr(torch, f"rnn_{nonlinearity}_cell")(*_batched(x, h), w_ih, w_hh, b_ih, b_hh).reshape(h.shape)


def _lstm_cell(x, h, c, *weights):
    out = torch.lstm_cell(_batched(x)[0], _batched(h, c), *weights)
    return tuple(o.reshape(h.shape) for o in out)


def _gru_cell(x, h, *weights, reset_after=True, z_keeps=True):
    weights = weights if z_keeps else [_opposite(w) for w in weights]
    rows, states = _batched(x, h)
    if reset_after:
        return torch.gru_cell(rows, states, *weights).reshape(h.shape)
    return torch.from_numpy(onnx_gru(rows[None], states, *weights)[1]).reshape(h.shape)


def _batched(*xs):
    return [x.reshape(-1, x.shape[-1]) for x in xs]


def _layer(kind: str, x: Any, state: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, w_hr: Any, lengths: Any, reverse: bool, **options: Any) -> Any:
    """One direction of a torch layer: the second of a bidirectional one where it walks backwards."""
    hidden = w_hh.shape[0] // {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    size = {"proj_size": len(w_hr)} if w_hr is not None else {}
    layer = getattr(torch.nn, kind)(x.shape[-1], hidden, bidirectional=reverse, dtype=x.dtype, **size, **options)
    own = {"weight_ih_l0": w_ih, "weight_hh_l0": w_hh, "bias_ih_l0": b_ih, "bias_hh_l0": b_hh, "weight_hr_l0": w_hr}
    given = {k: v for k, v in own.items() if v is not None}
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(given.get(name.removesuffix("_reverse"), torch.zeros(())))
        if lengths is not None:
            x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        start = tuple(torch.stack([s] * (1 + reverse)) for s in state)
        y, last = layer(x, start if kind == "LSTM" else start[0])
        if lengths is not None:
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(y)
    features = state[0].shape[-1]
    return (y[..., -features:], *(s[-1] for s in (last if kind == "LSTM" else [last])))


def _rnn(x, h, w_ih, w_hh, b_ih=None, b_hh=None, lengths=None, nonlinearity="tanh", reverse=False):
    return _layer("RNN", x, (h,), w_ih, w_hh, b_ih, b_hh, None, lengths, reverse, nonlinearity=nonlinearity)


def _lstm(x, h, c, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, lengths=None, reverse=False):
    return _layer("LSTM", x, (h, c), w_ih, w_hh, b_ih, b_hh, w_hr, lengths, reverse)


def _gru(x, h, w_ih, w_hh, b_ih=None, b_hh=None, lengths=None, reset_after=True, z_keeps=True, reverse=False):
    if not reset_after:
        assert z_keeps and lengths is None and not reverse
        return tuple(map(torch.from_numpy, onnx_gru(x, h, w_ih, w_hh, b_ih, b_hh)))
    weights = (w_ih, w_hh, b_ih, b_hh) if z_keeps else map(_opposite, (w_ih, w_hh, b_ih, b_hh))
    return _layer("GRU", x, (h,), *weights, None, lengths, reverse)


TORCH: dict[str, Callable[..., Any]] = {
    "rnn_cell": _rnn_cell, "lstm_cell": _lstm_cell, "gru_cell": _gru_cell, "rnn_layer": _rnn, "lstm_layer": _lstm, "gru_layer": _gru,
    "ctc_loss": lambda *a, **k: F.ctc_loss(*a, **k),
}  # fmt: skip
