"""Outputs of modules inside a model, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, TraceError, did_you_mean
from graphc.ir.node import Node, toposort

from .function import Function
from .trace import active_trace, trace_function
from .tree import leaves

if TYPE_CHECKING:
    from .model import Model

__all__ = ["as_names", "tapped"]

WHOLE = "output"
"""The name of the model's own output, where no module has it."""


def as_names(outputs: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple of different ones."""
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    if not names or not all(isinstance(n, str) for n in names):
        raise ArgumentError(f"outputs = {outputs!r}", hint='names of modules: ["conv1", "encoder.0"]')
    return tuple(dict.fromkeys(names))


def tapped(model: Model, names: Sequence[str]) -> Function:
    """A function of the model's inputs that gives a dict of what the named modules gave, in predict's mode.

    A module that is called several times gives a list. Only what these outputs need is computed.
    """
    modules = dict(model.module.named_modules())
    unknown = [n for n in names if n not in modules and n != WHOLE]
    if unknown:
        raise ArgumentError(f"{model.name} has no module {unknown[0]!r}", hint=did_you_mean(unknown[0], [*modules, WHOLE]))

    def run(*args: Any) -> dict[str, Any]:
        trace = active_trace()
        assert trace is not None
        trace.taps = {id(modules[n]): [] for n in names if n in modules}
        whole = model.module(*args)
        out = {}
        for n in names:
            found = trace.taps[id(modules[n])] if n in modules else [whole]
            if not found:
                raise TraceError(f"the module {n!r} is not called in a prediction", hint="a module that forward calls, by its path")
            known = {n for _, n in leaves(args, "")} | {v[0] for v in trace.versions.values()}
            if any(_inside_a_loop(v, known) for v in found):
                raise TraceError(
                    f"the module {n!r} runs inside a loop", hint="its outputs are those of one trip; tap the module that holds the loop"
                )
            out[n] = found[0] if len(found) == 1 else found
        return out

    traced = trace_function(
        run, model.specs, name=f"{model.name}_tap", store=model.store, names=model.names, root=model.module
    )
    return Function(traced, model.target, model.options)


def _inside_a_loop(output: Any, known: set[Any]) -> bool:
    """Whether an output depends on an argument of a loop's body, which is no input of the model."""
    nodes = [v for _, v in leaves(output, "") if isinstance(v, Node)]
    return any(n.op.name == "input" and n not in known for n in toposort(nodes))
