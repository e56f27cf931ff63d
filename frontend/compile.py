"""``gc.compile``: from a module or function to something that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.compiler import ready_backend
from graphc.errors import ArgumentError
from graphc.locate import boundary

from .function import Function
from .module import Module
from .trace import trace_function

__all__ = ["compile", "function_name"]


_ARGUMENTS = ("loss", "optimizer", "metrics", "loss_weights", "target", "target_spec", "outputs", "eager")


def function_name(fn: Any) -> str:
    """A name for the graph of a function."""
    name = getattr(fn, "__name__", type(fn).__name__)
    return name if name.isidentifier() else "f"


@boundary
def compile(
    fn: Any,
    *specs: Any,
    loss: Any = None,
    optimizer: Any = None,
    metrics: Any = (),
    loss_weights: Any = None,
    target: str = "cpu",
    target_spec: Any = None,
    outputs: str | Sequence[str] | None = None,
    eager: bool = False,
    **options: Any,
) -> Any:
    """Compiles a module or a function for inputs of the given specs.

    A module gives a :class:`~graphc.frontend.model.Model`; with ``loss`` and ``optimizer`` it can be trained. ``target_spec``
    is the spec of the labels, where the loss does not tell; with ``eager`` everything is compiled now and not at first use.
    Several outputs take a dict or list of losses, with ``loss_weights`` and metrics in the same structure; the logs then have
    ``<output>_loss`` and ``<output>_<metric>``. ``outputs`` makes ``predict`` give what the named modules inside give (``["conv1"]``: a
    dict; see :meth:`Model.tap`). Clipping, penalties and accumulation of gradients are settings of the optimiser. A function of tensors gives a function of
    arrays.

    ``options`` are the target's: ``threads`` and ``progress`` for "cpu". Mistakes in shapes, dtypes, ranks and names are raised here, with the line of the model where they are.

    >>> import graphc as gc
    >>> f = compile(lambda a, b: (a @ b).sum(-1), gc.spec("N", 2), gc.spec(2, 3), target="reference")
    >>> f([[1.0, 1.0]], [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]]).tolist()
    [9.0]
    """
    ready_backend(target, options, _ARGUMENTS)
    if isinstance(fn, type):
        raise ArgumentError(f"{fn.__name__} is a class", hint=f"make a module of it first: gc.compile({fn.__name__}(...), *specs)")
    if isinstance(fn, Module):
        from .model import Model

        model = Model(
            fn,
            specs,
            loss=loss,
            optimizer=optimizer,
            metrics=metrics,
            loss_weights=loss_weights,
            target=target,
            target_spec=target_spec,
            outputs=outputs,
            options=options,
        )
        if eager:
            model.compile_all()
        return model
    if loss is not None or optimizer is not None or metrics or loss_weights is not None or target_spec is not None or outputs is not None:
        raise ArgumentError(
            "loss, optimizer, metrics, target_spec and outputs go with a module",
            hint="gc.step(fn, *specs) trains with any function",
        )
    if not callable(fn):
        raise ArgumentError(f"{fn!r} is neither a module nor a function", hint="an nn.Module, or a function of tensors")
    made = Function(trace_function(fn, specs, name=function_name(fn)), target, options)
    if eager:
        made.executable  # noqa: B018
    return made
