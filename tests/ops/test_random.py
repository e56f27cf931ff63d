"""Counter-based random bits: published vectors, independence of shape and order, dropout's statistics."""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph, Input
from graphc.ops.generate import philox_numpy
from graphc.testing import build_graph

SEED = np.array([0xA4093822, 0x299F31D0], np.uint32)


# Random123's kat_vectors for philox4x32-10: counter, key, words
@pytest.mark.parametrize(
    "counter,key,words",
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_published_vectors(counter, key, words):
    found = philox_numpy([np.uint32(int(c, 16)) for c in counter.split()], [int(k, 16) for k in key.split()])
    assert [f"{int(w):08x}" for w in found] == words.split()


def bits(target, shape, stream=5, step=7, seed=SEED):
    s, t = ops.input("seed", (2,), "uint32"), ops.input("step", (), "int64")
    g = Graph("f", (Input("seed", s), Input("step", t)), (("bits", ops.random_bits(s, t, shape, stream)),))
    return compile_graph(g, target)({"seed": seed, "step": np.int64(step)})["bits"]


def test_the_counter_is_element_stream_step_trip(target):
    found = bits(target, (11,))
    for e in range(11):
        words = philox_numpy([np.uint32(e >> 2), np.uint32(5), np.uint32(7), np.uint32(0)], [int(k) for k in SEED])
        assert found[e] == words[e & 3]


def test_bits_depend_on_the_flat_index_only(target):
    np.testing.assert_array_equal(bits(target, (3, 5, 7)).reshape(-1), bits(target, (105,)))
    np.testing.assert_array_equal(bits(target, (200,))[:105], bits(target, (105,)))


def test_streams_steps_and_seeds_are_apart(target):
    base = bits(target, (64,))
    for other in (bits(target, (64,), stream=6), bits(target, (64,), step=8), bits(target, (64,), seed=SEED[::-1].copy())):
        assert (other == base).mean() < 0.1
    np.testing.assert_array_equal(bits(target, (64,)), base)


def test_uniform_numbers_are_spread_evenly(target):
    graph, arrays = build_graph(lambda s, t: ops.uniform(s, t, (20000,), 3), SEED, np.int64(1))
    u = compile_graph(graph, target)(arrays)["o0"]
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45, "chi-square with 19 degrees of freedom"


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(p, target):
    graph, arrays = build_graph(lambda x, s, t: ops.dropout(x, s, t, p=p, stream=3), np.ones((100, 200), np.float32), SEED, np.int64(1))
    y = compile_graph(graph, target)(arrays)["o0"]
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - p))}
    assert y.mean() == pytest.approx(1.0, abs=4 * np.sqrt(p / (1 - p) / y.size))
    assert (y == 0).mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / y.size))


def test_two_dropouts_never_merge():
    x, s, t = ops.input("x", (4,), "float32"), ops.input("s", (2,), "uint32"), ops.input("t", (), "int64")
    assert ops.dropout(x, s, t, stream=1) is not ops.dropout(x, s, t, stream=2)
    assert ops.dropout(x, s, t, stream=1) is ops.dropout(x, s, t, stream=1)
