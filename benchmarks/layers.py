"""Networks as data: each layer is a record, which every peer reads in its own way.

``module(nn)`` makes the layer with ``torch.nn`` or with ``graphc.nn``: one definition serves both. JAX and ONNX Runtime have a function
for each record (``peers/jax_layers.py``, ``peers/onnx_layers.py``). Parameters have torch's names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Param:
    """How a parameter begins: normal numbers times ``scale`` around ``mean``; ``positive`` ones for variances."""

    shape: Shape
    scale: float = 0.1
    mean: float = 0.0
    positive: bool = False


@dataclass(frozen=True)
class Layer:
    """Base: by default without parameters and arithmetic worth counting, of the shape of its input."""

    def module(self, nn: Any) -> Any:
        """The layer as a module of ``nn``, which is torch's or ours."""
        raise NotImplementedError

    def params(self) -> dict[str, Param]:
        return {}

    def out(self, shape: Shape) -> Shape:
        """The shape of the result for one of the input."""
        return shape

    def flops(self, shape: Shape) -> int:
        """Multiplications and additions of the matrix products for an input of this shape."""
        return 0

    def input_flops(self, shape: Shape) -> int:
        """Those among them that a gradient of the input costs."""
        return self.flops(shape)

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Layers inside, with the beginning of their parameters' names."""
        return iter(())


def walk(layer: Layer, prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """A layer and all inside of it, with the beginnings of their parameters' names."""
    yield prefix, layer
    for name, child in layer.children():
        yield from walk(child, prefix + name + ".")


def parameters(layer: Layer) -> dict[str, Param]:
    """Every parameter by its name in a state dict."""
    return {prefix + name: p for prefix, one in walk(layer) for name, p in one.params().items()}


def function(nn: Any, forward: Any) -> Any:
    """A module without parameters that computes ``forward(*tensors)``."""

    class Function(nn.Module):
        def __init__(self) -> None:
            super().__init__()

        def forward(self, *args: Any) -> Any:
            return forward(*args)

    return Function()


# -- structure -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Chain(Layer):
    """One layer after another."""

    layers: tuple[Layer, ...]

    def module(self, nn: Any) -> Any:
        return nn.Sequential(*(layer.module(nn) for layer in self.layers))

    def out(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.out(shape)
        return shape

    def flops(self, shape: Shape) -> int:
        total = 0
        for layer in self.layers:
            total += layer.flops(shape)
            shape = layer.out(shape)
        return total

    def children(self) -> Iterator[tuple[str, Layer]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))


def chain(*layers: Layer) -> Chain:
    return Chain(tuple(layers))


@dataclass(frozen=True)
class Residual(Layer):
    """``body(x) + shortcut(x)``; without a shortcut, ``body(x) + x``."""

    body: Layer
    shortcut: Layer | None = None

    def module(self, nn: Any) -> Any:
        body, shortcut = self.body.module(nn), None if self.shortcut is None else self.shortcut.module(nn)

        class Sum(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.body = body
                self.shortcut = nn.Identity() if shortcut is None else shortcut

            def forward(self, x: Any) -> Any:
                return self.body(x) + self.shortcut(x)

        return Sum()

    def out(self, shape: Shape) -> Shape:
        return self.body.out(shape)

    def flops(self, shape: Shape) -> int:
        return self.body.flops(shape) + (self.shortcut.flops(shape) if self.shortcut else 0)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "body", self.body
        if self.shortcut is not None:
            yield "shortcut", self.shortcut


@dataclass(frozen=True)
class Flatten(Layer):
    """All axes behind the first as one."""

    def module(self, nn: Any) -> Any:
        return nn.Flatten()

    def out(self, shape: Shape) -> Shape:
        return shape[0], prod(shape[1:])


@dataclass(frozen=True)
class Rows(Layer):
    """All axes but the last as one."""

    width: int

    def module(self, nn: Any) -> Any:
        width = self.width
        return function(nn, lambda x: x.reshape(-1, width))

    def out(self, shape: Shape) -> Shape:
        return prod(shape[:-1]), shape[-1]


@dataclass(frozen=True)
class LastStep(Layer):
    """The last of the steps of a sequence: (N, T, D) -> (N, D)."""

    def module(self, nn: Any) -> Any:
        return function(nn, lambda x: x[:, -1])

    def out(self, shape: Shape) -> Shape:
        return shape[0], shape[2]


# -- elementwise and rows ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Relu(Layer):
    def module(self, nn: Any) -> Any:
        return nn.ReLU()


@dataclass(frozen=True)
class Gelu(Layer):
    """``approximate`` is "none" (erf) or "tanh"."""

    approximate: str = "none"

    def module(self, nn: Any) -> Any:
        return nn.GELU(approximate=self.approximate)


@dataclass(frozen=True)
class Scale(Layer):
    """``x * factor + term``, with numbers."""

    factor: float
    term: float

    def module(self, nn: Any) -> Any:
        factor, term = self.factor, self.term
        return function(nn, lambda x: x * factor + term)


@dataclass(frozen=True)
class Softmax(Layer):
    """Over the last axis; ``log`` gives the logarithm."""

    log: bool = False

    def module(self, nn: Any) -> Any:
        return nn.LogSoftmax(dim=-1) if self.log else nn.Softmax(dim=-1)


@dataclass(frozen=True)
class LayerNorm(Layer):
    width: int

    def module(self, nn: Any) -> Any:
        return nn.LayerNorm(self.width)

    def params(self) -> dict[str, Param]:
        return {"weight": Param((self.width,), mean=1.0), "bias": Param((self.width,))}


@dataclass(frozen=True)
class RMSNorm(Layer):
    width: int

    def module(self, nn: Any) -> Any:
        return nn.RMSNorm(self.width, eps=1e-5)

    def params(self) -> dict[str, Param]:
        return {"weight": Param((self.width,), mean=1.0)}


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Over axis 1, of images or of rows. Without ``running`` statistics every batch uses its own, in training and otherwise."""

    width: int
    images: bool = False
    running: bool = True

    def module(self, nn: Any) -> Any:
        return (nn.BatchNorm2d if self.images else nn.BatchNorm1d)(self.width, track_running_stats=self.running)

    def params(self) -> dict[str, Param]:
        own = {"weight": Param((self.width,), mean=1.0), "bias": Param((self.width,))}
        if self.running:
            own |= {"running_mean": Param((self.width,)), "running_var": Param((self.width,), mean=1.0, positive=True)}
        return own


# -- products ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Linear(Layer):
    inputs: int
    outputs: int

    def module(self, nn: Any) -> Any:
        return nn.Linear(self.inputs, self.outputs)

    def params(self) -> dict[str, Param]:
        return {"weight": Param((self.outputs, self.inputs), (2 / self.inputs) ** 0.5), "bias": Param((self.outputs,))}

    def out(self, shape: Shape) -> Shape:
        return *shape[:-1], self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * prod(shape) * self.outputs


@dataclass(frozen=True)
class Product(Layer):
    """``relu(a @ b + bias)`` of two inputs: b (inputs, outputs) is as much an activation as a."""

    inputs: int
    outputs: int

    def module(self, nn: Any) -> Any:
        shape = (self.outputs,)

        class Multiply(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.bias = parameter(nn, shape)

            def forward(self, a: Any, b: Any) -> Any:
                return (a @ b + self.bias).relu()

        return Multiply()

    def params(self) -> dict[str, Param]:
        return {"bias": Param((self.outputs,))}

    def out(self, shape: Shape) -> Shape:
        return *shape[:-1], self.outputs

    def flops(self, shape: Shape) -> int:
        return 2 * prod(shape) * self.outputs


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution of images with a square filter."""

    inputs: int
    outputs: int
    size: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def module(self, nn: Any) -> Any:
        return nn.Conv2d(self.inputs, self.outputs, self.size, stride=self.stride, padding=self.padding, bias=self.bias)

    def params(self) -> dict[str, Param]:
        fan = self.inputs * self.size**2
        own = {"weight": Param((self.outputs, self.inputs, self.size, self.size), (2 / fan) ** 0.5)}
        return own | ({"bias": Param((self.outputs,))} if self.bias else {})

    def out(self, shape: Shape) -> Shape:
        return shape[0], self.outputs, *((n + 2 * self.padding - self.size) // self.stride + 1 for n in shape[2:])

    def flops(self, shape: Shape) -> int:
        return 2 * prod(self.out(shape)) * self.inputs * self.size**2


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest of each ``size`` by ``size`` square."""

    size: int

    def module(self, nn: Any) -> Any:
        return nn.MaxPool2d(self.size)

    def out(self, shape: Shape) -> Shape:
        return *shape[:2], *(n // self.size for n in shape[2:])


@dataclass(frozen=True)
class MeanPool(Layer):
    """The mean of each channel of an image: (N, C, H, W) -> (N, C)."""

    def module(self, nn: Any) -> Any:
        return function(nn, lambda x: x.mean((2, 3)))

    def out(self, shape: Shape) -> Shape:
        return shape[:2]


# -- sequences -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Embedding(Layer):
    count: int
    width: int

    def module(self, nn: Any) -> Any:
        return nn.Embedding(self.count, self.width)

    def params(self) -> dict[str, Param]:
        return {"weight": Param((self.count, self.width), 1.0)}

    def out(self, shape: Shape) -> Shape:
        return *shape, self.width


@dataclass(frozen=True)
class Positions(Layer):
    """Adds a learned vector to each step."""

    steps: int
    width: int

    def module(self, nn: Any) -> Any:
        shape = (self.steps, self.width)

        class Table(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table = parameter(nn, shape)

            def forward(self, x: Any) -> Any:
                return x + self.table

        return Table()

    def params(self) -> dict[str, Param]:
        return {"table": Param((self.steps, self.width))}


@dataclass(frozen=True)
class Recurrent(Layer):
    """A recurrent layer of ``kind`` "LSTM" or "GRU", the batch first; gives the outputs of all steps."""

    kind: str
    inputs: int
    hidden: int

    @property
    def gates(self) -> int:
        return 4 if self.kind == "LSTM" else 3

    def module(self, nn: Any) -> Any:
        made = getattr(nn, self.kind)(self.inputs, self.hidden, batch_first=True)

        class Outputs(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = made

            def forward(self, x: Any) -> Any:
                return self.layer(x)[0]

        return Outputs()

    def params(self) -> dict[str, Param]:
        rows, scale = self.gates * self.hidden, self.hidden**-0.5
        return {
            "layer.weight_ih_l0": Param((rows, self.inputs), scale),
            "layer.weight_hh_l0": Param((rows, self.hidden), scale),
            "layer.bias_ih_l0": Param((rows,), scale),
            "layer.bias_hh_l0": Param((rows,), scale),
        }

    def out(self, shape: Shape) -> Shape:
        return *shape[:-1], self.hidden

    def flops(self, shape: Shape) -> int:
        return 2 * prod(shape[:-1]) * self.gates * self.hidden * (self.inputs + self.hidden)

    def input_flops(self, shape: Shape) -> int:
        return 2 * prod(shape) * self.gates * self.hidden


@dataclass(frozen=True)
class Attention(Layer):
    """Causal self-attention of several heads between two projections: (N, T, D) -> (N, T, D)."""

    width: int
    heads: int

    def module(self, nn: Any) -> Any:
        heads, size, width = self.heads, self.width // self.heads, self.width
        qkv, out = Linear(width, 3 * width).module(nn), Linear(width, width).module(nn)

        class SelfAttention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.qkv, self.out = qkv, out

            def forward(self, x: Any) -> Any:
                n, t, _ = x.shape
                q, k, v = self.qkv(x).reshape(n, t, 3, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
                mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                return self.out(mixed.permute(0, 2, 1, 3).reshape(n, t, width))

        return SelfAttention()

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "qkv", Linear(self.width, 3 * self.width)
        yield "out", Linear(self.width, self.width)

    def flops(self, shape: Shape) -> int:
        """The projections, and scores and mixture of the pairs that the mask lets through."""
        n, t, d = shape
        return 2 * n * t * d * 4 * d + 2 * 2 * n * d * (t * (t + 1) // 2)


def parameter(nn: Any, shape: Shape) -> Any:
    """A parameter of torch's or ours, to be filled by ``load_state_dict``."""
    if nn.__name__.startswith("torch"):
        import torch

        return nn.Parameter(torch.zeros(shape))
    return nn.Parameter(shape, init="zeros")
