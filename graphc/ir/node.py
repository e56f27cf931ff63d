"""The node: an immutable, hash-consed application of an operator, typed when it is made.

Equal nodes are one object, so comparing with ``is`` answers "same computation", and common subexpressions never exist
twice. A node is also the user's symbolic tensor: arithmetic operators and methods look their record up in the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import GraphcError, ShapeError, TraceError, UnknownNameError, unknown_name
from .attrs import attr_key
from .dims import Size
from .dtypes import DType
from .interned import Interned
from .op import OpDef, function, functions, lookup, numpy_names
from .provenance import note
from .storage import in_float32, stores_halves
from .types import Shape, TensorType, TupleType, Type

__all__ = ["Node", "toposort"]

_table: Interned[Node] = Interned()


class Node:
    """``op(*inputs, **attrs)`` with its type. Make nodes with :meth:`make` or, as a user, through operators and methods."""

    __slots__ = ("__weakref__", "_decomposed", "attrs", "inputs", "op", "type")
    op: OpDef
    inputs: tuple[Node, ...]
    _decomposed: list[Node] | None
    attrs: dict[str, Any]
    type: Type

    @staticmethod
    def make(op: OpDef, inputs: Iterable[Node] = (), /, **attrs: Any) -> Node:
        """The node of an operator, its inputs and attributes; type inference runs here and raises on misuse."""
        ins = tuple(inputs)
        if not op.storage and stores_halves(ins, attrs):
            return in_float32(op, ins, attrs)
        # operands by their addresses: an entry holds nothing alive, and while its node lives its operands do
        key = (op, tuple(map(id, ins)), tuple((k, attr_key(attrs[k])) for k in sorted(attrs)))
        node = _table.get(key)
        if node is None:
            for i in ins:
                if not isinstance(i, Node):
                    raise TraceError(f"{op.name}: an operand is a {type(i).__name__}, not a tensor")
            try:
                node_type = op.infer(*(i.type for i in ins), **attrs)
            except GraphcError as e:
                prefix = f"{op.name}: "
                if not e.message.startswith(prefix) and op.kind != "composite":
                    e.message = prefix + e.message
                raise
            node = object.__new__(Node)
            node.op, node.inputs, node.attrs, node.type = op, ins, attrs, node_type
            node._decomposed = None
            node = _table.add(key, node)
        note(node)
        return node

    # -- what it is -------------------------------------------------------------------------------------------------
    @property
    def tensor(self) -> TensorType:
        if isinstance(self.type, TupleType):
            raise TraceError(f"{self.op.name} has {len(self.type.items)} results; take one with [i]")
        return self.type

    @property
    def shape(self) -> Shape:
        own = self.type
        return own.shape if type(own) is TensorType else self.tensor.shape

    @property
    def dtype(self) -> DType:
        own = self.type
        return own.dtype if type(own) is TensorType else self.tensor.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        return self.tensor.size

    def __repr__(self) -> str:
        named = f" {self.attrs['name']!r}" if self.op.kind == "input" else ""
        return f"<{self.op.name}{named} {self.type}>"

    @property
    def T(self) -> Node:
        """The axes in reverse order."""
        return _apply("transpose", self)

    @property
    def mT(self) -> Node:
        """The last two axes exchanged."""
        return _apply("swapaxes", self, -1, -2)

    def detach(self) -> Node:
        """``stop_gradient``, by torch's name."""
        return _apply("stop_gradient", self)

    # -- the user's tensor ------------------------------------------------------------------------------------------
    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            if name == "item":  # the operator of that name takes a result of several
                raise _no_method(name)
            call = function(name)
        except TraceError:
            raise _no_method(name) from None
        return _Method(call, self)

    @property
    def at(self) -> Any:
        """``x.at[key].set(v)``: ``x`` with a part written, as JAX's (also ``add``, ``subtract``, ``multiply``, ``min``, ``max``, ``get``)."""
        return function("at")(self)

    def __add__(self, other: Any) -> Node:
        return _apply("add", self, other)

    def __radd__(self, other: Any) -> Node:
        return _apply("add", other, self)

    def __sub__(self, other: Any) -> Node:
        return _apply("sub", self, other)

    def __rsub__(self, other: Any) -> Node:
        return _apply("sub", other, self)

    def __mul__(self, other: Any) -> Node:
        return _apply("mul", self, other)

    def __rmul__(self, other: Any) -> Node:
        return _apply("mul", other, self)

    def __truediv__(self, other: Any) -> Node:
        return _apply("true_divide", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return _apply("true_divide", other, self)

    def __pow__(self, other: Any) -> Node:
        return _apply("pow", self, other)

    def __rpow__(self, other: Any) -> Node:
        return _apply("pow", other, self)

    def __floordiv__(self, other: Any) -> Node:
        return _apply("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Node:
        return _apply("floor_divide", other, self)

    def __mod__(self, other: Any) -> Node:
        return _apply("mod", self, other)

    def __rmod__(self, other: Any) -> Node:
        return _apply("mod", other, self)

    def __matmul__(self, other: Any) -> Node:
        return _apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Node:
        return _apply("matmul", other, self)

    def __neg__(self) -> Node:
        return _apply("neg", self)

    def __abs__(self) -> Node:
        return _apply("absolute", self)

    def __round__(self, digits: int | None = None) -> Node:
        if digits:
            raise TraceError("round to decimal places of a tensor", hint=f"(x * 10**{digits}).round() / 10**{digits}")
        return _apply("round", self)

    def __and__(self, other: Any) -> Node:
        return _apply("bitwise_and", self, other)

    def __rand__(self, other: Any) -> Node:
        return _apply("bitwise_and", other, self)

    def __or__(self, other: Any) -> Node:
        return _apply("bitwise_or", self, other)

    def __ror__(self, other: Any) -> Node:
        return _apply("bitwise_or", other, self)

    def __xor__(self, other: Any) -> Node:
        return _apply("bitwise_xor", self, other)

    def __rxor__(self, other: Any) -> Node:
        return _apply("bitwise_xor", other, self)

    def __invert__(self) -> Node:
        return _apply("bitwise_not", self)

    def __lshift__(self, other: Any) -> Node:
        return _apply("shift_left", self, other)

    def __rshift__(self, other: Any) -> Node:
        return _apply("shift_right", self, other)

    def __lt__(self, other: Any) -> Node:
        return _apply("lt", self, other)

    def __le__(self, other: Any) -> Node:
        return _apply("le", self, other)

    def __gt__(self, other: Any) -> Node:
        return _apply("lt", other, self)

    def __ge__(self, other: Any) -> Node:
        return _apply("le", other, self)

    def __getitem__(self, key: Any) -> Node:
        if isinstance(self.type, TupleType):
            return Node.make(lookup("item"), (self,), index=key)
        return _apply("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TraceError("a tensor cannot be changed in place", hint="x = x.at[key].set(value)")

    def __len__(self) -> int:
        if isinstance(self.type, TupleType):
            return len(self.type.items)
        if not self.shape:
            raise ShapeError("a scalar has no length")
        if not isinstance(self.shape[0], int):
            raise ShapeError(
                f"the length {self.shape[0]} is not known when the graph is built, so Python cannot loop over the tensor",
                hint="an operator on the whole axis (x.sum(0)), or a fixed size in gc.spec(...)",
            )
        return self.shape[0]

    def __iter__(self) -> Iterator[Node]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise TraceError(
            "the value of a tensor is not known when the graph is built, so it cannot decide an `if`, `while`, `and` or `or`",
            hint="gc.ops.where(condition, a, b); & and | combine conditions",
        )

    def __int__(self) -> int:
        raise _no_number(self, "an int", 'x.cast("int32") makes integers of a tensor; x[i] takes a tensor i')

    def __float__(self) -> float:
        raise _no_number(self, "a float", 'leave it a tensor; x.cast("float32") changes its dtype')

    def __complex__(self) -> complex:
        raise _no_number(self, "a complex number", "")

    def __index__(self) -> int:
        raise _no_number(self, "an index or a size of Python's", "x[i] and gc.ops.take(x, i, axis) take a tensor i")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TraceError(
            "a tensor has no values while the graph is built, so NumPy cannot compute with it",
            hint="the operator of the same name in gc.ops, or return the tensor and use NumPy on what the compiled function gives",
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """``array + tensor`` is the tensor's operator; NumPy itself cannot compute with a tensor."""
        reflected = _REFLECTED.get(ufunc.__name__)
        if method == "__call__" and reflected and not kwargs and inputs[1] is self:
            return getattr(self, reflected)(inputs[0])
        raise TraceError(
            f"np.{ufunc.__name__} of a tensor, which has no values while the graph is built",
            hint=f"gc.ops.{ufunc.__name__}" if ufunc.__name__ in functions() else "an operator of gc.ops",
        )


_REFLECTED = {
    "add": "__radd__",
    "bitwise_and": "__rand__",
    "bitwise_or": "__ror__",
    "bitwise_xor": "__rxor__",
    "divide": "__rtruediv__",
    "floor_divide": "__rfloordiv__",
    "greater": "__lt__",
    "greater_equal": "__le__",
    "less": "__gt__",
    "less_equal": "__ge__",
    "matmul": "__rmatmul__",
    "multiply": "__rmul__",
    "power": "__rpow__",
    "remainder": "__rmod__",
    "subtract": "__rsub__",
}
"""NumPy's functions behind Python's operators, and the method that computes them with the tensor on the right."""

_NO_VALUES = "a tensor has no values while the graph is built: return it, and the compiled function gives arrays"
_INSTEAD = {  # what users of torch look for
    "backward": "gc.grad(fn) gives gradients; optimizer.minimize(loss, parameters) in gc.step trains",
    "cpu": 'gc.compile(..., target="cpu") says where a program runs',
    "cuda": 'gc.compile(..., target=...) says where a program runs',
    "detach": "gc.stop_gradient(x)",
    "device": 'gc.compile(..., target=...) says where a program runs',
    "grad": "gc.grad(fn) gives the gradient of a function",
    "item": _NO_VALUES,
    "numpy": _NO_VALUES,
    "requires_grad_": "gc.grad(fn, wrt=...) says what to differentiate by; module.freeze() leaves parameters as they are",
    "to": 'x.cast("float32") changes the dtype; gc.compile(..., target=...) says where a program runs',
    "tolist": _NO_VALUES,
}


def _no_method(name: str) -> UnknownNameError:
    known, stem = functions(), name.rstrip("_")
    own = {name: f"tensors do not change: x = x.{stem}(...)"} if stem != name and stem in known else {}
    return unknown_name("a tensor", name, known, _INSTEAD | own)


def _no_number(x: Node, kind: str, hint: str) -> TraceError:
    return TraceError(f"the value of a tensor {x.type} is not known when the graph is built, so it cannot become {kind}", hint=hint)


def _apply(name: str, *args: Any) -> Node:
    """A user function that gives one tensor."""
    out: Node = function(name)(*args)
    return out


class _Method:
    """A user function bound to its first operand; it also understands torch's ``dim`` and ``keepdim``."""

    __slots__ = ("call", "value")

    def __init__(self, call: Any, value: Node):
        self.call, self.value = call, value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(self.value, *args, **numpy_names(self.call, kwargs))


def toposort(roots: Iterable[Node], leaves: frozenset[Node] | set[Node] = frozenset()) -> list[Node]:
    """All nodes that the roots need, operands before users, in a stable depth-first order.

    Nodes in ``leaves`` are listed but not looked into.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
            continue
        if node in seen:
            continue
        seen.add(node)
        stack.append((node, True))
        if node not in leaves:
            stack.extend((i, False) for i in reversed(node.inputs) if i not in seen)
    return order
