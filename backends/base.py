"""What a backend is: a name and a way to make an executable from a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphc.ir.graph import Graph
from graphc.runtime.store import ParameterStore

__all__ = ["Backend", "Executable", "Option"]


class Executable(Protocol):
    """A compiled graph. Calling it takes the ``arg`` inputs by name and gives the outputs by name.

    Inputs of role param and state are read from the store and updates written back to it, after the outputs are known;
    where ``graph.finite`` names an output that is not finite, :class:`graphc.errors.NonFiniteError` is raised and nothing
    is written.
    """

    graph: Graph

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Option:
    """A keyword of ``compile``: which values it takes, and what a value must be, in words."""

    fits: Callable[[Any], bool]
    says: str


class Backend(Protocol):
    """``graphc.backends.<name>`` offers one as ``BACKEND``. ``options`` are the keywords that its ``compile`` takes."""

    name: str
    options: Mapping[str, Option]

    def compile(self, graph: Graph, store: ParameterStore | None = None, **options: Any) -> Executable: ...
