"""What of a model goes into a file, and back: weights, optimiser and random state, and the place in a training.

The names of the tensors: a parameter's or buffer's path; ``optimizer.<slot>.<path>``; ``random.seed``; below ``training/`` what
callbacks keep, below ``extra/`` what the caller gave. The metadata says which of these a file is meant to hold (``kind``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import CheckpointError, CheckpointMismatchError

from .files import File, pack, printable, unpack, write_file

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Checkpoint", "Loaded", "load_checkpoint", "load_model", "save_model"]

SHOWN = 50
"""Names that an error lists."""
BESIDE = ("optimizer.", "random.", "training/", "extra/")
"""Beginnings of the names of what is neither parameter nor buffer."""


@dataclass(frozen=True)
class Loaded:
    """What a load did, by name: read, missing in the file, unexpected in it, of another shape or dtype."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def problems(self) -> list[str]:
        return [*(f"missing: {k}" for k in self.missing), *(f"unexpected: {k}" for k in self.unexpected), *self.mismatched]


@dataclass(frozen=True)
class Checkpoint:
    """What :meth:`Model.load_checkpoint` found: ``fit(..., resume=checkpoint)`` goes on from there."""

    path: str
    step: int
    seed: int
    written_by: dict[str, str]
    """Versions of graphc, python and numpy that wrote it, and of the format."""
    extra: Any = None
    """What was given to :meth:`Model.save_checkpoint` as ``extra``."""
    place: Any = field(default=None, repr=False)
    """The state of a :class:`~graphc.frontend.place.Place`; None if the file was not written during or after a ``fit``."""
    values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Names in the store -> values."""

    @property
    def epoch(self) -> int:
        """Whole epochs of the training."""
        return int(self.place["epoch"]) if self.place is not None else 0

    @property
    def batch(self) -> int:
        """Batches of the epoch that has begun."""
        return int(self.place["batch"]) if self.place is not None else 0


def _names(model: Model) -> tuple[dict[str, str], dict[str, str]]:
    """Names in the file -> names in the store: (parameters and buffers, optimiser and random state)."""
    from .parameter import Parameter

    values = {path: v.name for path, v in model.module.walk() if isinstance(v, Parameter)}
    state = {"random.seed": "random.seed"}
    mark = f"{model.prefix}."
    owned = {v: k for k, v in values.items()}
    if model.optimizer is not None:
        for n in model.store.names("state"):
            if n.startswith(mark):
                slot, _, parameter = n[len(mark) :].partition(".")
                if not parameter:
                    state[f"optimizer.{slot}"] = n
                elif parameter in owned:
                    state[f"optimizer.{slot}.{owned[parameter]}"] = n
    return values, state


def _frozen(model: Model) -> list[str]:
    return [path for path, p in model.module.named_parameters() if not p.trainable]


def save_model(model: Model, path: str | os.PathLike[str], kind: str = "model", extra: Any = None, keep: int = 1) -> None:
    """Writes a file of one kind: "weights", "model" (with state) or "checkpoint" (with the place in the training)."""
    values, state = _names(model)
    wanted = values if kind == "weights" else values | state
    with model.store.lock:
        tensors = {k: model.store.numpy(n) for k, n in wanted.items()}
        seed = model.store.numpy("random.seed")
        meta = {
            "kind": kind,
            "model": model.name,
            "graph": str(model.graph),
            "optimizer": json.dumps(model.optimizer.settings() if model.optimizer is not None else None),
            "frozen": json.dumps(_frozen(model)),
            "step": str(model.steps),
            "seed": str(int(seed[0]) | int(seed[1]) << 32),
        }
        if kind == "checkpoint":
            place = model.place
            state_now = None if place is None else place.state_dict(model)
            meta["training"] = json.dumps(pack(state_now, "training", tensors))
            meta["extra"] = json.dumps(pack(extra, "extra", tensors))
    write_file(path, tensors, meta, keep)


def load_model(model: Model, path: str | os.PathLike[str], optimizer: bool = True, strict: bool = True) -> Loaded:
    """See :meth:`Model.load`."""
    file = File(path)
    wanted, report = _compare(model, file, optimizer, strict)
    tensors = file.tensors()
    model.store.write({wanted[k]: tensors[k] for k in report.loaded})
    return report


def load_checkpoint(model: Model, path: str | os.PathLike[str], write: bool = True) -> Checkpoint:
    """See :meth:`Model.load_checkpoint`; without ``write`` the values stay as they are."""
    file = File(path)
    extra, place, frozen = file.json("extra"), file.json("training"), file.json("frozen", [])
    if not isinstance(frozen, list):
        raise CheckpointError(f"{file.path}: damaged metadata")
    parameters = dict(model.module.named_parameters())
    before = {k: p.trainable for k, p in parameters.items()}
    if file.version > 1:
        _freeze(model, {k: k not in frozen for k in parameters})
    try:
        wanted, report = _compare(model, file, optimizer=True, strict=True)
        tensors = file.tensors()
        found = Checkpoint(
            path=file.path,
            step=_number(file, "step"),
            seed=_number(file, "seed"),
            written_by={k: file.meta.get(k, "") for k in ("graphc", "python", "numpy", "version")},
            extra=_unpacked(file, extra, tensors),
            place=_checked(file, _unpacked(file, place, tensors)),
            values={wanted[k]: tensors[k] for k in report.loaded},
        )
        if write:
            model.store.write(found.values)
    except BaseException:
        _freeze(model, before)
        raise
    return found


def _number(file: File, key: str) -> int:
    text = file.meta.get(key, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise CheckpointError(f"{file.path}: damaged metadata: {key} {text[:20]!r}")
    return int(text)


def _unpacked(file: File, tree: Any, tensors: dict[str, np.ndarray]) -> Any:
    try:
        return unpack(tree, tensors)
    except (KeyError, TypeError, RecursionError) as e:
        raise CheckpointError(f"{file.path}: damaged metadata: {e!r:.80}") from None


def _checked(file: File, place: Any) -> Any:
    counts = ("epoch", "batch", "first")
    if place is not None and (not isinstance(place, dict) or not all(type(place.get(k)) is int and 0 <= place[k] < 2**63 for k in counts)):
        raise CheckpointError(f"{file.path}: damaged metadata: the place in the training")
    return place


def _freeze(model: Model, trainable: dict[str, bool]) -> None:
    parameters = dict(model.module.named_parameters())
    changed = {k: v for k, v in trainable.items() if parameters[k].trainable != v}
    model.freeze(*(k for k, v in changed.items() if not v)) if not all(changed.values()) else None
    model.unfreeze(*(k for k, v in changed.items() if v)) if any(changed.values()) else None


def _compare(model: Model, file: File, optimizer: bool, strict: bool) -> tuple[dict[str, str], Loaded]:
    """(names in the file -> names in the store, what fits). Raises CheckpointMismatchError where ``strict`` and anything does not."""
    values, state = _names(model)
    inside = file.entries
    has_state = any(k.startswith("optimizer.") for k in inside)
    wanted = dict(values)
    if optimizer:
        if file.meta.get("kind") != "weights":
            wanted["random.seed"] = "random.seed"
        if model.optimizer is not None and has_state:
            frozen = tuple(f".{k}" for k in _frozen(model))
            wanted |= {k: n for k, n in state.items() if k in inside or not k.endswith(frozen)}
    beside = ("training/", "extra/") if optimizer and model.optimizer is not None else BESIDE
    mismatched = {}
    for k, n in wanted.items():
        if k in inside:
            t, e = model.store.type(n), inside[k]
            if e.shape != t.shape or e.dtype != t.dtype.numpy:
                mismatched[k] = f"{k}: the file has {e.dtype}{e.shape}, the model {t.dtype}{tuple(t.shape)}"
    report = Loaded(
        loaded=tuple(k for k in wanted if k in inside and k not in mismatched),
        missing=tuple(k for k in wanted if k not in inside),
        unexpected=tuple(printable(k) for k in inside if k not in wanted and not k.startswith(beside)),
        mismatched=tuple(mismatched.values()),
    )
    if strict and not report.complete:
        raise CheckpointMismatchError(
            f"{file.path} does not fit {model.name}",
            notes=tuple(_first(report.problems())),
            hint="load(path, optimizer=False)" if _about_state(report) else "load(path, strict=False) reads what fits",
        )
    return wanted, report


def _about_state(report: Loaded) -> bool:
    return all(p.removeprefix("missing: ").removeprefix("unexpected: ").startswith("optimizer.") for p in report.problems())


def _first(lines: Iterable[str]) -> list[str]:
    found = list(lines)
    return found if len(found) <= SHOWN else [*found[:SHOWN], f"and {len(found) - SHOWN} more"]
