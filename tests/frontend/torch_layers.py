"""Our layers against torch's: the same weights in, the same outputs, gradients and state out."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc

__all__ = ["check", "values"]


def values(theirs: Any) -> dict[str, np.ndarray]:
    """The state of a torch module as arrays."""
    return {k: v.detach().numpy().copy() for k, v in theirs.state_dict().items()}


def check(
    ours: Any,
    theirs: Any,
    *arrays: np.ndarray,
    call: Any = lambda module, *xs: module(*xs),
    training: bool = True,
    target: str = "reference",
    steps: int = 2,
    named: bool = False,
    tolerance: float = 1e-9,
) -> None:
    """Runs both modules in float64 ``steps`` times, then once with gradients by parameters and float arguments.

    Compares every output, every gradient, and the state after each run. ``named`` gives the first axes the size N.
    """
    import torch

    theirs = theirs.double().train(training)
    ours.load_state_dict(values(theirs))
    sizes = [("N" if named else a.shape[0], *a.shape[1:]) if a.ndim else () for a in arrays]
    specs = [gc.spec(*s, dtype=str(a.dtype)) for s, a in zip(sizes, arrays, strict=True)]
    make = gc.step if training else gc.compile

    def results(out: Any) -> list[Any]:
        return [o for o in (out if isinstance(out, tuple) else (out,)) if o is not None]

    def same(found: Any, wanted: Any, what: str) -> None:
        wanted = wanted.detach().numpy()
        assert found.shape == wanted.shape, f"{what}: shape {found.shape}, expected {wanted.shape}"
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance, err_msg=what)

    def same_state() -> None:
        found, wanted = ours.state_dict(), theirs.state_dict()
        assert sorted(found) == sorted(wanted)
        for k, v in wanted.items():
            same(found[k], v, k)

    forward = make(lambda *xs: tuple(results(call(ours, *xs))), *specs, target=target)
    tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    outputs: list[Any] = []
    for i in range(steps):
        outputs = results(call(theirs, *tensors))
        for k, (f, w) in enumerate(zip(forward(*arrays), outputs, strict=True)):
            same(f, w, f"output {k} of run {i}")
        same_state()

    rng = np.random.default_rng(0)
    mix = [rng.uniform(-1, 1, tuple(o.shape)) for o in outputs]
    params = dict(ours.named_parameters())
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]

    def loss(*xs: Any) -> Any:
        total = 0.0
        for out, m in zip(results(call(ours, *xs)), mix, strict=True):
            total = total + (out * m).sum()
        return total

    def slopes(*xs: Any) -> Any:
        return gc.grad(loss, wrt=[*floats, *params.values()])(*xs)

    total = sum((o * torch.tensor(m)).sum() for o, m in zip(results(call(theirs, *tensors)), mix, strict=True))
    total.backward()
    plain = [gc.spec(*a.shape, dtype=str(a.dtype)) for a in arrays]
    found = make(slopes, *plain, target=target)(*arrays)
    of = dict(theirs.named_parameters())
    wanted = [tensors[i].grad for i in floats] + [of[k].grad for k in params]
    for f, w, what in zip(found, wanted, [f"argument {i}" for i in floats] + list(params), strict=True):
        same(f, w, f"gradient by {what}")
    same_state()
