"""Modules that only arrange others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from graphc import ops
from graphc.errors import TraceError
from graphc.ir.node import Node

from ..module import Module
from ..parameter import Parameter

__all__ = ["Flatten", "Identity", "ModuleDict", "ModuleList", "Sequential", "Unflatten"]


def _check(owner: Module, name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, (type, Parameter)):
        hint = f"did you mean to call it? {value.__name__}(...)" if isinstance(value, type) else ""
        what = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise TraceError(f"{type(owner).__name__}: item {name} is {what}, not a module or function", hint=hint)
    return value


class _Listed(Module):
    """Layers in an order, held as attributes: what ``Sequential`` and ``ModuleList`` share with Python's lists."""

    def _names(self) -> list[str]:
        return [k for k, v in vars(self).items() if callable(v)]  # not settings that a subclass keeps

    def _fill(self, layers: Iterable[Any]) -> None:
        """Holds these layers, named 0, 1, ..., and no others."""
        layers = list(layers)
        for name in self._names():
            delattr(self, name)
        for i, layer in enumerate(layers):
            setattr(self, str(i), _check(self, str(i), layer))

    def __iter__(self) -> Iterator[Any]:
        return (vars(self)[name] for name in self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = type(self)()
            for name in self._names()[index]:
                setattr(part, name, vars(self)[name])
            return part
        return list(self)[index]

    def __setitem__(self, index: int, layer: Any) -> None:
        name = self._names()[index]
        setattr(self, name, _check(self, name, layer))

    def __delitem__(self, index: Any) -> None:
        layers = list(self)
        del layers[index]
        self._fill(layers)

    def __contains__(self, layer: Any) -> bool:
        return any(held is layer for held in self)

    def append(self, layer: Any) -> Any:
        """Adds a layer at the end; gives back this module."""
        self.insert(len(self), layer)
        return self

    def extend(self, layers: Iterable[Any]) -> Any:
        """Adds layers at the end; gives back this module."""
        for layer in list(layers):
            self.append(layer)
        return self

    def insert(self, index: int, layer: Any) -> None:
        """Adds a layer before the one at ``index``; all are numbered anew."""
        layers = list(self)
        layers.insert(index, layer)
        self._fill(layers)

    def pop(self, index: int = -1) -> Any:
        """Takes a layer out and gives it back."""
        layer = self[index]
        del self[index]
        return layer


class Sequential(_Listed):
    """Modules (or functions of one tensor) applied one after another; parameters are named by position: ``0.weight``.

    One dict instead of layers gives them names. Indexing, slicing (which keeps the names), ``append``, ``insert`` and
    ``extend`` work as on a list.

    >>> from graphc.frontend.nn import Linear, ReLU
    >>> net = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    >>> [name for name, _ in net.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    >>> [name for name, _ in net[2:].named_parameters()]
    ['2.weight', '2.bias']
    >>> [name for name, _ in Sequential({"first": Linear(3, 4), "act": ReLU()}).named_parameters()]
    ['first.weight', 'first.bias']
    """

    def __init__(self, *layers: Callable[..., Any] | Mapping[str, Callable[..., Any]]):
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                setattr(self, _free(self, name), _check(self, name, layer))
        else:
            self._fill(layers)

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x


class ModuleList(_Listed):
    """A list of modules; what is done with them is up to the module that holds it. Names are positions: ``layers.0.weight``."""

    def __init__(self, modules: Iterable[Module] = ()):
        self._fill(modules)


def _free(owner: Module, name: str) -> str:
    if not isinstance(name, str) or not name.isidentifier() or hasattr(type(owner), name):
        raise TraceError(f"{type(owner).__name__}: {name!r} cannot name a layer", hint="an identifier that is no method")
    return name


class ModuleDict(Module):
    """Modules by name; parameters are named by key: ``heads.age.weight``.

    >>> from graphc.frontend.nn import Linear
    >>> heads = ModuleDict({"age": Linear(3, 1), "sex": Linear(3, 2)})
    >>> [name for name, _ in heads.named_parameters()], "sex" in heads, len(heads)
    (['age.weight', 'age.bias', 'sex.weight', 'sex.bias'], True, 2)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()):
        self.update(modules)

    def keys(self) -> list[str]:
        """The names, in order."""
        return [k for k, v in vars(self).items() if callable(v)]

    def values(self) -> list[Any]:
        """The modules, in order."""
        return [self[k] for k in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """The names with their modules, in order."""
        return [(k, self[k]) for k in self.keys()]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds modules, or replaces those of the same name."""
        for name, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[name] = module

    def pop(self, name: str) -> Any:
        """Takes a module out and gives it back."""
        module = self[name]
        del self[name]
        return module

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]

    def __setitem__(self, name: str, module: Module) -> None:
        setattr(self, _free(self, name), _check(self, name, module))

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()


class Identity(Module):
    """Its input; arguments of any kind are taken and forgotten, as torch's does."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, x: Node) -> Node:
        return x


class Flatten(Module):
    """Axes ``start_dim`` to ``end_dim`` as one: (N, C, H, W) -> (N, C*H*W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Node) -> Node:
        return ops.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Axis ``dim`` as several axes: ``Unflatten(1, (3, 4))`` makes (N, 3, 4) of (N, 12). As torch's."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Node) -> Node:
        return ops.unflatten(x, self.dim, self.unflattened_size)  # type: ignore[no-any-return]
