"""What a workload is: sizes, a task made from them, what is measured, and the goals."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from benchmarks.layers import Chain, Embedding, Layer, Shape, parameters

CASES = ("forward", "backward", "loss", "train", "update")
"""What can be done with a task:

- forward: the output of the inputs, with the weights as they are;
- backward: (output, gradients of the inputs that are no integers, gradients of the parameters) for a given gradient of the output;
- loss: (loss, gradient of the input);
- train: a step of the optimiser; gives the loss;
- update: the optimiser alone, for given gradients.
"""


@dataclass(frozen=True)
class Input:
    """Normal numbers, or integers below ``high``; skewed ones are small more often, so that many are equal."""

    shape: Shape
    high: int = 0
    skewed: bool = False

    def values(self, name: str) -> np.ndarray:
        """The same in every process."""
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if not self.high:
            return rng.standard_normal(self.shape, np.float32)
        if self.skewed:
            return (self.high * rng.random(self.shape) ** 3).astype(np.int64)
        return rng.integers(0, self.high, self.shape)


@dataclass(frozen=True)
class Adam:
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True)
class SGD:
    lr: float
    momentum: float


@dataclass(frozen=True)
class Task:
    """A network with its data, and how it is trained.

    ``named_batch``: our side gets the first axis as a named dim, as a user would give it; otherwise all sizes are fixed. For the
    case "update" the parameters of ``net`` are what is updated.
    """

    net: Layer
    inputs: tuple[Input, ...]
    loss: str = ""
    labels: Input | None = None
    optimizer: Adam | SGD | None = None
    named_batch: bool = True

    def values(self) -> list[np.ndarray]:
        """The inputs."""
        return [one.values(f"input {i}") for i, one in enumerate(self.inputs)]

    def label_values(self) -> np.ndarray:
        assert self.labels is not None
        return self.labels.values("labels")

    def output_shape(self) -> Shape:
        return self.net.out(self.inputs[0].shape)

    def output_gradient(self) -> np.ndarray:
        """What the case "backward" starts from."""
        return Input(self.output_shape()).values("gradient")

    def weights(self) -> dict[str, np.ndarray]:
        """Parameters and running statistics by their names in a state dict."""
        out = {}
        for name, p in parameters(self.net).items():
            noise = Input(p.shape).values(name) * np.float32(p.scale)
            out[name] = (np.abs(noise) if p.positive else noise) + np.float32(p.mean)
        return out

    def gradients(self) -> dict[str, np.ndarray]:
        """Given gradients for the case "update"."""
        return {name: Input(p.shape).values(f"gradient of {name}") for name, p in parameters(self.net).items()}

    def flops(self, case: str) -> int:
        """Multiplications and additions of the matrix products; data need no gradient, so the first layer makes none for it in training."""
        if case in ("loss", "update"):
            return 0
        once = self.net.flops(self.inputs[0].shape)
        if case == "forward":
            return once
        return 3 * once - (self._first(self.net) if case == "train" else 0)

    def _first(self, layer: Layer) -> int:
        """What a gradient of the data would cost."""
        return self._first(layer.layers[0]) if isinstance(layer, Chain) else layer.input_flops(self.inputs[0].shape)

    def bytes(self, case: str) -> int:
        """What must be read and written at least, everything once."""
        weights = sum(4 * prod(p.shape) for p in parameters(self.net).values())
        if case == "update":
            return weights * (7 if isinstance(self.optimizer, Adam) else 5)
        given = sum((8 if i.high else 4) * prod(i.shape) for i in self.inputs)
        differentiable = sum(4 * prod(i.shape) for i in self.inputs if not i.high)
        if case == "loss":
            return given + differentiable
        out = 4 * prod(self.output_shape())
        read = out if isinstance(self.net, Embedding) else weights  # a table is read where it is looked up
        forward = given + read + out
        return forward if case == "forward" else forward + out + differentiable + weights


@dataclass(frozen=True)
class Goal:
    """What is aimed at for one case: ``ratio`` of our median to the best peer's (``versus``: of the named peer), at least ``share`` of the
    limit, at most ``most`` or at least ``least`` in the unit of the measurement."""

    ratio: float | None = None
    share: float | None = None
    most: float | None = None
    least: float | None = None
    versus: str = ""

    def __str__(self) -> str:
        parts = [] if self.ratio is None else [f"<= {self.ratio:g} of {self.versus or 'the best peer'}"]
        parts += [] if self.share is None else [f">= {self.share:.0%} of the limit"]
        parts += [] if self.most is None else [f"<= {self.most:g}"]
        parts += [] if self.least is None else [f">= {self.least:g}"]
        return ", ".join(parts)


MEASURES = {  # what is measured -> unit
    "call": "s",  # seconds a call
    "cold": "s",  # seconds from the imports to the end of the first call in a new process, with empty caches
    "warm": "s",  # seconds from the start of a new process to the end of the first call, with caches filled by one before it
    "threads": "x",  # how many times faster two threads are than one
    "memory": "B",  # bytes that a step needs, by the compiler's own plan
}


@dataclass(frozen=True)
class Workload:
    """A record of the table: ``build(**sizes)`` gives the task, ``cases`` what is done with it and what is aimed at.

    ``limit`` is "flops" or "bytes": whether a time is shown as a share of the machine's peak, or of a copy that moves as many bytes.
    ``tiny`` are sizes for tests. ``fixed`` sizes do not change with jitter.
    """

    name: str
    groups: tuple[str, ...]
    title: str
    build: Callable[..., Task]
    sizes: Mapping[str, int]
    cases: Mapping[str, Goal]
    tiny: Mapping[str, int]
    limit: str = ""
    measure: str = "call"
    peers: tuple[str, ...] = ()
    """Only these, where not all are measured."""
    fixed: frozenset[str] = field(default=frozenset())

    def task(self) -> Task:
        return self.build(**self.sizes)

    def with_sizes(self, sizes: Mapping[str, int]) -> Workload:
        return replace(self, sizes={**self.sizes, **sizes})

    def only(self, cases: Collection[str]) -> Workload:
        return replace(self, cases={k: v for k, v in self.cases.items() if k in cases})

    def at_tiny_sizes(self) -> Workload:
        return self.with_sizes(self.tiny)

    def jittered(self, seed: int) -> Workload:
        """The same with every size changed by up to a fifth, at least by one where it is 5 or more."""
        rng = random.Random(f"{seed} {self.name}")
        sizes = {k: n if k in self.fixed else _vary(n, rng) for k, n in self.sizes.items()}
        return self.with_sizes(sizes)

    def describe(self) -> str:
        return self.title.format(**self.sizes)


def _vary(n: int, rng: random.Random) -> int:
    choices = [m for m in range(max(1, n - n // 5), n + n // 5 + 1) if m != n]
    return rng.choice(choices) if choices else n


def digest(arrays: list[Any]) -> list[list[float]]:
    """Each array as its norm and two projections on fixed random vectors: enough to see that two arrays are the same up to rounding."""
    out = []
    for a in arrays:
        a = np.asarray(a, np.float64).ravel()
        rng = np.random.default_rng(a.size)
        out.append([float(np.linalg.norm(a)), *(float(a @ rng.standard_normal(a.size)) for _ in range(2))])
    return out


def wrong(seen: list[list[float]], expected: list[list[float]], tolerance: float = 1e-3) -> str:
    """A sentence when a peer's figures (see :func:`digest`) are not those of the reference."""
    if len(seen) != len(expected):
        return f"computes something else: {len(seen)} arrays instead of {len(expected)}"
    for i, (a, b) in enumerate(zip(seen, expected)):
        off = max(abs(x - y) for x, y in zip(a, b))
        if not off <= tolerance * abs(b[0]) + 1e-12:
            return f"computes something else: array {i} of {len(seen)} is {off / max(abs(b[0]), 1e-30):.1e} of its norm off the reference"
    return ""
