"""Gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..autodiff import gradients
from ..compiler import compile_graph
from ..errors import GradientError
from ..ir.dtypes import float64
from ..ir.graph import Graph
from ..ir.node import Node
from ..ir.text import print_graph
from ..locate import public
from .build import build_graph

__all__ = ["check_grads"]


def check_grads(
    fn: Callable[..., Any],
    *args: Any,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    target: str = "reference",
    eps: float = 1e-4,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    seed: int = 0,
) -> None:
    """Checks the gradients of ``fn`` at ``args`` against finite differences in float64; raises AssertionError where they differ.

    Results are projected on random directions; for each float array in ``args`` (or the inputs numbered in ``wrt``) the
    derivative along a random direction is compared with the central difference. ``order`` 2 checks the gradient's gradient.
    """
    graph, arrays = build_graph(fn, *args, dtype=float64)
    rng = np.random.default_rng(seed)
    outputs = [n for _, n in graph.outputs]
    names = [i.name for i in graph.inputs]
    chosen = [names[i] for i in wrt] if wrt is not None else [n for n in names if arrays[n].dtype.kind == "f"]
    if not chosen:
        raise GradientError("check_grads: no float argument to differentiate with respect to")
    for level in range(1, order + 1):
        floats = [n for n in outputs if n.dtype.is_float]
        # away from 0 and of one size, so that no output is hidden behind another
        weights = [ops.const(_signs(rng, n.shape), float64) for n in floats]
        loss = ops.const(0.0, float64)
        for n, w in zip(floats, weights, strict=True):
            loss = loss + (n * w).sum()
        inputs = {i.name: i.node for i in graph.inputs}
        grads = gradients([loss], None, [inputs[n] for n in chosen], allow_unused=True)
        _compare(graph, arrays, loss, dict(zip(chosen, grads, strict=True)), rng, target, eps, rtol, atol, level)
        outputs = grads


def _signs(rng: np.random.Generator, shape: Sequence[Any]) -> np.ndarray:
    return rng.choice([-1.0, 1.0], tuple(shape)) * rng.uniform(0.5, 1.5, tuple(shape))


def _compare(
    graph: Graph,
    arrays: dict[str, np.ndarray],
    loss: Node,
    grads: dict[str, Node],
    rng: Any,
    target: str,
    eps: float,
    rtol: float,
    atol: float,
    level: int,
) -> None:
    options: dict[str, Any] = {"mode": "exact"} if target == "reference" else {}  # or a cast to float32 inside would round
    value = compile_graph(Graph("loss", graph.inputs, (("loss", loss),)), target, **options)
    slope = compile_graph(Graph("gradient", graph.inputs, tuple(grads.items())), target, **options)(arrays)
    for name, g in slope.items():
        direction = _signs(rng, arrays[name].shape)
        ends = [float(value({**arrays, name: arrays[name] + step * eps * direction})["loss"]) for step in (-2, -1, 1, 2)]
        # the five-point rule: its error is of fourth order, so rounding and not the step limits the comparison
        expected = (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * eps)
        found = float((g * direction).sum())
        scale = max(abs(expected), float(np.abs(g * direction).sum()), 1.0)
        if not abs(found - expected) <= atol + rtol * scale:
            text = print_graph(Graph("loss", graph.inputs, (("loss", loss),)))
            raise AssertionError(
                f"order {level}: derivative along a direction of {name}: {found:.12g}, by finite differences {expected:.12g}\n{text}"
            )


public(globals())
