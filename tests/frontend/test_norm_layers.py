"""Normalisation and dropout layers: torch's, with the same state, over several training steps."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from tests.frontend.torch_layers import check

torch = pytest.importorskip("torch")
D = "float64"
SHAPES = {1: (5, 6, 4), 2: (4, 6, 3, 5), 3: (3, 6, 2, 3, 2)}


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.5, 2.0, shape)


def randomised(module):
    """The torch module with weights that are not 1 and 0, and running statistics that are not those of a new layer."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.rand(p.shape, generator=generator) + 0.5)
        for name, b in module.named_buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=generator) + (0.5 if "var" in name else -0.5))
    return module


def pair(name, *args, **kwargs):
    return getattr(nn, name)(*args, **kwargs, dtype=D), randomised(getattr(torch.nn, name)(*args, **kwargs))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"affine": False, "eps": 1e-3, "momentum": 0.4}, {"track_running_stats": False}], ids=str)
@pytest.mark.parametrize("rank", SHAPES)
def test_batch_norm(rank, options, training):
    ours, theirs = pair(f"BatchNorm{rank}d", 6, **options)
    check(ours, theirs, data(*SHAPES[rank]), training=training, steps=3)


def test_batch_norm_of_rows():
    check(*pair("BatchNorm1d", 6), data(7, 6), named=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"affine": True}, {"track_running_stats": True, "momentum": 0.3}, {"track_running_stats": True, "affine": True, "momentum": None}], ids=str)
@pytest.mark.parametrize("rank", SHAPES)
def test_instance_norm(rank, options, training):
    ours, theirs = pair(f"InstanceNorm{rank}d", 6, **options)
    check(ours, theirs, data(*SHAPES[rank]), training=training)


def test_instance_norm_of_one_sample():
    check(*pair("InstanceNorm2d", 6, affine=True), data(6, 3, 5))


@pytest.mark.parametrize("shape", [4, (3, 4)])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"elementwise_affine": False, "eps": 1e-3}], ids=str)
def test_layer_norm(shape, options):
    check(*pair("LayerNorm", shape, **options), data(5, 3, 4), named=True)


@pytest.mark.parametrize("shape", [4, (3, 4)])
@pytest.mark.parametrize("options", [{}, {"elementwise_affine": False, "eps": 1e-3}], ids=str)
def test_rms_norm(shape, options):
    check(*pair("RMSNorm", shape, **options), data(5, 3, 4), named=True)


@pytest.mark.parametrize("groups,shape", [(1, (5, 6)), (3, (5, 6)), (1, (5, 6, 4)), (6, (5, 6, 4)), (3, (2, 6, 3, 5))])
def test_group_norm(groups, shape):
    check(*pair("GroupNorm", groups, 6), data(*shape), named=True)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_local_response_norm(size):
    check(nn.LocalResponseNorm(size, 0.5, 0.6, 1.5), torch.nn.LocalResponseNorm(size, 0.5, 0.6, 1.5), data(2, 6, 3), named=True)


@pytest.mark.parametrize("training", [True, False])
def test_compiled(training):
    check(*pair("BatchNorm2d", 3), data(4, 3, 2, 5), training=training, target="cpu", named=True)


@pytest.mark.parametrize("name,args,shape", [("GroupNorm", (2, 4), (3, 4, 5)), ("InstanceNorm1d", (4,), (3, 4, 5)), ("LayerNorm", (5,), (3, 5)), ("RMSNorm", (5,), (3, 5))])
def test_others_compiled(name, args, shape):
    check(*pair(name, *args), data(*shape), target="cpu", named=True)


def test_a_layer_used_twice_updates_its_statistics_twice(target):
    class Twice(nn.Module):
        def __init__(self):
            self.norm = nn.BatchNorm1d(3, dtype=D)

        def forward(self, x, y):
            return self.norm(x) + self.norm(y)

    theirs = torch.nn.BatchNorm1d(3).double()
    ours = Twice()
    step = gc.step(lambda x, y: ours(x, y), gc.spec("N", 3, dtype=D), gc.spec("M", 3, dtype=D), target="reference")
    with pytest.raises(gc.GuardError):
        step(data(5, 3), data(4, 3))
    x, y = data(5, 3), data(5, 3, seed=1) * 3 + 1
    for _ in range(2):
        want = theirs(torch.tensor(x)) + theirs(torch.tensor(y))
        np.testing.assert_allclose(step(x, y), want.detach(), rtol=1e-12)
    for k, v in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[f"norm.{k}"], v, rtol=1e-12, err_msg=k)


def test_statistics_are_written_by_training_only(target):
    model = gc.compile(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), gc.spec("N", 3), loss="mse", optimizer="sgd", target=target)
    x, y = data(8, 3).astype(np.float32), data(8, 4).astype(np.float32)
    before = model.state_dict()
    model.predict(x)
    model.evaluate(x, y)
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])
    model.train_on_batch(x, y)
    after = model.state_dict()
    assert after["1.num_batches_tracked"] == 1 and after["1.num_batches_tracked"].dtype == np.int64
    h = x.astype(float) @ before["0.weight"].T + before["0.bias"]
    np.testing.assert_allclose(after["1.running_mean"], 0.1 * h.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["1.running_var"], 0.9 + 0.1 * h.var(0, ddof=1), rtol=1e-4)


def test_batches_of_any_size_compile_nothing_new():
    model = gc.compile(nn.BatchNorm1d(4), gc.spec("N", 4), target="cpu")
    for n in (1, 37, 0):
        x = data(n, 4).astype(np.float32)
        np.testing.assert_allclose(model.predict(x), x / np.sqrt(1 + 1e-5), rtol=1e-5)


def test_one_value_says_nothing_of_a_variance(target):
    with pytest.raises(gc.ShapeError, match="1 where at least 2 are needed: values of a channel in training"):
        gc.trace(nn.BatchNorm1d(3), gc.spec(1, 3), training=True)
    gc.trace(nn.BatchNorm1d(3), gc.spec(1, 3))
    gc.trace(nn.BatchNorm2d(3), gc.spec(1, 3, 2, 1), training=True)
    with pytest.raises(gc.ShapeError, match="at least 2"):
        gc.trace(nn.InstanceNorm2d(3), gc.spec("N", 3, 1, 1))
    with pytest.raises(gc.ShapeError, match="one value a group"):
        gc.trace(nn.GroupNorm(3, 3), gc.spec(1, 3, 1))
    model = gc.compile(nn.BatchNorm1d(3), gc.spec("N", 3), loss="mse", optimizer="sgd", target=target)
    before = model.state_dict()
    with pytest.raises(gc.GuardError, match="N = 1 where at least 2"):
        model.train_on_batch(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32))
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(v, before[k])


@pytest.mark.parametrize(
    "layer,shape,message",
    [
        (nn.BatchNorm1d(3), ("N", 4), r"\(N, 4\) is not \(N, 3\) or \(N, 3, L\)"),
        (nn.BatchNorm1d(3), ("N", 3, 2, 2), r"is not \(N, 3\)"),
        (nn.BatchNorm2d(3), ("N", 3, 2), r"\(N, 3, 2\) is not \(N, 3, H, W\)"),
        (nn.InstanceNorm1d(3), ("N", 4, 2), r"is not \(N, 3, L\)"),
        (nn.GroupNorm(2, 4), ("N", 5), r"is not \(N, 4, \.\.\.\)"),
        (nn.RMSNorm(4), ("N", 5), "last axes"),
        (nn.Dropout2d(), ("N", 5), "rank 4"),
    ],
)
def test_misuse(layer, shape, message):
    with pytest.raises(gc.ShapeError, match=message):
        gc.trace(layer, gc.spec(*shape), training=True)


def test_groups_that_do_not_divide():
    with pytest.raises(gc.ShapeError, match="4 channels do not divide into 3 groups"):
        nn.GroupNorm(3, 4)


# -- dropout ---------------------------------------------------------------------------------------------------------------
def dropped(layer, shape, target="reference"):
    x = data(*shape).astype(np.float32) + 10
    return x, gc.step(lambda x: layer(x), gc.spec(*shape), target=target)(x)


@pytest.mark.parametrize("layer,shape,whole", [(nn.Dropout1d, (40, 30, 4), 2), (nn.Dropout2d, (40, 30, 2, 3), 2), (nn.Dropout3d, (40, 30, 2, 2, 2), 2), (nn.Dropout2d, (300, 2, 3), 1), (nn.DropPath, (1000, 2, 3), 1)])
def test_whole_slices_are_dropped(layer, shape, whole, target):
    x, y = dropped(layer(0.3), shape, target)
    share = (y / x).reshape(*shape[:whole], -1)
    np.testing.assert_allclose(share, np.broadcast_to(share[..., :1], share.shape), rtol=1e-5)
    kept = share[..., 0] > 0
    np.testing.assert_allclose(share[..., 0][kept], 1 / 0.7, rtol=1e-5)
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.21 / kept.size)
    np.testing.assert_array_equal(gc.compile(layer(0.3), gc.spec(*shape), target=target).predict(x), x)


def test_alpha_dropout_keeps_mean_and_variance():
    x = np.random.default_rng(0).normal(size=(200_000,)).astype(np.float32)
    y = gc.step(nn.AlphaDropout(0.2), gc.spec(x.size), target="reference")(x)
    assert abs(y.mean()) < 0.01 and abs(y.std() - 1) < 0.01
    # the values of torch: a dropped element is the same everywhere, the others are an affine map
    theirs = torch.nn.functional.alpha_dropout(torch.tensor(x), 0.2, training=True).numpy()
    found, counts = np.unique(theirs, return_counts=True)
    low = found[counts.argmax()]
    gone = np.isclose(y, low, atol=1e-5)
    assert abs(gone.mean() - 0.2) < 0.01
    both = ~gone & (theirs != low)
    np.testing.assert_allclose(y[both], theirs[both], atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Dropout, nn.AlphaDropout])
def test_dropping_everything(layer):
    _, y = dropped(layer(1.0), (5, 3))
    assert (y == 0).all()


@pytest.mark.parametrize("p", [1, 2, 3, 4, np.inf])
def test_the_direction_of_nothing_is_nothing(p, target):
    """Also where eps to the power p is 0 in float32; the gradient is that of x / eps, as torch's."""
    x = np.array([[0, 0, 0], [3, 0, 4]], np.float32)
    f = gc.compile(lambda x: (gc.ops.normalize(x, p), gc.grad(lambda x: gc.ops.normalize(x, p).sum())(x)), gc.spec(2, 3), target=target)
    t = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.normalize(t, float(p))
    y.sum().backward()
    found, slope = f(x)
    np.testing.assert_allclose(found, y.detach(), rtol=1e-5)
    if p != 4:  # there the bound on the norm is 1e-9.5, and torch's 1e-12
        np.testing.assert_allclose(slope, t.grad, rtol=1e-4, atol=1e-6)
    assert np.isfinite(slope).all()
