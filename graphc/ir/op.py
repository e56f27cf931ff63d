"""The operator record: everything graphc knows about one operator, in one place (contract 2 of the design).

A record is made once, at import, by the constructors in :mod:`graphc.ops.define`; the interpreter, the passes, the loop
builder, the tests and the documentation are all driven by its fields. Nothing else may ask for an operator by name to
decide what it means.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import TraceError, did_you_mean
from ..locate import boundary

if TYPE_CHECKING:
    from .node import Node
    from .types import Type

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "KINDS", "OpDef", "Sample", "all_ops", "function", "functions", "is_built_in", "lookup", "numpy_names", "offered", "own_all", "register", "sugar", "unregister",
]  # fmt: skip

KINDS = {
    "input": "a graph input, parameter or state",
    "const": "a constant array",
    "elementwise": "one scalar program applied at every index",
    "view": "an index map: no arithmetic",
    "generate": "a value computed from its index alone (iota, random bits)",
    "gather": "a load at an index that is itself data",
    "reduce": "a fold over axes",
    "contract": "a sum of products over axes (dot_general, conv)",
    "scatter": "a combine into data-dependent places",
    "scan": "a closed body graph repeated over a leading axis",
    "tuple": "takes one result out of several",
    "identity": "passes its value through with a meaning for some pass",
    "composite": "a name with a decomposition",
    "custom": "a user's kernel",
}
MOVES = ("input", "const", "view", "gather", "tuple", "identity", "scan")
"""Kinds that hand values on as they are, of any dtype."""


@dataclass(frozen=True)
class Sample:
    """One sample call of an operator for the generic tests: ``args`` are arrays or scalars, ``kwargs`` its attributes.

    ``grad`` lists the operands whose gradient is checked (None: every float operand); ``smooth`` says whether a second
    derivative exists at this point.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    grad: tuple[int, ...] | None = None
    smooth: bool = True
    error: str = ""  # for error samples: a piece of the expected message


@dataclass(frozen=True, eq=False, kw_only=True)
class OpDef:
    """One operator. See :data:`KINDS` for ``kind``.

    ``infer(*types, **attrs)`` gives the result type or raises ``ShapeError``/``DTypeError``.
    ``numpy(*arrays, **attrs)`` is the reference meaning.
    ``grad(node, g)`` gives one node or None an operand, or is a string saying why there is no gradient.
    ``decompose(*inputs, **attrs)`` is the meaning of a composite.
    ``lower(b, node, idx)`` gives the scalar at an index (kinds elementwise, view, generate, gather): see
    :class:`graphc.loops.build.PointBuilder`. ``nest(b, node)`` builds the loop nest of the other kinds.
    ``call`` is the user's function: it normalises arguments, promotes and broadcasts, and makes the node.
    """

    name: str
    kind: str
    doc: str
    call: Callable[..., Any]
    infer: Callable[..., Type]
    numpy: Callable[..., Any] | None = None
    grad: Callable[[Node, Any], Iterable[Node | None]] | str = "no gradient rule"
    decompose: Callable[..., Any] | None = None
    lower: Callable[..., Any] | None = None
    nest: Callable[..., Any] | None = None
    samples: Callable[[], list[Sample]] | None = None
    errors: Callable[[], list[Sample]] | None = None
    oracle: Callable[..., Any] | None = None
    tolerance: Mapping[str, float] = field(default_factory=lambda: {"float32": 2e-6, "float64": 1e-12})
    ulp: tuple[float, float] | None = None
    """Vector math: the largest error in units of the last place, in float32 and float64 (docs/vector_math.md)."""
    flops: Callable[[Node], Any] | None = None
    onnx: str = ""
    method: bool = True
    reduce: tuple[str, float] | None = None
    """Kinds reduce and scatter: the combining scalar instruction (a scatter's may be "set") and its neutral element."""
    cost: int = 1
    """Instructions an element, roughly: what recomputing it costs."""
    commutative: bool = False
    """Whether its two operands may change places; rewrite rules then match both orders."""
    storage: bool = False
    """Whether it takes float16 and bfloat16 as they are; what computes gets them in float32 (:mod:`graphc.ir.storage`)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TraceError(f"operator {self.name}: unknown kind {self.kind!r}", hint=", ".join(KINDS))
        if self.kind == "composite" and self.decompose is None:
            raise TraceError(f"composite {self.name} has no decomposition")
        if self.kind in ("elementwise", "view", "generate", "gather") and (self.lower is None or self.numpy is None):
            raise TraceError(f"operator {self.name} of kind {self.kind} needs both numpy= and lower=")
        if self.kind in MOVES:
            object.__setattr__(self, "storage", True)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    @property
    def structural_key(self) -> tuple[str, str]:
        return ("op", self.name)


_registry: dict[str, OpDef] = {}


def register(op: OpDef) -> OpDef:
    """Adds a record to the table; names are unique."""
    if op.name in _registry:
        raise TraceError(f"operator {op.name} is defined twice")
    _registry[op.name] = op
    return op


_built_in: set[OpDef] = set()


def own_all() -> None:
    """Counts the records of this moment as graphc's own: called once, when all its files are read."""
    _built_in.update(_registry.values())


def is_built_in(op: OpDef) -> bool:
    """Whether a record is one of graphc's own, and not a user's."""
    return op in _built_in


_sugar: dict[str, Callable[..., Any]] = {}


def sugar(fn: F, name: str = "") -> F:
    """Registers a user function that only makes other operators' nodes (``mean``, ``flatten``, ``x[1:]``)."""
    _sugar[name or fn.__name__] = boundary(fn)
    return fn


def function(name: str) -> Callable[..., Any]:
    """The user function of a name: a record's ``call``, or sugar."""
    return _sugar[name] if name in _sugar else lookup(name).call


TORCH_NAMES = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "dim1": "axis1", "dim2": "axis2"}


def numpy_names(fn: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments with torch's names of axes (``dim``, ``keepdim``) renamed where ``fn`` has NumPy's (``axis``, ``keepdims``)."""
    if not TORCH_NAMES.keys() & kwargs.keys():
        return kwargs
    parameters = inspect.signature(fn).parameters
    return {TORCH_NAMES[k] if k not in parameters and TORCH_NAMES.get(k) in parameters else k: v for k, v in kwargs.items()}


def offered(name: str) -> Callable[..., Any] | None:
    """The user function of a name, if ``graphc.ops`` offers it."""
    if name in _sugar:
        return _sugar[name]
    op = None if name.startswith("_") else _registry.get(name)
    return None if op is None else op.call


def functions() -> dict[str, Callable[..., Any]]:
    """Every user function by name: what ``graphc.ops`` offers."""
    return {op.name: op.call for op in all_ops() if not op.name.startswith("_")} | _sugar


def unregister(name: str) -> None:
    """Takes a record out again (tests that define operators on the fly)."""
    _registry.pop(name, None)


def lookup(name: str) -> OpDef:
    """The record of a name; raises :class:`TraceError` with close matches."""
    try:
        return _registry[name]
    except KeyError:
        raise TraceError(f"no operator {name!r}", hint=did_you_mean(name, [*_registry, *_sugar], 0)) from None


def all_ops() -> list[OpDef]:
    """Every record, by name."""
    return [_registry[k] for k in sorted(_registry)]
