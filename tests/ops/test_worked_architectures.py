"""Networks of the course notes: row 21 of the catalogue, and lines 2353 and 3508 in their right form.

LeNet, Inception and the bottleneck are in ``test_worked_convolution.py``.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from graphc.errors import ShapeError


# -- skip connections --------------------------------------------------------------------------------------------------------
class Skip(nn.Module):
    """h_l = g(W h_{l-1} + h_{l-2}), with a projection of its own where the two differ in size."""

    def __init__(self, before: int, size: int, after: int):
        self.first, self.second = nn.Linear(before, size, dtype="float64"), nn.Linear(size, after, dtype="float64")
        self.skip = nn.Identity() if before == after else nn.Linear(before, after, bias=False, dtype="float64")

    def forward(self, x):
        return (self.second(self.first(x).relu()) + self.skip(x)).relu()


def test_lines_2353_2357_a_skip_is_the_identity_or_a_projection_of_its_own(target, rng):
    """The notes multiply the skipped value by a matrix that another layer owns, which need not even fit."""
    same, other = Skip(4, 3, 4), Skip(4, 3, 2)
    names = {m: {n for n, _ in m.named_parameters()} for m in (same, other)}
    assert names[other] - names[same] == {"skip.weight"}, "the identity has no parameters"
    x = rng.normal(size=(5, 4))
    for module in (same, other):
        found = gc.compile(module, gc.spec("N", 4, dtype="float64"), target=target)(x)
        s = module.state_dict()
        h = np.maximum(x @ s["first.weight"].T + s["first.bias"], 0)
        skipped = x @ s["skip.weight"].T if "skip.weight" in s else x
        np.testing.assert_allclose(found, np.maximum(h @ s["second.weight"].T + s["second.bias"] + skipped, 0), rtol=1e-12)
    with pytest.raises(ShapeError):  # W^[l-1] is 3 x 4: it gives what the layer before needs, not the two entries of this one
        gc.trace(lambda x: other.second(other.first(x).relu()) + ops.linear(x, other.first.weight), gc.spec("N", 4, dtype="float64"))


def test_the_gradient_passes_a_skip_whatever_the_weights_are(target, rng):
    """f(x) = x + F(x): with F = 0 the layers pass everything (line 3385: F learns the residual f - x)."""
    blocks = nn.Sequential(*(Skip(4, 3, 4) for _ in range(6)))
    gradient = gc.compile(gc.grad(lambda x: blocks(x).sum()), gc.spec("N", 4, dtype="float64"), target=target)
    plain = gc.compile(gc.grad(lambda x: _without_skips(blocks, x).sum()), gc.spec("N", 4, dtype="float64"), target=target)
    blocks.load_state_dict({n: v * 0 for n, v in blocks.state_dict().items()})
    x = np.abs(rng.normal(size=(2, 4)))
    np.testing.assert_array_equal(gradient(x), np.ones_like(x))
    np.testing.assert_array_equal(plain(x), np.zeros_like(x))


def _without_skips(blocks, x):
    for block in blocks:
        x = block.second(block.first(x).relu()).relu()
    return x


# -- ResNet-18 ---------------------------------------------------------------------------------------------------------------
class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, the input added before the last ReLU; a 1x1 convolution where the sizes differ."""

    def __init__(self, before: int, size: int, stride: int = 1):
        self.conv1, self.bn1 = nn.Conv2d(before, size, 3, stride, 1, bias=False), nn.BatchNorm2d(size)
        self.conv2, self.bn2 = nn.Conv2d(size, size, 3, 1, 1, bias=False), nn.BatchNorm2d(size)
        same = before == size and stride == 1
        self.skip = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, size, 1, stride, bias=False), nn.BatchNorm2d(size))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.skip(x)).relu()


class ResNet18(nn.Module):
    """A 7x7 convolution and a pool, four stages of two blocks, global average pooling, one dense layer."""

    def __init__(self, width: int = 64, classes: int = 1000):
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.stages = [nn.Sequential(Block(width, width), Block(width, width))]
        for i in (1, 2, 3):
            self.stages.append(nn.Sequential(Block(width << (i - 1), width << i, 2), Block(width << i, width << i)))
        self.pool, self.out = nn.GlobalAvgPool(), nn.Linear(width * 8, classes)

    def forward(self, x):
        shapes = [self.stem(x)]
        for stage in self.stages:
            shapes.append(stage(shapes[-1]))
        self.shapes = [s.shape[1:] for s in shapes]
        return self.out(self.pool(shapes[-1]))


def weighted(module):
    """The layers that count: convolutions on the main path, and dense layers."""
    return [n for n, p in module.named_parameters() if p.ndim > 1 and ".skip." not in n]


def test_row_21_resnet_18_has_18_layers():
    """7x7, 2 * 2 + 3 * (2 + 2) convolutions, one dense layer; batch norm and the 1x1 of the skips do not count."""
    net = ResNet18()
    assert len(weighted(net)) == 1 + 2 * 2 + 3 * (2 + 2) + 1 == 18
    assert sum(p.size for p in net.parameters()) == 11_689_512  # as torchvision's resnet18
    gc.trace(net, gc.spec("N", 3, 224, 224))
    assert net.shapes == [(64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_lines_3508_3512_every_stage_has_two_blocks(target, rng):
    """The notes give module 1 one block or two, and module 2 two or three; only two blocks each add up to the 18 of 3514."""
    net = ResNet18(width=2, classes=3)
    assert [len(stage) for stage in net.stages] == [2, 2, 2, 2]
    assert [len(weighted(stage)) for stage in net.stages] == [4, 4, 4, 4]
    x = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    found = gc.compile(net, gc.spec("N", 3, 32, 32), target=target)(x)
    assert found.shape == (2, 3) and np.isfinite(found).all() and np.abs(found[0] - found[1]).max() > 0
