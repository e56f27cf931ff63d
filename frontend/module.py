"""Modules: named trees of parameters with a ``forward``."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ParameterError, TraceError, unknown_name
from graphc.ir.dtypes import kind_of
from graphc.ir.node import Node
from graphc.locate import boundary, leaving, misfit, of_the_call, public, user_loc

from .parameter import Buffer, Parameter, current_trace

__all__ = ["Module"]


class Module:
    """Base of layers and models. Assign parameters, buffers, modules, or lists, tuples and dicts of them, as attributes.

    No ``super().__init__()`` is needed. Names are attribute paths: ``fc.0.weight``. A parameter found at two paths is one
    parameter under the first. Inside ``forward``, parameters are tensors and ``self.training`` is a constant of the trace.

    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.w = Parameter([2.0])
    ...     def forward(self, x):
    ...         return x * self.w
    >>> [name for name, _ in Scale().named_parameters()]
    ['w']
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise ArgumentError(f"{cls.__name__} takes no arguments", hint="it has no __init__(self, ...)")
        self = object.__new__(cls)
        vars(self)["_graphc_built"] = user_loc(2)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Module:
        made = object.__new__(type(self))
        memo[id(self)] = made
        # a copy is another module: traces give it a name of its own
        vars(made).update({k: copy.deepcopy(v, memo) for k, v in vars(self).items() if k != "_graphc_name"})
        return made

    def forward(self, *args: Any) -> Any:
        """The module's meaning; subclasses define it."""
        raise TraceError(f"{type(self).__name__} has no forward()", hint="define forward(self, x)")

    @boundary
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trace = current_trace()
        if trace is None:
            raise TraceError(
                f"{type(self).__name__} was called outside of a trace: a module computes only while it is traced",
                hint="model = gc.compile(module, gc.spec(...)); model.predict(x)",
            )
        with trace.entering(self) as path:
            try:
                output = self.forward(*args, **kwargs)
            except TypeError as e:
                if of_the_call(e):
                    raise misfit(self.forward, kwargs, e, f"{type(self).__name__}.forward") from None
                raise
            trace.record_call(path, self, output)
        return output

    # -- attributes ------------------------------------------------------------------------------------------------
    def __getattribute__(self, name: str) -> Any:
        try:
            value = object.__getattribute__(self, name)
        except AttributeError as e:
            if name.startswith("_") or not of_the_call(e):  # a property that failed inside
                raise
            try:
                raise unknown_name(type(self).__name__, name, dir(self), _ELSEWHERE) from None
            except AttributeError as told:
                leaving(told)
                raise
        if isinstance(value, (Parameter, list, tuple, dict)) and not name.startswith(("__", "_graphc")):
            trace = current_trace()
            if trace is not None:
                return _resolved(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        if isinstance(value, Node):
            trace = current_trace()
            if isinstance(old, Buffer) and trace is not None:
                trace.assign_buffer(old, value)
                return
            if isinstance(old, Parameter):
                raise TraceError(
                    f"parameter {name!r} cannot be assigned a tensor",
                    hint="optimisers write parameters; use nn.Buffer for state",
                )
        object.__setattr__(self, name, value)

    @property
    def training(self) -> bool:
        """True while a training step is traced, unless :meth:`eval` was called; a constant of the graph."""
        trace = current_trace()
        return trace is not None and trace.trains and self.trains

    @property
    def trains(self) -> bool:
        """Whether this module behaves in training steps as in training: False after :meth:`eval`."""
        return not vars(self).get("_graphc_eval", False)

    def train(self, mode: bool = True) -> Module:
        """Undoes :meth:`eval`, or with ``mode=False`` does it; gives back the module."""
        for m in (self, *(m for _, m in self.named_modules())):
            vars(m)["_graphc_eval"] = not mode
        return self

    def eval(self) -> Module:
        """Makes this module and all in it behave in training steps as in predictions: dropout passes everything, batch norm uses its
        running statistics and leaves them as they are. Its parameters are still trained; see :meth:`freeze`.

        Predictions and evaluations need no call: they always run in this mode. ``gc.compile``'s models see the change in their next
        step, a ``gc.step`` has what was set when it was made.
        """
        return self.train(False)

    # -- the tree --------------------------------------------------------------------------------------------------
    def walk(self) -> Iterator[tuple[str, Module | Parameter]]:
        """Every module and parameter below this one with its path, each once, in order of assignment."""
        seen: set[int] = {id(self)}
        yield from _walk(self, "", seen)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules held by this one itself, with their names."""
        return ((path, v) for path, v in _direct(self) if isinstance(v, Module))

    def children(self) -> list[Module]:
        """The modules held by this one itself."""
        return [m for _, m in self.named_children()]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """Every module below this one, with its path."""
        return ((path, v) for path, v in self.walk() if isinstance(v, Module))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter (without buffers), with its path; a tied one under its first path."""
        return ((path, v) for path, v in self.walk() if isinstance(v, Parameter) and not isinstance(v, Buffer))

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """Every buffer, with its path."""
        return ((path, v) for path, v in self.walk() if isinstance(v, Buffer))

    def parameters(self) -> list[Parameter]:
        """Every parameter (without buffers)."""
        return [p for _, p in self.named_parameters()]

    def requires_grad_(self, value: bool = True) -> Module:
        """Makes all parameters trainable, or frozen; gives back the module."""
        for p in self.parameters():
            p.trainable = value
        return self

    @property
    def trainable(self) -> bool:
        """Whether any parameter is trained; assigning it (Keras' way) freezes or unfreezes all of them, and nothing else."""
        return any(p.trainable for p in self.parameters())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.requires_grad_(value)

    def freeze(self) -> Module:
        """No parameter of this module is trained from now on."""
        return self.requires_grad_(False)

    def unfreeze(self) -> Module:
        """All parameters of this module are trained from now on."""
        return self.requires_grad_(True)

    # -- values ----------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name, in their logical shapes."""
        return {path: v.numpy() for path, v in self.walk() if isinstance(v, Parameter)}

    @boundary
    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Writes all parameters and buffers, or none.

        Raises :class:`ParameterError` listing every missing, unexpected and mismatched name.
        """
        own, ready = self._fitting(values)
        stores = {id(p.store): p.store for p in own.values() if p.store is not None}
        for store in stores.values():
            store.write({p.name: ready[n] for n, p in own.items() if p.store is store})
        for n, p in own.items():
            if p.store is None:
                p.assign(ready[n])

    @boundary
    def check_state_dict(self, values: Mapping[str, Any]) -> None:
        """Raises what :meth:`load_state_dict` would raise, and writes nothing."""
        self._fitting(values)

    def _fitting(self, values: Mapping[str, Any]) -> tuple[dict[str, Parameter], dict[str, np.ndarray]]:
        """(own parameters and buffers, arrays for them)."""
        own = {path: v for path, v in self.walk() if isinstance(v, Parameter)}
        problems = [f"missing: {n}" for n in own if n not in values]
        problems += [f"unexpected: {n}" for n in values if n not in own]
        ready: dict[str, np.ndarray] = {}
        for n, p in own.items():
            if n in values:
                array = np.asarray(values[n])
                if array.shape != p.shape:
                    problems.append(f"{n}: shape {array.shape}, expected {p.shape}")
                elif array.dtype != p.dtype.numpy and not (kind_of(array.dtype) == "f" and p.dtype.is_float):
                    problems.append(f"{n}: dtype {array.dtype}, expected {p.dtype}")
                else:
                    ready[n] = array
        if problems:
            raise ParameterError(
                f"values do not fit {type(self).__name__}",
                notes=tuple(problems),
                hint="rename the keys: {new_name: value, ...}" if any(q.startswith("unexpected") for q in problems) else "",
            )
        return own, ready

    def __repr__(self) -> str:
        own = ", ".join(f"{k}={v!r}" for k, v in self.describe().items())
        inner = [f"  ({k}): " + repr(v).replace("\n", "\n  ") for k, v in _direct(self) if isinstance(v, Module)]
        return (
            f"{type(self).__name__}({own})"
            if not inner
            else f"{type(self).__name__}({own}\n" + "\n".join(inner) + "\n)"
        )

    def describe(self) -> dict[str, Any]:
        """The settings that ``repr`` shows."""
        return {}


def _resolved(value: Any) -> Any:
    """Parameters as tensors, also directly inside lists, tuples and dicts."""
    if isinstance(value, Parameter):
        return value.node
    if isinstance(value, dict):
        return (
            {k: _resolved(v) for k, v in value.items()}
            if any(isinstance(v, Parameter) for v in value.values())
            else value
        )
    if isinstance(value, (list, tuple)) and any(isinstance(v, Parameter) for v in value):
        return type(value)(_resolved(v) for v in value)
    return value


# where that is done which users of torch and Keras look for in a module
_ELSEWHERE = {
    **dict.fromkeys(("to", "cuda", "cpu"), 'a device is an argument of the compiler: gc.compile(module, ..., target="cpu")'),
    **dict.fromkeys(("float", "double"), 'a dtype is an argument of layers and specs: nn.Linear(3, 4, dtype="float64")'),
    **dict.fromkeys(("half", "bfloat16"), 'a dtype is an argument of layers and specs: nn.Linear(3, 4, dtype="bfloat16")'),
    **dict.fromkeys(("fit", "evaluate", "predict", "summary", "save", "load"), "model = gc.compile(module, gc.spec(...), loss=..., optimizer=...) has it"),
    **dict.fromkeys(("compile", "build"), "model = gc.compile(module, gc.spec(...), loss=..., optimizer=...)"),
    **dict.fromkeys(("register_forward_hook", "register_forward_pre_hook"), 'model.tap("name") gives what a module inside gave'),
    "add_weight": "self.weight = nn.Parameter(shape, init=...)",
    "apply": "layers take init=..., and a parameter's values can be assigned: p.assign(array)",
    "modules": "module.named_modules()",
    "register_buffer": "self.name = nn.Buffer(array)",
    "register_parameter": "self.name = nn.Parameter(shape)",
    "zero_grad": "gradients are values of one step: nothing is kept that must be set to zero",
}


_PART = re.compile(r"\w+")


def _direct(module: Module) -> Iterator[tuple[str, Any]]:
    for key, value in vars(module).items():
        if not key.startswith("_graphc"):
            yield from _scan(value, key)


def _scan(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (Module, Parameter)):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            yield from _scan(v, f"{path}.{i}")
    elif isinstance(value, dict):
        for k, v in value.items():
            if isinstance(v, (Module, Parameter, list, tuple, dict)):
                found = list(_scan(v, f"{path}.{k}"))
                if found and not _PART.fullmatch(str(k)):
                    raise TraceError(
                        f"the key {k!r} of {path} cannot be part of a name", hint="use letters, digits and _"
                    )
                yield from found


def _walk(module: Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module | Parameter]]:
    for key, value in _direct(module):
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield prefix + key, value
        if isinstance(value, Module):
            yield from _walk(value, f"{prefix}{key}.", seen)


public(globals())
