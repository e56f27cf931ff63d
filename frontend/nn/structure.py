"""Modules that only arrange others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from graphc import ops
from graphc.errors import TraceError
from graphc.ir.node import Node

from ..module import Module
from ..parameter import Parameter

__all__ = ["Flatten", "Identity", "Sequential"]


class Sequential(Module):
    """Modules (or functions of one tensor) applied one after another; parameters are named by position: ``0.weight``.

    >>> from graphc.frontend.nn import Linear, ReLU
    >>> [name for name, _ in Sequential(Linear(3, 4), ReLU(), Linear(4, 2)).named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Callable[..., Any]):
        for i, layer in enumerate(layers):
            if not callable(layer) or isinstance(layer, (type, Parameter)):
                made = "; did you mean to call it?" if isinstance(layer, type) else ""
                raise TraceError(f"Sequential: item {i} is {layer!r}, not a module or function{made}")
            setattr(self, str(i), layer)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        return (v for k, v in vars(self).items() if k.isdigit())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, index: int) -> Any:
        return list(self)[index]

    def forward(self, x: Any) -> Any:
        for layer in self:
            x = layer(x)
        return x


class Identity(Module):
    """Its input."""

    def forward(self, x: Node) -> Node:
        return x


class Flatten(Module):
    """Axes ``start`` to ``end`` as one: (N, C, H, W) -> (N, C*H*W)."""

    def __init__(self, start: int = 1, end: int = -1):
        self.start, self.end = start, end

    def forward(self, x: Node) -> Node:
        return ops.flatten(x, self.start, self.end)
