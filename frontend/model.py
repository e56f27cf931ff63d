"""A compiled module: three executables over one store, and the methods a user trains and asks with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ParameterError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.runtime.store import ParameterStore

from .feed import gives_batches, open_feed
from .function import Function
from .history import History
from .locate import boundary
from .losses import Loss, as_loss
from .metrics import Tally, as_metrics
from .module import Module
from .optim import Optimizer, as_optimizer
from .place import Place
from .random import get_seed
from .saving import Checkpoint, Loaded, load_checkpoint, load_model, save_model
from .trace import Traced, active_trace, argument_names, seed_words, trace_function
from .training import fit_model

__all__ = ["Model"]

MODES = ("train_step", "evaluate", "predict")


class Model:
    """What ``gc.compile`` makes of a module.

    ``train_step``, ``evaluate`` and ``predict`` are graphs of their own, traced with an explicit mode and compiled at first
    use, over one :class:`ParameterStore`. ``model.graph`` is predict's, ``model.graphs["train_step"]`` another's.
    """

    def __init__(
        self,
        module: Module,
        specs: Sequence[Any],
        *,
        loss: Any,
        optimizer: Any,
        metrics: Sequence[Any],
        target: str,
        target_spec: Any,
        options: Mapping[str, Any],
    ):
        self.module, self.specs, self.target, self.options = module, tuple(specs), target, dict(options)
        self.loss: Loss | None = None if loss is None else as_loss(loss)
        self.optimizer: Optimizer | None = None if optimizer is None else as_optimizer(optimizer)
        self.metrics = as_metrics(metrics)
        if (self.optimizer is not None or self.metrics) and self.loss is None:
            raise ArgumentError("an optimizer or metrics without a loss", hint='gc.compile(..., loss="mse")')
        self.stop_training = False
        self.place: Place | None = None
        """Where the present ``fit`` is, or the last one left off."""
        self.name = type(module).__name__
        self.names = argument_names(module.forward, len(specs))
        self.label = "y" if "y" not in self.names else "target"
        self._functions: dict[Any, Function] = {}
        self._derived: Any = None
        traced = trace_function(self._predict, self.specs, name=f"{self.name}_predict", names=self.names, root=module)
        self.store: ParameterStore = traced.store if traced.store is not None else ParameterStore()
        self._functions["predict"] = Function(traced, target, self.options)
        self.calls = traced.trace.calls
        if "random.seed" not in self.store:
            self.store.add("random.seed", seed_words(get_seed()), role="state")
        self.prefix = "optimizer"
        n = 0
        while f"{self.prefix}.step" in self.store:
            n += 1
            self.prefix = f"optimizer_{n}"
        if self.loss is not None:
            self.target_spec = target_spec if target_spec is not None else self._derived
        if self.optimizer is not None:
            self._add_state([p for p in module.parameters() if p.trainable and p.store is self.store])
            self._function("train_step")  # traced now, so that mistakes show now; compiled at first use

    # -- the three graphs ------------------------------------------------------------------------------------------
    def _predict(self, *args: Any) -> Any:
        out = self.module(*args)
        if self.loss is not None and self.loss.target_spec is not None and _is_tensor(out):
            self._derived = self.loss.derive(out)
        return out

    def _measure(self, args: Sequence[Any]) -> dict[str, Any]:
        assert self.loss is not None
        *xs, y = args
        out = self.module(*xs)
        loss = self.loss.fn(out, y)
        if not _is_tensor(loss) or loss.shape != ():
            raise ShapeError(f"the loss {self.loss.name} gave {loss!r}, not a scalar", hint="reduce it: loss.mean()")
        return {"loss": loss, **{m.name: m.measure(out, y, self.loss.threshold) for m in self.metrics}}

    def _train(self, *args: Any) -> dict[str, Any]:
        trace = active_trace()
        assert trace is not None and self.optimizer is not None
        counter = f"{self.prefix}.step"

        def step() -> Any:
            trace.read(counter)
            return trace.versions[counter][0]

        trace.step = step
        trace.optimizers[id(self.optimizer)] = self.prefix
        out = self._measure(args)
        used = [p for p in self.module.parameters() if p.name in trace.versions]
        self.optimizer.minimize(out["loss"], used)
        return out

    def _evaluate(self, *args: Any) -> dict[str, Any]:
        return self._measure(args)

    def _trace(self, mode: str) -> Traced:
        if self.loss is None or (mode == "train_step" and self.optimizer is None):
            missing = "a loss" if self.loss is None else "an optimizer"
            raise ArgumentError(
                f"{mode} needs {missing}",
                hint='gc.compile(module, *specs, loss="cross_entropy", optimizer=optim.Adam(1e-3))',
            )
        if self.target_spec is None:
            self.loss.derive(None)
        fn: Callable[..., Any] = self._train if mode == "train_step" else self._evaluate
        return trace_function(
            fn,
            (*self.specs, self.target_spec),
            name=f"{self.name}_{mode}",
            training=mode == "train_step",
            store=self.store,
            names=(*self.names, self.label),
            root=self.module,
        )

    def _function(self, mode: str) -> Function:
        """The function of a mode; train_step's depends on which parameters are trainable."""
        key: Any = mode
        if mode == "train_step":
            key = (mode, tuple(p.trainable for p in self.module.parameters()))
        found = self._functions.get(key)
        if found is None:
            if mode not in MODES:
                raise ArgumentError(f"no mode {mode!r}", hint=", ".join(MODES))
            found = self._functions[key] = Function(self._trace(mode), self.target, self.options)
        return found

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
            if m == "predict" or (self.loss is not None and (m == "evaluate" or self.optimizer is not None))
        ]

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
        validation_data: Any = None,
        callbacks: Sequence[Any] = (),
        shuffle: bool = True,
        verbose: int | str = "auto",
        resume: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> History:
        """Trains for some epochs and gives the history of losses and metrics, one value an epoch.

        Each row of ``x`` and ``y`` is a sample; the last batch may be smaller. Instead of arrays ``x`` may be anything that can be
        iterated over for batches ``(x, y)``, with ``y`` left out: the next one is prepared while a step runs, and ``batch_size``
        and ``shuffle`` are its own matter. ``validation_data`` is ``(x, y)`` or such a source. ``verbose`` "auto" shows a progress bar on a
        terminal and nothing elsewhere; 1 prints a line an epoch; 0 is silent. Raises :class:`NonFiniteError`, with nothing
        written by that step, when the loss is not finite.

        ``resume`` goes on from a file of :meth:`save_checkpoint` (or what :meth:`load_checkpoint` gave), also in the middle of an
        epoch, to ``epochs`` epochs in all: on the CPU to the same bits as the training that was not interrupted.
        """
        return fit_model(self, x, y, batch_size, epochs, validation_data, callbacks, shuffle, verbose, resume)

    @boundary
    def train_on_batch(self, x: Any, y: Any) -> dict[str, float]:
        """One step on one batch; gives loss and metrics."""
        f = self._function("train_step")
        inputs = f.arguments.bind((*self._args(x), y))
        _rows(inputs, self.label)
        tally = Tally(self.metrics, f.traced.output)
        tally.add(f.run(inputs), 1)
        return tally.batch()

    @boundary
    def evaluate(self, x: Any, y: Any = None, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics over all samples, without training; ``x`` may give batches ``(x, y)`` as in :meth:`fit`."""
        f = self._function("evaluate")
        tally = Tally(self.metrics, f.traced.output)
        samples = 0
        with closing(open_feed(self, f.arguments, x, y, batch_size)) as feed:
            for b in feed.epoch():
                tally.add(f.run(b), feed.count(b))
                samples += feed.count(b)
        if not samples:
            raise ShapeError("evaluate: no samples")
        return tally.result()

    @boundary
    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """The module's output for ``x``, in pieces of ``batch_size`` rows where it is given.

        ``x`` may give batches, of inputs or of ``(x, y)``, as in :meth:`fit`: then the output has the rows of all of them.
        """
        f = self._function("predict")
        if batch_size is None and not gives_batches(x):
            return f.restore(f.run(f.arguments.bind(self._args(x))))
        with closing(open_feed(self, f.arguments, x, None, batch_size or 256)) as feed:
            parts = [f.run(b) for b in feed.epoch()]
        if not parts:
            if gives_batches(x):
                raise ShapeError("predict: no batches")
            return f.restore(f.run(f.arguments.bind(self._args(x))))
        return f.restore({k: np.concatenate([p[k] for p in parts]) for k in parts[0]})

    __call__ = predict

    def _args(self, x: Any) -> tuple[Any, ...]:
        """The arguments of ``forward`` from ``x``: one, a tuple, or a dict by name."""
        if len(self.names) == 1:
            return (x,)
        if isinstance(x, Mapping):
            if set(x) != set(self.names):
                raise ArgumentError(f"expected the inputs {', '.join(self.names)}, got {', '.join(map(str, x))}")
            return tuple(x[n] for n in self.names)
        if not isinstance(x, (tuple, list)) or len(x) != len(self.names):
            raise ArgumentError(f"expected {len(self.names)} inputs: ({', '.join(self.names)})")
        return tuple(x)

    # -- values ----------------------------------------------------------------------------------------------------
    @property
    def learning_rate(self) -> float:
        """The optimiser's learning rate, which a schedule starts from; assigning it needs no new compile."""
        if self.optimizer is None:
            raise ArgumentError("no optimizer has a learning rate", hint="gc.compile(..., optimizer=optim.Adam(1e-3))")
        return self.learning_rates["lr"]

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.learning_rates = {"lr": value}

    @property
    def learning_rates(self) -> dict[str, float]:
        """The rate "lr" and those of groups with one of their own: "lr_1" is the first group's. Assigning writes those given."""
        mark = f"{self.prefix}.lr"
        names = [n for n in self.store.names("state") if n == mark or (n.startswith(mark + "_") and "." not in n[len(mark) :])]
        return {n[len(self.prefix) + 1 :]: float(self.store.numpy(n)) for n in names}

    @learning_rates.setter
    def learning_rates(self, values: Mapping[str, float]) -> None:
        known = self.learning_rates
        for name, value in values.items():
            if name not in known or not np.isfinite(value) or value < 0:
                raise ArgumentError(f"learning rate {name} = {value!r}", hint="rates: " + ", ".join(known))
        self.store.write({f"{self.prefix}.{k}": np.float64(v) for k, v in values.items()})

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

    def freeze(self, *paths: str) -> None:
        """Parameters at or below these paths (all, if none is given) are not trained from now on."""
        self._set_trainable(paths, False)

    def unfreeze(self, *paths: str) -> None:
        """Parameters at or below these paths (all, if none is given) are trained from now on."""
        self._set_trainable(paths, True)

    def _set_trainable(self, paths: Sequence[str], value: bool) -> None:
        named = dict(self.module.named_parameters())
        for path in paths:
            if not any(n == path or n.startswith(path + ".") for n in named):
                raise ParameterError(f"no parameter at {path!r}", hint="names: " + ", ".join(list(named)[:8]))
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
    def summary(self, print_fn: Callable[[str], Any] | None = print) -> str | None:
        """Prints layers, output shapes, parameters, MACs and bytes; with ``print_fn=None`` gives the text back instead."""
        from .summary import summary_text

        text = summary_text(self)
        if print_fn is None:
            return text
        print_fn(text)
        return None

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes one self-contained HTML page: graphs, stages, kernels with their source."""
        from graphc.inspect.html import write_page

        write_page(path, self.name, {m: self._function(m).executable for m in self.modes()}, self.summary(None) or "")

    def explain_fusion(self, a: Any, b: Any, mode: str = "predict") -> str:
        """One sentence: why two operators share a kernel in a mode's program, or do not."""
        return self._function(mode).explain_fusion(a, b)

    def __repr__(self) -> str:
        return f"<Model {self.name}{self._function('predict').arguments} for {self.target}>"


class _Modes(Mapping[str, Any]):
    """Something of each mode's function, made when asked for."""

    def __init__(self, model: Model, get: Callable[[Function], Any]):
        self.model, self.get_from = model, get

    def __getitem__(self, mode: str) -> Any:
        if mode not in self.model.modes():
            raise KeyError(mode)
        return self.get_from(self.model._function(mode))

    def __iter__(self) -> Iterator[str]:
        return iter(self.model.modes())

    def __len__(self) -> int:
        return len(self.model.modes())


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Node)


def _rows(inputs: Mapping[str, np.ndarray], label: str) -> None:
    if any(a.ndim and not len(a) for a in inputs.values()):
        raise ShapeError("train_on_batch: no samples", hint=f"a mean over 0 rows of {label} is not a number")
