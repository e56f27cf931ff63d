"""How calls of torch's operator database are written with our functions, and what differs on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc import ops
from graphc.frontend.nn import functional

__all__ = ["ADAPT", "EVERYWHERE", "LEFT_OUT", "REASONS"]

LEFT_OUT: dict[str, str] = {
    "item": "torch's gives a Python number, ours takes one result of several",
    "logspace": "torch's samples are some 1,600 ways to say the same endpoints, with torch's own rounding: compared with NumPy's",
    "histogram": "torch's weighs, and takes edges that are data; histc is compared",
    "median": "torch's is the lower of the two elements in the middle; ours, as NumPy's, their mean",
    "uniform": "random numbers of its own",
    "select": "torch's takes one slice; ours is NumPy's",
    "nn.functional.dropout": "random numbers of its own",
    "unfold": "torch's method slides a window along one axis; ours is nn.functional.unfold",
}
"""Names that both have with another meaning, and why they are not compared."""


def _batch_norm(x, mean, var, weight=None, bias=None, training=False, **options):
    mean, var = (None, None) if training else (mean, var)  # the layer, not the function, keeps running statistics
    return functional.batch_norm(x, mean, var, weight, bias, training, **options)


def _quantile(x, q, dim=None, keepdim=False, interpolation="linear"):
    return ops.quantile(x, q, dim, interpolation, keepdim)


def _searchsorted(a, v, out_int32=False, right=False, side=None, sorter=None):
    a = a if sorter is None else ops.take_along_axis(a, sorter)
    return ops.searchsorted(a, v, side or ("right" if right else "left"))


def _index_put(x, indices, values, accumulate=False):
    at = x.at[tuple(indices)]
    return at.add(values) if accumulate else at.set(values)


def _forward(options):
    """Without what concerns gradients alone."""
    return {k: v for k, v in options.items() if k not in ("sparse", "scale_grad_by_freq")}


def _instance_norm(x, running_mean=None, running_var=None, use_input_stats=True, **options):
    mean, var = (None, None) if use_input_stats else (running_mean, running_var)
    return functional.instance_norm(x, mean, var, use_input_stats=use_input_stats, **options)

def _dtype(options):
    """A torch dtype by name; None where none is given."""
    return str(options["dtype"]).removeprefix("torch.") if "dtype" in options else None


def _moment(fn: Callable[..., Any]) -> Callable[..., Any]:
    """torch corrects by 1 unless told otherwise; NumPy, as we, by 0."""

    def call(x: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, correction: Any = 1) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        return fn(x, dim, keepdim, correction if unbiased and correction is not None else 1 if correction is None else 0)

    return call


def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    return ops.trunc(ops.div(x, y)) if rounding_mode == "trunc" else ops.floor_divide(x, y) if rounding_mode else ops.div(x, y)


def _logical(fn: Callable[..., Any]) -> Callable[..., Any]:
    """torch takes numbers for truth values; we want them compared first."""
    return lambda *xs: fn(*(ops.ne(x, 0) for x in xs))


def _made(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Functions that make a tensor, without torch's device, layout and so on."""

    def call(*args: Any, **options: Any) -> Any:
        keep = {k: v for k, v in options.items() if k not in ("device", "dtype", "layout", "requires_grad", "pin_memory", "memory_format")}
        return fn(*args, **keep, **({} if _dtype(options) is None else {"dtype": _dtype(options)}))

    return call


def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x[tuple([slice(None)] * (dim % x.ndim) + [slice(start, end, step)])]


def _squeeze(x: Any, dim: Any = None) -> Any:
    """torch leaves an axis that has another size than 1 as it is."""
    if dim is None:
        return ops.squeeze(x)
    axes = [d % max(x.ndim, 1) for d in (dim if isinstance(dim, (list, tuple)) else [dim])] if x.ndim else []
    here = tuple(d for d in axes if x.shape[d] == 1)
    return ops.squeeze(x, here) if here else ops.stop_gradient(x)


def _each(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: [fn(x) for x in (xs[0] if isinstance(xs[0], (list, tuple)) else xs)]


ADAPT: dict[str, Callable[..., Any]] = {
    "add": lambda x, y, alpha=1: x + y * alpha,
    "sub": lambda x, y, alpha=1: x - y * alpha,
    "div": _div,
    "logical_not": _logical(ops.logical_not),
    "logical_and": _logical(ops.logical_and),
    "logical_or": _logical(ops.logical_or),
    "logical_xor": _logical(ops.logical_xor),
    "transpose": lambda x, a, b: ops.swapaxes(x, a, b),
    "slice": _slice,
    "squeeze": _squeeze,
    "atleast_1d": _each(ops.atleast_1d),
    "atleast_2d": _each(ops.atleast_2d),
    **{name: _made(getattr(ops, name)) for name in ("zeros", "ones", "full", "eye", "zeros_like", "ones_like", "full_like")},
    "__getitem__": lambda x, *key: x[key[0] if len(key) == 1 else key],
    "bucketize": lambda x, boundaries, out_int32=False, right=False: ops.bucketize(x, boundaries, right),
    "index_put": _index_put,
    "quantile": _quantile,
    "searchsorted": _searchsorted,
    "sort": lambda *a, **k: functional.sort(*a, **k),
    "take": lambda x, i: ops.flatten(x)[i],
    "take_along_dim": lambda x, i, dim=None: functional.take_along_dim(*((x, i, dim) if dim is not None else (x.reshape(-1), i.reshape(-1), 0))),
    "where": lambda x, c, y: ops.where(c, x, y),
    "abs": lambda x: ops.absolute(x),
    "amax": lambda x, dim=None, keepdim=False: ops.max(x, dim if dim != () else None, keepdim),
    "arange": lambda *a, end=None, **k: ops.arange(*a, *([] if end is None else [end]), dtype=_dtype(k)),
    "amin": lambda x, dim=None, keepdim=False: ops.min(x, dim if dim != () else None, keepdim),
    "bmm": lambda x, y: ops.matmul(x, y),
    "cat": lambda xs, dim=0: ops.concat(list(xs), dim),
    "_safe_softmax": lambda x, dim=-1: ops.masked_softmax(x, dim),
    "nn.functional.batch_norm": _batch_norm,
    "nn.functional.embedding": lambda w, i, padding_idx=None, **k: ops.embedding(i, w, padding_idx, **_forward(k)),
    "nn.functional.embedding_bag": lambda w, i, *a, **k: functional.embedding_bag(i, w, *a, **_forward(k)),
    "nn.functional.instance_norm": _instance_norm,
    "mm": lambda x, y: ops.matmul(x, y),
    "mv": lambda x, y: ops.matmul(x, y),
    "dot": lambda x, y: ops.matmul(x, y),
    "einsum": lambda xs, equation: ops.einsum(equation, *xs),
    "linspace": lambda *a, **k: ops.linspace(*a, dtype=_dtype(k) or "float32"),
    "meshgrid": lambda *xs, indexing="ij": ops.meshgrid(*(xs[0] if isinstance(xs[0], (list, tuple)) else xs), indexing=indexing),
    "tensordot": lambda x, y, dims=2: ops.tensordot(x, y, dims),
    "repeat": lambda x, *sizes: ops.tile(x, *sizes),
    "split": lambda x, *args: ops.split_sizes(x, *args),
    "std": _moment(ops.std),
    "var": _moment(ops.var),
    "nn.functional.upsample_bilinear": lambda x, size=None, scale_factor=None: ops.interpolate(x, size, scale_factor, "bilinear", True),
    "nn.functional.upsample_nearest": lambda x, size=None, scale_factor=None: ops.interpolate(x, size, scale_factor),
}

_TWO = dict.fromkeys(("scalar has no length", "axis must be"), "maximum and minimum are the functions of two tensors")
_CAST = {"dtype=": "no dtype argument: the operand is cast before"}

_SCALAR = {"rank 0": "a scalar has no axis", "a scalar has no": "a scalar has no axis", "one rank": "a scalar has no axis"}

_SIZE = dict.fromkeys(("must be one number", "output_size="), "a result whose size depends on data")
EVERYWHERE = dict.fromkeys(
    ("a scalar has no axis", "out of range for rank 0", "for a scalar", "rank 0"),
    "a scalar has no axis, as in NumPy; torch lets it have one of size 1",
)
"""What holds for any operator."""

REASONS: dict[str, dict[str, str]] = {
    "cat": {"out of range for rank 1": "an empty vector is no wildcard"},
    "repeat_interleave": _SIZE,
    **dict.fromkeys(
        ("argsort", "gather", "index_add", "index_copy", "index_select", "kthvalue", "scatter", "scatter_add", "scatter_reduce", "sort", "take_along_dim", "topk"),
        _SCALAR,
    ),
    "__getitem__": {"shape out of values": "how many places a mask marks is not known when the graph is built"},
    "quantile": {"q must be numbers": "q is known when the graph is built"},
    "nn.functional.batch_norm": {"(N, C, ...) expected": "rows without channels"},
    "nn.functional.embedding": {"max_norm": "a lookup does not change its table"},
    "nn.functional.embedding_bag": {"max_norm": "a lookup does not change its table"},
    "nn.functional.normalize": {"rank 0": "a scalar has no axis"},
    "nn.functional.scaled_dot_product_attention": {"dropout_p=0.5": "random numbers of its own"},
    "log_softmax": {"rank 0": "a scalar has no axis", **_CAST},
    "max": {"1 results": "the values alone; argmax gives the indices", **_TWO},
    "min": {"1 results": "the values alone; argmin gives the indices", **_TWO},
    "tensordot": {"contracted sizes differ": "contracted axes of size 1 do not broadcast (einsum's do)"},
    "nn.functional.softmin": {"rank 0": "a scalar has no axis", **_CAST},
    "softmax": {"rank 0": "a scalar has no axis", **_CAST},
    "cummax": {"1 results": "the values alone, as NumPy's maximum.accumulate"},
    "cummin": {"1 results": "the values alone, as NumPy's minimum.accumulate"},
    "cumprod": _CAST,
    "cumsum": _CAST,
    "norm": {"'nuc'": "the nuclear norm needs singular values"},
    "prod": _CAST,
    "round": {"decimals=": "only to whole numbers"},
    "nn.functional.cosine_similarity": {"rank 0": "a scalar has no axis"},
    "nn.functional.gaussian_nll_loss": {"differ": "losses do not broadcast the target"},
    "nn.functional.multi_margin_loss": {"scores must be": "a scalar has no classes", "need integer targets ()": "one row of scores takes one label, not an array of one"},
    "nn.functional.multilabel_margin_loss": {"must both be": "a scalar has no classes"},
    "nn.functional.pairwise_distance": {"p=-1.0": "no norm has a negative exponent"},
}
"""Operator -> a piece of the message or of the call -> why."""
