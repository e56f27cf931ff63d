"""What a model is trained for: one loss, or one for each of several outputs, with the metrics of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.node import Node
from graphc.ir.types import TensorType

from .losses import Loss, as_loss
from .metrics import Metric, as_metrics
from .optim.gradients import number
from .specs import Spec

__all__ = ["Objective"]


@dataclass(frozen=True)
class Part:
    """The loss and the metrics of one output; ``key`` is its place in the module's output (None: the output itself)."""

    key: Any
    name: str
    loss: Loss
    weight: float
    metrics: list[Metric]

    def of(self, tree: Any) -> Any:
        """This part's value in a structure like the output."""
        return tree if self.key is None else tree[self.key]


class Objective:
    """Losses and metrics of ``gc.compile``.

    One loss takes the whole output. A dict of losses takes outputs by name, a list takes them in order (their names are
    "output_1", "output_2"...); then the loss is their sum times ``loss_weights``, each is reported as ``<output>_loss``, metrics are
    given in the same structure and reported as ``<output>_<metric>``. An output without a loss (None, or left out of the dict)
    needs no target.
    """

    def __init__(self, loss: Any, metrics: Any = (), loss_weights: Any = None):
        self.structure: Any = None
        self.parts: list[Part] = []
        if isinstance(loss, Mapping):
            self.structure = "dict"
            outputs = [(k, str(k), v) for k, v in loss.items()]
        elif isinstance(loss, (list, tuple)):
            self.structure = "list"
            outputs = [(i, f"output_{i + 1}", v) for i, v in enumerate(loss)]
        else:
            if loss_weights is not None:
                raise ArgumentError("loss_weights go with several losses", hint='loss={"a": "mse", "b": "mae"}, loss_weights={"a": 0.5}')
            self.parts = [Part(None, "", as_loss(loss), 1.0, as_metrics(metrics))]
            self.metrics = self.parts[0].metrics
            return
        self.count = len(outputs)
        weights, measured = self._spread(loss_weights, "loss_weights", loss), self._spread(metrics, "metrics", loss)
        for key, name, one in outputs:
            own = [replace(m, name=f"{name}_{m.name}") for m in as_metrics(measured.get(key) or ())]
            if one is None:
                if own:
                    raise ArgumentError(f"the output {name} has metrics but no loss", hint="a loss for it, or no metrics")
                continue
            self.parts.append(Part(key, name, as_loss(one), number(f"loss_weights of {name}", weights.get(key, 1.0)), own))
        if not self.parts:
            raise ArgumentError("no output has a loss", hint='loss={"output": "mse"}')
        self.metrics = [m for p in self.parts for m in p.metrics]
        names = ["loss", *(f"{p.name}_loss" for p in self.parts), *(m.name for m in self.metrics)]
        if len(set(names)) != len(names):
            raise ArgumentError(f"losses and metrics need different names: {', '.join(names)}", hint="gc.metrics records take name=")

    def _spread(self, value: Any, title: str, loss: Any) -> dict[Any, Any]:
        """A setting by output."""
        if value is None or (isinstance(value, (list, tuple)) and not value):
            return {}
        if self.structure == "dict":
            if not isinstance(value, Mapping) or not set(value) <= set(loss):
                raise ArgumentError(f"{title} = {value!r}", hint="a dict with the keys of the losses: " + ", ".join(map(str, loss)))
            return dict(value)
        if not isinstance(value, (list, tuple)) or len(value) != self.count:
            raise ArgumentError(f"{title} = {value!r}", hint=f"a list of {self.count}, one for each loss")
        return dict(enumerate(value))

    @property
    def name(self) -> str:
        """For summaries: ``mse``, or ``a: mse, b: mae``."""
        return ", ".join(f"{p.name}: {p.loss.name}" if p.name else p.loss.name for p in self.parts)

    @property
    def single(self) -> Loss | None:
        """The one loss of the whole output; None where outputs have losses of their own."""
        return None if self.structure else self.parts[0].loss

    def build(self, values: Mapping[Any, Any]) -> Any:
        """The parts' values, by key, in the structure of the losses."""
        if self.structure is None:
            return values[None]
        return dict(values) if self.structure == "dict" else tuple(values.get(i) for i in range(self.count))

    # -- what the targets and weights are --------------------------------------------------------------------------------
    def _outputs(self, out: Any) -> Iterator[tuple[Part, Any]]:
        for p in self.parts:
            if self.structure == "dict" and (not isinstance(out, Mapping) or p.key not in out):
                known = ", ".join(map(str, out)) if isinstance(out, Mapping) else "no dict"
                raise ArgumentError(
                    f"a loss is given for the output {p.key!r}, but forward gives {known}", hint="the keys that forward returns"
                )
            if self.structure == "list" and (not isinstance(out, (list, tuple)) or len(out) != self.count):
                given = len(out) if isinstance(out, (list, tuple)) else 1
                raise ArgumentError(f"{self.count} losses for {given} output{'s' * (given != 1)}", hint="None for an output without a loss")
            one = p.of(out)
            # losses and metrics are sums over a batch: 8 or 11 bits of what is stored in 16 would be too few to report
            yield p, one.cast(one.dtype.arithmetic) if isinstance(one, Node) else one

    def derive(self, out: Any) -> Any:
        """The specs of the targets for what ``forward`` gave; None where they must be given."""
        if self.structure is None and self.parts[0].loss.target_spec is None:
            return None
        if self.structure is None and not isinstance(out, Node):
            return None
        return self.build({p.key: p.loss.derive(one) for p, one in self._outputs(out)})

    def weight_specs(self, out: Any) -> Any:
        """The specs of a weight for each sample; None for outputs that are no tensors with a batch axis."""
        specs = {}
        for p, one in self._outputs(out):
            if not isinstance(one, Node) or not one.ndim or not one.dtype.is_float:
                return None
            specs[p.key] = Spec(TensorType((one.shape[0],), one.dtype))
        return self.build(specs)

    def weights(self, value: Any, rows: int) -> Any:
        """``sample_weight`` as a weight for each output: one array is for all of them, an output that is left out has ones."""
        if self.structure == "dict" and isinstance(value, Mapping):
            unknown = [k for k in value if k not in {p.key for p in self.parts}]
            if unknown:
                raise ArgumentError(f"sample_weight for {unknown[0]!r}", hint="outputs: " + ", ".join(p.name for p in self.parts))
            given = {p.key: value.get(p.key) for p in self.parts}
        elif self.structure == "list" and isinstance(value, (tuple, list)) and len(value) == self.count and not np.isscalar(value[0]):
            given = {p.key: value[p.key] for p in self.parts}
        else:
            given = {p.key: value for p in self.parts}
        return self.build({k: np.ones(rows) if v is None else _checked(v) for k, v in given.items()})

    # -- in a trace ------------------------------------------------------------------------------------------------------
    def measure(self, out: Any, y: Any, weight: Any = None) -> dict[str, Any]:
        """Loss and metrics of a batch, as tensors. Sample weights enter the losses; metrics count every sample once."""
        measured: dict[str, Any] = {}
        losses: dict[str, Node] = {}
        total: Any = None
        for p, one in self._outputs(out):
            target = p.of(y)
            loss = p.loss(one, target, None if weight is None else p.of(weight))
            if p.name:
                losses[f"{p.name}_loss"] = loss
            share = loss if p.weight == 1.0 else loss * p.weight
            total = share if total is None else total + share.cast(total.dtype)
            for m in p.metrics:
                measured[m.name] = m.measure(one, target, p.loss.threshold)
        return {"loss": total, **losses, **measured}


def _checked(weights: Any) -> np.ndarray:
    array = np.asarray(weights, float)
    if array.ndim != 1:
        raise ShapeError(f"sample_weight has the shape {array.shape}", hint="one weight a sample: (N,)")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ArgumentError("sample_weight holds values that are negative or not finite", hint="numbers >= 0, one a sample")
    return array


def class_weights(weights: Mapping[Any, float], y: Any) -> np.ndarray:
    """The weight of each row's class, 1 for a class that is not named; ``y`` are labels, yes-or-no, or one-hot rows."""
    if not isinstance(weights, Mapping) or not all(isinstance(k, (int, np.integer)) for k in weights):
        raise ArgumentError(f"class_weight = {weights!r}", hint="a dict from labels to weights: {0: 1.0, 1: 5.0}")
    if isinstance(y, (Mapping, tuple)):
        raise ArgumentError("class_weight goes with one output", hint="sample_weight={output: weights}")
    labels = np.asarray(y)
    if labels.ndim == 2:
        labels = labels.argmax(1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.ndim != 1 or not (labels == np.rint(labels)).all():
        raise ArgumentError(f"class_weight needs one label a sample, not targets of shape {np.shape(y)}", hint="sample_weight=...")
    out = np.ones(len(labels))
    for k, w in weights.items():
        out[labels == k] = number(f"class_weight[{k}]", w)
    return out
