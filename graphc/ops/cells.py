"""One step of a recurrent network: rnn_cell, lstm_cell, gru_cell.

A cell is a *step* on ``a``, the contribution of the input and of the biases, and on the state. The layers of
:mod:`recurrent` compute ``a`` for all time steps by one contraction and repeat the step alone. Weights are torch's: the gates
stand below each other, ``weight_ih`` (gates * hidden, input) and ``weight_hh`` (gates * hidden, hidden).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import DTypeError, ShapeError, TraceError
from ..ir.node import Node
from ..ir.op import Sample
from .activations import relu, sigmoid
from .define import composite, rand, show
from .elementwise import tanh
from .layers import linear
from .views import pad

__all__ = ["add_biases", "check_weights", "gru_biases", "gru_cell", "gru_step", "lstm_cell", "lstm_step", "nonlinearity_of", "rnn_cell", "rnn_step", "same_float"]

NONLINEARITIES: dict[str, Callable[[Node], Node]] = {"relu": relu, "tanh": tanh}


# -- what cells and layers share --------------------------------------------------------------------------------------------
def nonlinearity_of(name: str) -> Callable[[Node], Node]:
    """The activation of a name; raises TraceError for others."""
    if name not in NONLINEARITIES:
        raise TraceError(f"nonlinearity={name!r}", hint=" or ".join(map(repr, NONLINEARITIES)))
    return NONLINEARITIES[name]


def same_float(operands: Sequence[Node | None]) -> None:
    """Raises DTypeError unless all operands are of one float dtype."""
    found = {o.dtype for o in operands if o is not None}
    if len(found) > 1 or not next(iter(found)).is_float:
        raise DTypeError(f"operands have dtypes {', '.join(sorted(map(str, found)))}: one float dtype is needed", hint="x.cast(dtype)")


def add_biases(bias_ih: Node | None, bias_hh: Node | None) -> Node | None:
    """The biases of both contractions as one."""
    return bias_hh if bias_ih is None else bias_ih if bias_hh is None else bias_ih + bias_hh


def gru_biases(bias_ih: Node | None, bias_hh: Node | None, reset_after: bool) -> tuple[Node | None, Node | None]:
    """What is added before the step, and what only the hidden part of the candidate has (the reset gate multiplies it)."""
    if bias_hh is None or not reset_after:
        return add_biases(bias_ih, bias_hh), None
    hidden = _gate_size(bias_hh, 3)
    return add_biases(bias_ih, pad(bias_hh[: 2 * hidden], (0,), (hidden,))), bias_hh[2 * hidden :]


def _gate_size(weight: Node, gates: int) -> int:
    rows = weight.shape[0]
    assert isinstance(rows, int)
    return rows // gates


def check_weights(x: Node, state: Node, weight_ih: Node, weight_hh: Node, biases: Sequence[Node | None], gates: int) -> None:
    """Raises ShapeError where weights do not fit the last axes of the input and the state, or one another."""
    rows = weight_ih.shape[0] if weight_ih.ndim == 2 else 0
    if not isinstance(rows, int) or weight_ih.ndim != 2 or weight_hh.ndim != 2 or rows % gates or weight_hh.shape[0] != rows:
        raise ShapeError(
            f"weight_ih {show(weight_ih.shape)} and weight_hh {show(weight_hh.shape)} must be ({gates} * hidden, input) and ({gates} * hidden, hidden)"
        )
    if x.shape[-1] != weight_ih.shape[1]:
        raise ShapeError(f"x {show(x.shape)} has {x.shape[-1]} features, weight_ih {show(weight_ih.shape)} takes {weight_ih.shape[1]}")
    if state.shape[-1] != weight_hh.shape[1]:
        raise ShapeError(f"the state {show(state.shape)} has {state.shape[-1]} features, weight_hh {show(weight_hh.shape)} takes {weight_hh.shape[1]}")
    for b in biases:
        if b is not None and b.shape != (rows,):
            raise ShapeError(f"a bias is {show(b.shape)}, not {show((rows,))}")


def _parts(a: Node, count: int) -> list[Node]:
    """The gates of a step, along the last axis."""
    size = a.shape[-1]
    assert isinstance(size, int)
    size //= count
    return [a[..., i * size : (i + 1) * size] for i in range(count)]


# -- the steps ---------------------------------------------------------------------------------------------------------------
def rnn_step(a: Node, h: Node, weight_hh: Node, nonlinearity: str) -> Node:
    """The next hidden state."""
    return nonlinearity_of(nonlinearity)(a + linear(h, weight_hh))


def lstm_step(a: Node, h: Node, c: Node, weight_hh: Node, weight_hr: Node | None = None) -> tuple[Node, Node]:
    """The next hidden state and the next cell state."""
    i, f, g, o = _parts(a + linear(h, weight_hh), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(c)
    return h if weight_hr is None else linear(h, weight_hr), c


def gru_step(a: Node, h: Node, weight_hh: Node, candidate_bias: Node | None, reset_after: bool, z_keeps: bool) -> Node:
    """The next hidden state."""
    size = _gate_size(weight_hh, 3)
    a_r, a_z, a_n = _parts(a, 3)
    if reset_after:
        h_r, h_z, h_n = _parts(linear(h, weight_hh), 3)
        r, z = sigmoid(a_r + h_r), sigmoid(a_z + h_z)
        n = tanh(a_n + r * (h_n if candidate_bias is None else h_n + candidate_bias))
    else:
        h_r, h_z = _parts(linear(h, weight_hh[: 2 * size]), 2)
        r, z = sigmoid(a_r + h_r), sigmoid(a_z + h_z)
        n = tanh(a_n + linear(r * h, weight_hh[2 * size :]))
    return n + z * (h - n) if z_keeps else h + z * (n - h)


# -- the cells ---------------------------------------------------------------------------------------------------------------
def _prepare(gates: int, states: int) -> Callable[[list[Node | None], dict[str, Any]], None]:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        same_float(ins)
        x, *rest = ins
        state, (weight_ih, weight_hh, *biases) = rest[:states], rest[states:]
        assert x is not None and weight_ih is not None and weight_hh is not None and state[0] is not None
        for s in state:
            assert s is not None
            if s.ndim != x.ndim or s.shape[:-1] != x.shape[:-1]:
                raise ShapeError(f"x {show(x.shape)} and the state {show(s.shape)} must be (..., input) and (..., hidden)")
        check_weights(x, state[0], weight_ih, weight_hh, biases, gates)
        hidden = weight_ih.shape[0] // gates
        for s in state:
            assert s is not None
            if s.shape[-1] != hidden:
                raise ShapeError(f"the state {show(s.shape)} does not have the {hidden} features of weight_ih {show(weight_ih.shape)}")
        if "nonlinearity" in attrs:
            nonlinearity_of(attrs["nonlinearity"])

    return prepare


def _arrays(gates: int, states: int, *lead: int, n_in: int = 3, hidden: int = 5, biases: int = 2) -> tuple[Any, ...]:
    """Operands of a cell: x, states, weights, biases."""
    rows = gates * hidden
    given = [rand(*lead, n_in), *(rand(*lead, hidden, seed=k + 1) for k in range(states)), rand(rows, n_in, seed=4), rand(rows, hidden, seed=5)]
    return (*given, *(rand(rows, seed=6 + k) for k in range(biases)))


def _errors(gates: int, states: int) -> Callable[[], list[Sample]]:
    def make() -> list[Sample]:
        good = _arrays(gates, states, 2)
        wide, short = rand(2, 4), rand(3, 5)
        swapped = (*good[: 1 + states], good[2 + states], good[1 + states])
        return [
            Sample((wide, *good[1:]), error="4 features"), Sample((good[0], short, *good[2:]), error="must be (..., input)"),
            Sample(swapped, error="3 features"), Sample((*good[:-1], rand(7)), error="a bias is (7,)"),
        ]  # fmt: skip

    return make


_TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@composite(
    "rnn_cell",
    inputs=6,
    prepare=_prepare(1, 1),
    samples=lambda: [
        Sample(_arrays(1, 1, 2)), Sample(_arrays(1, 1, 1, n_in=1, hidden=1, biases=0)), Sample(_arrays(1, 1, n_in=19, hidden=33)),
        Sample(_arrays(1, 1, 4), {"nonlinearity": "relu"}), Sample(_arrays(1, 1, 0)), Sample((*_arrays(1, 1, 2, 3, biases=0), None, rand(5))),
    ],
    errors=lambda: [*_errors(1, 1)(), Sample(_arrays(1, 1, 2), {"nonlinearity": "sine"}, error="'relu' or 'tanh'")],
    tolerance=_TOLERANCE,
)  # fmt: skip
def rnn_cell(
    x: Node, h: Node, weight_ih: Node, weight_hh: Node, bias_ih: Node | None = None, bias_hh: Node | None = None, nonlinearity: str = "tanh"
) -> Node:
    """``phi(W_ih x + b_ih + W_hh h + b_hh)`` with phi tanh or relu (Elman 1990): the next hidden state.

    x (..., input), h (..., hidden), weight_ih (hidden, input), weight_hh (hidden, hidden), biases (hidden,) -> (..., hidden). As
    torch's ``RNNCell``. One W on ``[h, x]`` is ``[W_hh, W_ih]`` side by side.
    """
    return rnn_step(linear(x, weight_ih, add_biases(bias_ih, bias_hh)), h, weight_hh, nonlinearity)


@composite(
    "lstm_cell",
    inputs=7,
    prepare=_prepare(4, 2),
    samples=lambda: [
        Sample(_arrays(4, 2, 2)), Sample(_arrays(4, 2, 1, n_in=1, hidden=1, biases=0)), Sample(_arrays(4, 2, n_in=7, hidden=19)),
        Sample(_arrays(4, 2, 3, biases=1)), Sample(_arrays(4, 2, 0)), Sample((*_arrays(4, 2, 2, biases=0), None, rand(20))),
    ],
    errors=_errors(4, 2),
    tolerance=_TOLERANCE,
)  # fmt: skip
def lstm_cell(
    x: Node, h: Node, c: Node, weight_ih: Node, weight_hh: Node, bias_ih: Node | None = None, bias_hh: Node | None = None
) -> tuple[Node, Node]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), as torch's ``LSTMCell``.

    With ``i, f, g, o`` the four parts, in this order, of ``W_ih x + b_ih + W_hh h + b_hh``::

        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)        h' = sigmoid(o) * tanh(c')

    x (..., input), h and c (..., hidden), weight_ih (4 hidden, input), weight_hh (4 hidden, hidden), biases (4 hidden,) -> (h', c').
    """
    return lstm_step(linear(x, weight_ih, add_biases(bias_ih, bias_hh)), h, c, weight_hh)


@composite(
    "gru_cell",
    inputs=6,
    prepare=_prepare(3, 1),
    samples=lambda: [
        Sample(_arrays(3, 1, 2)), Sample(_arrays(3, 1, 1, n_in=1, hidden=1, biases=0)), Sample(_arrays(3, 1, n_in=7, hidden=19)),
        Sample(_arrays(3, 1, 2), {"reset_after": False}), Sample(_arrays(3, 1, 0)), Sample((*_arrays(3, 1, 2, biases=0), None, rand(15)), {"z_keeps": False}),
        Sample(_arrays(3, 1, 2), {"reset_after": False, "z_keeps": False}), Sample(_arrays(3, 1, 2, biases=1)),
    ],
    errors=_errors(3, 1),
    tolerance=_TOLERANCE,
)  # fmt: skip
def gru_cell(
    x: Node,
    h: Node,
    weight_ih: Node,
    weight_hh: Node,
    bias_ih: Node | None = None,
    bias_hh: Node | None = None,
    reset_after: bool = True,
    z_keeps: bool = True,
) -> Node:
    """Gated recurrent unit (Cho et al. 2014): the next hidden state. Gates stand in the order r, z, n.

    ``r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)`` and ``z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)``; then there are two conventions
    on the candidate n and two on z, and weights trained with one do not fit another::

        reset_after=True     n = tanh(W_in x + b_in + r * (W_hn h + b_hn))      torch, cuDNN, Keras' default
        reset_after=False    n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)      Cho et al. 2014, Chung et al. 2014
        z_keeps=True         h' = z * h + (1 - z) * n                           torch, Keras, Cho et al. 2014
        z_keeps=False        h' = (1 - z) * h + z * n                           Chung et al. 2014

    x (..., input), h (..., hidden), weight_ih (3 hidden, input), weight_hh (3 hidden, hidden), biases (3 hidden,) -> (..., hidden).
    """
    before, candidate = gru_biases(bias_ih, bias_hh, reset_after)
    return gru_step(linear(x, weight_ih, before), h, weight_hh, candidate, reset_after, z_keeps)
