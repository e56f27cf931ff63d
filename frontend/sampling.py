"""``gc.random``: random numbers inside ``forward`` and traced functions.

Every call has a stream of its own, named by the module's path and the number of the call in it, so no two calls share numbers
and a model's numbers do not change when another module draws more. The seed is the model's (``gc.set_seed`` before it is
compiled). Training goes to the next step of every stream at each step; evaluation, prediction and plain functions stand at
one step and give the same numbers at each call, unless ``step=`` says another one: an integer, or an integer tensor.

>>> import graphc as gc
>>> f = gc.compile(lambda t: gc.random.normal((3,), step=t), gc.spec(dtype="int32"), target="reference")
>>> bool((f(0) == f(0)).all()), bool((f(0) == f(1)).any())
(True, False)

Shapes may hold named sizes (``x.shape[0]``); inside a scan each iteration has numbers of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc import ops
from graphc.errors import ShapeError, TraceError
from graphc.ir.dims import Expr, Size
from graphc.ir.node import Node
from graphc.locate import public
from graphc.ops.define import as_node, normal_axis

from .parameter import current_trace

__all__ = [
    "bernoulli",
    "categorical",
    "choice",
    "exponential",
    "gumbel",
    "integers",
    "normal",
    "permutation",
    "truncated_normal",
    "uniform",
]

Shape = Size | Sequence[Size]


def _next(step: Any) -> tuple[Node, Node, int]:
    trace = current_trace()
    if trace is None:
        raise TraceError(
            "random numbers were asked for outside of a trace", hint="in forward, or in a function given to gc.compile"
        )
    seed, counter, stream = trace.random()
    return seed, counter if step is None else as_node(step), stream


def uniform(
    shape: Shape = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = "float32", *, step: Any = None
) -> Node:
    """Uniform numbers from ``low`` up to and without ``high`` (rounding may give ``high``); the bounds may be tensors."""
    seed, counter, stream = _next(step)
    u: Node = ops.random_uniform(seed, counter, shape, stream, dtype)
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and (low, high) == (0, 1):
        return u
    return u * (high - low) + low


def normal(shape: Shape = (), mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32", *, step: Any = None) -> Node:
    """``mean + std * z`` with standard normal ``z``: gradients flow to ``mean`` and ``std``, which may be tensors."""
    seed, counter, stream = _next(step)
    return _moved(ops.random_normal(seed, counter, shape, stream, dtype), mean, std)


def truncated_normal(
    shape: Shape = (),
    low: float = -2.0,
    high: float = 2.0,
    mean: Any = 0.0,
    std: Any = 1.0,
    dtype: Any = "float32",
    *,
    step: Any = None,
) -> Node:
    """As ``normal``, given that ``z`` lies in [low, high]: bounds in standard deviations, as JAX's."""
    seed, counter, stream = _next(step)
    return _moved(ops.random_truncated_normal(seed, counter, shape, low, high, stream, dtype), mean, std)


def _moved(z: Node, mean: Any, std: Any) -> Node:
    z = z if isinstance(std, (int, float)) and std == 1 else z * std
    return z if isinstance(mean, (int, float)) and mean == 0 else z + mean


def exponential(shape: Shape = (), rate: Any = 1.0, dtype: Any = "float32", *, step: Any = None) -> Node:
    """Exponential numbers of mean ``1 / rate``."""
    seed, counter, stream = _next(step)
    return ops.random_exponential(seed, counter, shape, stream, dtype) / rate  # type: ignore[no-any-return]


def gumbel(shape: Shape = (), dtype: Any = "float32", *, step: Any = None) -> Node:
    """Standard Gumbel numbers."""
    seed, counter, stream = _next(step)
    return ops.random_gumbel(seed, counter, shape, stream, dtype)  # type: ignore[no-any-return]


def bernoulli(p: Any = 0.5, shape: Shape | None = None, *, step: Any = None) -> Node:
    """True with probability ``p`` (a number or a tensor), as booleans; ``shape`` is that of ``p`` unless given."""
    seed, counter, stream = _next(step)
    return ops.random_bernoulli(seed, counter, p, shape, stream)  # type: ignore[no-any-return]


def integers(low: Size, high: Size | None = None, shape: Shape = (), dtype: Any = "int32", *, step: Any = None) -> Node:
    """Whole numbers from ``low`` up to and without ``high`` (from 0 to ``low``, if there is no ``high``); bounds may be sizes."""
    low, high = (0, low) if high is None else (low, high)
    seed, counter, stream = _next(step)
    return ops.random_integers(seed, counter, low, high, shape, stream, dtype)  # type: ignore[no-any-return]


def permutation(x: Any, axis: int = 0, *, step: Any = None) -> Node:
    """The numbers 0 to x-1 in random order (``x`` a size), or the slices of a tensor along ``axis`` in random order."""
    seed, counter, stream = _next(step)
    if isinstance(x, (int, Expr)):
        return ops.random_permutation(seed, counter, x, stream)  # type: ignore[no-any-return]
    node = as_node(x)
    size = node.shape[normal_axis(axis, node.ndim)]
    return ops.take(node, ops.random_permutation(seed, counter, size, stream), axis)  # type: ignore[no-any-return]


def categorical(logits: Any, shape: Shape | None = None, axis: int = -1, *, step: Any = None) -> Node:
    """Indices drawn with probability ``softmax(logits)`` along ``axis``; ``shape`` ends with the shape of the other axes."""
    seed, counter, stream = _next(step)
    return ops.random_categorical(seed, counter, logits, shape, axis, stream)  # type: ignore[no-any-return]


def choice(a: Any, shape: Shape = (), replace: bool = True, p: Any = None, *, step: Any = None) -> Node:
    """Elements of a tensor along its first axis (or of the numbers below a size ``a``), as NumPy's ``choice``.

    ``p`` gives the probability of each; it need not sum to 1. Without ``replace`` all drawn are different: a random order, or
    with ``p`` the order of ``log p`` plus Gumbel noise, which draws one after another in proportion to ``p``.
    """
    source = None if isinstance(a, (int, Expr)) else as_node(a)
    if source is not None and source.ndim == 0:
        raise ShapeError("choice: a scalar has no elements", hint="choice(n) draws from the numbers below n")
    size: Size = a if source is None else source.shape[0]
    shape = (shape,) if isinstance(shape, (int, Expr)) else tuple(shape)
    logits = None
    if p is not None:
        chance = as_node(p)
        chance = chance if chance.dtype.is_float else chance.cast("float32")
        if chance.shape != (size,):
            raise ShapeError(f"choice: p {chance.shape} for {size} elements", hint="one probability for each element")
        logits = ops.log(chance)
    if replace:
        picked = integers(0, size, shape, step=step) if logits is None else categorical(logits, shape, step=step)
    else:
        picked = _without_replacement(size, shape, logits, step)
    return picked if source is None else ops.take(source, picked)  # type: ignore[no-any-return]


def _without_replacement(size: Size, shape: Sequence[Size], logits: Node | None, step: Any) -> Node:
    if not all(isinstance(d, int) for d in shape):
        raise ShapeError(
            f"choice: shape {tuple(shape)} without replacement must be known when the graph is built",
            hint="a fixed number of elements, or replace=True",
        )
    count = 1
    for d in shape:
        count *= d  # type: ignore[assignment]
    if isinstance(size, int) and count > size:
        raise ShapeError(f"choice: {count} different elements of {size}", hint="replace=True takes an element more than once")
    if logits is None:
        order = permutation(size, step=step)
    else:
        order = ops.argsort(logits.cast("float64") + gumbel((size,), "float64", step=step), descending=True)
    return ops.reshape(order[:count], tuple(shape))  # type: ignore[no-any-return]


public(globals())
