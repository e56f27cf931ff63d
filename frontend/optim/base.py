"""What all optimisers share: their state in the store, and how an update is made."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError, OutOfMemoryError, ShapeError, TraceError, did_you_mean
from graphc.ir.dtypes import float32, float64, int64
from graphc.ir.node import Node
from graphc.ir.types import TupleType
from graphc.locate import boundary, public

from ..differentiate import loss_gradients
from ..parameter import Parameter, current_trace
from ..trace import Trace
from .gradients import clip_by_global_norm, clip_by_norm, clip_by_value, number, penalised
from .groups import Group, split_groups

__all__ = ["Assigned", "Optimizer", "as_optimizer"]

Assigned = tuple[Parameter, "Optimizer", str]
"""A parameter, the optimiser with the settings of its group, and the name of its learning rate."""

_WHOLE = ("accumulate", "clip_norm", "ema", "groups")  # settings that no group can have for itself


@dataclass(eq=False, repr=False)
class Optimizer:
    """Base of the optimisers: a subclass says what state a parameter has and defines :meth:`update`.

    Settings that all of them take:

    - ``lr``: the learning rate; a state of the model, so that changing it compiles nothing.
    - ``schedule``: how the rate changes from update to update (:mod:`schedules`), computed inside the step.
    - ``groups``: :class:`Group` objects, with other settings for some parameters.
    - ``maximize``: climbs instead of descending.
    - ``l1``, ``l2``: minimises ``loss + l1 * sum |w| + l2 * sum w^2``; the loss is reported without them. (``weight_decay``
      of the optimisers is torch's: it is added after clipping, without the factor 2.)
    - ``clip_value``, ``clip_norm_each``, ``clip_norm``: gradients limited, in this order: each element, each parameter's norm, the
      norm of all together (Keras: ``clipvalue``, ``clipnorm``, ``global_clipnorm``).
    - ``accumulate=k``: gradients are averaged over k calls and every k-th call updates, as one batch k times as large would
      (batches of equal size). ``step`` counts calls; schedules and bias corrections count updates.
    - ``ema=d``: keeps averages ``a = d a + (1 - d) w`` of the parameters after each update (the first update copies);
      :meth:`Model.averages` reads them.

    The object holds settings only; its state stands in the store as ``optimizer.step``, ``optimizer.lr`` and
    ``optimizer.<slot>.<parameter>``; the rate of the i-th group is ``optimizer.lr_<i>``. A second optimiser in one training step
    gets the prefix ``optimizer_1``. Frozen parameters have no state and are not updated. Moments, averages and accumulated gradients of
    float16 and bfloat16 parameters are float32.
    """

    lr: float = 1e-3
    _: KW_ONLY
    maximize: bool = False
    l1: float = 0.0
    l2: float = 0.0
    clip_value: float | None = None
    clip_norm_each: float | None = None
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None
    schedule: Callable[[Any, Any], Any] | None = None
    groups: Sequence[Group] = ()

    slots: ClassVar[Any] = ()

    @boundary
    def __new__(cls, *args: Any, **settings: Any) -> Any:
        if args and not isinstance(args[0], (int, float, str, np.number)):
            raise ArgumentError(
                f"{cls.__name__} takes settings, not {type(args[0]).__name__}: what is trained is said later",
                hint=f"optim.{cls.__name__}(lr=1e-3), given to gc.compile, or to its minimize(loss, module.parameters()) in a gc.step",
            )
        if "learning_rate" in settings:
            raise ArgumentError(f"{cls.__name__}: the learning rate is called lr", hint=f"optim.{cls.__name__}(lr={settings['learning_rate']!r})")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self.check()

    # -- what a subclass defines -------------------------------------------------------------------------------------
    def check(self) -> None:
        """Raises ArgumentError for settings that make no sense. Subclasses add theirs."""
        self._numbers("lr", "l1", "l2")
        self._numbers("clip_value", "clip_norm_each", "clip_norm", optional=True)
        self._numbers("ema", high=1.0, optional=True)
        if isinstance(self.accumulate, bool) or not isinstance(self.accumulate, int) or self.accumulate < 1:
            raise ArgumentError(f"accumulate = {self.accumulate!r}", hint="the number of calls that make one update")
        if self.schedule is not None and not callable(self.schedule):
            raise ArgumentError(f"schedule = {self.schedule!r}", hint="optim.schedules.Cosine(1000), or a function of (t, lr)")
        for group in self.groups:
            if not isinstance(group, Group):
                raise ArgumentError(f"{group!r} is not a group", hint='groups=[optim.Group("encoder", lr=1e-4)]')
            self.regrouped(group)

    def state_spec(self, param: Parameter) -> dict[str, tuple[tuple[int, ...], Any, float]]:
        """Name -> (shape, dtype, first value) of the state of one parameter, in the order in which ``update`` gives them."""
        return dict.fromkeys(self.slots, (param.shape, param.dtype.arithmetic, 0.0))

    def update(
        self, param: Node, grad: Node, state: Mapping[str, Node], lr: Node, step: Node
    ) -> tuple[Node, ...] | Node:
        """The new parameter, then its new state; ``lr`` is a scalar, ``step`` (int64) counts updates from 1."""
        raise NotImplementedError

    # -- settings ----------------------------------------------------------------------------------------------------
    def _numbers(self, *names: str, low: float = 0.0, high: float = float("inf"), optional: bool = False) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None or not optional:
                setattr(self, name, number(name, value, low, high))

    def _betas(self, betas: Any) -> tuple[float, float]:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ArgumentError(f"betas = {betas!r}", hint="betas=(0.9, 0.999)")
        return number("betas[0]", betas[0], 0.0, 1.0), number("betas[1]", betas[1], 0.0, 1.0)

    def settings(self) -> dict[str, Any]:
        """Name and settings, for files and summaries: what differs from the base's defaults, by its repr where it is no number."""
        common = {f.name: f.default for f in dataclasses.fields(Optimizer) if f.name != "lr"}
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        told = {k: v for k, v in own.items() if k not in common or v != common[k]}
        return {"name": type(self).__name__, **{k: v if isinstance(v, (int, float, str)) else repr(v) for k, v in told.items()}}

    def __repr__(self) -> str:
        own = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self) if f.init}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, (v, usual) in own.items() if k == 'lr' or v != usual)})"

    def regrouped(self, group: Group) -> Optimizer:
        """This optimiser with the settings of a group."""
        known = [f.name for f in dataclasses.fields(self) if f.init and f.name not in _WHOLE]
        wrong = [k for k in group.settings if k not in known]
        if wrong:
            raise ArgumentError(f"{group!r}: {type(self).__name__} has no setting {wrong[0]!r} for a group", hint=", ".join(known))
        made = copy.copy(self)
        made.groups = ()
        for name, value in group.settings.items():
            setattr(made, name, value)
        made.check()
        return made

    def assign(self, params: Sequence[Any]) -> list[Assigned]:
        """Each of the parameters with its settings; ``params`` as :meth:`minimize` takes them."""
        flat, more = split_groups(params)
        views = []
        for i, group in enumerate([*self.groups, *more], 1):
            views.append((group, self.regrouped(group), f"lr_{i}" if "lr" in group.settings else "lr"))
        return [(p, *next(((v, rate) for g, v, rate in views if g.takes(p)), (self, "lr"))) for p in flat]

    # -- in a trace ------------------------------------------------------------------------------------------------
    def prepare(self, trace: Trace, assigned: Sequence[Assigned]) -> str:
        """Makes sure that the state exists in the trace's store; gives its prefix."""
        if id(self) not in trace.optimizers:
            n = len(trace.optimizers)
            trace.optimizers[id(self)] = "optimizer" if n == 0 else f"optimizer_{n}"
            trace.keep.append(self)
        prefix = trace.optimizers[id(self)]
        self.create_state(trace.ensure_store(), assigned, prefix)
        return prefix

    def create_state(self, store: Any, assigned: Sequence[Assigned], prefix: str) -> None:
        """Adds step counter, learning rates and moments to a store, where they are missing."""

        def add(name: str, value: Callable[[], Any]) -> None:
            if f"{prefix}.{name}" not in store:
                try:
                    first = value()
                except MemoryError as e:
                    raise OutOfMemoryError(f"out of memory: the optimiser's {name}: {e}") from None
                store.add(f"{prefix}.{name}", first, role="state")

        wide = float64 if any(p.dtype == float64 for p, _, _ in assigned) else float32
        add("step", partial(np.zeros, (), int64.numpy))
        add("lr", partial(np.array, self.lr, wide.numpy))
        for p, view, rate in assigned:
            add(rate, partial(np.array, view.lr, wide.numpy))
            for slot, (shape, dtype, value) in view.state_spec(p).items():
                add(f"{slot}.{p.name}", partial(np.full, shape, value, dtype.numpy))
            if self.accumulate > 1:
                add(f"gradient.{p.name}", partial(np.zeros, p.shape, p.dtype.arithmetic.numpy))
            if self.ema is not None:
                add(f"ema.{p.name}", partial(_averaged, store, p))

    def minimize(self, loss: Node, params: Sequence[Any]) -> None:
        """Registers one step down the gradient of ``loss`` for the trainable ones of ``params``, in the active trace.

        ``params`` are parameters, or torch's groups: ``[{"params": net.parameters(), "lr": 1e-4}, ...]``. Later uses of the
        parameters in the same trace read the new values; all writes happen after every loss is known to be finite. Raises
        :class:`GradientError` for a parameter that the loss does not depend on.
        """
        trace = self._training_trace("minimize")
        if not isinstance(loss, Node) or loss.shape != ():
            raise ShapeError(f"a loss must be a scalar, not {loss!r}", hint="loss.mean()")
        assigned = self._assigned(trace, params)
        pairs = loss_gradients(loss, [p for p, _, _ in assigned], trace)
        if not any(n is loss for n in trace.finite):
            trace.finite.append(loss)
        self._step(trace, assigned, [g for _, g in pairs])

    def apply(self, grads: Sequence[Node], params: Sequence[Parameter]) -> None:
        """Registers one step along given gradients, one for each of ``params``, in the active trace; as :meth:`minimize` otherwise.

        Nothing checks that the step is finite, since there is no loss. Those of frozen parameters are left out.

        >>> import graphc as gc
        >>> from graphc import nn, optim
        >>> net, opt = nn.Linear(2, 1), optim.SGD(0.1)
        >>> def fn(w, b):
        ...     opt.apply([w, b], net.parameters())
        >>> step = gc.step(fn, gc.spec(1, 2), gc.spec(1), target="reference")
        >>> before = net.bias.numpy()
        >>> step([[0.0, 0.0]], [1.0])
        >>> bool(abs(net.bias.numpy() - (before - 0.1)).max() < 1e-6)
        True
        """
        trace = self._training_trace("apply")
        grads, params = list(grads), list(params)
        if len(grads) != len(params):
            raise ArgumentError(f"apply: {len(grads)} gradients for {len(params)} parameters", hint="one gradient for each, in their order")
        if any(isinstance(p, dict) for p in params):
            raise ArgumentError("apply takes parameters, not groups of them", hint="groups=[optim.Group(...)] of the optimiser")
        assigned = self._assigned(trace, params)
        given = {id(p): g for p, g in zip(params, grads, strict=True)}
        for p, _, _ in assigned:
            g = given[id(p)]
            if not isinstance(g, Node) or g.type != trace.value(p).type:
                said = g.type if isinstance(g, Node) else g
                raise ShapeError(f"apply: the gradient of {p.name} {trace.value(p).type} is {said}", hint="gradients in the order of params")
        self._step(trace, assigned, [given[id(p)] for p, _, _ in assigned])

    def _training_trace(self, method: str) -> Trace:
        trace = current_trace()
        if trace is None:
            raise TraceError(f"{method} was called outside of a trace", hint="step = gc.step(fn, *specs)")
        if not trace.trains:
            raise TraceError(f"{method} works in a training step only", hint="gc.step(fn, *specs)")
        return trace

    def _assigned(self, trace: Trace, params: Sequence[Any]) -> list[Assigned]:
        """The trainable ones of ``params``, named, each with its settings."""
        flat, _ = split_groups(params)
        for p in flat:
            trace.value(p)  # names it
        for group in self.groups:
            if not any(group.takes(p) for p in flat):
                raise ArgumentError(f"{group!r} takes no parameter", hint="names: " + ", ".join(p.name for p in flat[:8]))
        assigned = [a for a in self.assign(params) if a[0].trainable]
        if not assigned:
            raise TraceError("no parameter is trainable", hint="module.unfreeze()")
        return assigned

    def _step(self, trace: Trace, assigned: Sequence[Assigned], grads: Sequence[Node]) -> None:
        prefix = self.prepare(trace, assigned)
        with trace.scoped(prefix):
            self._update(trace, prefix, assigned, grads)

    def _update(self, trace: Trace, prefix: str, assigned: Sequence[Assigned], raw: Sequence[Node]) -> None:
        """The new values of parameters and moments, written in the trace."""
        step, last = self._count(trace, prefix)

        def chosen(new: Node, old: Node) -> Node:
            return new if last is None else ops.where(last, new, old)

        grads = []
        for (p, view, _), g in zip(assigned, raw, strict=True):
            if last is not None:
                total = trace.read(f"{prefix}.gradient.{p.name}") + g.cast(g.dtype.arithmetic)
                trace.write(f"{prefix}.gradient.{p.name}", ops.where(last, 0.0, total))
                g = total / float(self.accumulate)
            old = trace.value(p)
            g, old = g.cast(g.dtype.arithmetic), old.cast(old.dtype.arithmetic)
            grads.append(view.limited(-g if view.maximize else g, old))
        if self.clip_norm is not None:
            grads = clip_by_global_norm(grads, self.clip_norm)
        for (p, view, rate), g in zip(assigned, grads, strict=True):
            with trace.scoped(f"{prefix}.{p.name}"):
                stored = trace.value(p)
                old = stored.cast(stored.dtype.arithmetic)  # moments have more digits than a parameter of 16 bits
                state = {slot: trace.read(f"{prefix}.{slot}.{p.name}") for slot in view.state_spec(p)}
                lr = trace.read(f"{prefix}.{rate}")
                if view.schedule is not None:
                    lr = view.schedule((step - 1).cast(float64), lr.cast(float64))
                out = view.update(old, g, state, lr, step)
                new, *moments = (out,) if isinstance(out, Node) and not isinstance(out.type, TupleType) else out
                trace.write(p.name, chosen(new.cast(stored.dtype), stored))
                for slot, value in zip(state, moments, strict=True):
                    trace.write(f"{prefix}.{slot}.{p.name}", chosen(value, state[slot]))
                if self.ema is not None:
                    mean = trace.read(f"{prefix}.ema.{p.name}")
                    moved = ops.where(ops.eq(step, 1), new, mean * self.ema + new * (1.0 - self.ema))
                    trace.write(f"{prefix}.ema.{p.name}", chosen(moved, mean))

    def _count(self, trace: Trace, prefix: str) -> tuple[Node, Node | None]:
        """Counts this call, once a trace: (number of the update that it belongs to, whether it makes it: None for always)."""
        name = f"{prefix}.step"
        before = trace.read(name)
        if len(trace.versions[name]) == 1:
            trace.write(name, before + 1)
        calls = trace.versions[name][1]
        if self.accumulate == 1:
            return calls, None
        step = ops.div(calls + (self.accumulate - 1), self.accumulate)
        return step, ops.eq(step * self.accumulate, calls)

    def limited(self, grad: Node, param: Node) -> Node:
        """A gradient with penalties, clipped by itself."""
        grad = penalised(grad, param, self.l1, self.l2)
        if self.clip_value is not None:
            (grad,) = clip_by_value([grad], self.clip_value)
        if self.clip_norm_each is not None:
            (grad,) = clip_by_norm([grad], self.clip_norm_each)
        return grad


def _averaged(store: Any, param: Parameter) -> np.ndarray:
    """What the average of a parameter begins with."""
    first: np.ndarray = store.numpy(param.name).astype(param.dtype.arithmetic.numpy)
    return first


def as_optimizer(value: Any) -> Optimizer:
    """An optimiser by name ("sgd", "adam") or as it is. Raises ArgumentError for others."""
    from . import adam, adaptive, large_batch, sgd, sign

    known = {name.lower(): getattr(m, name) for m in (adam, adaptive, large_batch, sgd, sign) for name in m.__all__}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]()  # type: ignore[no-any-return]
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type):
        raise ArgumentError(f"{value.__name__} is a class, not an optimiser", hint=f"optimizer=optim.{value.__name__}()")
    hint = did_you_mean(value, sorted(known)) if isinstance(value, str) else 'optim.Adam(1e-3), or a name: "adam"'
    raise ArgumentError(f"{value!r} is not an optimiser", hint=hint)


public(globals())
