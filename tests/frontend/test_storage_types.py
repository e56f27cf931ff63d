"""Models whose parameters and data are stored in float16 or bfloat16: layers, training, files."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn, ops, optim
from graphc.ir.dtypes import as_dtype

HALVES = ("float16", "bfloat16")


def as32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x).astype(np.float32)


class Net(nn.Module):
    def __init__(self, dtype: str):
        self.first = nn.Linear(20, 64, dtype=dtype)
        self.norm = nn.LayerNorm(64, dtype=dtype)
        self.last = nn.Linear(64, 3, dtype=dtype)

    def forward(self, x):
        return self.last(self.norm(self.first(x)).relu())


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(256, 20)).astype(np.float32)
    return x, ((x[:, :3].sum(1) > 0).astype(np.int32) + (x[:, 3] > 0)).astype(np.int32)


def trained(dtype: str, target: str, epochs: int = 8, **settings):
    gc.set_seed(0)
    x, y = data()
    model = gc.compile(Net(dtype), gc.spec("N", 20, dtype=dtype), loss="cross_entropy", optimizer=optim.Adam(1e-2, **settings), target=target)
    history = model.fit(x, y, batch_size=64, epochs=epochs, verbose=0, shuffle=False)
    return model, np.asarray(history.history["loss"])


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", HALVES)
def test_training_reaches_the_loss_of_float32(dtype, target):
    _, wanted = trained("float32", target)
    model, losses = trained(dtype, target)
    np.testing.assert_allclose(losses, wanted, rtol=2 * float(as_dtype(dtype).finfo.eps))
    store = model.store
    for name, p in model.module.named_parameters():
        assert p.numpy().dtype == as_dtype(dtype).numpy
        moments = [n for n in store.names("state") if n.endswith(f".{p.name}")]
        assert len(moments) == 2 and all(store.numpy(n).dtype == np.float32 for n in moments), name
    x, y = data()
    assert model.predict(x[:3]).dtype == as_dtype(dtype).numpy
    assert model.evaluate(x, y)["loss"] < 0.3


@pytest.mark.parametrize("dtype", HALVES)
def test_averages_and_accumulated_gradients_are_float32(dtype):
    model, losses = trained(dtype, "reference", 2, ema=0.99, accumulate=2, clip_norm=1.0)
    assert losses[-1] < losses[0]
    kept = [n for n in model.store.names("state") if ".ema." in n or ".gradient." in n]
    assert len(kept) == 12 and all(model.store.numpy(n).dtype == np.float32 for n in kept)
    model.load_state_dict(model.averages())
    assert model.module.first.weight.numpy().dtype == as_dtype(dtype).numpy


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_a_loss_that_is_not_finite_stops_the_step(target):
    class One(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.full(3, 100.0, np.float16))

    net, optimizer = One(), optim.SGD(0.1)

    def step(x):
        loss = (x * net.weight).sum()
        optimizer.minimize(loss, net.parameters())
        return loss

    run = gc.step(step, gc.spec(3, dtype="float16"), target=target)
    assert float(run(np.ones(3))) == 300
    before = net.weight.numpy()
    with pytest.raises(gc.NonFiniteError):
        run(np.full(3, 1000.0))  # 100,000 is beyond float16
    np.testing.assert_array_equal(net.weight.numpy(), before)


@pytest.mark.parametrize("dtype", HALVES)
def test_files_hold_what_was_stored(dtype, tmp_path):
    model, _ = trained(dtype, "reference", 2)
    path = tmp_path / "net.graphc"
    model.save(path)
    again = gc.compile(Net(dtype), gc.spec("N", 20, dtype=dtype), loss="cross_entropy", optimizer=optim.Adam(1e-2), target="reference")
    again.load(path)
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert a.dtype == b.dtype == as_dtype(dtype).numpy
        np.testing.assert_array_equal(a.view(np.uint16), b.view(np.uint16))
    torch = pytest.importorskip("torch")
    from safetensors import safe_open

    with safe_open(str(path), "pt") as f:
        name = next(n for n in f.keys() if n.endswith("first.weight"))  # noqa: SIM118  (no mapping)
        tensor = f.get_tensor(name)
    assert tensor.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(tensor.float().numpy(), as32(model.module.first.weight.numpy()))


LAYERS = {
    "linear": (lambda d: nn.Linear(24, 10, dtype=d), lambda t: t.nn.Linear(24, 10), (7, 24)),
    "conv": (lambda d: nn.Conv2d(3, 8, 3, padding=1, dtype=d), lambda t: t.nn.Conv2d(3, 8, 3, padding=1), (2, 3, 9, 9)),
    "layer norm": (lambda d: nn.LayerNorm(24, dtype=d), lambda t: t.nn.LayerNorm(24), (7, 24)),
    "group norm": (lambda d: nn.GroupNorm(2, 6, dtype=d), lambda t: t.nn.GroupNorm(2, 6), (2, 6, 5)),
}


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_what_those_of_torch_give(name, dtype, target):
    torch = pytest.importorskip("torch")
    ours, theirs, shape = LAYERS[name]
    torch.manual_seed(0)
    peer = theirs(torch).to(getattr(torch, dtype))
    net = ours(dtype)
    net.load_state_dict({k: v.float().numpy() for k, v in peer.state_dict().items()})
    x = np.random.default_rng(1).normal(size=shape).astype(as_dtype(dtype).numpy)
    wanted = peer(torch.tensor(as32(x)).to(getattr(torch, dtype))).detach().float().numpy()
    found = as32(gc.compile(net, gc.spec(*shape, dtype=dtype), target=target)(x))
    eps = float(as_dtype(dtype).finfo.eps)
    np.testing.assert_allclose(found, wanted, rtol=eps, atol=eps * np.abs(wanted).max() / 2)


def test_a_model_of_two_dtypes():
    """Weights in bfloat16 and activations in float32: they meet in float32."""
    net = nn.Linear(20, 3, dtype="bfloat16")
    model = gc.compile(net, gc.spec("N", 20), target="cpu")
    x, _ = data()
    found = model(x)
    assert found.dtype == np.float32
    wanted = x.astype(np.float64) @ as32(net.weight.numpy()).T + as32(net.bias.numpy())
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_loading_checks_kinds():
    net = nn.Linear(2, 3, dtype="bfloat16")
    with pytest.raises(gc.ParameterError, match="dtype int32, expected bfloat16"):
        net.load_state_dict({"weight": np.ones((3, 2), np.int32), "bias": np.zeros(3)})
    net.load_state_dict({"weight": np.full((3, 2), 1.001), "bias": np.zeros(3, np.float16)})
    assert (as32(net.weight.numpy()) == 1).all()
    with pytest.raises(gc.DTypeError, match="float8"):
        nn.Linear(2, 3, dtype="float8")
    assert ops.const(1.5, "bfloat16").dtype.name == "bfloat16"
