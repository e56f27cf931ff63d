"""Tracing: running a model or function once on symbolic tensors, and what is collected meanwhile."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError, GraphcError, TraceError
from graphc.ir.dtypes import int64, uint32
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node, toposort
from graphc.ir.op import lookup
from graphc.ir.provenance import Loc, Provenance
from graphc.ir.types import TensorType
from graphc.locate import boundary, error_loc, user_loc
from graphc.runtime.garbage import no_collecting
from graphc.runtime.store import ParameterStore

from .parameter import Parameter
from .random import get_seed, stream_of
from .specs import Spec, as_spec
from .tree import leaves, tree_map, unflatten

if TYPE_CHECKING:
    from .module import Module

__all__ = [
    "Call",
    "Trace",
    "Traced",
    "active_trace",
    "argument_names",
    "make_input",
    "trace",
    "trace_function",
    "where_lines",
]

_active: ContextVar[Trace | None] = ContextVar("trace", default=None)


def active_trace() -> Trace | None:
    """The trace that is being recorded now, if any."""
    return _active.get()


def make_input(name: str, type: TensorType) -> Node:
    """The node of a graph input."""
    return Node.make(lookup("input"), (), name=name, shape=type.shape, dtype=type.dtype)


@dataclass
class Call:
    """One call of a module in a trace: for the summary."""

    path: str
    module: Module
    output: Any
    depth: int


@dataclass
class Trace:
    """What one trace collects: the state it touched, the writes it makes, module scopes, random streams.

    ``store`` is decided by the first parameter that has one; a trace that meets only new parameters makes a store.
    ``trains`` says whether this is a training step, ``training`` whether the module that runs now shall behave so.
    """

    name: str
    trains: bool = False
    store: ParameterStore | None = None
    provenance: Provenance = field(default_factory=Provenance)
    versions: dict[str, list[Node]] = field(default_factory=dict)  # of each param and state, in trace order
    roles: dict[str, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    taps: dict[int, list[Any]] = field(default_factory=dict)  # id of module -> outputs of its calls, of those asked for
    finite: list[Node] = field(default_factory=list)  # losses that must be finite
    step: Callable[[], Node] | None = None  # the counter of random numbers
    optimizers: dict[int, str] = field(default_factory=dict)  # id -> prefix of its state, for those used here
    keep: list[Any] = field(default_factory=list)  # keeps ids valid while tracing
    training: bool = False
    _paths: dict[int, str] = field(default_factory=dict)  # id of module or parameter -> name
    _scope: list[str] = field(default_factory=list)
    _bound_here: list[Parameter] = field(default_factory=list)
    _new_store: bool = False
    _ordinals: dict[str, int] = field(default_factory=dict)
    _streams: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.training = self.trains

    # -- provenance ------------------------------------------------------------------------------------------------
    def _locate(self) -> tuple[tuple[Loc, ...], tuple[str, ...]]:
        loc = user_loc(4)
        return (() if loc is None else (loc,)), ((self.scope,) if self.scope else ())

    @property
    def scope(self) -> str:
        """The path of the module that runs now ("" outside of modules and in the root)."""
        return self._scope[-1] if self._scope else ""

    @contextmanager
    def recording(self) -> Iterator[Trace]:
        """Makes this the active trace."""
        token = _active.set(self)
        try:
            with self.provenance.recording(locate=self._locate):
                yield self
        except GraphcError as e:
            if not e.where:
                e.where = where_lines(None, "", error_loc(e))
            raise
        finally:
            _active.reset(token)

    # -- modules ---------------------------------------------------------------------------------------------------
    def register(self, root: Module, prefix: str | None = None) -> None:
        """Names a module and everything in it; without a prefix by its class (``generator``, ``generator_1``)."""
        if prefix is None:
            known = vars(root).get("_graphc_name")
            prefix = self._free_name(type(root).__name__.lower()) if known is None else known
        self.keep.append(root)
        self._paths.setdefault(id(root), prefix)
        vars(root).setdefault("_graphc_name", prefix)
        join = f"{prefix}." if prefix else ""
        for path, value in root.walk():
            self._paths.setdefault(id(value), join + path)
            if isinstance(value, Parameter):
                self._bind(value, join + path)

    def _free_name(self, base: str) -> str:
        used = {p.split(".")[0] for p in [*self._paths.values(), *(self.store.names() if self.store else ())]}
        name, i = base, 0
        while name in used:
            i += 1
            name = f"{base}_{i}"
        return name

    @contextmanager
    def entering(self, module: Module) -> Iterator[str]:
        """Runs the body of a module's call under its path; errors are told where they happened."""
        if id(module) not in self._paths:
            self.register(module)
        path, outer = self._paths[id(module)], self.training
        self._scope.append(path)
        self.training = self.trains and module.trains
        try:
            yield path
        except GraphcError as e:
            if not e.where:
                e.where = where_lines(module, path, error_loc(e))
            raise
        finally:
            self._scope.pop()
            self.training = outer

    @contextmanager
    def scoped(self, name: str) -> Iterator[None]:
        """What is made inside belongs to ``name`` and to no module: an optimiser's update, for example."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def record_call(self, path: str, module: Module, output: Any) -> None:
        if id(module) in self.taps:
            self.taps[id(module)].append(output)
        self.calls.append(
            Call(path, module, tree_map(lambda n: n.type if isinstance(n, Node) else None, output), len(self._scope))
        )

    # -- state -----------------------------------------------------------------------------------------------------
    def ensure_store(self) -> ParameterStore:
        if self.store is None:
            self.store, self._new_store = ParameterStore(), True
        return self.store

    def _bind(self, p: Parameter, name: str) -> None:
        """Makes sure that a parameter lives in this trace's store."""
        if p.store is None:
            store = self.ensure_store()
            if name in store:
                raise TraceError(f"two parameters are named {name!r}", hint="give one module another attribute name")
            p.bind(store, name, get_seed())
            self._bound_here.append(p)
        elif self.store is None:
            self.store = p.store
        elif p.store is not self.store:
            self._adopt(p)

    def _adopt(self, p: Parameter) -> None:
        """Parameters made in this trace move to the store of one that was there before."""
        old, new = self.store, p.store
        assert old is not None and new is not None
        clash = [n for n in old.names() if n in new]
        if not self._new_store or clash:
            raise TraceError(
                f"parameter {p.name!r} belongs to another model's store than {', '.join(old.names('param')[:2]) or 'the others'}",
                hint="compile what uses both models before either alone",
            )
        new.slots.update(old.slots)
        for q in self._bound_here:
            q.store = new
        self.store, self._new_store = new, False

    def value(self, p: Parameter) -> Node:
        """The tensor that a parameter or buffer stands for now: its input, or its last update in this trace."""
        if p.store is None or p.store is not self.store:
            name = self._paths.get(id(p)) or p.name or self._free_name("param")
            self.keep.append(p)
            self._bind(p, name)
        return self.read(p.name)

    def read(self, name: str) -> Node:
        """The tensor of a value of the store, by name."""
        if name not in self.versions:
            slot = self.ensure_store()[name]
            self.versions[name] = [make_input(name, slot.type)]
            self.roles[name] = slot.role
        return self.versions[name][-1]

    def write(self, name: str, value: Node) -> None:
        """Registers an update; later reads in this trace give the new value."""
        old = self.read(name)
        if value.type != old.type:
            raise TraceError(
                f"{name!r} is {old.type} and cannot become {value.type}",
                hint="a value of the same shape and dtype: value.cast(...), value.reshape(...)",
            )
        self.versions[name].append(value)

    def assign_buffer(self, p: Parameter, value: Node) -> None:
        """``self.buffer = tensor`` inside ``forward``."""
        if not self.training:
            raise TraceError(
                f"buffer {p.name!r} is written outside of training", hint="write it under `if self.training:`"
            )
        self.value(p)
        self.write(p.name, value)

    def state(self, name: str, default: Any) -> Node:
        """The tensor of a state entry, made with a default value when the store has none."""
        store = self.ensure_store()
        if name not in store:
            store.add(name, default, role="state")
        return self.read(name)

    # -- random numbers --------------------------------------------------------------------------------------------
    def random(self) -> tuple[Node, Node, int]:
        """(seed u32[2], step, stream) for one use of random bits; the stream hashes the module path and the call's ordinal."""
        import numpy as np

        seed = self.state("random.seed", seed_words(get_seed()))
        if self.step is not None:
            step = self.step()
        else:
            step = self.state("random.step", np.zeros((), int64.numpy))
            if len(self.versions["random.step"]) == 1 and self.trains:
                self.write("random.step", step + 1)
            step = self.versions["random.step"][0]
        ordinal = self._ordinals.get(self.scope, 0)
        self._ordinals[self.scope] = ordinal + 1
        key = f"{self.scope}#{ordinal}"
        stream = stream_of(key)
        if self._streams.setdefault(stream, key) != key:
            raise TraceError(
                f"the random streams of {key} and {self._streams[stream]} collide", hint="rename one of the modules"
            )
        return seed, step, stream

    # -- the graph -------------------------------------------------------------------------------------------------
    def graph(self, args: Sequence[Input], outputs: Sequence[tuple[str, Node]], meta: Mapping[str, Any]) -> Graph:
        """The graph of everything that was collected."""
        updates = [(n, v[-1]) for n, v in self.versions.items() if len(v) > 1]  # in trace order
        outs, finite = list(outputs), ""
        if self.finite:
            total = self.finite[0]
            for node in self.finite[1:]:
                total = total + node.cast(total.dtype)
            total = total.cast(total.dtype.arithmetic)
            finite = next((k for k, n in outs if n is total), "$loss")
            if finite == "$loss":
                outs.append(("$loss", total))
        needed = set(toposort([n for _, n in outs] + [n for _, n in updates]))
        place = {n: i for i, n in enumerate(self.store.slots)} if self.store is not None else {}
        touched = sorted(self.versions.items(), key=lambda item: place[item[0]])
        state = [Input(n, v[0], self.roles[n]) for n, v in touched if v[0] in needed or len(v) > 1]
        return Graph(self.name, (*args, *state), tuple(outs), tuple(updates), finite, self.provenance, dict(meta))


def seed_words(seed: int) -> Any:
    """A 64-bit seed as the uint32[2] key of the random generator."""
    import numpy as np

    return np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], uint32.numpy)


def where_lines(module: Module | None, path: str, used: Loc | None) -> tuple[str, ...]:
    """The ``in`` and ``used`` lines of an error."""
    rows: list[tuple[str, str, str]] = []
    if module is not None:
        cls = type(module).__name__
        built = vars(module).get("_graphc_built")
        rows.append(("in", f"{path} ({cls})" if path else cls, f"built at  {built}" if built else ""))
    if used is not None:
        rows.append(("used", str(used), used.text))
    width = max([29, *(len(b) + 2 for _, b, _ in rows)])
    return tuple(f"{a:<6}{b:<{width}}{c}".rstrip() for a, b, c in rows)


# -- tracing a function --------------------------------------------------------------------------------------------------
@dataclass
class Traced:
    """A finished trace: the graph, its arguments' structure (a tree of specs), and its outputs' structure (a tree of names)."""

    graph: Graph
    specs: dict[str, Any]
    output: Any
    store: ParameterStore | None
    trace: Trace


def argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """Names of the first ``count`` positional arguments; raises ArgumentError when the function does not take so many."""
    try:
        params = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return [f"arg{i}" for i in range(count)]
    positional = [p for p in params if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = next((p.name for p in params if p.kind is p.VAR_POSITIONAL), None)
    required = [p for p in positional if p.default is p.empty]
    title = getattr(fn, "__qualname__", type(fn).__name__)
    if count < len(required) or (count > len(positional) and rest is None):
        listed = ", ".join(p.name for p in positional)
        raise ArgumentError(f"{title}({listed}) was given {count} spec{'s' * (count != 1)}", hint="one gc.spec(...) for each argument")
    names = [p.name for p in positional[:count]]
    return names + [f"{rest}{i}" for i in range(count - len(names))]


def trace_function(
    fn: Callable[..., Any],
    specs: Sequence[Any],
    *,
    name: str,
    training: bool = False,
    store: ParameterStore | None = None,
    names: Sequence[str] | None = None,
    root: Module | None = None,
) -> Traced:
    """Runs ``fn`` once on symbolic tensors of the given specs. ``names`` are those of the arguments."""
    labels = list(names) if names is not None else argument_names(fn, len(specs))
    structure = {label: tree_map(as_spec, s) for label, s in zip(labels, specs, strict=True)}
    t = Trace(name, training, store)
    inputs: list[Input] = []
    hints: dict[str, int] = {}

    def declare(path: str, s: Spec) -> Node:
        node = make_input(path, s.type)
        inputs.append(Input(path, node))
        hints.update(s.hints)
        return node

    with t.recording(), no_collecting():
        args = []
        for label, tree in structure.items():
            args.append(unflatten(tree, iter([declare(path, s) for path, s in leaves(tree, label)])))
        if root is not None:
            t.register(root, "" if "_graphc_name" not in vars(root) else None)
        result = fn(*args)
        outputs: list[tuple[str, Node]] = []

        def keep(path: str, value: Any) -> str:
            if isinstance(value, Parameter):
                value = value.node
            if not isinstance(value, Node):
                if isinstance(value, (bool, int, float)) or type(value).__module__ == "numpy":
                    value = lookup("const").call(value)
                else:
                    raise TraceError(
                        f"{_title(fn, root, name)} returned a {type(value).__name__}, not a tensor",
                        hint="return tensors, or tuples and dicts of them",
                    )
            taken = {k for k, _ in outputs}
            while path in taken:
                path += "_"
            outputs.append((path, value))
            return path

        default = "" if isinstance(result, Mapping) else "out"
        output = unflatten(result, iter([keep(path, value) for path, value in leaves(result, default)]))
        if not outputs and not any(len(v) > 1 for v in t.versions.values()):
            raise TraceError(f"{_title(fn, root, name)} returned nothing", hint="return the tensors that you want")
    graph = t.graph(inputs, outputs, {"hints": hints})
    return Traced(graph, structure, output, t.store, t)


def _title(fn: Callable[..., Any], root: Module | None, name: str) -> str:
    """The function that a user wrote."""
    return name if root is None else f"{type(root).__name__}.forward"


@boundary
def trace(model_or_fn: Any, *specs: Any, training: bool = False) -> Graph:
    """The graph of a module or function on inputs of the given specs: the first stage of compiling.

    Raises :class:`ShapeError`, :class:`DTypeError` or :class:`TraceError` at the user's line that does not fit.

    >>> from graphc.frontend.specs import spec
    >>> trace(lambda a, b: a @ b, spec("N", 3), spec(3, 4)).outputs
    (('out', <dot_general f32[N, 4]>),)
    """
    from .module import Module

    if isinstance(model_or_fn, Module):
        names = argument_names(model_or_fn.forward, len(specs))
        return trace_function(
            model_or_fn, specs, name=type(model_or_fn).__name__, training=training, names=names, root=model_or_fn
        ).graph
    title = getattr(model_or_fn, "__name__", type(model_or_fn).__name__)
    return trace_function(model_or_fn, specs, name=title if title.isidentifier() else "f", training=training).graph
