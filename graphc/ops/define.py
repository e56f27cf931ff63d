"""Constructors of operator records, and the few helpers that records share.

An elementwise operator is a scalar program; a composite is a function of tensors. Everything else about them (types,
broadcasting, promotion, the node, the method on tensors) follows from here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import DTypeError, GraphcError, ShapeError
from ..ir.attrs import attr_key
from ..ir.dims import Expr, Size
from ..ir.dtypes import DType, as_dtype, bool_, float32, int32, int64, promote
from ..ir.node import Node
from ..ir.op import OpDef, Sample, lookup, register
from ..ir.types import Shape, TensorType, TupleType, Type
from ..locate import boundary, misfit, of_the_call

__all__ = [
    "FLOATS",
    "NUMERIC",
    "as_node",
    "axis_hint",
    "broadcast_shapes",
    "composite",
    "constant",
    "elementwise",
    "normal_axes",
    "normal_axis",
    "operands",
    "primitive",
    "require_float",
    "same_shape",
    "settle",
    "show",
]

F = TypeVar("F", bound=Callable[..., Any])
FLOATS = "f"
NUMERIC = "fiu"
KNOWN_TYPES = 256
"""Result types that a composite remembers."""
_CASTS = {"f": "float32", "i": "int32", "u": "uint32", "b": "bool"}


def show(shape: Shape) -> str:
    """A shape as people write it."""
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def constant(value: Any, dtype: DType | str | None = None) -> Node:
    """A constant node. Python floats become float32, ints int32 (int64 if needed), unless ``dtype`` says otherwise."""
    if dtype is None:
        if isinstance(value, (bool, np.bool_)):
            dtype = bool_
        elif isinstance(value, int):
            dtype = int32 if -(2**31) <= value < 2**31 else int64
        elif isinstance(value, float):
            dtype = float32
        else:
            dtype = as_dtype(np.asarray(value).dtype)
    with np.errstate(over="ignore"):
        array = np.array(value, as_dtype(dtype).numpy)
    array.setflags(write=False)
    return Node.make(lookup("const"), (), value=array)


def as_node(value: Any, like: DType | None = None) -> Node:
    """``value`` as a node. A Python number is weak: it takes the dtype ``like`` unless its kind is higher."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Expr):
        return Node.make(lookup("dim"), (), size=value)
    if isinstance(value, (bool, int, float)) and like is not None:
        rank = {"b": 0, "u": 1, "i": 1, "f": 2}
        kind = "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"
        if rank[kind] <= rank[like.kind]:
            return constant(value, like)
    if isinstance(value, (bool, int, float, np.ndarray, np.generic, list, tuple)):
        return constant(value)
    held = getattr(value, "__graphc_node__", None)  # a parameter of the frontend, inside a trace
    if isinstance(held, Node):
        return held
    raise DTypeError(f"a {type(value).__name__} is not a tensor or a number")


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """NumPy's rule, with named dims: sizes must be provably equal, or 1."""
    rank = max((len(s) for s in shapes), default=0)
    out: list[Size] = []
    for axis in range(-rank, 0):
        size: Size = 1
        for s in shapes:
            d = s[axis] if -axis <= len(s) else 1
            if d == 1 or d == size:
                continue
            if size != 1:
                raise ShapeError(
                    f"shapes {' and '.join(show(s) for s in shapes)} do not broadcast: {size} against {d} on axis {axis}",
                    hint="sizes on one axis must be equal, or 1: x[..., None] adds an axis, x.sum(axis, keepdims=True) keeps one",
                )
            size = d
        out.append(size)
    return tuple(out)


def settle(nodes: Sequence[Node]) -> list[Node]:
    """Operands with differing named sizes on one axis (N against M) made to agree by a guard.

    Whether N equals M is not known when the graph is built, so ``assume`` says it and the claim is checked when sizes are
    bound. A named size against a number stays an error: that is a mistake far more often than an intention.
    """
    out = list(nodes)
    rank = max((n.ndim for n in out), default=0)
    for axis in range(-rank, 0):
        named = [n.shape[axis] for n in out if -axis <= n.ndim and isinstance(n.shape[axis], Expr)]
        for i, n in enumerate(out):
            if -axis <= n.ndim and isinstance(n.shape[axis], Expr) and n.shape[axis] != named[0]:
                shape = list(n.shape)
                shape[axis] = named[0]
                out[i] = lookup("assume").call(n, shape)
    return out


def same_shape(*types: Type) -> Shape:
    """The one shape of all operands; raises where they differ (operands of primitives are broadcast before)."""
    shapes = [t.shape for t in types if isinstance(t, TensorType)]
    if any(s != shapes[0] for s in shapes):
        raise ShapeError("operands have shapes " + " and ".join(show(s) for s in shapes))
    return shapes[0]


def require_float(t: Type, what: str = "operand") -> None:
    if not (isinstance(t, TensorType) and t.dtype.is_float):
        raise DTypeError(f"{what} must be float, not {t}", hint="x.cast('float32')")


def axis_hint(rank: int) -> str:
    """The axes that there are."""
    if rank < 2:
        return "the only axis is 0, or -1" if rank else "a scalar has no axis"
    return f"axes are 0 to {rank - 1}, or -{rank} to -1 from the end"


def normal_axis(axis: int, rank: int) -> int:
    """A non-negative axis; raises ShapeError when out of range."""
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise ShapeError(f"axis must be an int, not {axis!r}")
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is out of range for rank {rank}", hint=axis_hint(rank))
    return int(axis) % rank


def normal_axes(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all. A scalar lets 0 and -1 pass, as NumPy and torch do: there is nothing to reduce."""
    if axis is None:
        return tuple(range(rank))
    axes = tuple(axis) if isinstance(axis, (tuple, list, range)) else (axis,)
    if rank == 0 and len(axes) == 1 and axes[0] in (0, -1):
        return ()
    out = tuple(sorted(normal_axis(a, rank) for a in axes))
    if len(set(out)) != len(out):
        raise ShapeError(f"axes {axes} name one axis twice")
    return out


def primitive(name: str, kind: str, doc: str, call: Callable[..., Any], infer: Callable[..., Type], **fields: Any) -> Callable[..., Node]:
    """Registers a primitive and gives back its user function, whose errors begin with the operator's name."""

    @functools.wraps(call)
    def user(*args: Any, **kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except GraphcError as e:
            if not e.message.startswith(f"{name}: "):
                e.message = f"{name}: {e.message}"
            raise
        except TypeError as e:
            if of_the_call(e):
                raise misfit(call, kwargs, e, name) from None
            raise

    made = boundary(_named(user, name, doc))
    register(OpDef(name=name, kind=kind, doc=doc, call=made, infer=infer, **fields))
    return made


def elementwise(
    name: str,
    arity: int,
    *,
    scalar: Callable[..., Any],
    numpy: Callable[..., Any],
    grad: Any,
    doc: str,
    kinds: str = NUMERIC,
    result: str = "same",
    uniform: Sequence[int] | None = None,
    **fields: Any,
) -> Callable[..., Node]:
    """Registers an elementwise primitive: ``scalar(*scalars)`` is its meaning at one index.

    ``kinds`` lists the dtype kinds its operands may have; ``result`` is "same" or "bool"; ``uniform`` the operands that
    share one dtype (all, unless given: ``where`` has a bool condition before them).
    """
    share = tuple(range(arity)) if uniform is None else tuple(uniform)

    def infer(*types: TensorType) -> TensorType:
        dtypes = {types[i].dtype for i in share}
        if len(dtypes) > 1:
            raise DTypeError(f"operands have dtypes {' and '.join(str(types[i].dtype) for i in share)}")
        dtype = types[share[0]].dtype
        if dtype.kind not in kinds:
            raise DTypeError(f"{dtype} operands are not supported", hint=f"x.cast({_CASTS.get(kinds[0], 'float32')!r})")
        for i in range(arity):
            if i not in share and types[i].dtype != bool_:
                raise DTypeError(f"operand {i} must be bool, not {types[i].dtype}")
        return TensorType(same_shape(*types), bool_ if result == "bool" else dtype)

    def call(*operands: Any) -> Node:
        if len(operands) != arity:
            raise DTypeError(f"{name}: takes {arity} operand{'s' * (arity != 1)}, got {len(operands)}")
        nodes = _promote(operands, share)
        if kinds == FLOATS and not nodes[share[0]].dtype.is_float:
            nodes = [n.cast(float32) if i in share else n for i, n in enumerate(nodes)]
        shape = nodes[0].shape
        if all(n.shape == shape for n in nodes):
            return Node.make(lookup(name), nodes)
        nodes = settle(nodes)
        shape = broadcast_shapes([n.shape for n in nodes])
        ready = [n if n.shape == shape else lookup("broadcast_to").call(n, shape) for n in nodes]
        return Node.make(lookup(name), ready)

    def lower(b: Any, node: Node, idx: tuple[Size, ...]) -> Any:
        return scalar(*(b.value(x, idx) for x in node.inputs))

    if "ulp" in fields:
        doc += " Error: at most {:g} ulp in float32, {:g} in float64.".format(*fields["ulp"])
    names = ", ".join(("condition", "x", "y") if arity == 3 and uniform else ("x", "y", "z")[:arity])
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in names.split(", ")]
    )
    return primitive(name, "elementwise", doc, call, infer, lower=lower, numpy=numpy, grad=grad, **fields)


def _plain_key(attrs: Mapping[str, Any]) -> Any:
    """The attributes as a key, if they are numbers, texts, dtypes and sizes; None for what holds other things alive."""
    key = [(k, attr_key(v)) for k, v in attrs.items() if _is_plain(v)]
    return tuple(key) if len(key) == len(attrs) else None


def _is_plain(v: Any) -> bool:
    return v is None or isinstance(v, (bool, int, float, str, DType, Expr)) or (type(v) in (tuple, list) and all(map(_is_plain, v)))


def _promote(operands: Sequence[Any], share: Sequence[int]) -> list[Node]:
    strong = [o if isinstance(o, Node) else None for o in operands]
    if len({s.dtype if s is not None else None for s in strong}) == 1 and strong[0] is not None:
        return list(operands)
    dtype: DType | None = None
    for i in share:
        o = operands[i]
        d = o.dtype if isinstance(o, Node) else as_dtype(o.dtype) if isinstance(o, (np.ndarray, np.generic)) else None
        if d is not None:
            dtype = d if dtype is None else promote(dtype, d)
    nodes = [
        s if s is not None else as_node(o, dtype if i in share else None) for i, (o, s) in enumerate(zip(operands, strong, strict=True))
    ]
    for i in share:
        dtype = nodes[i].dtype if dtype is None else promote(dtype, nodes[i].dtype)
    assert dtype is not None
    return [n.cast(dtype) if i in share and n.dtype != dtype else n for i, n in enumerate(nodes)]


def composite(
    name: str,
    *,
    doc: str = "",
    grad: Any = None,
    samples: Any = None,
    inputs: int | None = None,
    prepare: Callable[[list[Node | None], dict[str, Any]], None] | None = None,
    **fields: Any,
) -> Callable[[F], F]:
    """Decorator: the function of tensors *is* the decomposition; calling it makes one node that keeps the name.

    Leading parameters without a default are operands (``inputs`` overrides how many); the others are attributes. The
    result type is the decomposition's, so a composite needs no shape rule of its own; a tuple gives a node with several
    results. Without ``grad``, autodiff goes through the decomposition.

    An operand within ``inputs`` whose annotation admits None may be left out. The node then has fewer inputs and the
    attribute ``absent`` (their positions); the function and ``grad`` see None there, so ``grad`` gives one entry a
    parameter. ``prepare(operands, attrs)`` may change both in place before the node is made, to normalise them.
    """

    def wrap(fn: F) -> F:
        signature = inspect.signature(fn)
        params = list(signature.parameters.values())
        variadic = bool(params) and params[0].kind is inspect.Parameter.VAR_POSITIONAL
        required = [p.name for p in params if p.default is inspect.Parameter.empty and p.kind is not inspect.Parameter.KEYWORD_ONLY]
        count = len(required) if inputs is None else inputs
        optional = {p.name for p in params[:count] if "None" in str(p.annotation)}
        text = doc or inspect.getdoc(fn) or name

        def decompose(*ins: Node, absent: tuple[int, ...] = (), **attrs: Any) -> Any:
            return fn(*_fill(ins, absent), **attrs)

        known: dict[Any, Type] = {}

        def infer(*types: Type, **attrs: Any) -> Type:
            key = (types, _plain_key(attrs))
            found = known.get(key) if key[1] is not None else None
            if found is not None:
                return found
            placeholders = [_placeholder(i, t) for i, t in enumerate(types)]
            try:
                out = decompose(*placeholders, **attrs)
            except GraphcError as e:
                if not e.message.startswith(f"{name}: "):
                    e.message = f"{name}: {e.message}"
                raise
            found = TupleType(tuple(o.tensor for o in out)) if isinstance(out, (tuple, list)) else out.type
            if key[1] is not None:
                if len(known) >= KNOWN_TYPES:
                    known.clear()
                known[key] = found
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if variadic:
                return Node.make(op, [as_node(a) for a in args], **{k: _plain(v) for k, v in kwargs.items()})
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as e:
                raise misfit(fn, kwargs, e, name) from None
            bound.apply_defaults()
            values = list(bound.arguments.items())
            like = next((v.dtype for _, v in values[:count] if isinstance(v, Node)), None)
            operands = [None if v is None and k in optional else as_node(v, like) for k, v in values[:count]]
            attrs = {k: _plain(v) for k, v in values[count:]}
            if prepare is not None:
                try:
                    prepare(operands, attrs)
                except GraphcError as e:
                    e.message = f"{name}: {e.message}"
                    raise
            absent = tuple(i for i, o in enumerate(operands) if o is None)
            if absent:
                attrs["absent"] = absent
            return Node.make(op, [o for o in operands if o is not None], **attrs)

        rule: Any = "through its decomposition"
        if callable(grad):

            def rule(node: Node, g: Any) -> list[Node | None]:
                absent = node.attrs.get("absent", ())
                return [part for i, part in enumerate(grad(node, g)) if i not in absent]

        elif grad is not None:
            rule = grad
        user = boundary(_named(call, name, text))
        user.__signature__ = signature  # type: ignore[attr-defined]
        op = register(
            OpDef(name=name, kind="composite", doc=text, call=user, infer=infer, decompose=decompose, grad=rule, samples=samples, **fields)
        )
        return cast(F, user)

    return wrap


def operands(node: Node) -> list[Any]:
    """The operands of a composite's node by parameter position, None where one was left out."""
    return _fill(node.inputs, node.attrs.get("absent", ()))


def _fill(ins: Sequence[Node], absent: Sequence[int]) -> list[Any]:
    rest = iter(ins)
    return [None if i in absent else next(rest) for i in range(len(ins) + len(absent))]


def _placeholder(i: int, t: Type) -> Node:
    if not isinstance(t, TensorType):
        raise DTypeError(f"operand {i} is a tuple")
    return Node.make(lookup("input"), (), name=f"${i}", shape=t.shape, dtype=t.dtype)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else as_dtype(value) if isinstance(value, (type, np.dtype)) else value


def _named(fn: Callable[..., Any], name: str, doc: str) -> Callable[..., Any]:
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = doc
    return fn


def rand(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0, dtype: Any = np.float64) -> np.ndarray:
    """Sample data for records: reproducible, away from special points."""
    rng = np.random.default_rng(seed + 17 * len(shape) + sum(shape))
    return (low + (high - low) * rng.random(shape)).astype(dtype)


def unary_samples(low: float = -2.0, high: float = 2.0) -> Callable[[], list[Sample]]:
    """Shapes that catch edges: scalar, empty, size 1, not a multiple of any vector width, rank 3."""
    return lambda: [Sample((rand(*s, low=low, high=high),)) for s in ((), (0,), (1,), (5, 7), (2, 3, 19), (130,))]


def binary_samples(low: float = -2.0, high: float = 2.0, second: tuple[float, float] | None = None) -> Callable[[], list[Sample]]:
    """As :func:`unary_samples`, with broadcasting in every direction."""
    l2, h2 = second or (low, high)
    pairs = (((), ()), ((0, 3), (3,)), ((5, 7), (5, 7)), ((5, 1), (1, 7)), ((2, 3, 19), (19,)), ((3, 1, 2), (4, 1)), ((33,), ()))
    return lambda: [Sample((rand(*a, low=low, high=high, seed=1), rand(*b, low=l2, high=h2, seed=2))) for a, b in pairs]


Fields = Mapping[str, Any]
