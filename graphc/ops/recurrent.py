"""Recurrent layers: a cell's step under ``scan``, over all time steps.

The contraction over the input stands outside of the scan, for all time steps at once; the body holds the recurrent part.
``rnn_layer``, ``lstm_layer`` and ``gru_layer`` are one layer in one direction; ``rnn``, ``lstm`` and ``gru`` stack them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import DTypeError, GraphcError, ShapeError
from ..ir.dims import Size
from ..ir.node import Node
from ..ir.op import Sample, sugar
from .cells import add_biases, check_weights, gru_biases, gru_step, lstm_step, nonlinearity_of, rnn_step, same_float
from .define import as_node, composite, constant, rand, show
from .elementwise import lt, where
from .generate import iota
from .layers import linear
from .recurrence import scan
from .views import broadcast_to, concat, expand_dims, reshape, squeeze, stack, swapaxes

__all__ = ["gru", "gru_layer", "lstm", "lstm_layer", "rnn", "rnn_layer", "within"]

F = TypeVar("F", bound=Callable[..., Any])
State = tuple[Node, ...]
Weights = Sequence[Node | None]


# -- one layer, one direction ------------------------------------------------------------------------------------------------
def within(lengths: Node, time: Size) -> Node:
    """(time, batch, 1): whether a step lies within its sequence, for lengths (batch,)."""
    return lt(iota((time, *lengths.shape, 1), 0, lengths.dtype), reshape(lengths, (1, *lengths.shape, 1)))


def _over_time(step: Callable[[Node, State], State], a: Node, state: State, lengths: Node | None, reverse: bool) -> State:
    """The first part of the state after every step, and the last state.

    Beyond a sequence's length the state stands still and outputs are 0; so the way back begins at each sequence's own end.
    """
    if lengths is None:

        def body(state: State, a: Node) -> tuple[State, Node]:
            new = step(a, state)
            return new, new[0]

        last, ys = scan(body, state, a, reverse=reverse)
    else:

        def masked(state: State, xs: tuple[Node, Node]) -> tuple[State, Node]:
            a, valid = xs
            new = step(a, state)
            return tuple(where(valid, n, o) for n, o in zip(new, state, strict=True)), where(valid, new[0], 0.0)

        last, ys = scan(masked, state, (a, within(lengths, a.shape[0])), reverse=reverse)
    return (ys, *last)


def _prepare(gates: int, states: int) -> Callable[[list[Node | None], dict[str, Any]], None]:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        same_float(ins[:-1])
        x, state, (weight_ih, weight_hh, *biases), lengths = ins[0], ins[1 : 1 + states], ins[1 + states : 5 + states], ins[-1]
        weight_hr = ins[-2] if states == 2 else None
        assert x is not None and weight_ih is not None and weight_hh is not None and state[0] is not None
        if x.ndim != 3:
            raise ShapeError(f"x must be (time, batch, input), not {show(x.shape)}")
        check_weights(x, state[0], weight_ih, weight_hh, biases, gates)
        hidden = weight_ih.shape[0] // gates
        if weight_hr is not None and weight_hr.shape != (weight_hh.shape[1], hidden):
            raise ShapeError(f"weight_hr is {show(weight_hr.shape)}, not {show((weight_hh.shape[1], hidden))}")
        for i, s in enumerate(state):
            assert s is not None
            want = (x.shape[1], weight_hh.shape[1] if weight_hr is not None and i == 0 else hidden)
            if s.shape != want:
                raise ShapeError(f"state {i} is {show(s.shape)}, not {show(want)} (batch, hidden)")
        if lengths is not None:
            if not lengths.dtype.is_int:
                raise DTypeError(f"lengths must be integers, not {lengths.type}")
            if lengths.shape != (x.shape[1],):
                raise ShapeError(f"lengths are {show(lengths.shape)}, not {show((x.shape[1],))} (batch)")
        if "nonlinearity" in attrs:
            nonlinearity_of(attrs["nonlinearity"])
        attrs["reverse"] = bool(attrs["reverse"])

    return prepare


def _arrays(gates: int, states: int, time: int = 4, batch: int = 2, n_in: int = 3, hidden: int = 5, biases: int = 2) -> list[Any]:
    rows = gates * hidden
    given = [rand(time, batch, n_in), *(rand(batch, hidden, seed=k + 1) for k in range(states)), rand(rows, n_in, seed=4), rand(rows, hidden, seed=5) * 0.5]
    return [*given, *(rand(rows, seed=6 + k) if k < biases else None for k in range(2))]


_lengths = np.array([4, 2], np.int64)


def _samples(gates: int, states: int, *more: Sample, **options: Any) -> Callable[[], list[Sample]]:
    absent = [None] * (states - 1)  # the LSTM's projection stands before the lengths
    return lambda: [
        Sample(tuple(_arrays(gates, states)), options), Sample(tuple(_arrays(gates, states, 1, 1, 1, 1, biases=0))), Sample(tuple(_arrays(gates, states, 0))),
        Sample((*_arrays(gates, states), *absent, _lengths), {"reverse": True}), Sample(tuple(_arrays(gates, states, 3, 0))),
        Sample(tuple(_arrays(gates, states, 3, 2, 7, 19, biases=1)), {"reverse": True}), Sample((*_arrays(gates, states), *absent, _lengths), options), *more,
    ]  # fmt: skip


def _errors(gates: int, states: int) -> Callable[[], list[Sample]]:
    def make() -> list[Sample]:
        good, absent = _arrays(gates, states), [None] * (states - 1)
        return [
            Sample((rand(4, 3), *good[1:]), error="(time, batch, input)"), Sample((good[0], rand(3, 5), *good[2:]), error="state 0 is (3, 5)"),
            Sample((*good, *absent, rand(2)), error="integers"), Sample((*good, *absent, np.array([1, 2, 3])), error="lengths are (3,)"),
        ]  # fmt: skip

    return make


_TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


@composite(
    "rnn_layer", inputs=7, prepare=_prepare(1, 1), samples=_samples(1, 1, Sample(tuple(_arrays(1, 1)), {"nonlinearity": "relu"})), errors=_errors(1, 1),
    tolerance=_TOLERANCE, method=False, onnx="RNN",
)  # fmt: skip
def rnn_layer(
    x: Node,
    h: Node,
    weight_ih: Node,
    weight_hh: Node,
    bias_ih: Node | None = None,
    bias_hh: Node | None = None,
    lengths: Node | None = None,
    nonlinearity: str = "tanh",
    reverse: bool = False,
) -> tuple[Node, Node]:
    """:func:`rnn_cell` over time: x (time, batch, input), h (batch, hidden) -> outputs (time, batch, hidden), last h (batch, hidden).

    ``reverse`` walks from the last step to the first; outputs stay in the order of x. With ``lengths`` (batch,) the steps beyond a
    sequence's length leave the state as it is and give 0, in both directions.
    """
    a = linear(x, weight_ih, add_biases(bias_ih, bias_hh))
    ys, h = _over_time(lambda a, s: (rnn_step(a, s[0], weight_hh, nonlinearity),), a, (h,), lengths, reverse)
    return ys, h


def _projected(**options: Any) -> Sample:
    x, h, c, w_ih, _, b_ih, b_hh = _arrays(4, 2)
    return Sample((x, h[:, :2], c, w_ih, rand(20, 2, seed=9), b_ih, b_hh, rand(2, 5, seed=10), _lengths), options)


@composite(
    "lstm_layer", inputs=9, prepare=_prepare(4, 2), samples=_samples(4, 2, _projected(), _projected(reverse=True)), errors=_errors(4, 2),
    tolerance=_TOLERANCE, method=False, onnx="LSTM",
)  # fmt: skip
def lstm_layer(
    x: Node,
    h: Node,
    c: Node,
    weight_ih: Node,
    weight_hh: Node,
    bias_ih: Node | None = None,
    bias_hh: Node | None = None,
    weight_hr: Node | None = None,
    lengths: Node | None = None,
    reverse: bool = False,
) -> tuple[Node, Node, Node]:
    """:func:`lstm_cell` over time: outputs (time, batch, hidden), last h, last c; ``reverse`` and ``lengths`` as in :func:`rnn_layer`.

    With ``weight_hr`` (projection, hidden) the hidden state is ``W_hr (sigmoid(o) * tanh(c))`` (Sak et al. 2014), and weight_hh is
    (4 hidden, projection).
    """
    a = linear(x, weight_ih, add_biases(bias_ih, bias_hh))
    ys, h, c = _over_time(lambda a, s: lstm_step(a, s[0], s[1], weight_hh, weight_hr), a, (h, c), lengths, reverse)
    return ys, h, c


@composite(
    "gru_layer", inputs=7, prepare=_prepare(3, 1), samples=_samples(3, 1, Sample(tuple(_arrays(3, 1)), {"reset_after": False})), errors=_errors(3, 1),
    tolerance=_TOLERANCE, method=False, onnx="GRU",
)  # fmt: skip
def gru_layer(
    x: Node,
    h: Node,
    weight_ih: Node,
    weight_hh: Node,
    bias_ih: Node | None = None,
    bias_hh: Node | None = None,
    lengths: Node | None = None,
    reset_after: bool = True,
    z_keeps: bool = True,
    reverse: bool = False,
) -> tuple[Node, Node]:
    """:func:`gru_cell` over time: outputs (time, batch, hidden), last h; ``reverse`` and ``lengths`` as in :func:`rnn_layer`."""
    before, candidate = gru_biases(bias_ih, bias_hh, reset_after)
    a = linear(x, weight_ih, before)
    ys, h = _over_time(lambda a, s: (gru_step(a, s[0], weight_hh, candidate, reset_after, z_keeps),), a, (h,), lengths, reverse)
    return ys, h


# -- several layers ----------------------------------------------------------------------------------------------------------
def _stacked(
    layer: Callable[..., Iterable[Node]],
    x: Node,
    weights: Sequence[Weights],
    given: Sequence[Node | None],
    lengths: Node | None,
    bidirectional: bool,
    batch_first: bool,
    between: Callable[[Node], Node] | None,
    **options: Any,
) -> list[Node]:
    """Layers above each other -> outputs, and the last states of all layers and directions stacked as (layers * directions, ...)."""
    single = x.ndim == 2
    if x.ndim not in (2, 3) or (single and lengths is not None):
        order = "(batch, time, input)" if batch_first else "(time, batch, input)"
        raise ShapeError(f"x must be {order}, or (time, input) without lengths, not {show(x.shape)}")
    if single:
        x, given = expand_dims(x, 1), [s if s is None or s.ndim != 2 else expand_dims(s, 1) for s in given]
    elif batch_first:
        x = swapaxes(x, 0, 1)
    directions = 2 if bidirectional else 1
    if not weights or len(weights) % directions:
        raise ShapeError(f"{len(weights)} sets of weights for {directions} directions")
    weight_hh, weight_hr = weights[0][1], weights[0][4] if len(weights[0]) > 4 else None
    assert weight_hh is not None
    starts: list[Node] = []
    for s, like in zip(given, (weight_hh, weight_hh if weight_hr is None else weight_hr), strict=False):
        want = (len(weights), x.shape[1], like.shape[1])
        s = broadcast_to(constant(0.0, x.dtype), want) if s is None else s
        if s.shape != want:
            raise ShapeError(f"an initial state is {show(s.shape)}, not {show(want)} (layers * directions, batch, hidden)")
        starts.append(s)
    if lengths is not None:
        lengths = as_node(lengths)
        x = where(within(lengths, x.shape[0]), x, 0.0)  # padding may hold anything, NaN too
    last: list[list[Node]] = []
    outputs: list[Node] = []
    for k, w in enumerate(weights):
        y, *state = layer(x, *(s[k] for s in starts), *w, lengths=lengths, reverse=k % directions == 1, **options)
        outputs.append(y)
        last.append(state)
        if len(outputs) == directions:
            x, outputs = concat(outputs, -1), []
            if between is not None and k + 1 < len(weights):
                x = between(x)
    results = [x, *(stack(s) for s in zip(*last, strict=True))]
    if single:
        return [squeeze(t, 1) for t in results]
    return [swapaxes(x, 0, 1), *results[1:]] if batch_first else results


def _naming(fn: F) -> F:
    """Errors begin with the function's name, as those of records do."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except GraphcError as e:
            if not e.message.startswith(fn.__name__):
                e.message = f"{fn.__name__}: {e.message}"
            raise

    return cast(F, call)


@sugar
@_naming
def rnn(
    x: Node,
    weights: Sequence[Weights],
    h: Node | None = None,
    lengths: Node | None = None,
    nonlinearity: str = "tanh",
    bidirectional: bool = False,
    batch_first: bool = False,
    between: Callable[[Node], Node] | None = None,
) -> tuple[Node, Node]:
    """Elman layers -> (outputs (time, batch, directions * hidden), last h (layers * directions, batch, hidden)).

    x is (time, batch, input), with ``batch_first`` (batch, time, input), or (time, input). ``weights`` has one
    (weight_ih, weight_hh, bias_ih, bias_hh) for each layer and direction, directions next to each other. ``h`` is 0 unless given.
    ``lengths`` (batch,) as in :func:`rnn_layer`: the result is that of torch's packed sequences. ``between`` is applied to the
    outputs of every layer but the last: dropout.
    """
    y, last = _stacked(rnn_layer, x, weights, (h,), lengths, bidirectional, batch_first, between, nonlinearity=nonlinearity)
    return y, last


@sugar
@_naming
def gru(
    x: Node,
    weights: Sequence[Weights],
    h: Node | None = None,
    lengths: Node | None = None,
    reset_after: bool = True,
    z_keeps: bool = True,
    bidirectional: bool = False,
    batch_first: bool = False,
    between: Callable[[Node], Node] | None = None,
) -> tuple[Node, Node]:
    """GRU layers, as :func:`rnn`; ``reset_after`` and ``z_keeps`` as in :func:`gru_cell`."""
    convention = {"reset_after": reset_after, "z_keeps": z_keeps}
    y, last = _stacked(gru_layer, x, weights, (h,), lengths, bidirectional, batch_first, between, **convention)
    return y, last


@sugar
@_naming
def lstm(
    x: Node,
    weights: Sequence[Weights],
    state: tuple[Node, Node] | None = None,
    lengths: Node | None = None,
    bidirectional: bool = False,
    batch_first: bool = False,
    between: Callable[[Node], Node] | None = None,
) -> tuple[Node, tuple[Node, Node]]:
    """LSTM layers, as :func:`rnn`, with the state (h, c) -> (outputs, (last h, last c)).

    The weights of a layer may have a fifth member, weight_hr: a projection, as in :func:`lstm_layer`.
    """
    y, h, c = _stacked(lstm_layer, x, weights, state or (None, None), lengths, bidirectional, batch_first, between)
    return y, (h, c)
