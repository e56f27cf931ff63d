"""The layers as ONNX nodes: ``add(layer, graph, weights, x)`` gives the name of the output."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks import layers as L
from benchmarks.workload import Task

MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators


@dataclass
class Graph:
    """Nodes and constants so far. ``fused`` prefers operators that do several things at once."""

    fused: bool
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{i}" if i == 0 or kind == "Split" else "" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))


Weights = dict[str, np.ndarray]


def inside(w: Weights, name: str) -> Weights:
    prefix = name + "."
    return {k[len(prefix) :]: v for k, v in w.items() if k.startswith(prefix)}


@singledispatch
def add(layer: Any, g: Graph, w: Weights, x: str, rank: int) -> tuple[str, int]:
    """The output's name and its number of axes."""
    raise NotImplementedError(f"{type(layer).__name__} has no ONNX form here")


@add.register
def _(layer: L.Chain, g, w, x, rank):
    for i, one in enumerate(layer.layers):
        x, rank = add(one, g, inside(w, str(i)), x, rank)
    return x, rank


@add.register
def _(layer: L.Residual, g, w, x, rank):
    short = x if layer.shortcut is None else add(layer.shortcut, g, inside(w, "shortcut"), x, rank)[0]
    y, rank = add(layer.body, g, inside(w, "body"), x, rank)
    return g.op("Add", y, short), rank


@add.register
def _(layer: L.Flatten, g, w, x, rank):
    return g.op("Flatten", x), 2


@add.register
def _(layer: L.Rows, g, w, x, rank):
    return g.op("Reshape", x, g.constant(np.array([-1, layer.width]))), 2


@add.register
def _(layer: L.LastStep, g, w, x, rank):
    return g.op("Gather", x, g.constant(np.array(-1)), axis=1), 2


@add.register
def _(layer: L.Relu, g, w, x, rank):
    return g.op("Relu", x), rank


@add.register
def _(layer: L.Gelu, g, w, x, rank):
    if g.fused:
        kind = "FastGelu" if layer.approximate == "tanh" else "Gelu"
        return g.op(kind, x, domain=MICROSOFT), rank
    return g.op("Gelu", x, approximate=layer.approximate), rank


@add.register
def _(layer: L.Scale, g, w, x, rank):
    return g.op("Add", g.op("Mul", x, g.number(layer.factor)), g.number(layer.term)), rank


@add.register
def _(layer: L.Softmax, g, w, x, rank):
    return g.op("LogSoftmax" if layer.log else "Softmax", x, axis=-1), rank


@add.register
def _(layer: L.LayerNorm, g, w, x, rank):
    return g.op("LayerNormalization", x, g.constant(w["weight"]), g.constant(w["bias"]), axis=-1, epsilon=1e-5), rank


@add.register
def _(layer: L.RMSNorm, g, w, x, rank):
    return g.op("SimplifiedLayerNormalization", x, g.constant(w["weight"]), axis=-1, epsilon=1e-5), rank


@add.register
def _(layer: L.BatchNorm, g, w, x, rank):
    if layer.running:
        given = [g.constant(w[k]) for k in ("weight", "bias", "running_mean", "running_var")]
        return g.op("BatchNormalization", x, *given, epsilon=1e-5), rank
    mean = g.op("ReduceMean", x, g.constant(np.array([0])), keepdims=1)
    off = g.op("Sub", x, mean)
    var = g.op("ReduceMean", g.op("Mul", off, off), g.constant(np.array([0])), keepdims=1)
    y = g.op("Div", off, g.op("Sqrt", g.op("Add", var, g.number(1e-5))))
    return g.op("Add", g.op("Mul", y, g.constant(w["weight"])), g.constant(w["bias"])), rank


@add.register
def _(layer: L.Linear, g, w, x, rank):
    weight, bias = g.constant(w["weight"].T), g.constant(w["bias"])
    if g.fused and rank == 2:
        return g.op("Gemm", x, weight, bias), rank
    return g.op("Add", g.op("MatMul", x, weight), bias), rank


@add.register
def _(layer: L.Product, g, w, x, rank):
    a, b = x
    bias = g.constant(w["bias"])
    y = g.op("Gemm", a, b, bias) if g.fused else g.op("Add", g.op("MatMul", a, b), bias)
    return g.op("Relu", y), rank


@add.register
def _(layer: L.Conv, g, w, x, rank):
    given = [g.constant(w[k]) for k in ("weight", "bias") if k in w]
    return g.op("Conv", x, *given, pads=[layer.padding] * 4, strides=[layer.stride] * 2), rank


@add.register
def _(layer: L.MaxPool, g, w, x, rank):
    return g.op("MaxPool", x, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2), rank


@add.register
def _(layer: L.MeanPool, g, w, x, rank):
    return g.op("Flatten", g.op("GlobalAveragePool", x)), 2


@add.register
def _(layer: L.Embedding, g, w, x, rank):
    return g.op("Gather", g.constant(w["weight"]), x, axis=0), rank + 1


@add.register
def _(layer: L.Positions, g, w, x, rank):
    return g.op("Add", x, g.constant(w["table"])), rank


@add.register
def _(layer: L.Recurrent, g, w, x, rank):
    order = [0, 3, 1, 2] if layer.kind == "LSTM" else [1, 0, 2]  # ONNX has the gates i, o, f, c and z, r, h

    def gates(name: str) -> np.ndarray:
        return np.concatenate([np.split(w[f"layer.{name}_l0"], layer.gates)[i] for i in order])[None]

    bias = np.concatenate([gates("bias_ih"), gates("bias_hh")], 1)
    given = g.constant(gates("weight_ih")), g.constant(gates("weight_hh")), g.constant(bias)
    extra = {"linear_before_reset": 1} if layer.kind == "GRU" else {}
    y = g.op(layer.kind, g.op("Transpose", x, perm=[1, 0, 2]), *given, hidden_size=layer.hidden, **extra)
    return g.op("Transpose", g.op("Squeeze", y, g.constant(np.array([1]))), perm=[1, 0, 2]), rank


@add.register
def _(layer: L.Attention, g, w, x, rank):
    size = layer.width // layer.heads
    if g.fused:
        given = g.constant(w["qkv.weight"].T), g.constant(w["qkv.bias"])
        mixed = g.op("Attention", x, *given, domain=MICROSOFT, num_heads=layer.heads, unidirectional=1)
    else:
        qkv, _ = add(L.Linear(layer.width, 3 * layer.width), g, inside(w, "qkv"), x, 3)
        split = g.op("Split", qkv, outputs=3, axis=-1, num_outputs=3)
        q, k, v = (
            g.op("Transpose", g.op("Reshape", split[:-1] + str(i), g.constant(np.array([0, 0, layer.heads, size]))), perm=perm)
            for i, perm in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        )
        scores = g.op("Add", g.op("Mul", g.op("MatMul", q, k), g.number(size**-0.5)), causal(g, x))
        mixed = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        mixed = g.op("Reshape", mixed, g.constant(np.array([0, 0, layer.width])))
    return add(L.Linear(layer.width, layer.width), g, inside(w, "out"), mixed, 3)


def causal(g: Graph, x: str) -> str:
    """0 where a query may look, a large negative number elsewhere, for the steps of x."""
    steps = g.op("Gather", g.op("Shape", x), g.constant(np.array(1)), axis=0)
    one = g.constant(np.array([1]))
    side = g.op("Concat", g.op("Reshape", steps, one), g.op("Reshape", steps, one), axis=0)
    masked = g.op("ConstantOfShape", side, value=numpy_helper.from_array(np.array([-1e9], np.float32)))
    return g.op("Trilu", masked, g.constant(np.array(1)), upper=1)


def model(task: Task, fused: bool) -> bytes:
    """The task's network as a serialised model with inputs x0, x1, ... and the output y."""
    g = Graph(fused)
    names = [f"x{i}" for i in range(len(task.inputs))]
    out, _ = add(task.net, g, task.weights(), names[0] if len(names) == 1 else names, len(task.inputs[0].shape))  # type: ignore[arg-type]
    g.nodes.append(helper.make_node("Identity", [out], ["y"]))
    infos = [
        helper.make_tensor_value_info(n, TensorProto.INT64 if i.high else TensorProto.FLOAT, i.shape) for n, i in zip(names, task.inputs)
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, task.output_shape())
    graph = helper.make_graph(g.nodes, "task", infos, [result], g.constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
