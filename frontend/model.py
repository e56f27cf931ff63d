"""A compiled module: three executables over one store, and the methods a user trains and asks with."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc import ops
from graphc.errors import ArgumentError, ParameterError, ShapeError, UnknownNameError, did_you_mean
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.locate import boundary, leaving, public
from graphc.runtime.locks import FUNCTION, held_for_forks
from graphc.runtime.store import ParameterStore

from .callbacks.base import Callback, CallbackList
from .deploy import save_bundle
from .differentiate import loss_gradients
from .feed import gives_batches, open_feed
from .function import Function, not_sendable
from .history import History
from .metrics import Tally
from .module import Module
from .objective import Objective
from .optim import Optimizer, as_optimizer
from .optim.gradients import penalised
from .place import Place
from .random import get_seed
from .saving import Checkpoint, Loaded, load_checkpoint, load_model, save_model
from .taps import as_names, tapped
from .trace import Traced, active_trace, argument_names, seed_words, trace_function
from .training import Plan, evaluate_model, fit_model, weigher

if TYPE_CHECKING:
    from graphc.inspect.measured import Profile

    from .summary import Summary

__all__ = ["Model"]

MODES = ("train_step", "evaluate", "predict")


def _quick_first(slow: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of ``predict``: an array like the last one goes to the program at once, which takes a tenth of the time."""

    @functools.wraps(slow)
    def predict(self: Model, *args: Any, **kwargs: Any) -> Any:
        quick = self._quick
        if quick is not None and len(args) == 1 and not kwargs and self.outputs is None:
            out = quick(args[0])
            if out is not None:
                return out
        try:  # a boundary written out: a wrapper would cost a call
            return slow(self, *args, **kwargs)
        except Exception as e:
            leaving(e)
            raise

    return predict


class Model:
    """What ``gc.compile`` makes of a module.

    ``train_step``, ``evaluate`` and ``predict`` are graphs of their own, traced with an explicit mode and compiled at first
    use, over one :class:`ParameterStore`. ``model.graph`` is predict's, ``model.graphs["train_step"]`` another's.

    ``model.history`` is that of the last ``fit``. ``model.gradient_norm = True`` makes training steps compute the Euclidean norm of
    the gradient too (before clipping, with the optimiser's penalties) and report it as "gradient_norm".
    """

    def __init__(
        self,
        module: Module,
        specs: Sequence[Any],
        *,
        loss: Any,
        optimizer: Any,
        metrics: Any,
        loss_weights: Any,
        target: str,
        target_spec: Any,
        outputs: str | Sequence[str] | None,
        options: Mapping[str, Any],
    ):
        self.module, self.specs, self.target, self.options = module, tuple(specs), target, dict(options)
        if loss is None and (optimizer is not None or metrics or loss_weights is not None):
            raise ArgumentError("an optimizer or metrics without a loss", hint='gc.compile(..., loss="mse")')
        self._objective: Objective | None = None if loss is None else Objective(loss, metrics, loss_weights)
        self.optimizer: Optimizer | None = None if optimizer is None else as_optimizer(optimizer)
        self.metrics = self._objective.metrics if self._objective is not None else []
        self.outputs = outputs
        self.stop_training = False
        self.place: Place | None = None
        """Where the present ``fit`` is, or the last one left off."""
        self.history: History | None = None
        self.gradient_norm = False
        self.name = type(module).__name__
        self.names = argument_names(module.forward, len(specs))
        self.label = "y" if "y" not in self.names else "target"
        self.weight_label = "sample_weight" if "sample_weight" not in self.names else "weight_of_sample"
        self._functions: dict[Any, Function] = {}
        self._quick: Any = None
        self._lock = held_for_forks(threading.RLock(), FUNCTION)
        self._derived: Any = None
        self._weight_specs: Any = None
        traced = trace_function(self._predict, self.specs, name=f"{self.name}_predict", names=self.names, root=module)
        self.store: ParameterStore = traced.store if traced.store is not None else ParameterStore()
        self._functions["predict"] = Function(traced, target, self.options)
        self.calls = traced.trace.calls
        if "random.seed" not in self.store:
            self.store.add("random.seed", seed_words(get_seed()), role="state")
        if outputs is not None:
            self.tap(outputs)
        prefixes = ("optimizer" if n == 0 else f"optimizer_{n}" for n in count())
        self.prefix = next(p for p in prefixes if self.store.claim(p, self))
        if self._objective is not None:
            self.target_spec = target_spec if target_spec is not None else self._derived
        if self.optimizer is not None:
            self._add_state([p for p in module.parameters() if p.trainable and p.store is self.store])
            self._function("train_step")  # traced now, so that mistakes show now; compiled at first use

    # -- the three graphs ------------------------------------------------------------------------------------------
    def _predict(self, *args: Any) -> Any:
        out = self.module(*args)
        if self._objective is not None:
            self._weight_specs = self._objective.weight_specs(out)
            self._derived = self._objective.derive(out)
        return out

    def _measure(self, args: Sequence[Any], weighted: bool) -> dict[str, Any]:
        *xs, y = args[:-1] if weighted else args
        return self.objective.measure(self.module(*xs), y, args[-1] if weighted else None)

    def _train(self, *args: Any, weighted: bool = False, norm: bool = False) -> dict[str, Any]:
        trace = active_trace()
        assert trace is not None and self.optimizer is not None
        counter = f"{self.prefix}.step"

        def step() -> Any:
            trace.read(counter)
            return trace.versions[counter][0]

        trace.step = step
        trace.optimizers[id(self.optimizer)] = self.prefix
        out = self._measure(args, weighted)
        used = [p for p in self.module.parameters() if p.name in trace.versions]
        if norm:
            out["gradient_norm"] = self._gradient_norm(out["loss"], used, trace)
        self.optimizer.minimize(out["loss"], used)
        return out

    def _gradient_norm(self, loss: Node, used: Sequence[Any], trace: Any) -> Node:
        """The Euclidean norm of what is minimised, over all parameters that are trained."""
        assert self.optimizer is not None
        settings = [(p, o) for p, o, _ in self.optimizer.assign(used) if p.trainable]
        total: Any = 0.0
        for (p, o), (_, g) in zip(settings, loss_gradients(loss, [p for p, _ in settings], trace), strict=True):
            g = penalised(g, trace.value(p), o.l1, o.l2)
            total = total + (g * g).sum()
        return ops.sqrt(total)

    def _trace(self, mode: str, weighted: bool, norm: bool) -> Traced:
        if self._objective is None or (mode == "train_step" and self.optimizer is None):
            missing = [n for n, v in (("a loss", self._objective), ("an optimizer", self.optimizer)) if v is None and (mode, n) != ("evaluate", "an optimizer")]
            what = "training" if mode == "train_step" else mode
            raise ArgumentError(
                f"{what} needs {' and '.join(missing)}, and the model was compiled without",
                hint='gc.compile(module, *specs, loss="cross_entropy", optimizer=optim.Adam(1e-3))',
            )
        if self.target_spec is None:
            assert self._objective.single is not None
            self._objective.single.derive(None)
        specs, names = [*self.specs, self.target_spec], [*self.names, self.label]
        if weighted:
            if self._weight_specs is None:
                raise ArgumentError("sample weights need an output with a batch axis for each loss", hint='loss={"output": "mse"}')
            specs, names = [*specs, self._weight_specs], [*names, self.weight_label]
        fn: Any = functools.partial(self._train, norm=norm) if mode == "train_step" else self._measure_only
        return trace_function(
            functools.partial(fn, weighted=weighted),
            specs,
            name=f"{self.name}_{mode}",
            training=mode == "train_step",
            store=self.store,
            names=names,
            root=self.module,
        )

    def _measure_only(self, *args: Any, weighted: bool = False) -> dict[str, Any]:
        return self._measure(args, weighted)

    def _function(self, mode: str, weighted: bool = False) -> Function:
        """The function of a mode, with sample weights or without; train_step's depends on what is frozen or in eval mode."""
        key: Any = (mode, weighted) if weighted else mode
        norm = mode == "train_step" and self.gradient_norm
        if mode == "train_step":
            inside = [self.module, *(m for _, m in self.module.named_modules())]
            key = (mode, tuple(p.trainable for p in self.module.parameters()), tuple(m.trains for m in inside), weighted, norm)
        found = self._functions.get(key)
        if found is None:
            if mode not in MODES:
                raise ArgumentError(f"no mode {mode!r}", hint=", ".join(MODES))
            with self._lock:
                found = self._functions.get(key)
                if found is None:
                    found = self._functions[key] = Function(self._trace(mode, weighted, norm), self.target, self.options)
        return found

    @property
    def objective(self) -> Objective:
        """The losses and their metrics."""
        if self._objective is None:
            raise ArgumentError("the model has no loss", hint='gc.compile(..., loss="mse")')
        return self._objective

    @property
    def loss(self) -> Any:
        """The loss; the :class:`Objective` where there are several; None without one."""
        return None if self._objective is None else self._objective.single or self._objective

    @property
    def graph(self) -> Graph:
        """The graph of ``predict``."""
        return self._function("predict").graph

    @property
    def graphs(self) -> Mapping[str, Graph]:
        """The graphs by mode: "train_step", "evaluate", "predict"."""
        return _Modes(self, lambda f: f.graph)

    @property
    def executables(self) -> Mapping[str, Any]:
        """The compiled programs by mode; asking for one compiles it."""
        return _Modes(self, lambda f: f.executable)

    def modes(self) -> list[str]:
        """The modes that this model can run."""
        return [
            m
            for m in MODES
            if m == "predict" or (self._objective is not None and (m == "evaluate" or self.optimizer is not None))
        ]

    @boundary
    def compile_all(self) -> None:
        """Compiles every mode now."""
        for mode in self.modes():
            self._function(mode).executable  # noqa: B018

    # -- training --------------------------------------------------------------------------------------------------
    @boundary
    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = (),
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        fast_dev_run: bool | int = False,
        resume: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> History:
        """Trains until ``epochs`` and gives the history of losses and metrics, one value an epoch (also ``model.history``).

        Each row of ``x`` and ``y`` is a sample; several inputs and outputs go as tuples or dicts; the last batch may be smaller. Instead
        of arrays ``x`` may be anything that can be iterated over for batches ``(x, y)``, with ``y`` left out: the next one is prepared
        while a step runs, and ``batch_size`` and ``shuffle`` are its own matter. Arguments are Keras':

        - ``verbose``: "auto" shows a progress bar on a terminal and nothing elsewhere; 1 a bar, or lines without a terminal; 2 a
          line an epoch; 0 nothing.
        - ``validation_data``: (x, y) or (x, y, sample_weight), or a source of batches, evaluated after each epoch, or after every ``validation_freq``-th, or
          after those listed (from 1); the first ``validation_steps`` batches of ``validation_batch_size``. ``validation_split``
          takes the last part of the samples instead, before any shuffling.
        - ``sample_weight`` (N,), or one for each output: the loss is ``sum_i w_i l_i / N``, divided by the number of samples and not
          by the sum of the weights, so that it does not depend on the batches' cut. ``class_weight`` {label: weight} multiplies each
          sample's weight (1 where a label is not named), in training only. Metrics count each sample once. ``sample_weight=True`` takes
          the weights of a source whose batches are (x, y, sample_weight).
        - ``steps_per_epoch``: batches an epoch; the next epoch goes on where the last one stopped in the data.
        - ``initial_epoch``: the first epoch's number, for a training that goes on.
        - ``fast_dev_run``: one batch (or so many) of training and validation in one epoch, to see that all runs; callbacks that
          write files are left out.
        - ``resume``: a file of :meth:`save_checkpoint` (or what :meth:`load_checkpoint` gave) to go on from, also in the middle of an
          epoch, to ``epochs`` epochs in all: on the CPU to the same bits as the training that was not interrupted.

        Gradients are accumulated over k batches by the optimiser: ``optim.Adam(1e-3, accumulate=k)``.

        Raises :class:`NonFiniteError`, with nothing written by that step, when the loss is not finite
        (``callbacks.TerminateOnNaN`` ends quietly instead). Ctrl-C raises KeyboardInterrupt after the step that runs: the model is
        whole, ``model.history`` has the epochs that ended, and ``fit`` can go on.
        """
        plan = Plan(
            batch_size, epochs, verbose, callbacks, validation_split, validation_data, shuffle, class_weight, sample_weight, initial_epoch,
            steps_per_epoch, validation_steps, validation_batch_size, validation_freq, fast_dev_run, resume,
        )  # fmt: skip
        return fit_model(self, x, y, plan)

    @boundary
    def train_on_batch(
        self, x: Any, y: Any, sample_weight: Any = None, class_weight: Mapping[int, float] | None = None
    ) -> dict[str, float]:
        """One step on one batch; gives loss and metrics. Weights as in :meth:`fit`."""
        weigh = weigher(self, sample_weight, class_weight)
        f = self._function("train_step", weigh is not None)
        inputs = f.arguments.bind((*self._args(x), y, *(() if weigh is None else (weigh(y, None),))))
        _rows(inputs, self.label)
        tally = Tally(self.metrics, f.traced.output)
        tally.add(f.run(inputs), 1)
        return tally.batch()

    @boundary
    def evaluate(
        self, x: Any, y: Any = None, batch_size: int = 256, sample_weight: Any = None, steps: int | None = None, callbacks: Any = ()
    ) -> dict[str, float]:
        """Loss and metrics over all samples, or the first ``steps`` batches, without training; data and weights as in :meth:`fit`."""
        hooks = CallbackList([callbacks] if isinstance(callbacks, Callback) else callbacks, self, {"steps": steps})
        return evaluate_model(self, x, y, batch_size, sample_weight, steps, hooks)

    @_quick_first
    @boundary
    def predict(self, x: Any, batch_size: int | None = None, outputs: str | Sequence[str] | None = None) -> Any:
        """The module's output for ``x``, in pieces of ``batch_size`` rows where it is given.

        ``x`` may give batches, of inputs or of ``(x, y)``, as in :meth:`fit`: then the output has the rows of all of them.
        With ``target="cuda"`` an array on the GPU (torch's, CuPy's, JAX's) gives a :class:`DeviceArray`, which stays there.
        ``outputs`` asks for what modules inside gave instead: one name gives its output, a list of names a dict (see :meth:`tap`).
        """
        asked = self.outputs if outputs is None else outputs
        if asked is None:
            f = self._function("predict")
            found = self._predict_with(f, x, batch_size)
            self._quick = f.quick()
            return found
        found = self._predict_with(self.tap(asked), x, batch_size)
        return found[asked] if isinstance(asked, str) else found

    def _predict_with(self, f: Function, x: Any, batch_size: int | None) -> Any:
        if batch_size is None and not gives_batches(x):
            return f.restore(f.run(f.arguments.bind(self._args(x)), stay=True))
        with closing(open_feed(self, f.arguments, x, None, batch_size or 256)) as feed:
            parts = [f.run(b) for b in feed.epoch()]
        if not parts:
            if gives_batches(x):
                raise ShapeError("predict: no batches", hint="a generator gives its batches once")
            return f.restore(f.run(f.arguments.bind(self._args(x))))
        return f.restore({k: np.concatenate([p[k] for p in parts]) for k in parts[0]})

    @boundary
    def tap(self, *outputs: str | Sequence[str]) -> Function:
        """What modules inside give in a prediction, by their names in ``named_modules``: a function of the inputs that gives a dict.

        A module that is called several times gives a list. Only what is needed is computed, over the model's own parameters;
        "output" is the whole model's. Raises ArgumentError with the names there are.

        >>> import graphc as gc
        >>> from graphc import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> model = gc.compile(net, gc.spec("N", 2), target="reference")
        >>> {name: value.shape for name, value in model.tap("1", "output")([[1.0, 2.0]]).items()}
        {'1': (1, 3), 'output': (1, 1)}
        """
        names = as_names(outputs[0] if len(outputs) == 1 else [n for o in outputs for n in as_names(o)])
        key = ("tap", *names)
        with self._lock:
            if key not in self._functions:
                self._functions[key] = tapped(self, names)
            return self._functions[key]

    __call__ = predict

    def _args(self, x: Any) -> tuple[Any, ...]:
        """The arguments of ``forward`` from ``x``: one, a tuple, or a dict by name."""
        if len(self.names) == 1:
            return (x,)
        if isinstance(x, Mapping):
            if set(x) != set(self.names):
                raise ArgumentError(
                    f"expected the inputs {', '.join(self.names)}, got {', '.join(map(str, x))}", hint="the names of forward's arguments"
                )
            return tuple(x[n] for n in self.names)
        if not isinstance(x, (tuple, list)) or len(x) != len(self.names):
            given = f"{len(x)} inputs" if isinstance(x, (tuple, list)) else f"one {type(x).__name__}"
            listed = ", ".join(self.names)
            raise ArgumentError(f"expected {len(self.names)} inputs ({listed}), got {given}", hint=f"a tuple: ({listed})")
        return tuple(x)

    # -- values ----------------------------------------------------------------------------------------------------
    @property
    @boundary
    def learning_rate(self) -> float:
        """The optimiser's learning rate, which a schedule starts from; assigning it needs no new compile."""
        if self.optimizer is None:
            raise ArgumentError("no optimizer has a learning rate", hint="gc.compile(..., optimizer=optim.Adam(1e-3))")
        return self.learning_rates["lr"]

    @learning_rate.setter
    @boundary
    def learning_rate(self, value: float) -> None:
        self.learning_rates = {"lr": value}

    @property
    def learning_rates(self) -> dict[str, float]:
        """The rate "lr" and those of groups with one of their own: "lr_1" is the first group's. Assigning writes those given."""
        mark = f"{self.prefix}.lr"
        names = [n for n in self.store.names("state") if n == mark or (n.startswith(mark + "_") and "." not in n[len(mark) :])]
        return {n[len(self.prefix) + 1 :]: float(self.store.numpy(n)) for n in names}

    @learning_rates.setter
    @boundary
    def learning_rates(self, values: Mapping[str, float]) -> None:
        known = self.learning_rates
        for name, value in values.items():
            if name not in known or not np.isfinite(value) or value < 0:
                raise ArgumentError(f"{name} = {value!r}: a learning rate is a number >= 0", hint="rates: " + ", ".join(known))
        self.store.write({f"{self.prefix}.{k}": np.float64(v) for k, v in values.items()})

    @boundary
    def averages(self) -> dict[str, np.ndarray]:
        """The state dict with the averages of the parameters that the optimiser's ``ema`` keeps, for ``load_state_dict``."""
        if self.optimizer is None or self.optimizer.ema is None:
            raise ArgumentError("no averages are kept", hint="optimizer=optim.Adam(1e-3, ema=0.999)")
        held = {path: f"{self.prefix}.ema.{p.name}" for path, p in self.module.named_parameters()}
        return {k: self.store.numpy(held[k]) if held.get(k, "") in self.store else v for k, v in self.state_dict().items()}

    @property
    def steps(self) -> int:
        """Training steps taken so far (with ``accumulate``, calls)."""
        return int(self.store.numpy(f"{self.prefix}.step")) if f"{self.prefix}.step" in self.store else 0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name."""
        return self.module.state_dict()

    @boundary
    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Writes all parameters and buffers, or none; see :meth:`Module.load_state_dict`."""
        self.module.load_state_dict(values)

    @boundary
    def freeze(self, *paths: str) -> None:
        """Parameters at or below these paths (all, if none is given) are not trained from now on."""
        self._set_trainable(paths, False)

    @boundary
    def unfreeze(self, *paths: str) -> None:
        """Parameters at or below these paths (all, if none is given) are trained from now on."""
        self._set_trainable(paths, True)

    def _set_trainable(self, paths: Sequence[str], value: bool) -> None:
        named = dict(self.module.named_parameters())
        for path in paths:
            if not any(n == path or n.startswith(path + ".") for n in named):
                paths = [*named, *(n for n, _ in self.module.named_modules())]
                raise ParameterError(f"there is no parameter or module {path!r}", hint=did_you_mean(path, paths))
        chosen = [p for n, p in named.items() if not paths or any(n == q or n.startswith(q + ".") for q in paths)]
        for p in chosen:
            p.trainable = value
        if value and self.optimizer is not None:
            self._add_state(chosen)

    def _add_state(self, params: Sequence[Any]) -> None:
        assert self.optimizer is not None
        self.optimizer.create_state(self.store, self.optimizer.assign(params), self.prefix)

    # -- files -----------------------------------------------------------------------------------------------------
    @boundary
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes parameters, buffers, optimiser state and the graph to a safetensors file, atomically."""
        save_model(self, path)

    @boundary
    def save_bundle(self, path: str | os.PathLike[str]) -> None:
        """Writes the compiled prediction with its parameters to one file, atomically: ``gc.load_bundle(path).predict(x)`` runs it, in a
        process without a compiler and on processors like this one."""
        save_bundle(self._function("predict"), path)

    @boundary
    def load(self, path: str | os.PathLike[str], optimizer: bool = True, strict: bool = True) -> Loaded:
        """Reads a file of :meth:`save` or :meth:`save_checkpoint`; ``optimizer=False`` leaves the optimiser's state as it is.

        All or nothing: raises :class:`FileFormatError` for a damaged or foreign file and :class:`CheckpointMismatchError`, listing
        every missing, unexpected or mismatched name, for one of another model. ``strict=False`` reads what fits instead, and the
        result says what did not. Nothing in a file is ever executed.
        """
        return load_model(self, path, optimizer, strict)

    @boundary
    def save_checkpoint(self, path: str | os.PathLike[str], extra: Any = None, keep: int = 1) -> None:
        """Writes a file of :meth:`save` that also holds the place in the training: epoch, batch, history, callbacks' values.

        Called in a callback, or after a ``fit`` that ended or was interrupted. ``extra`` is for own loops: numbers, texts, arrays,
        and lists and dicts of them. ``keep=3`` leaves the two files before it as ``name.1.graphc`` and ``name.2.graphc``. A write
        that fails leaves the file that was there.
        """
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ArgumentError(f"keep = {keep!r}", hint="the number of files to have, 1 or more")
        save_model(self, path, "checkpoint", extra, keep)

    @boundary
    def load_checkpoint(self, path: str | os.PathLike[str]) -> Checkpoint:
        """Reads a file of :meth:`save_checkpoint`, all or nothing as :meth:`load` does, and which parameters are frozen.

        ``fit(..., resume=checkpoint)`` goes on from its place; ``checkpoint.extra`` is what an own loop gave.
        """
        return load_checkpoint(self, path)

    # -- views -----------------------------------------------------------------------------------------------------
    @boundary
    def summary(
        self,
        print_fn: Callable[[str], Any] | None = print,
        *,
        depth: int | None = None,
        show_macs: bool = True,
        show_bytes: bool = True,
        profile: Profile | Mapping[str, Any] | None = None,
    ) -> Summary | None:
        """Prints layers with output shapes, parameters, whether they are trained, MACs and bytes; with ``print_fn=None`` gives the
        :class:`Summary` back instead, a text that notebooks show as a table.

        ``depth`` ends the nesting: what is deeper is counted where it ends. ``profile`` adds each layer's share of the time: what
        ``gc.profile()`` measured (of ``predict``, else of training steps, else of ``evaluate``), or a record of ``predict`` (see
        :mod:`graphc.inspect.profile`).
        """
        from graphc.inspect.profile import records_of, seconds_by_scope

        from .summary import summarise

        times, mode = None, ""
        if profile is not None:
            given = {"predict": profile} if isinstance(profile, Mapping) else profile
            first = ("predict", "train_step", "evaluate")
            chosen = [m for m in sorted(self.modes(), key=first.index) if m == "predict" or self._function(m).compiled]
            programs = {m: self._function(m).executable for m in chosen}
            mode, record = next(iter(records_of(given, programs).items()))
            times = seconds_by_scope(programs[mode], record)
        made = summarise(self, depth, show_macs, show_bytes, times, mode)
        if print_fn is None:
            return made
        print_fn(made)
        return None

    @boundary
    def report(
        self, path: str | os.PathLike[str], modes: Sequence[str] | None = None, profile: Profile | Mapping[str, Any] | None = None
    ) -> None:
        """Writes one HTML file that shows, without network, what became of the model: every stage of every mode, kernels with their
        source, memory, and the user's lines beside all of it. A path that ends in ``.json`` gets the data alone.

        ``modes`` chooses among :meth:`modes`; ``profile`` is what ``gc.profile()`` measured, or records by mode (see
        :mod:`graphc.inspect.profile`): then the report shows times too.
        """
        from graphc.inspect.html import write_report
        from graphc.inspect.profile import records_of

        from .summary import module_rows

        programs = {m: self._function(m).executable for m in (self.modes() if modes is None else modes)}
        write_report(path, programs, self.name, modules=module_rows(self), profiles=records_of(profile, programs))

    @boundary
    def cost_analysis(self, mode: str = "predict", dims: Mapping[str, int] | None = None) -> Any:
        """Operations and bytes of a run, before the first one: in all, by kernel and by module. Named dims have the given sizes, else
        their hints, else 64."""
        return self._function(mode).cost_analysis(dims)

    @boundary
    def memory_analysis(self, mode: str = "predict", dims: Mapping[str, int] | None = None) -> Any:
        """Bytes that a run needs, before the first one: arena, parameters and state, and where the peak is."""
        return self._function(mode).memory_analysis(dims)

    @boundary
    def explain_fusion(self, a: Any, b: Any, mode: str = "predict") -> str:
        """One sentence: why two operators share a kernel in a mode's program, or do not."""
        return self._function(mode).explain_fusion(a, b)

    def __reduce__(self) -> Any:
        raise not_sendable(f"the model {self.name}")

    def __repr__(self) -> str:
        return f"<Model {self.name}{self._function('predict').arguments} for {self.target}>"


class _Modes(Mapping[str, Any]):
    """Something of each mode's function, made when asked for."""

    def __init__(self, model: Model, get: Callable[[Function], Any]):
        self.model, self.get_from = model, get

    @boundary
    def __getitem__(self, mode: str) -> Any:
        if mode not in self.model.modes():
            raise UnknownNameError(f"the model has no mode {mode!r}", hint=did_you_mean(mode, self.model.modes()))
        return self.get_from(self.model._function(mode))

    def __iter__(self) -> Iterator[str]:
        return iter(self.model.modes())

    def __len__(self) -> int:
        return len(self.model.modes())


def _rows(inputs: Mapping[str, np.ndarray], label: str) -> None:
    if any(a.ndim and not len(a) for a in inputs.values()):
        raise ShapeError("train_on_batch: no samples", hint=f"a mean over 0 rows of {label} is not a number")


public(globals())
