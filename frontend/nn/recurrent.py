"""Recurrent cells and layers, with torch's parameters, names and gate orders."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphc import ops
from graphc.errors import ShapeError
from graphc.ir.node import Node
from graphc.ops.define import constant, show
from graphc.ops.views import broadcast_to

from .. import init as initial
from ..module import Module
from ..parameter import Parameter, current_trace

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


def _parameter(shape: tuple[int, ...], hidden: int, dtype: Any) -> Parameter:
    bound = 1.0 / math.sqrt(max(hidden, 1))
    return Parameter(shape, init=initial.uniform(-bound, bound), dtype=dtype)


# -- cells -------------------------------------------------------------------------------------------------------
class _Cell(Module):
    _gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = "float32"):
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self._gates * hidden_size
        self.weight_ih = _parameter((rows, input_size), hidden_size, dtype)
        self.weight_hh = _parameter((rows, hidden_size), hidden_size, dtype)
        self.bias_ih = _parameter((rows,), hidden_size, dtype) if bias else None
        self.bias_hh = _parameter((rows,), hidden_size, dtype) if bias else None

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _start(self, x: Node) -> Node:
        return broadcast_to(constant(0.0, x.dtype), (*x.shape[:-1], self.hidden_size))

    def describe(self) -> dict[str, Any]:
        own = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        return own if self.bias else own | {"bias": False}


class RNNCell(_Cell):
    """``tanh(W_ih x + b_ih + W_hh h + b_hh)``, or relu: (..., input_size), (..., hidden_size) -> the next state.

    The state is 0 unless given; parameters are uniform with bound 1/sqrt(hidden_size), as in all recurrent layers.
    """

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: Any = "float32",
    ):
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, x: Node, hx: Node | None = None) -> Node:
        return ops.rnn_cell(x, self._start(x) if hx is None else hx, *self._weights(), nonlinearity=self.nonlinearity)


class LSTMCell(_Cell):
    """One step of an LSTM: x and the state (h, c) -> (h', c'). Gates stand in the order i, f, g, o."""

    _gates = 4

    def forward(self, x: Node, hx: tuple[Node, Node] | None = None) -> tuple[Node, Node]:
        h, c = (self._start(x), self._start(x)) if hx is None else hx
        h, c = ops.lstm_cell(x, h, c, *self._weights())
        return h, c


class GRUCell(_Cell):
    """One step of a GRU: x and the state -> the next state. Gates stand in the order r, z, n.

    ``reset_after`` and ``z_keeps`` choose the convention, see ``graphc.ops.gru_cell``; the defaults are torch's.
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        dtype: Any = "float32",
        reset_after: bool = True,
        z_keeps: bool = True,
    ):
        super().__init__(input_size, hidden_size, bias, dtype)
        self.reset_after, self.z_keeps = reset_after, z_keeps

    def forward(self, x: Node, hx: Node | None = None) -> Node:
        start = self._start(x) if hx is None else hx
        return ops.gru_cell(x, start, *self._weights(), reset_after=self.reset_after, z_keeps=self.z_keeps)


# -- layers ------------------------------------------------------------------------------------------------------
class _Recurrent(Module):
    _gates: int

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
        proj_size: int = 0,
    ):
        name = type(self).__name__
        if num_layers < 1 or hidden_size < 1:
            raise ShapeError(
                f"{name}: num_layers = {num_layers} and hidden_size = {hidden_size} must be at least 1",
                hint="nn.LSTM(input_size, hidden_size, num_layers=1)",
            )
        if not 0.0 <= dropout <= 1.0:
            raise ShapeError(f"{name}: dropout = {dropout} is not in [0, 1]", hint="the part that becomes 0 between layers, as 0.2")
        if dropout and num_layers == 1:
            raise ShapeError(
                f"{name}: dropout = {dropout} stands between layers, and there is one layer",
                hint="num_layers=2, or nn.Dropout after the layer",
            )
        if not 0 <= proj_size < hidden_size:
            raise ShapeError(f"{name}: proj_size = {proj_size} is not in [0, hidden_size)", hint="0 for none")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.proj_size = bidirectional, proj_size
        rows, state = self._gates * hidden_size, proj_size or hidden_size
        for layer, suffix in self._suffixes():
            shapes = {
                "weight_ih": (rows, input_size if layer == 0 else state * (1 + bidirectional)),
                "weight_hh": (rows, state),
                **({"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}),
                **({"weight_hr": (proj_size, hidden_size)} if proj_size else {}),
            }
            for key, shape in shapes.items():
                setattr(self, key + suffix, _parameter(shape, hidden_size, dtype))

    def _suffixes(self) -> list[tuple[int, str]]:
        """Layer and name's end of each set of weights."""
        ends = ("", "_reverse") if self.bidirectional else ("",)
        return [(k, f"_l{k}{end}") for k in range(self.num_layers) for end in ends]

    def _sets(self) -> list[tuple[Any, ...]]:
        keys = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *(["weight_hr"] if self.proj_size else []))
        return [tuple(getattr(self, key + suffix, None) for key in keys) for _, suffix in self._suffixes()]

    def _between(self) -> Callable[[Node], Node] | None:
        trace = current_trace()
        if trace is None or not trace.training or self.dropout == 0.0:
            return None

        def drop(x: Node) -> Node:
            seed, step, stream = trace.random()
            return ops.dropout(x, seed, step, p=self.dropout, stream=stream)

        return drop

    def _check(self, x: Node) -> None:
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            order = "batch, time" if self.batch_first else "time, batch"
            raise ShapeError(
                f"{type(self).__name__.lower()}: x is {show(x.shape)}, expected ({order}, {self.input_size}) or (time, {self.input_size})",
                hint=f"nn.{type(self).__name__}({x.shape[-1]}, {self.hidden_size})" if x.ndim in (2, 3) else "",
            )

    def _options(self, lengths: Node | None) -> dict[str, Any]:
        return {
            "lengths": lengths,
            "bidirectional": self.bidirectional,
            "batch_first": self.batch_first,
            "between": self._between(),
        }

    def describe(self) -> dict[str, Any]:
        own: dict[str, Any] = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        usual = {
            "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False, "proj_size": 0,
        }  # fmt: skip
        return own | {k: getattr(self, k) for k, v in usual.items() if getattr(self, k) != v}


class RNN(_Recurrent):
    """Elman layers over time: (time, batch, input_size) -> (outputs, h_n).

    Outputs are (time, batch, directions * hidden_size) and h_n (num_layers * directions, batch, hidden_size); with
    ``batch_first`` x and outputs are (batch, time, ...). ``lengths`` (batch,) gives the results of torch's packed sequences:
    a padded step leaves the state as it is and gives 0, and the way back begins at each sequence's own end.

    >>> [name for name, _ in RNN(3, 4).named_parameters()]
    ['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
    """

    _gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
    ):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, x: Node, hx: Node | None = None, lengths: Node | None = None) -> tuple[Node, Node]:
        self._check(x)
        return ops.rnn(x, self._sets(), hx, nonlinearity=self.nonlinearity, **self._options(lengths))


class LSTM(_Recurrent):
    """LSTM layers over time, as :class:`RNN`: x and the state (h, c) -> (outputs, (h_n, c_n)).

    With ``proj_size`` the hidden state is projected to that many features after each step (Sak et al. 2014).
    """

    _gates = 4

    def forward(
        self, x: Node, hx: tuple[Node, Node] | None = None, lengths: Node | None = None
    ) -> tuple[Node, tuple[Node, Node]]:
        self._check(x)
        return ops.lstm(x, self._sets(), hx, **self._options(lengths))


class GRU(_Recurrent):
    """GRU layers over time, as :class:`RNN`. ``reset_after`` and ``z_keeps`` choose the convention, as in :class:`GRUCell`."""

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = "float32",
        reset_after: bool = True,
        z_keeps: bool = True,
    ):
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.reset_after, self.z_keeps = reset_after, z_keeps

    def forward(self, x: Node, hx: Node | None = None, lengths: Node | None = None) -> tuple[Node, Node]:
        self._check(x)
        convention = {"reset_after": self.reset_after, "z_keeps": self.z_keeps}
        return ops.gru(x, self._sets(), hx, **convention, **self._options(lengths))
