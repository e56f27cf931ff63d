"""The node: an immutable, hash-consed application of an operator, typed when it is made.

Equal nodes are one object, so comparing with ``is`` answers "same computation", and common subexpressions never exist
twice. A node is also the user's symbolic tensor: arithmetic operators and methods look their record up in the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import DTypeError, GraphcError, ShapeError, TraceError
from .attrs import attr_key
from .dims import Size
from .dtypes import DType
from .interned import Interned
from .op import OpDef, function, lookup, numpy_names
from .provenance import note
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
        return self.tensor.shape

    @property
    def dtype(self) -> DType:
        return self.tensor.dtype

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
            call = function(name)
        except TraceError as e:
            raise AttributeError(f"a tensor has no method {name!r}" + (f" ({e.hint})" if e.hint else "")) from None
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
        return _apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return _apply("div", other, self)

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
        raise TraceError("tensors do not change", hint="x = x.at[key].set(value)")

    def __len__(self) -> int:
        if isinstance(self.type, TupleType):
            return len(self.type.items)
        if not self.shape:
            raise ShapeError("a scalar has no length")
        if not isinstance(self.shape[0], int):
            raise ShapeError(f"the length {self.shape[0]} is not known when the graph is built", hint="use x.shape[0]")
        return self.shape[0]

    def __iter__(self) -> Iterator[Node]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        raise TraceError(
            "the value of a tensor is not known when the graph is built, so it cannot decide an `if` or `while`",
            hint="use graphc.ops.where(condition, a, b)",
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise DTypeError("a symbolic tensor has no values yet", hint="compile the function first: gc.compile(fn, *specs)(arrays)")

    __array_ufunc__ = None  # so that ndarray + tensor reaches __radd__


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
