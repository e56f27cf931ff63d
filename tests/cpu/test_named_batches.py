"""Norms, attention and embeddings with a named batch: one executable serves every size, with its gradients."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops

W = np.linspace(0.5, 1.5, 4).astype(np.float32)
TABLE = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def norms(x):
    """x (N, 4, 6)."""
    return {
        "batch": ops.batch_norm(x, W, W, W, W),
        "group": ops.group_norm(x, W, W, num_groups=2),
        "instance": ops.instance_norm(x, W, W),
        "layer": ops.layer_norm(x),
        "rms": ops.rms_norm(x, eps=1e-5),
        "response": ops.local_response_norm(x, 3, alpha=0.5),
        "unit": ops.normalize(x),
        "rotary": ops.rotary_embedding(x),
        "standard": ops.standardize(x, (1, 2)),
    }


def attention(x):
    """x (N, 4, 6): four tokens of six features."""
    lengths = ops.iota((x.shape[0],)) - 5  # none, one, ... tokens, so that some rows see nothing
    mask = ops.logical_not(ops.padding_mask(lengths, 4)).reshape(x.shape[0], 1, 1, 4)
    return {
        "causal": ops.scaled_dot_product_attention(x, x, x, is_causal=True),
        "masked": ops.multi_head_attention(x, x, x, mask, num_heads=3),
        "grouped": ops.multi_head_attention(x, x[..., :2], x[..., 3:], num_heads=3, kv_heads=1, is_causal=True),
        "bilinear": ops.bilinear(x[..., :4], x[..., :2], TABLE.reshape(3, 4, 2), W[:3]),
    }


def batch_statistics(x):
    y, mean, var = ops.batch_norm_train(x, W, W)
    return {"y": y, "mean": mean, "var": var}


def everything(fn):
    def both(x):
        def loss(x):
            total = 0.0
            for i, v in enumerate(fn(x).values()):
                total = total + (v * (ops.iota(v.shape, -1).cast("float32") + (i + 1.0))).sum()
            return total

        return fn(x) | {"gradient": gc.grad(loss)(x)}

    return both


@pytest.mark.parametrize("fn,sizes", [(norms, (1, 37, 0)), (attention, (1, 37, 0)), (batch_statistics, (1, 37))])
def test_one_executable_for_every_size(fn, sizes):
    compiled = gc.compile(everything(fn), gc.spec("N", 4, 6), target="cpu")
    for n in sizes:
        x = np.random.default_rng(n).normal(size=(n, 4, 6)).astype(np.float32)
        wanted = gc.compile(everything(fn), gc.spec(n, 4, 6, dtype="float64"), target="reference")(x.astype(float))
        for k, v in compiled(x).items():
            scale = max(1.0, np.abs(wanted[k]).max(initial=0.0))
            np.testing.assert_allclose(v, wanted[k], atol=2e-5 * scale, err_msg=f"{k} of {n}")


def test_bags_of_every_size():
    def fn(i):
        return ops.embedding_bag(i, TABLE), ops.embedding_bag(i.reshape(-1), TABLE, ops.iota((i.shape[0],)) * 3, mode="max", padding_idx=2)

    compiled = gc.compile(fn, gc.spec("N", 3, dtype="int32"), target="cpu")
    for n in (1, 37, 0):
        i = np.random.default_rng(n).integers(0, 6, (n, 3)).astype(np.int32)
        mean, top = compiled(i)
        np.testing.assert_allclose(mean, TABLE[i].mean(1), rtol=1e-5, atol=1e-6)
        kept = np.where((i == 2)[..., None], -np.inf, TABLE[i]).max(1)
        np.testing.assert_allclose(top, np.where(np.isinf(kept), 0, kept))
