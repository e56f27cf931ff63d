"""Convolution, pooling, padding and resampling layers: torch's, with the same weights, outputs and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops
from graphc.compiler import compile_graph
from graphc.errors import GraphcError, GuardError, ShapeError, TraceError
from graphc.passes.decompose import decompose
from graphc.testing import build_graph, check_grads
from tests.frontend.torch_layers import check, values

torch = pytest.importorskip("torch")
L, P, V = (2, 4, 7), (2, 4, 6, 5), (1, 4, 4, 3, 5)  # a sequence, an image, a volume


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.0, 2.0, shape)


CONVOLUTIONS = [
    ("Conv1d", (4, 6, 3), {}, L),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2, "groups": 2}, L),
    ("Conv1d", (4, 6, 4), {"padding": "same", "padding_mode": "reflect", "bias": False}, L),
    ("Conv1d", (4, 2, 3), {"stride": 2, "padding": 2, "padding_mode": "circular"}, L[1:]),
    ("Conv2d", (4, 6, 3), {"padding": 1, "stride": 2}, P),
    ("Conv2d", (4, 6, (3, 2)), {"padding": "valid", "groups": 2, "dilation": (2, 1)}, P),
    ("Conv2d", (4, 4, (2, 4)), {"padding": "same", "padding_mode": "replicate", "groups": 4}, P),
    ("Conv2d", (4, 3, 1), {"bias": False}, P),
    ("Conv2d", (4, 3, 3), {"padding": (2, 1), "padding_mode": "reflect", "stride": (1, 2)}, P[1:]),
    ("Conv3d", (4, 2, 2), {"padding": (1, 0, 1), "stride": (1, 1, 2), "groups": 2}, V),
    ("Conv3d", (4, 2, (1, 3, 2)), {"padding": 1, "padding_mode": "circular"}, V),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1, "padding": 1}, L),
    ("ConvTranspose1d", (4, 6, 3), {"groups": 2, "dilation": 2, "padding": 3}, L[1:]),
    ("ConvTranspose2d", (4, 2, 2), {"stride": 2, "bias": False}, P),
    ("ConvTranspose2d", (4, 6, (3, 2)), {"stride": (2, 1), "groups": 2, "padding": 1, "output_padding": (1, 0)}, P),
    ("ConvTranspose3d", (4, 2, 2), {"stride": 2, "padding": 1, "dilation": (1, 2, 1)}, V),
]


def label(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("name,args,kwargs,shape", CONVOLUTIONS, ids=label)
def test_convolutions_equal_torchs(name, args, kwargs, shape):
    ours = getattr(nn, name)(*args, **kwargs, dtype="float64")
    check(
        ours,
        getattr(torch.nn, name)(*args, **kwargs),
        data(*shape),
        training=False,
        steps=1,
        named=len(shape) > len(args) + 1 and name.endswith("2d"),
    )


PLAIN = [
    ("MaxPool1d", (2,), {}, L),
    ("MaxPool1d", (3, 2, 1), {"return_indices": True}, L),
    ("MaxPool2d", (2,), {}, P),
    ("MaxPool2d", ((3, 2), 2), {"padding": (1, 0), "ceil_mode": True, "return_indices": True}, P),
    ("MaxPool2d", (2, 1), {"dilation": (2, 3)}, P[1:]),
    ("MaxPool3d", (2, 2, 1), {"ceil_mode": True}, V),
    ("AvgPool1d", (3, 2, 1), {"count_include_pad": False}, L),
    ("AvgPool2d", (2,), {}, P),
    ("AvgPool2d", ((2,),), {"padding": (1,)}, P),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True}, P),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, P[1:]),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}, P),
    ("AvgPool3d", (2, 1), {"padding": 1, "count_include_pad": False}, V),
    ("LPPool1d", (2, 3), {"stride": 2}, L),
    ("LPPool2d", (4, (2, 3)), {"ceil_mode": True}, P),
    ("LPPool3d", (2, 2), {"stride": 1}, V),
    ("AdaptiveAvgPool1d", (3,), {}, L),
    ("AdaptiveAvgPool2d", ((4, 2),), {}, P),
    ("AdaptiveAvgPool2d", ((None, 1),), {}, P),
    ("AdaptiveAvgPool3d", (2,), {}, V),
    ("AdaptiveMaxPool1d", (3,), {}, L[1:]),
    ("AdaptiveMaxPool2d", ((4, 2),), {"return_indices": True}, P),
    ("AdaptiveMaxPool2d", (1,), {}, P),
    ("AdaptiveMaxPool3d", ((2, 1, 4),), {}, V),
    ("ZeroPad1d", (1,), {}, L),
    ("ZeroPad2d", ((1, -1, 0, 2),), {}, P),
    ("ZeroPad3d", (1,), {}, V),
    ("ConstantPad1d", ((1, 2), 3.5), {}, L),
    ("ConstantPad2d", (-1, 3.5), {}, P),
    ("ConstantPad3d", ((0, 1, 2, 0, 1, 1), -1.0), {}, V),
    ("ReflectionPad1d", ((3, 1),), {}, L),
    ("ReflectionPad2d", ((3, 1, 0, 2),), {}, P),
    ("ReflectionPad2d", ((-1, 2, 1, -2),), {}, P),
    ("ReflectionPad3d", (1,), {}, V),
    ("ReplicationPad1d", ((3, 1),), {}, L[1:]),
    ("ReplicationPad2d", ((3, 1, 0, 2),), {}, P),
    ("ReplicationPad2d", ((-6, 7, 5, -1),), {}, P),
    ("ReplicationPad3d", (1,), {}, V),
    ("CircularPad1d", ((3, 1),), {}, L),
    ("CircularPad2d", ((3, 1, 0, 2),), {}, P),
    ("CircularPad2d", ((-1, 2, 1, -2),), {}, P),
    ("CircularPad3d", (1,), {}, V),
    ("Upsample", (), {"scale_factor": 2}, P),
    ("Upsample", (11,), {"mode": "linear"}, L),
    ("Upsample", (), {"scale_factor": (1.7, 0.6), "mode": "bilinear"}, P),
    ("Upsample", (), {"scale_factor": 1.7, "mode": "bilinear", "recompute_scale_factor": True}, P),
    ("Upsample", ((7, 4),), {"mode": "bicubic", "align_corners": True}, P),
    ("Upsample", ((3, 5, 4),), {"mode": "trilinear", "align_corners": True}, V),
    ("UpsamplingNearest2d", (), {"scale_factor": 3}, P),
    ("UpsamplingBilinear2d", ((4, 9),), {}, P),
    ("PixelShuffle", (2,), {}, P),
    ("PixelUnshuffle", (2,), {}, (2, 4, 6, 4)),
    ("ChannelShuffle", (2,), {}, P),
    ("Unfold", ((2, 3),), {"padding": 1, "stride": 2}, P),
    ("Fold", ((4, 5), 2), {}, (2, 8, 12)),
    ("Flatten", (), {}, V),
    ("Flatten", (2, 3), {}, V),
    ("Unflatten", (1, (2, 2)), {}, P),
    ("Unflatten", (-1, (-1, 5)), {}, P),
]


@pytest.mark.parametrize("name,args,kwargs,shape", PLAIN, ids=label)
def test_layers_without_weights_equal_torchs(name, args, kwargs, shape):
    ours, theirs = getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs)
    check(ours, theirs, data(*shape), training=False, steps=1, named=shape in (L, P, V))


@pytest.mark.parametrize("rank,pool,shape", [(1, (2,), L), (2, ((3, 2), 2, (1, 0)), P), (2, (2, 1), P), (3, (2,), V)])
def test_unpooling_puts_maxima_back(rank, pool, shape):
    """Also where windows overlap: one value for two places of the pooled plane."""
    pools = [getattr(m, f"MaxPool{rank}d")(*pool, return_indices=True) for m in (nn, torch.nn)]
    backs = [getattr(m, f"MaxUnpool{rank}d")(*pool) for m in (nn, torch.nn)]
    x = data(*shape)
    model = gc.compile(lambda x: backs[0](*pools[0](x), output_size=shape), gc.spec("N", *shape[1:], dtype="float64"), target="reference")
    np.testing.assert_array_equal(model(x), backs[1](*pools[1](torch.from_numpy(x)), output_size=shape).numpy())


@pytest.mark.parametrize(
    "name,args", [("MaxPool2d", (2,)), ("MaxPool2d", (3, 2, 1)), ("AdaptiveMaxPool2d", ((3, 2),)), ("AdaptiveMaxPool2d", (1,))]
)
@pytest.mark.parametrize("value", [0.0, -np.inf])
def test_of_equal_elements_the_first_wins(name, args, value, target):
    """Also where nothing is larger than the padding."""
    x = np.full((1, 1, 4, 5), value)
    ours, theirs = getattr(nn, name)(*args, return_indices=True), getattr(torch.nn, name)(*args, return_indices=True)
    found = gc.compile(ours, gc.spec(*x.shape, dtype="float64"), target=target)(x)
    for f, t in zip(found, theirs(torch.from_numpy(x)), strict=True):
        np.testing.assert_array_equal(f, t.numpy())


def test_a_window_of_zeros_has_no_slope():
    x = np.zeros((1, 1, 4))
    x[0, 0, 3] = 2.0
    for p in (2, 3):
        slope = gc.compile(
            gc.grad(lambda x, p=p: nn.functional.lp_pool1d(x, p, 2).sum()), gc.spec(1, 1, 4, dtype="float64"), target="reference"
        )
        t = torch.tensor(x, requires_grad=True)
        torch.nn.functional.lp_pool1d(t, p, 2).sum().backward()
        np.testing.assert_allclose(slope(x), t.grad.numpy(), atol=1e-15)
        np.testing.assert_allclose(slope(x)[0, 0], [0, 0, 0, 1], atol=1e-15)


def test_a_transposed_convolution_undoes_any_size():
    ours = nn.ConvTranspose2d(4, 2, 3, stride=3, padding=1, dtype="float64")
    for size in ((16, 13), (18, 15), (2, 2, 17, 14)):
        theirs = torch.nn.ConvTranspose2d(4, 2, 3, stride=3, padding=1)
        check(ours, theirs, data(*P), call=lambda m, x, size=size: m(x, output_size=list(size)), training=False, steps=1)
    with pytest.raises(ShapeError, match="output_size"):
        gc.compile(lambda x: ours(x, output_size=[19, 13]), gc.spec(*P, dtype="float64"), target="reference")


@pytest.mark.parametrize("name,args,shape", [("Conv2d", (8, 16, 3), P), ("ConvTranspose2d", (16, 8, 3), P), ("Conv1d", (12, 8, 5), L)])
def test_initial_weights_are_drawn_as_torchs(name, args, shape):
    module = getattr(nn, name)(*args)
    gc.compile(module, gc.spec(2, args[0], *shape[2:]), target="reference").predict(np.zeros((2, args[0], *shape[2:]), np.float32))
    ours, theirs = module.state_dict(), values(getattr(torch.nn, name)(*args))
    for key, value in theirs.items():
        assert value.shape == ours[key].shape
    fan = theirs["weight"].shape[1] * np.prod(theirs["weight"].shape[2:])
    w, bound = theirs["weight"], fan**-0.5
    assert np.abs(w).max() <= bound and np.abs(ours["weight"]).max() <= bound
    assert 0.9 * bound / 3**0.5 < w.std() < 1.1 * bound / 3**0.5 and 0.9 * w.std() < ours["weight"].std() < 1.1 * w.std()
    assert np.abs(ours["bias"]).max() <= bound and ours["bias"].std() > 0.3 * bound


FUNCTIONS = [
    (lambda F, x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (2, 3, 5, 4), (4, 3, 3, 3), (4,)),
    (lambda F, x, w, b: F.conv1d(x, w, b, 1, "same", 2, 3), (3, 7), (6, 1, 3), (6,)),
    (lambda F, x, w, b: F.conv3d(x, w, b, (1, 2, 1), 1, 1, 1), (1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (2,)),
    (lambda F, x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1, 2), (4, 3, 4), (4, 3, 3, 3), (6,)),
    (lambda F, x, w, b: F.pad(F.pad(x, (1, 2, 0, 1), "reflect"), (1, -1), value=2.0) * w + b, (2, 3, 4, 5), (1,), (1,)),
    (lambda F, x, w, b: F.interpolate(F.max_pool2d(x, kernel_size=2), scale_factor=3, mode="bilinear") * w + b, (2, 3, 4, 6), (1,), (1,)),
    (lambda F, x, w, b: F.fold(F.unfold(x, 2) * w, (4, 5), 2) + b, (2, 3, 4, 5), (1,), (1,)),
]  # fmt: skip


@pytest.mark.parametrize("fn,x,w,b", FUNCTIONS)
def test_functional_takes_torchs_arguments(fn, x, w, b):
    arrays = [data(*s, seed=i) for i, s in enumerate((x, w, b))]
    graph, inputs = build_graph(lambda *a: fn(nn.functional, *a), *arrays)
    (found,) = compile_graph(graph, "reference")(inputs).values()
    np.testing.assert_allclose(found, fn(torch.nn.functional, *map(torch.from_numpy, arrays)).numpy(), rtol=1e-10, atol=1e-10)
    check_grads(lambda *a: fn(nn.functional, *a), *arrays, order=1 if "max_pool" in fn.__code__.co_names else 2)


# -- sizes that are known later ----------------------------------------------------------------------------------------------------
class Net(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
        self.up = nn.ConvTranspose2d(3, 2, 2, stride=2)
        self.pool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.top = nn.AdaptiveMaxPool2d((3, 2))

    def forward(self, x):
        y = self.up(self.conv(x).relu().max_pool2d(2))
        return self.top(nn.functional.interpolate(self.pool(y), scale_factor=1.5, mode="bilinear"))


def test_any_batch_size_on_the_cpu():
    model = gc.compile(Net(), gc.spec("N", 2, 6, 8), target="cpu")
    truth = gc.compile(model.module, gc.spec("N", 2, 6, 8), target="reference")
    for n in (1, 37, 0):
        x = data(n, 2, 6, 8).astype(np.float32)
        found = model.predict(x) if n else model(x)
        assert found.shape == (n, 2, 3, 2)
        np.testing.assert_allclose(found, truth(x), rtol=1e-4, atol=1e-5)


SPATIAL = [
    (lambda F, x: F.conv1d(x, x[0, :, :3].sum(0).reshape(1, 1, 3).expand(2, 1, 3), None, 2, 1, 1, 2), 3),
    (lambda F, x: F.max_pool1d(x, 3, 2, 1), 2),
    (lambda F, x: F.max_pool1d(F.pad(x, (20, 20), value=-1.0), 17), 1),
    (lambda F, x: F.avg_pool1d(x, 3, 2, 1, False, False), 2),
    (lambda F, x: F.conv_transpose1d(x, x[0, :, :3].reshape(2, 1, 3), None, 2, 1), 3),
    (lambda F, x: F.interpolate(x, scale_factor=3), 1),
    (lambda F, x: F.adaptive_avg_pool1d(x, 1), 1),
    (lambda F, x: F.adaptive_max_pool1d(x, 1), 1),
    (lambda F, x: F.pad(x, (2, 1), "reflect"), 3),
    (lambda F, x: F.pad(x, (2, 1), "replicate"), 1),
    (lambda F, x: F.pad(x, (2, 1), "circular"), 2),
]


@pytest.mark.parametrize("case", range(len(SPATIAL)))
def test_a_spatial_size_may_be_named(case, target):
    fn, least = SPATIAL[case]

    def ours(x):
        return fn(nn.functional, x)

    if case == 0:

        def ours(x):
            weight = ops.broadcast_to(x[0, :, :3].sum(0).reshape(1, 1, 3), (2, 1, 3))
            return nn.functional.conv1d(x, weight, None, 2, 1, 1, 2)

    f = gc.compile(ours, gc.spec("N", 2, "L", dtype="float64"), target=target)
    for n, size in ((2, 9), (1, 6), (3, least)):
        x = data(n, 2, size)
        np.testing.assert_allclose(f(x), fn(torch.nn.functional, torch.from_numpy(x)).numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("fn,size", [
    (lambda x: nn.functional.conv1d(x, np.ones((1, 2, 4)), None, 1, 1), 1),
    (lambda x: nn.functional.avg_pool1d(x, 3, 2), 2),
    (lambda x: nn.functional.pad(x, (2, 1), "reflect"), 2),
    (lambda x: nn.functional.pad(x, (2, 1), "circular"), 1),
    (lambda x: nn.functional.pad(x, (2, 1), "replicate"), 0),
])  # fmt: skip
def test_a_named_size_that_is_too_small_is_refused_when_bound(fn, size, target):
    f = gc.compile(fn, gc.spec("N", 2, "L", dtype="float64"), target=target)
    f(data(1, 2, size + 1))
    with pytest.raises(GuardError, match=r"L.* where at least"):
        f(data(1, 2, size))


MISUSE = [
    (lambda: nn.Conv2d(3, 8, 3), P, "does not fit 3 input channels"),
    (lambda: nn.Conv2d(4, 8, 3), (4, 8), "expected .N, 4, H, W."),
    (lambda: nn.Conv2d(4, 8, 7), P, "smaller than the kernel"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), P, "groups"),
    (lambda: nn.Conv2d(4, 6, 3, padding="same", stride=2), P, "stride of 1"),
    (lambda: nn.Conv2d(4, 6, (3, 3, 3)), P, "Conv2d: kernel_size"),
    (lambda: nn.Conv2d(4, 6, 3, padding_mode="mirror"), P, "padding_mode"),
    (lambda: nn.ConvTranspose2d(4, 6, 3, padding_mode="reflect"), P, "padding_mode"),
    (lambda: nn.ConvTranspose2d(4, 6, 3, output_padding=1), P, "output_padding"),
    (lambda: nn.ReflectionPad2d((1, 2)), P, "4 of them"),
    (lambda: nn.ReflectionPad2d(1), (3, 4), "axes"),
    (lambda: nn.MaxPool2d(2), (3, 4), "images"),
    (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), L, "mode"),
    (lambda: nn.Upsample(), P, "one of size"),
]


@pytest.mark.parametrize("make,shape,message", MISUSE)
def test_misuse_is_refused_when_the_graph_is_built(make, shape, message):
    with pytest.raises(GraphcError, match=message):
        gc.compile(make(), gc.spec(*shape), target="reference").graph


def test_a_hint_says_how_to_make_the_layer():
    with pytest.raises(ShapeError) as caught:
        gc.compile(nn.Conv2d(3, 8, 3), gc.spec("N", 4, 6, 6), target="reference").graph
    assert "nn.Conv2d(4, 8, (3, 3))" in str(caught.value)
    with pytest.raises(ShapeError, match=r"missing: gc.spec\(N, 1, 28, 28\)"):
        gc.compile(nn.Conv2d(1, 8, 3), gc.spec("N", 28, 28), target="reference").graph
    with pytest.raises(TraceError):
        nn.functional.pad(ops.input("x", (3,), "float32"), (1, 1), "mirror")


# -- sequences -----------------------------------------------------------------------------------------------------------------------
def test_a_causal_stack_sees_nothing_later_and_all_before(target):
    """Dilations 1, 2, 4 with kernels of 2 see 8 steps (WaveNet, TCN); an output depends on none behind its own."""
    layers = nn.Sequential(*(nn.Conv1d(1, 1, 2, padding="causal", dilation=d, dtype="float64") for d in (1, 2, 4)))
    layers.load_state_dict({f"{i}.weight": np.ones((1, 1, 2)) for i in range(3)} | {f"{i}.bias": np.zeros(1) for i in range(3)})
    f = gc.compile(layers, gc.spec(1, 1, "L", dtype="float64"), target=target)
    still, at = f(np.zeros((1, 1, 20))), 5
    pulse = np.zeros((1, 1, 20))
    pulse[0, 0, at] = 1.0
    np.testing.assert_array_equal((f(pulse) - still)[0, 0], [1.0 if at <= t < at + 8 else 0.0 for t in range(20)])


def test_global_pooling(target):
    x = data(*P)
    for keepdims in (False, True):
        mean = gc.compile(nn.GlobalAvgPool(keepdims), gc.spec(*P, dtype="float64"), target=target)
        top = gc.compile(nn.GlobalMaxPool(keepdims), gc.spec(*P, dtype="float64"), target=target)
        np.testing.assert_allclose(mean(x), x.mean((2, 3), keepdims=keepdims), rtol=1e-12)
        np.testing.assert_array_equal(top(x), x.max((2, 3), keepdims=keepdims))


# -- training ------------------------------------------------------------------------------------------------------------------------
def network(lib, **dtype):
    """A small network of convolution, strided and transposed convolution, and several poolings."""
    return lib.Sequential(
        lib.Conv2d(2, 4, 3, padding="same", padding_mode="replicate", **dtype),
        lib.ReLU(),
        lib.MaxPool2d(3, 2, 1),
        lib.Conv2d(4, 4, 3, padding=1, groups=2, **dtype),
        lib.Upsample(scale_factor=2, mode="bilinear"),
        lib.ConvTranspose2d(4, 3, 2, stride=2, bias=False, **dtype),
        lib.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        lib.LPPool2d(2, 2),
        lib.AdaptiveAvgPool2d((3, 2)),
        lib.Flatten(),
        lib.Linear(18, 3, **dtype),
    )


@pytest.mark.parametrize("target", ["reference", pytest.param("cpu", marks=pytest.mark.slow)])
def test_training_a_network_equals_torch(target):
    """Five steps in float64 from the same weights."""
    ours, theirs = network(nn, dtype="float64"), network(torch.nn).double()
    model = gc.compile(
        ours, gc.spec("N", 2, 7, 5, dtype="float64"), loss="cross_entropy", optimizer=gc.optim.SGD(0.1, momentum=0.9), target=target
    )
    ours.load_state_dict(values(theirs))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for step in range(5):
        x, y = data(4, 2, 7, 5, seed=step), np.arange(4) % 3
        model.train_on_batch(x, y)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()
    found = ours.state_dict()
    for name, wanted in values(theirs).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("case", [0, 2, 3, 4, 6, 8, 10])
def test_gradients_where_a_spatial_size_is_named(case, target):
    fn, _ = SPATIAL[case]
    weight = data(2, 1, 3, seed=5)

    def value(F, x, w):
        if case in (0, 4):
            call = F.conv1d if case == 0 else F.conv_transpose1d
            return (call(x, w, None, 2, 1, groups=2) ** 2).sum()
        return (fn(F, x) ** 2).sum()

    slope = gc.compile(
        lambda x, w: gc.grad(lambda x, w: value(nn.functional, x, w), wrt=[0, 1] if case in (0, 4) else [0])(x, w),
        gc.spec("N", 2, "L", dtype="float64"), gc.spec(2, 1, 3, dtype="float64"), target=target,
    )  # fmt: skip
    for n, size in ((2, 9), (1, 6)):
        x, w = torch.tensor(data(n, 2, size), requires_grad=True), torch.tensor(weight, requires_grad=True)
        value(torch.nn.functional, x, w).backward()
        found = slope(x.detach().numpy(), weight)
        for f, t in zip(found if isinstance(found, (tuple, list)) else [found], (x, w), strict=False):
            np.testing.assert_allclose(f, t.grad.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
def test_integers_are_padded_too(mode):
    x = np.arange(12, dtype=np.int32).reshape(1, 3, 4)
    found = gc.compile(lambda x: nn.functional.pad(x, (2, 1), mode), gc.spec(1, 3, 4, dtype="int32"), target="reference")(x)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, torch.nn.functional.pad(torch.from_numpy(x), (2, 1), mode).numpy())


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_maximum_over_a_long_axis_stays_a_small_graph(mode):
    """Text networks pool over the whole sequence; its gradient is looked up, not written out for every step."""
    pool = getattr(nn.functional, f"{mode}_pool1d")
    sizes = []
    for length in (100, 1000):
        graph = gc.trace(gc.grad(lambda x, n=length: pool(x, n).sum()), gc.spec("N", 3, length, dtype="float64"))
        sizes.append(len(decompose(graph).nodes))
    assert sizes[0] == sizes[1] < 80
