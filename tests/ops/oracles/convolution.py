"""Convolution, pooling, resampling and padding: torch's functional interface, NumPy's ``pad``, SciPy's ``convolve``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.signal
from jax import lax

from tests.ops.lazy_torch import F, torch


def _each(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _fold(rank, x, combine, kernel_size, stride, padding, dilation=1, ceil_mode=False):
    """XLA's window fold; with ceil_mode the padding grows by what a last, partial window needs."""
    lead = (1,) * (x.ndim - rank)
    k, s, p, d = (_each(v, rank) for v in (kernel_size, stride or kernel_size, padding, dilation))
    pads = []
    for n, kk, ss, pp, dd in zip(x.shape[len(lead) :], k, s, p, d, strict=True):
        count = -(-(n + 2 * pp - dd * (kk - 1) - 1) // ss) + 1
        count -= (count - 1) * ss >= n + pp
        pads.append((pp, max((count - 1) * ss + dd * (kk - 1) + 1 - n - pp, pp)) if ceil_mode else (pp, pp))
    start, fold = (-np.inf, lax.max) if combine == "max" else (0.0, lax.add)
    return lax.reduce_window(jnp.asarray(x), start, fold, lead + k, lead + s, [(0, 0)] * len(lead) + pads, window_dilation=lead + d)


def _max_pool(rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    top = np.asarray(_fold(rank, x, "max", kernel_size, stride, padding, dilation, ceil_mode))
    if not return_indices:
        return top
    planes = x.reshape(-1, np.prod(x.shape[x.ndim - rank :]))  # the samples hold no value twice
    found = [np.searchsorted(p, t, sorter=np.argsort(p)) for p, t in zip(planes, top.reshape(len(planes), -1), strict=True)]
    return top, np.stack([np.argsort(p)[f] for p, f in zip(planes, found, strict=True)]).reshape(top.shape).astype(np.int32)


def _min_pool(rank, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    return -_fold(rank, -x, "max", kernel_size, stride, padding, dilation, ceil_mode)


def _avg_pool(rank, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    total = _fold(rank, x, "add", kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override:
        return total / divisor_override
    p = _each(padding, rank)
    lead = x.ndim - rank
    ones = np.ones((*(1,) * lead, *x.shape[lead:]))
    if count_include_pad:
        ones, padding = np.pad(ones, [(0, 0)] * lead + [(v, v) for v in p], constant_values=1), 0
    counts = _fold(rank, ones, "add", kernel_size, stride, padding, 1, ceil_mode)
    return total / counts


def _torch_min_pool(rank):
    return lambda x, *a: -getattr(F, f"max_pool{rank}d")(-x, *a)


def _resample(x, axis, size, rule):
    """torch, or NumPy for padding, of one axis at a time."""
    name, *rest = rule
    if name == "edges":
        low, mode = rest
        widths = [(0, 0)] * x.ndim
        widths[axis] = (low, size - x.shape[axis] - low)
        return torch.from_numpy(np.pad(x.numpy(), widths, mode))
    rows = x.movedim(axis, -1)
    flat = rows.reshape(1, -1, rows.shape[-1])
    if name == "area":
        out = F.adaptive_avg_pool1d(flat, size)
    elif name == "nearest":
        out = F.interpolate(flat, size, mode="nearest-exact" if rest[1:] == [True] else "nearest")
    elif name == "linear":
        out = F.interpolate(flat, size, mode="linear", align_corners=rest[0])
    else:
        out = F.interpolate(flat[..., None].expand(-1, -1, -1, 2), (size, 2), mode="bicubic", align_corners=rest[0])[..., 0]
    return out.reshape(*rows.shape[:-1], size).movedim(-1, axis)


def _resample_transposed(x, axis, size, rule):
    """torch's gradient of the map; for the padding, whose map is NumPy's, a loop over unit vectors."""
    shape = list(x.shape)
    shape[axis] = size
    if rule[0] == "edges":
        rows = [_resample(e, 0, x.shape[axis], rule) for e in torch.eye(size, dtype=x.dtype)]
        return torch.tensordot(x.movedim(axis, -1), torch.stack(rows, 1), 1).movedim(-1, axis)
    source = torch.zeros(shape, dtype=x.dtype, requires_grad=True)
    _resample(source, axis, x.shape[axis], rule).backward(x)
    return source.grad


def _interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
    return F.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor)


def _pad(x, pad_width, mode="constant", constant_values=0.0):
    return np.pad(x, pad_width, mode, **({"constant_values": constant_values} if mode == "constant" else {}))


def _conv_transpose(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    return getattr(F, f"conv_transpose{x.ndim - 2}d")(x, w, b, stride, padding, output_padding, groups, dilation)


def _torch_conv(x, w, stride=1, padding=0, dilation=1, input_dilation=1, groups=1):
    rank = x.ndim - 2
    holes = _each(input_dilation, rank)
    wide = torch.zeros(*x.shape[:2], *((n - 1) * h + 1 for n, h in zip(x.shape[2:], holes, strict=True)), dtype=x.dtype)
    wide[(..., *(slice(None, None, h) for h in holes))] = x
    if padding == "causal":
        padding = (((w.shape[-1] - 1) * dilation, 0),)
    if not isinstance(padding, (int, str)):
        flat = [v for p in reversed(padding) for v in (_each(p, 2))]
        wide, padding = F.pad(wide, flat), 0
    return getattr(F, f"conv{rank}d")(wide, w, None, stride, padding, dilation, groups)


JAX: dict[str, Callable[..., Any]] = {"pad_nd": _pad, "convolve": scipy.signal.convolve, "correlate": scipy.signal.correlate}
for _rank in (1, 2, 3):
    JAX |= {
        f"max_pool{_rank}d": functools.partial(_max_pool, _rank),
        f"min_pool{_rank}d": functools.partial(_min_pool, _rank),
        f"avg_pool{_rank}d": functools.partial(_avg_pool, _rank),
    }
TORCH: dict[str, Callable[..., Any]] = {
    "conv": _torch_conv, "conv_transpose": _conv_transpose, "interpolate": _interpolate, "resample": _resample, "resample_transposed": _resample_transposed, "pixel_shuffle": lambda x, r: F.pixel_shuffle(x, r),
    "fold": lambda x, *a, **k: F.fold(x, *a, **k), "unfold": lambda x, *a, **k: F.unfold(x, *a, **k), "pixel_unshuffle": lambda x, r: F.pixel_unshuffle(x, r), "channel_shuffle": lambda x, g: F.channel_shuffle(x, g),
}  # fmt: skip
for _rank in (1, 2, 3):
    for _name in ("max_pool", "avg_pool", "lp_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        TORCH[f"{_name}{_rank}d"] = lambda x, *a, _f=f"{_name}{_rank}d", **k: getattr(F, _f)(x, *a, **k)
    TORCH[f"max_unpool{_rank}d"] = lambda x, i, k, _f=f"max_unpool{_rank}d", **o: getattr(F, _f)(x, i, k, **o)
    TORCH[f"min_pool{_rank}d"] = _torch_min_pool(_rank)
