"""Functions that only rearrange or create, and Einstein sums, against NumPy and PyTorch; with a named batch size too."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.errors import ShapeError
from graphc.testing import check_grads


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).uniform(-1, 1, shape)


def run(fn, *arrays, target="reference", named=False):
    """The results of ``fn`` on arrays; ``named`` calls the first axis of the first N."""
    shapes = [("N", *a.shape[1:]) if named and i == 0 else a.shape for i, a in enumerate(arrays)]
    return gc.compile(fn, *(gc.spec(*s, dtype=str(a.dtype)) for s, a in zip(shapes, arrays, strict=True)), target=target)(*arrays)


def same(found, wanted):
    found, wanted = (v if isinstance(v, (tuple, list)) else [v] for v in (found, wanted))
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted, strict=True):
        assert f.shape == np.shape(w)
        np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12)


X = rand(4, 6, 3)
NUMPY = {
    "roll": [lambda m, x: m.roll(x, 2, 1), lambda m, x: m.roll(x, -1, 0), lambda m, x: m.roll(x, (5, -7), (0, 2)), lambda m, x: m.roll(x, 5), lambda m, x: m.roll(x, 12, 1)],
    "flip": [lambda m, x: m.flip(x), lambda m, x: m.flip(x, 1), lambda m, x: m.flip(x, (0, 2))],
    "rot90": [lambda m, x, k=k: m.rot90(x, k, (0, 1)) for k in range(-1, 4)] + [lambda m, x: m.rot90(x, 1, (2, 0))],
    "tile": [lambda m, x: m.tile(x, 2), lambda m, x: m.tile(x, (2, 1, 3)), lambda m, x: m.tile(x, (2, 1, 1, 2)), lambda m, x: m.tile(x, (0, 1, 1))],
    "repeat": [lambda m, x: m.repeat(x, 3, 1), lambda m, x: m.repeat(x, 2), lambda m, x: m.repeat(x, 0, 0)],
    "split": [lambda m, x: m.split(x, 3, 1), lambda m, x: m.split(x, (1, 4), 1), lambda m, x: m.split(x, 2)],
    "moveaxis": [lambda m, x: m.moveaxis(x, 0, -1), lambda m, x: m.moveaxis(x, (0, 1), (2, 0))],
    "stacks": [lambda m, x: m.vstack([x, x]), lambda m, x: m.hstack([x, x]), lambda m, x: m.hstack([x[0, 0], x[1, 1]]), lambda m, x: m.vstack([x[0, 0], x[1]])],
    "ravel": [lambda m, x: m.ravel(x), lambda m, x: m.atleast_2d(x[0, 0]), lambda m, x: m.atleast_1d(x[0, 0, 0])],
    "diag": [lambda m, x: m.diag(x[0]), lambda m, x: m.diag(x[0], -2), lambda m, x: m.diag(x[0, 0], 1), lambda m, x: m.trace(x), lambda m, x: m.trace(x, 1, 2, 1)],
    "products": [lambda m, x: m.outer(x[0, 0], x[0]), lambda m, x: m.inner(x, x[1]), lambda m, x: m.vdot(x, x), lambda m, x: m.kron(x[0], x[1, :2]), lambda m, x: m.kron(x[0, 0], x[1]),
                 lambda m, x: m.tensordot(x, x, ((0, 2), (0, 2))), lambda m, x: m.tensordot(x, x[:, 0].T, 1), lambda m, x: m.tensordot(x, x[0], 2), lambda m, x: m.inner(x[0, 0], 2.0)],
    "broadcast": [lambda m, x: list(m.broadcast_arrays(x, x[0, :, :1]))],
    "meshgrid": [lambda m, x: list(m.meshgrid(x[0, 0], x[0, :, 0])), lambda m, x: list(m.meshgrid(x[0, 0], x[0, :, 0], x[:, 0, 0], indexing="ij"))],
}  # fmt: skip
CASES = [pytest.param(fn, id=f"{name}{i}") for name, fns in NUMPY.items() for i, fn in enumerate(fns)]


@pytest.mark.parametrize("fn", CASES)
def test_against_numpy(fn):
    same(run(lambda x: fn(ops, x), X), fn(np, X))


@pytest.mark.parametrize("fn", [p for p in CASES if not p.id.startswith(("split", "broadcast", "meshgrid"))])
def test_gradients(fn):
    check_grads(lambda x: fn(ops, x), X, order=1)


def test_with_a_named_batch_size():
    w = rand(6, 5)
    for fn in (
        lambda m, x, w: m.roll(x, 1, 0), lambda m, x, w: m.flip(x, 0), lambda m, x, w: m.tile(x, (2, 1, 1)), lambda m, x, w: m.repeat(x, 2, 0), lambda m, x, w: m.moveaxis(x, 0, 1),
        lambda m, x, w: m.einsum("nij,ik->nkj", x, w), lambda m, x, w: m.einsum("nij,mij->nm", x, x), lambda m, x, w: m.einsum("nij->j", x), lambda m, x, w: m.tril(x),
    ):  # fmt: skip
        for size in (1, 4, 37):
            x = rand(size, 6, 3)
            same(run(lambda a, b, fn=fn: fn(ops, a, b), x, w, named=True), fn(np, x, w))


def test_torchs_own_names():
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(X)
    same(run(lambda x: x.chunk(4, 1), X), [p.numpy() for p in t.chunk(4, 1)])
    same(run(lambda x: x.split_sizes(4, 1), X), [p.numpy() for p in t.split(4, 1)])
    same(run(lambda x: x.split_sizes([1, 3, 2], 1), X), [p.numpy() for p in t.split([1, 3, 2], 1)])
    same(run(lambda x: x.unbind(2), X), [p.numpy() for p in t.unbind(2)])
    same(run(lambda x: x.permute(2, 0, 1).unsqueeze(1).expand(-1, 5, -1, -1), X), t.permute(2, 0, 1).unsqueeze(1).expand(-1, 5, -1, -1).numpy())
    same(run(lambda x: x.view(4, -1).T, X), t.view(4, -1).T.numpy())
    same(run(lambda x: x.mT @ x, X), (t.mT @ t).numpy())
    same(run(lambda x: x.movedim(0, 2).flatten(1), X), t.movedim(0, 2).flatten(1).numpy())


# -- creation ------------------------------------------------------------------------------------------------------------------
def made(fn):
    return run(lambda x: fn(ops) + x[0, 0, 0] * 0.0, X)


@pytest.mark.parametrize(
    "fn",
    [
        lambda m: m.arange(7), lambda m: m.arange(2, 11, 3), lambda m: m.arange(5, -4, -2), lambda m: m.arange(0.5, 3.1, 0.5), lambda m: m.arange(3, 3), lambda m: m.linspace(-1, 2, 7),
        lambda m: m.linspace(0, 1, 5, endpoint=False), lambda m: m.linspace(3, 4, 1), lambda m: m.logspace(0, 2, 4), lambda m: m.eye(4), lambda m: m.eye(3, 5), lambda m: m.tri(4, 5, -1), lambda m: m.tri(3, 4, 1),
        lambda m: m.zeros((2, 3)), lambda m: m.ones(4), lambda m: m.full((2, 2), 1.5), lambda m: m.zeros_like(m.ones((2, 1))),
    ],
)  # fmt: skip
def test_creation_against_numpy(fn):
    found, wanted = made(fn), fn(np)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=2e-7)


def test_dtypes_of_created_tensors():
    a, b, c = run(lambda x: (ops.arange(3), ops.arange(3.0), ops.ones_like(x)), X)
    assert (a.dtype, b.dtype, c.dtype) == (np.int32, np.float32, np.float64)


def test_counting_a_named_size():
    found = gc.compile(lambda x: (ops.arange(x.shape[0]), ops.linspace(0.0, 1.0, x.shape[0])), gc.spec("N"), target="reference")
    for size in (0, 1, 5):
        a, b = found(np.zeros(size, np.float32))
        np.testing.assert_array_equal(a, np.arange(size))
        np.testing.assert_allclose(b, np.linspace(0, 1, size), rtol=2e-7)


# -- Einstein sums -------------------------------------------------------------------------------------------------------------
EINSUM = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("ij,jk->ki", (3, 4), (4, 5)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ij->ji", (3, 4)), ("ji", (3, 4)), ("ij->", (3, 4)),
    ("ij->j", (3, 4)), ("ii", (4, 4)), ("ii->i", (4, 4)), ("iij->j", (4, 4, 3)), ("iijj->ij", (4, 4, 3, 3)), ("i,j->ij", (3,), (4,)), ("i,i->", (5,), (5,)), ("ij,ij->ij", (3, 4), (3, 4)),
    ("ij,ij->i", (3, 4), (3, 4)), ("i,ij->ij", (3,), (3, 4)), ("...ij,...jk->...ik", (2, 5, 3, 4), (5, 4, 2)), ("...ij,jk", (2, 3, 4), (4, 5)), ("i...,i...->...", (3, 4, 2), (3, 4, 2)),
    ("ij,jk,kl->il", (3, 4), (4, 5), (5, 2)), ("a,ab,abc->abc", (3,), (3, 4), (3, 4, 2)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("ij,k->jk", (3, 4), (5,)),
    ("nchw,oc->nohw", (2, 3, 4, 5), (6, 3)), ("ijk,jil->kl", (3, 4, 5), (4, 3, 2)), ("i,i,i->i", (3,), (3,), (3,)), ("ab,cd->acbd", (2, 3), (4, 5)), ("ij,j->i", (0, 4), (4,)), ("ij,jk->ik", (3, 0), (0, 4)),
    ("...->...", (3, 4)), ("i...->...i", (3, 4, 5)), ("bi,ij,bj->b", (5, 3), (3, 4), (5, 4)), ("ij,jk->ik", (3, 1), (4, 5)), ("...i,...i->...", (1, 4), (3, 4)), ("Ab,bA->A", (3, 4), (4, 3)),
    (" i j , j k -> i k ", (3, 4), (4, 5)), ("abcd,efcd->abef", (2, 3, 4, 5), (3, 2, 4, 5)), ("ii,jj->ij", (3, 3), (4, 4)), (",ij->ij", (), (3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("case", EINSUM, ids=lambda c: c[0])
def test_einsum_against_numpy(case):
    equation, *shapes = case
    arrays = [np.asarray(rand(*s, seed=i)) for i, s in enumerate(shapes)]
    same(run(lambda *xs: ops.einsum(equation, *xs), *arrays), np.einsum(equation, *arrays))
    check_grads(lambda *xs: ops.einsum(equation, *xs), *arrays, order=1)


def test_einsum_of_integers():
    a, b = np.arange(12, dtype=np.int32).reshape(3, 4), np.arange(20, dtype=np.int32).reshape(4, 5)
    same(run(lambda x, y: ops.einsum("ij,jk->ik", x, y), a, b), a @ b)


def test_einsum_multiplies_the_cheap_pair_first():
    a, b, c = (ops.input(n, s, "float32") for n, s in (("a", (100, 2)), ("b", (2, 100)), ("c", (100, 3))))
    out = ops.einsum("ij,jk,kl->il", a, b, c)
    sizes = {n.shape for n in _below(out) if n.op.name == "dot_general"}
    assert (100, 100) not in sizes and len(sizes) == 2


def _below(node):
    from graphc.ir.node import toposort

    return toposort([node])


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk->ik", [(3, 4), (5, 6)], "'j' has size 4"), ("ij->k", [(3, 4)], "in no operand"), ("ij->ii", [(3, 4)], "twice"), ("ij", [(3, 4, 5)], "names 2 axes"), ("ij,jk", [(3, 4)], "names 2 operands"),
        ("i!->i", [(3,)], "cannot read"), ("..i->i", [(3,)], "cannot read"), ("ij.->", [(3, 4)], "cannot read"),
    ],
)  # fmt: skip
def test_einsum_refuses(equation, shapes, message):
    with pytest.raises(ShapeError, match=message):
        ops.einsum(equation, *(ops.input(f"x{i}", s, "float32") for i, s in enumerate(shapes)))


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda x: ops.split(x, 4, 1), "does not divide"), (lambda x: ops.split_sizes(x, [2, 2], 1), "sum 4"), (lambda x: ops.roll(x, (1, 2), 0), "2 shifts for 1"),
        (lambda x: ops.moveaxis(x, (0, 0), (1, 2)), "cannot go"), (lambda x: ops.repeat(x, [1, 2], 0), "one number"), (lambda x: ops.permute(x, 0, 1), "2 axes for rank 3"),
        (lambda x: ops.tensordot(x, x, 4), "4 axes"), (lambda x: ops.arange(0, 5, 0), "step of 0"), (lambda x: ops.meshgrid(x), "vectors"), (lambda x: ops.diag(x), "neither"),
    ],
)  # fmt: skip
def test_misuse_is_refused(fn, message):
    with pytest.raises(ShapeError, match=message):
        fn(ops.input("x", X.shape, "float32"))
