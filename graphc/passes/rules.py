"""The rewrite rules. Each names the operator it starts from, says what it does, and carries a sample for its own test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ir.dims import prod
from ..ir.node import Node
from ..ir.op import lookup
from ..ops import views
from ..ops.elementwise import add, div, exp, log, mul, neg, sqrt, sub, tanh
from ..ops.elementwise import pow as pow_
from ..ops.reductions import sum as sum_

__all__ = ["RULES", "Rule"]


@dataclass(frozen=True)
class Rule:
    """``apply(node)`` gives the replacement of a node of operator ``op``, or None.

    ``sample`` builds a node that the rule must match, from placeholders made by its argument ``x(name, *shape)``.
    ``exact`` rules keep every bit, NaN and infinities included.
    """

    name: str
    op: str
    doc: str
    apply: Callable[[Node], Node | None]
    sample: Callable[[Callable[..., Node]], Node]
    exact: bool = True


def constant_value(n: Node) -> float | None:
    """The one number a node consists of, if it is a broadcast constant."""
    while n.op.kind == "view" and n.op.name in ("broadcast_to", "reshape") and n.inputs:
        n = n.inputs[0]
    if n.op.kind == "const" and n.attrs["value"].size == 1:
        return n.attrs["value"].item()  # type: ignore[no-any-return]
    return None


def _is(n: Node, value: float) -> bool:
    c = constant_value(n)
    return c is not None and not isinstance(c, bool) and c == value and not (value == 0 and np.signbit(c))


def _times_one(n: Node) -> Node | None:
    x, y = n.inputs
    return x if _is(y, 1.0) else y if _is(x, 1.0) else None


def _neg_neg(n: Node) -> Node | None:
    x = n.inputs[0]
    return x.inputs[0] if x.op.name == "neg" else None


def _minus_zero(n: Node) -> Node | None:
    return n.inputs[0] if _is(n.inputs[1], 0.0) else None


def _over_one(n: Node) -> Node | None:
    return n.inputs[0] if _is(n.inputs[1], 1.0) else None


def _add_neg(n: Node) -> Node | None:
    x, y = n.inputs
    return x - y.inputs[0] if y.op.name == "neg" else y - x.inputs[0] if x.op.name == "neg" else None


def _sub_neg(n: Node) -> Node | None:
    x, y = n.inputs
    return x + y.inputs[0] if y.op.name == "neg" else None


def _reshape_reshape(n: Node) -> Node | None:
    x = n.inputs[0]
    return views.reshape(x.inputs[0], n.shape) if x.op.name == "reshape" else None


def _same_shape_view(n: Node) -> Node | None:
    return n.inputs[0] if n.shape == n.inputs[0].shape else None


def _transpose_transpose(n: Node) -> Node | None:
    x = n.inputs[0]
    if x.op.name != "transpose":
        return None
    inner = x.attrs["perm"]
    return views.transpose(x.inputs[0], *(inner[p] for p in n.attrs["perm"]))


def _identity_transpose(n: Node) -> Node | None:
    return n.inputs[0] if n.attrs["perm"] == tuple(range(n.ndim)) else None


def _broadcast_broadcast(n: Node) -> Node | None:
    x = n.inputs[0]
    return views.broadcast_to(x.inputs[0], n.shape) if x.op.name == "broadcast_to" else None


def _reshape_of_scalar(n: Node) -> Node | None:
    """A constant needs no reshape: broadcasting it says the same."""
    x = n.inputs[0]
    if x.op.kind == "const" and x.ndim == 0:
        return views.broadcast_to(x, n.shape)
    if x.op.name == "broadcast_to" and x.inputs[0].ndim == 0:
        return views.broadcast_to(x.inputs[0], n.shape)
    return None


def _cast_cast(n: Node) -> Node | None:
    return n.inputs[0] if n.dtype == n.inputs[0].dtype else None


def _scalar_const(n: Node) -> Node | None:
    """Arithmetic on constants is done now."""
    values = [i.attrs["value"] for i in n.inputs if i.op.kind == "const"]
    if not n.inputs or len(values) != len(n.inputs) or any(v.size > 1 for v in values) or n.op.numpy is None:
        return None
    with np.errstate(all="ignore"):
        out = np.asarray(n.op.numpy(*values, **n.attrs)).astype(n.dtype.numpy)
    return Node.make(lookup("const"), (), value=out)


def _sum_of_broadcast(n: Node) -> Node | None:
    """Adding up copies of a scalar is a multiplication by their number."""
    x = n.inputs[0]
    if x.op.name != "broadcast_to" or x.inputs[0].ndim or not x.dtype.is_float:
        return None
    count = prod(x.shape[a] for a in n.attrs["axes"])
    if not isinstance(count, int):
        return None
    return views.broadcast_to(mul(x.inputs[0], float(count)), n.shape)


def _div_const(n: Node) -> Node | None:
    """Division by a power of two is an exact multiplication."""
    c = constant_value(n.inputs[1])
    if c is None or not n.dtype.is_float or c == 0 or not np.isfinite(c):
        return None
    return n.inputs[0] * (1.0 / c) if np.frexp(c)[0] in (0.5, -0.5) else None


def _power(n: Node) -> Node | None:
    """Small integer powers are products, a half is a square root: faster, and right for negative x."""
    c = constant_value(n.inputs[1])
    x = n.inputs[0]
    if c == 0.5:
        return sqrt(x)
    if c is None or c != int(c) or not 1 <= abs(c) <= 8:
        return None
    out, square, k = None, x, int(abs(c))
    while k:
        if k & 1:
            out = square if out is None else out * square
        square, k = (square * square if k > 1 else square), k >> 1
    assert out is not None
    return out if c > 0 else 1.0 / out


SERIAL = 4096
"""Elements up to which folding to one value is left to one thread."""


def _two_steps(n: Node) -> Node | None:
    """A fold of everything has no parallel axis: it folds rows first, side by side, then the row results. The order of
    additions does not depend on the number of threads."""
    x = n.inputs[0]
    total = x.size
    if n.ndim or (isinstance(total, int) and total <= SERIAL):
        return None
    fold: Callable[..., Node] = n.op.call
    if x.ndim >= 2:
        inner = prod(x.shape[1:])
        return fold(fold(x, tuple(range(1, x.ndim))), 0) if isinstance(inner, int) and inner >= 16 else None
    rows = next((r for r in (64, 48, 32, 16) if isinstance(total, int) and total % r == 0), None)
    if rows is None or not isinstance(total, int) or total < 16 * SERIAL:
        return None
    return fold(fold(views.reshape(x, (rows, total // rows)), 1), 0)


def _constant_base(n: Node) -> Node | None:
    """c ** y -> exp(y log c): the logarithm is taken now."""
    c = constant_value(n.inputs[0])
    if c is None or not c > 0 or not np.isfinite(c) or constant_value(n.inputs[1]) is not None:
        return None
    return exp(n.inputs[1] * float(np.log(c)))


RULES: list[Rule] = [
    Rule("power of a constant", "pow", "c ** y -> exp(y log c)", _constant_base, lambda x: pow_(0.9, x("x", 3)), exact=False),
    *(
        Rule(f"{name} in two steps", name, f"{name} of everything -> {name} of rows, then of the results", _two_steps, sample, exact=False)
        for name, sample in (("sum", lambda x: sum_(x("x", 90, 50))), ("max", lambda x: lookup("max").call(x("x", 90, 50))))
    ),
    Rule("mul one", "mul", "x * 1 -> x", _times_one, lambda x: x("x", 3) * 1.0),
    Rule("sub zero", "sub", "x - 0 -> x", _minus_zero, lambda x: x("x", 3) - 0.0),
    Rule("div one", "div", "x / 1 -> x", _over_one, lambda x: x("x", 3) / 1.0),
    Rule("div power of two", "div", "x / 2^k -> x * 2^-k", _div_const, lambda x: x("x", 3) / 4.0),
    Rule("small power", "pow", "x ** k -> products, x ** 0.5 -> sqrt(x)", _power, lambda x: x("x", 3) ** 3, exact=False),
    Rule("neg neg", "neg", "-(-x) -> x", _neg_neg, lambda x: -(-x("x", 3))),
    Rule("add neg", "add", "x + (-y) -> x - y", _add_neg, lambda x: x("x", 3) + (-x("y", 3))),
    Rule("sub neg", "sub", "x - (-y) -> x + y", _sub_neg, lambda x: x("x", 3) - (-x("y", 3))),
    Rule("reshape reshape", "reshape", "only the last of two reshapes counts", _reshape_reshape, lambda x: views.reshape(views.reshape(x("x", 2, 6), 12), 3, 4)),
    Rule("reshape to itself", "reshape", "same shape -> x", _same_shape_view, lambda x: Node.make(lookup("reshape"), (x("x", 3),), shape=(3,))),
    Rule("reshape scalar", "reshape", "reshape(broadcast(c)) -> broadcast(c)", _reshape_of_scalar, lambda x: views.reshape(views.broadcast_to(x("x"), (2, 3)), 6)),
    Rule("transpose transpose", "transpose", "two permutations are one", _transpose_transpose, lambda x: views.transpose(views.transpose(x("x", 2, 3, 4), 1, 2, 0), 0, 2, 1)),
    Rule("transpose identity", "transpose", "no exchange -> x", _identity_transpose, lambda x: Node.make(lookup("transpose"), (x("x", 2, 3),), perm=(0, 1))),
    Rule("broadcast broadcast", "broadcast_to", "only the last of two broadcasts counts", _broadcast_broadcast, lambda x: views.broadcast_to(views.broadcast_to(x("x"), (3,)), (2, 3))),
    Rule("broadcast to itself", "broadcast_to", "same shape -> x", _same_shape_view, lambda x: Node.make(lookup("broadcast_to"), (x("x", 3),), shape=(3,))),
    Rule("cast to itself", "cast", "same dtype -> x", _cast_cast, lambda x: Node.make(lookup("cast"), (x("x", 3),), dtype=x("x", 3).dtype)),
    Rule("sum of copies", "sum", "sum(broadcast(c)) -> c * n", _sum_of_broadcast, lambda x: sum_(views.broadcast_to(x("x"), (3, 4)), 0), exact=False),
    *(
        Rule(f"constant {name}", name, f"{name} of constants is a constant", _scalar_const, sample)
        for name, sample in (
            ("add", lambda x: add(1.5, 2.0)), ("sub", lambda x: sub(1.5, 2.0)), ("mul", lambda x: mul(1.5, 2.0)), ("div", lambda x: div(1.5, 2.0)),
            ("neg", lambda x: neg(1.5)), ("exp", lambda x: exp(1.5)), ("log", lambda x: log(1.5)), ("tanh", lambda x: tanh(1.5)),
        )
    ),
]  # fmt: skip
