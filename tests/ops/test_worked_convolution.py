"""Worked numeric examples of the course notes on convolution, pooling and sequence convolution: rows 12-20, 22 and 36 of the catalogue.

Where the notes are wrong, the right form is tested, and that the printed one differs.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from tests.ops.test_worked_examples import gradient, value

X = np.array([[0.0, 80, 40], [20, 40, 0], [0, 0, 40]])
K = np.array([[0.0, 0.25], [0.5, 1.0]])


def images(*planes):
    """Planes as one image (1, C, H, W)."""
    return np.array(planes, float)[None]


# -- convolution and cross-correlation ---------------------------------------------------------------------------------------------
def test_row_12_the_convolution_flips_its_kernel(target):
    found = value(target, lambda x, k: ops.convolve(x, k, "valid"), X, K)
    np.testing.assert_array_equal(found, [[45.0, 110.0], [40.0, 40.0]])
    np.testing.assert_array_equal(value(target, lambda k: ops.flip(ops.flip(k, 0), 1), K), [[1.0, 0.5], [0.25, 0.0]])


def test_lines_2451_2540_2558_the_kernel_of_a_convolution_is_counted_from_r_minus_1(target):
    """The notes print k[r - p, r - q] with p and q from 0, which would read outside of the kernel."""
    r = 2
    by_hand = [[sum(X[i + p, j + q] * K[r - 1 - p, r - 1 - q] for p in range(r) for q in range(r)) for j in range(2)] for i in range(2)]
    np.testing.assert_array_equal(value(target, lambda x, k: ops.convolve(x, k, "valid"), X, K), by_hand)


def test_row_13_the_cross_correlation_does_not_and_differs(target):
    found = value(target, ops.correlate, X, K)
    np.testing.assert_array_equal(found, [[70.0, 30.0], [10.0, 40.0]])
    by_layer = value(target, ops.conv2d, images(X), images(K))
    np.testing.assert_array_equal(by_layer[0, 0], found)
    flipped = value(target, ops.correlate, X, K[::-1, ::-1].copy())
    np.testing.assert_array_equal(flipped, value(target, lambda x, k: ops.convolve(x, k, "valid"), X, K))


def test_row_14_and_line_2638_a_diagonal_detector_gives_half_not_rounded_values(target):
    x = np.zeros((5, 5))
    x[:3, 2] = x[3, 1] = x[4, 0] = 255.0
    found = value(target, lambda x, k: ops.convolve(x, k, "valid"), x, np.array([[0.0, 0.5], [0.5, 0.0]]))
    exact = np.array([[0, 127.5, 127.5, 0], [0, 127.5, 127.5, 0], [0, 255, 0, 0], [255, 0, 0, 0]])  # the notes print 128
    np.testing.assert_array_equal(found, exact)


def test_row_15_two_channels_are_summed(target):
    x0, x1 = np.arange(9.0).reshape(3, 3), np.arange(1.0, 10.0).reshape(3, 3)
    k0, k1 = np.arange(4.0).reshape(2, 2), np.arange(1.0, 5.0).reshape(2, 2)
    found = value(target, ops.conv2d, images(x0, x1), images(k0, k1))
    np.testing.assert_array_equal(found[0, 0], [[56.0, 72.0], [104.0, 120.0]])
    window = value(target, ops.conv2d, images([[0, 1], [3, 4]], [[1, 2], [4, 5]]), images(k0, k1))
    assert window.item() == 56.0


def test_row_18_a_1x1_convolution_mixes_channels_only(target):
    pixels = np.arange(1.0, 49.0).reshape(4, 4, 3)  # channels last, as the notes write it
    weight = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    found = value(target, ops.conv2d, pixels.transpose(2, 0, 1)[None], weight[:, :, None, None])[0]
    place = 3.0 * (4 * np.arange(4)[:, None] + np.arange(4))
    np.testing.assert_allclose(found, [1.7 + place, 2.6 + place], rtol=1e-14)


@pytest.mark.parametrize("mode,edge", [("constant", [0, 0]), ("reflect", [80, 0]), ("edge", [0, 40])])
def test_padding_modes_of_the_notes(target, mode, edge):
    """Zeros, the mirrored image, and the last pixel again; all keep the size of a 3x3 kernel's output."""
    padded = value(target, lambda x: ops.pad_nd(x, 1, mode), X)
    assert padded.shape == (5, 5)
    np.testing.assert_array_equal(padded[1, [0, -1]], [80, 80] if mode == "reflect" else edge)
    assert value(target, lambda x, k: ops.correlate(ops.pad_nd(x, 1, mode), k), X, np.ones((3, 3))).shape == X.shape


def test_convolution_moves_with_its_input(target):
    """Equivariant, not invariant: the response moves with the image, it does not stay."""
    x = np.zeros((8, 8))
    x[2:4, 2:4] = [[1.0, 2.0], [3.0, 4.0]]
    moved = np.roll(x, (2, 3), (0, 1))
    still, then = (value(target, lambda x, k: ops.correlate(x, k, "same"), v, K) for v in (x, moved))
    np.testing.assert_array_equal(np.roll(still, (2, 3), (0, 1)), then)
    assert not np.array_equal(still, then)


# -- pooling -----------------------------------------------------------------------------------------------------------------------
def test_row_16_pooling_4x4_by_2x2_with_stride_2(target):
    x = images(np.arange(16.0).reshape(4, 4))
    np.testing.assert_array_equal(value(target, lambda x: x.max_pool2d(2, 2), x)[0, 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(value(target, lambda x: x.avg_pool2d(2, 2), x)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert value(target, lambda x: x.max_pool2d(2, 1), x).shape == (1, 1, 3, 3), "a stride smaller than the window: they overlap"
    assert value(target, lambda x: x.max_pool2d(3, 1, 1), x).shape == x.shape, "the 3x3 branch of an Inception block keeps the size"


def test_the_gradient_of_max_pooling_goes_to_the_winner_alone(target):
    x = images([[1, 5, 2, 2], [3, 4, 2, 2]])
    found = gradient(target, lambda x: (x.max_pool2d(2) * np.array([[[[10.0, 7.0]]]])).sum(), x)
    np.testing.assert_array_equal(found[0, 0], [[0, 10, 7, 0], [0, 0, 0, 0]])  # of equals the first


def test_row_22_global_average_pooling():
    x = ops.input("x", (1, 512, 7, 7), "float32")
    assert ops.global_avg_pool(x).shape == (1, 512)
    assert ops.flatten(x, 1).shape == (1, 25088)
    one = np.random.default_rng(22).normal(size=(2, 3, 7, 7))
    by_hand = [[sum(one[n, c, i, j] for i in range(7) for j in range(7)) / 49 for c in range(3)] for n in range(2)]
    np.testing.assert_allclose(value("reference", ops.global_avg_pool, one), by_hand, rtol=1e-12)


# -- sizes -------------------------------------------------------------------------------------------------------------------------
def count(module):
    return sum(int(np.prod(p.shape)) for p in module.parameters())


def test_row_17_a_dense_layer_on_an_image_is_too_large():
    assert ops.flatten(ops.input("x", (1, 28, 28), "float32"), 1).shape == (1, 784)
    assert count(nn.Linear(10**6, 10**3, bias=False)) == 10**9
    assert count(nn.Conv2d(1, 6, 5, bias=False)) == 150, "while a convolution's parameters do not depend on the image"


def test_row_19_inception_branches_are_joined_on_channels():
    branches = [nn.Conv2d(8, 32, 1), nn.Conv2d(8, 64, 3, padding="same"), nn.Conv2d(8, 128, 5, padding="same")]
    graph = gc.trace(lambda x: ops.concat([b(x) for b in branches], 1), gc.spec("N", 8, 6, 6))
    assert graph.outputs[0][1].shape[1:] == (32 + 64 + 128, 6, 6)


def test_row_20_a_bottleneck_needs_few_parameters():
    down, middle, up = nn.Conv2d(256, 64, 1, bias=False), nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.Conv2d(64, 256, 1, bias=False)
    shapes = []

    def block(x):
        for layer in (down, middle, up):
            x = layer(x)
            shapes.append(x.shape[1:])
        return x

    gc.trace(block, gc.spec("N", 256, 56, 56))
    assert shapes == [(64, 56, 56), (64, 56, 56), (256, 56, 56)]
    assert sum(map(count, (down, middle, up))) == 69_632
    assert count(nn.Conv2d(256, 256, 3, padding=1, bias=False)) == 589_824


def test_line_2861_the_first_maps_of_lenet_need_kernels_of_5x5():
    """The notes say 2x2, which cannot give 28x28 from 28x28; it is the pooling's size."""
    graph = gc.trace(nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.Flatten()), gc.spec(1, 1, 28, 28))
    shapes = {n.shape for n in graph.nodes}
    assert {(1, 6, 28, 28), (1, 6, 14, 14), (1, 16, 10, 10), (1, 16, 5, 5)} <= shapes
    assert graph.outputs[0][1].shape == (1, 400)
    assert ops.conv2d(ops.input("x", (1, 1, 28, 28), "float32"), ops.input("w", (6, 1, 2, 2), "float32")).shape == (1, 6, 27, 27)


# -- sequences -----------------------------------------------------------------------------------------------------------------------
H = np.array([1.0, -2.0, 3.0, 0.5, 4.0, -1.0])
W = np.array([0.2, 0.5, -0.3])  # w at -1, 0, 1


def at(x, j):
    return x[j] if 0 <= j < len(x) else 0.0


def test_line_5181_sequence_convolution_and_cross_correlation(target):
    """h_j = sum x_{j+k} w_{-k} and h_j = x_{j-1} w_{-1} + x_j w_0 + x_{j+1} w_1, for k from -p to p: p is the padding that keeps the size."""
    p = 1
    convolved = [sum(at(H, j + k) * W[p - k] for k in range(-p, p + 1)) for j in range(len(H))]
    correlated = [at(H, j - 1) * W[0] + H[j] * W[1] + at(H, j + 1) * W[2] for j in range(len(H))]
    np.testing.assert_allclose(value(target, lambda x, w: ops.convolve(x, w, "same"), H, W), convolved, rtol=1e-14)
    np.testing.assert_allclose(value(target, lambda x, w: ops.correlate(x, w, "same"), H, W), correlated, rtol=1e-14)
    layer = value(target, lambda x, w: ops.conv1d(x, w, padding="same"), H[None, None], W[None, None])
    np.testing.assert_allclose(layer[0, 0], correlated, rtol=1e-14)


def causal(x, w, d=1):
    """h_j = sum over k = 0..p of x_{j - d k} w_k."""
    return [sum(at(x, j - d * k) * w[k] for k in range(len(w))) for j in range(len(x))]


@pytest.mark.parametrize("d", [1, 2])
def test_line_5208_causal_convolution_looks_back_only(target, d):
    """The printed dilated form reads x_{j + d k} for k from -p to p and so looks ahead; causal nets need x_{j - d k}."""
    layer = value(target, lambda x, w: ops.conv1d(x, w, padding="causal", dilation=d), H[None, None], W[::-1].copy()[None, None])
    np.testing.assert_allclose(layer[0, 0], causal(H, W, d), rtol=1e-14)
    printed = [sum(at(H, j + d * k) * W[1 - k] for k in (-1, 0, 1)) for j in range(len(H))]
    assert not np.allclose(printed, causal(H, W, d))
    by_layer = value(target, lambda x, w: ops.conv1d(x, w, padding="same", dilation=d), H[None, None], W[::-1].copy()[None, None])
    np.testing.assert_allclose(by_layer[0, 0], printed, rtol=1e-14)


def test_row_36_dilations_of_1_2_4_see_8_steps(target):
    """The gradient of one output by the input is not zero exactly at its 8 last steps."""

    def last(x, w):
        for d in (1, 2, 4):
            x = ops.conv1d(x, w, padding="causal", dilation=d)
        return x[0, 0, 12]

    slope = gradient(target, last, np.ones((1, 1, 16)), np.array([[[0.5, 2.0]]]))[0, 0]
    np.testing.assert_array_equal(np.flatnonzero(slope), np.arange(5, 13))
