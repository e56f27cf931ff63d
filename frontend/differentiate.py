"""Gradients of functions of tensors: functions again, so they can be differentiated and compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from graphc.autodiff import gradients
from graphc.errors import ArgumentError, GradientError, ShapeError, TraceError
from graphc.ir.graph import rebuild
from graphc.ir.node import Node, toposort
from graphc.ir.op import lookup
from graphc.locate import public

from .parameter import Parameter, current_trace
from .trace import Trace, make_input
from .tree import leaves, tree_map

__all__ = ["grad", "loss_gradients", "stop_gradient", "value_and_grad"]

Wrt = int | Sequence[int] | Parameter | Sequence[Parameter]


def stop_gradient(x: Any) -> Node:
    """``x`` as a constant for differentiation."""
    return lookup("stop_gradient").call(x)  # type: ignore[no-any-return]


def value_and_grad(fn: Callable[..., Any], wrt: Wrt = 0) -> Callable[..., Any]:
    """A function giving ``(fn(...), gradient)``.

    ``fn`` gives a scalar; ``wrt`` is the position of an argument (a tensor or a tree of them), a parameter, or a list of
    either; the gradient has the same structure. Use it in ``forward``, in ``gc.step`` or with ``gc.compile``.
    Raises :class:`GradientError` where no path leads to the value, :class:`ShapeError` for a value that is no scalar.
    """

    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        trace = current_trace()
        if trace is None:
            raise TraceError(
                "a gradient was called outside of a trace", hint="f = gc.compile(gc.grad(fn), *specs); f(arrays)"
            )
        single = isinstance(wrt, (int, Parameter))
        targets: list[Any] = [wrt] if single else list(wrt)  # type: ignore[arg-type]
        fresh: dict[Node, Node] = {}
        args = list(args)  # type: ignore[assignment]
        for t in targets:
            if not isinstance(t, Parameter):
                if not isinstance(t, int) or not -len(args) <= t < len(args):
                    raise ArgumentError(f"wrt={t!r} with {len(args)} arguments", hint="positions count from 0: wrt=0 is the first argument")
                # a stand-in, so that the same tensor given elsewhere counts as independent
                args[t] = tree_map(lambda n: _stand_in(n, fresh), args[t])  # type: ignore[index]
        value = fn(*args)
        if not isinstance(value, Node) or value.shape != ():
            raise ShapeError(
                f"a gradient needs a scalar, not {value.type if isinstance(value, Node) else repr(value)}", hint="reduce it: loss.mean()"
            )
        held = [(t.node if isinstance(t, Parameter) else args[t]) for t in targets]
        flat = [n for tree in held for _, n in leaves(tree, "")]
        try:
            parts = gradients([value], None, flat, trace.provenance)
        except GradientError as e:
            lost = fresh.get(e.node) if isinstance(e.node, Node) else None
            if lost is not None:
                which = f"the argument {lost.attrs['name']!r}" if lost.op.kind == "input" else "an argument"
                e.message = f"the value does not depend on {which} by any path with a gradient"
                e.hint = "leave it out of wrt"
            raise
        found = iter(_replaced([value, *parts], fresh, trace))
        value = next(found)
        grads = [tree_map(lambda _: next(found), tree) for tree in held]
        return value, grads[0] if single else tuple(grads)

    return call


def grad(fn: Callable[..., Any], wrt: Wrt = 0) -> Callable[..., Any]:
    """The gradient of a scalar function, as a function; see :func:`value_and_grad`.

    >>> import graphc as gc
    >>> f = gc.compile(gc.grad(lambda x: (x * x * x).sum()), gc.spec(2), target="reference")
    >>> f([1.0, 2.0]).tolist()
    [3.0, 12.0]
    """
    both = value_and_grad(fn, wrt)

    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return both(*args)[1]

    return call


def _stand_in(node: Any, fresh: dict[Node, Node]) -> Node:
    if not isinstance(node, Node):
        node = lookup("const").call(node)
    made = make_input(f"$wrt{len(fresh)}_{id(fresh):x}", node.tensor)
    fresh[made] = node
    return made


def _replaced(nodes: Sequence[Node], mapping: dict[Node, Node], trace: Trace) -> list[Node]:
    """The nodes with stand-ins replaced, also in what the trace has collected meanwhile."""
    if not mapping:
        return list(nodes)
    image: dict[Node, Node] = dict(mapping)
    prov = trace.provenance
    kept = [v for versions in trace.versions.values() for v in versions] + trace.finite
    for node in toposort([*nodes, *kept]):
        if node in image:
            continue
        ins = tuple(image[i] for i in node.inputs)
        if all(a is b for a, b in zip(ins, node.inputs, strict=True)):
            image[node] = node
            continue
        origin = prov.of(node)
        with prov.recording(origin.locs, origin.scopes):
            image[node] = rebuild(node, ins)
    for versions in trace.versions.values():
        versions[:] = [image[v] for v in versions]
    trace.finite[:] = [image[v] for v in trace.finite]
    return [image[n] for n in nodes]


def loss_gradients(loss: Node, params: Sequence[Parameter], trace: Trace) -> list[tuple[Node, Node]]:
    """``(value that the loss used, gradient)`` of each parameter."""
    used = set(toposort([loss]))
    held = []
    for p in params:
        trace.value(p)
        versions = trace.versions[p.name]
        held.append(next((v for v in reversed(versions) if v in used), versions[-1]))
    try:
        return list(zip(held, gradients([loss], None, held, trace.provenance), strict=True))
    except GradientError as e:
        lost = next((p for p, h in zip(params, held, strict=True) if h is e.node), None)
        if lost is None:
            raise
        raise GradientError(
            f"the loss does not depend on parameter {lost.name!r} by any path with a gradient",
            where=e.where,
            notes=e.notes,
            hint="freeze it (module.freeze(), parameter.trainable = False) or leave it out of the parameters to minimize",
        ) from None


public(globals())
