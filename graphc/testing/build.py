"""From functions to graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..ir.dtypes import DType, as_dtype
from ..ir.graph import Graph, Input
from ..ir.node import Node
from ..ir.types import TupleType
from ..locate import public

__all__ = ["build_graph"]


def build_graph(
    fn: Callable[..., Any], *args: Any, name: str = "f", dtype: DType | str | None = None
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of ``fn`` on symbolic tensors like ``args``, and the arrays by input name.

    NumPy arrays (also in lists) become inputs ``x0, x1, ...``; everything else is passed as it is. With ``dtype``, float arrays
    get that dtype. Results are named ``o0, o1, ...``; a node of several results gives several outputs.
    """
    inputs: list[Input] = []
    arrays: dict[str, np.ndarray] = {}

    def symbolic(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
            return [symbolic(v) for v in value]
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        array = np.asarray(value)
        if dtype is not None and array.dtype.kind == "f":
            array = array.astype(as_dtype(dtype).numpy)
        key = f"x{len(inputs)}"
        node = ops.input(key, array.shape, as_dtype(array.dtype))
        inputs.append(Input(key, node))
        arrays[key] = array
        return node

    result = fn(*map(symbolic, args))
    nodes: list[Node] = []
    for r in result if isinstance(result, (tuple, list)) else [result]:
        if r is not None:
            nodes += list(r) if isinstance(r.type, TupleType) else [r]
    return Graph(name, tuple(inputs), tuple((f"o{i}", n) for i, n in enumerate(nodes))), arrays


public(globals())
