"""Transformer layers and stacks (Vaswani et al. 2017), with torch's arguments and state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.dtypes import as_dtype
from graphc.ir.node import Node
from graphc.ops.define import constant

from .. import init as initial
from ..module import Module
from ..parameter import current_trace
from .attention import MultiheadAttention
from .dropout import Dropout
from .linear import Linear
from .normalise import LayerNorm
from .structure import ModuleList

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = str | Callable[[Node], Node]


def _activation(value: Activation) -> Callable[[Node], Node]:
    if callable(value):
        return value
    if value not in ("relu", "gelu"):
        raise ArgumentError(f"activation={value!r}", hint="'relu', 'gelu' or a function of a tensor")
    return ops.relu if value == "relu" else ops.gelu  # type: ignore[no-any-return]


class _Block(Module):
    """Sublayers with residual connections: ``norm(x + f(x))``, or ``x + f(norm(x))`` with ``norm_first``."""

    norm_first: bool

    def _residual(self, x: Node, norm: Module, f: Callable[[Node], Node]) -> Node:
        return x + f(norm(x)) if self.norm_first else norm(x + f(x))  # type: ignore[no-any-return]

    def _make_feedforward(self, d_model: int, hidden: int, dropout: float, activation: Activation, bias: bool, dtype: Any) -> None:
        self.linear1 = Linear(d_model, hidden, bias=bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden, d_model, bias=bias, dtype=dtype)
        self.activation = _activation(activation)

    def _feedforward(self, x: Node) -> Node:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))  # type: ignore[no-any-return]


class TransformerEncoderLayer(_Block):
    """Self-attention and a feed-forward network, each with dropout, residual connection and layer norm.

    src is (S, N, d_model), or (N, S, d_model) with ``batch_first``. Masks as in :class:`MultiheadAttention`: True leaves out.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = "float32",
    ):
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._make_feedforward(d_model, dim_feedforward, dropout, activation, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        src: Node,
        src_mask: Node | None = None,
        src_key_padding_mask: Node | None = None,
        is_causal: bool = False,
    ) -> Node:
        def attend(x: Node) -> Node:
            return self.dropout1(self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0])  # type: ignore[no-any-return]

        x = self._residual(src, self.norm1, attend)
        return self._residual(x, self.norm2, lambda x: self.dropout2(self._feedforward(x)))


class TransformerDecoderLayer(_Block):
    """Self-attention, attention over the encoder's ``memory``, and a feed-forward network, each with residual and norm."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = "float32",
    ):
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._make_feedforward(d_model, dim_feedforward, dropout, activation, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        tgt: Node,
        memory: Node,
        tgt_mask: Node | None = None,
        memory_mask: Node | None = None,
        tgt_key_padding_mask: Node | None = None,
        memory_key_padding_mask: Node | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Node:
        def attend(x: Node) -> Node:
            out = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)
            return self.dropout1(out[0])  # type: ignore[no-any-return]

        def look(x: Node) -> Node:
            out = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )
            return self.dropout2(out[0])  # type: ignore[no-any-return]

        x = self._residual(tgt, self.norm1, attend)
        x = self._residual(x, self.norm2, look)
        return self._residual(x, self.norm3, lambda x: self.dropout3(self._feedforward(x)))


class TransformerEncoder(Module):
    """``num_layers`` copies of an encoder layer one after another, then ``norm`` if there is one.

    The copies have initial values of their own, unless the layer has been given values.
    """

    def __init__(self, encoder_layer: Module, num_layers: int, norm: Module | None = None):
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.norm = norm

    def forward(
        self,
        src: Node,
        mask: Node | None = None,
        src_key_padding_mask: Node | None = None,
        is_causal: bool = False,
    ) -> Node:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal=is_causal)
        return src if self.norm is None else self.norm(src)  # type: ignore[no-any-return]


class TransformerDecoder(Module):
    """``num_layers`` copies of a decoder layer one after another, then ``norm`` if there is one."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None):
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.norm = norm

    def forward(
        self,
        tgt: Node,
        memory: Node,
        tgt_mask: Node | None = None,
        memory_mask: Node | None = None,
        tgt_key_padding_mask: Node | None = None,
        memory_key_padding_mask: Node | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Node:
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                tgt_is_causal,
                memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)  # type: ignore[no-any-return]


class Transformer(Module):
    """Encoder and decoder, each ended by a layer norm: src (S, N, E) and tgt (T, N, E) -> (T, N, E), as torch's.

    Embeddings, positions and the last projection are left to the user. All weights of two axes or more start as Xavier uniform.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = "float32",
    ):
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        options: dict[str, Any] = {"batch_first": batch_first, "norm_first": norm_first, "bias": bias, "dtype": dtype}
        shared = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(TransformerEncoderLayer(*shared, **options), num_encoder_layers, norm())
        self.decoder = custom_decoder or TransformerDecoder(TransformerDecoderLayer(*shared, **options), num_decoder_layers, norm())
        for p in self.parameters():
            if p.ndim > 1 and p.value is None and p.store is None:
                p.init = initial.xavier_uniform()

    def forward(
        self,
        src: Node,
        tgt: Node,
        src_mask: Node | None = None,
        tgt_mask: Node | None = None,
        memory_mask: Node | None = None,
        src_key_padding_mask: Node | None = None,
        tgt_key_padding_mask: Node | None = None,
        memory_key_padding_mask: Node | None = None,
        src_is_causal: bool = False,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Node:
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ShapeError(
                f"Transformer: src and tgt must have {self.d_model} features, not {src.shape[-1]} and {tgt.shape[-1]}",
                hint="an nn.Linear or nn.Embedding before it makes d_model features",
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(  # type: ignore[no-any-return]
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: Size, dtype: Any = "float32") -> Any:
        """A float mask (sz, sz): 0 where position i may see position j <= i, else -inf.

        A tensor inside of a trace, where ``sz`` may be a named size; an array otherwise.

        >>> Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        if current_trace() is not None:
            kind = as_dtype(dtype)
            return ops.where(ops.causal_mask(sz), constant(0.0, kind), constant(-np.inf, kind))
        if not isinstance(sz, (int, np.integer)):
            raise ShapeError(f"generate_square_subsequent_mask({sz!r}) outside of a trace", hint="a number")
        return np.triu(np.full((sz, sz), -np.inf, as_dtype(dtype).numpy), 1)
