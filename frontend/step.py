"""``gc.step``: any training step as one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.compiler import ready_backend
from graphc.locate import boundary

from .compile import function_name
from .function import Function
from .trace import trace_function

__all__ = ["step"]


@boundary
def step(fn: Callable[..., Any], *specs: Any, target: str = "cpu", **options: Any) -> Function:
    """Compiles a training step: ``fn`` calls modules, computes losses and hands them to optimisers.

    ``opt.minimize(loss, module.parameters())`` registers an update; several losses, modules and optimisers may take part.
    What follows in ``fn`` sees the updated parameters. Everything is one graph: nothing is written before all losses are
    known to be finite. The modules' parameters live in one store, which later ``gc.compile`` calls share.

    >>> import graphc as gc
    >>> from graphc import nn, optim
    >>> net, opt = nn.Linear(2, 1), optim.SGD(0.1)
    >>> def fn(x, y):
    ...     loss = ((net(x) - y) ** 2).mean()
    ...     opt.minimize(loss, net.parameters())
    ...     return loss
    >>> train = gc.step(fn, gc.spec("N", 2), gc.spec("N", 1), target="reference")
    >>> first = train([[1.0, 0.0]], [[1.0]])
    >>> bool(train([[1.0, 0.0]], [[1.0]]) < first)
    True
    """
    ready_backend(target, options, ("target",))
    return Function(trace_function(fn, specs, name=function_name(fn), training=True), target, options)
