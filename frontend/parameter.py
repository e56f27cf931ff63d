"""Parameters and buffers: values that a model owns. In a trace they are inputs of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.errors import OutOfMemoryError, ParameterError, ShapeError, TraceError
from graphc.ir.dtypes import DType, as_dtype
from graphc.ir.node import Node
from graphc.locate import public
from graphc.runtime.interrupts import no_interrupts
from graphc.runtime.memory import check_size, said_bytes
from graphc.runtime.store import ParameterStore

from .init import as_init
from .random import Random

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["Buffer", "Parameter", "current_trace"]


def current_trace() -> Trace | None:
    """The trace that is being recorded now, if any."""
    from .trace import active_trace

    return active_trace()


class Parameter:
    """A trainable array: ``Parameter((3, 4), init="kaiming_uniform")`` or ``Parameter(array)``.

    It gets its name, its values and its place in a store when a model that holds it is first traced; the values depend only
    on the seed and the name. Inside ``forward`` it behaves as a tensor.

    >>> Parameter((2, 3)).shape
    (2, 3)
    """

    role = "param"

    def __init__(self, shape: Any, init: Any = None, dtype: Any = None, trainable: bool = True, name: str = ""):
        self.value: np.ndarray | None = None
        if isinstance(shape, tuple) and all(
            isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in shape
        ):
            if any(s < 0 for s in shape):
                raise ShapeError(f"a parameter of shape {shape}", hint="sizes are 0 or more")
            self.shape: tuple[int, ...] = tuple(int(s) for s in shape)
            self.dtype: DType = as_dtype(dtype or "float32")
            self.init = as_init("zeros" if init is None else init)
        else:
            if isinstance(shape, tuple) and shape and init is not None:
                raise ShapeError(f"a parameter of shape {shape}: sizes are whole numbers", hint="nn.Parameter((3, 4))")
            if init is not None:
                raise ShapeError(
                    "a parameter takes values or an initialiser, not both", hint="nn.Parameter(array), or nn.Parameter(shape, init=...)"
                )
            value = np.asarray(shape)
            if dtype is None and value.dtype == np.float64 and not isinstance(shape, (np.ndarray, np.generic)):
                dtype = "float32"  # Python floats are weak
            self.dtype = as_dtype(dtype or value.dtype)
            self.value = np.array(value, self.dtype.numpy)
            self.shape = tuple(int(s) for s in value.shape)
        self.name = name
        self._trainable = trainable and self.role == "param"
        self.store: ParameterStore | None = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def trainable(self) -> bool:
        """Whether optimisers update it. Changing it makes the next training step a new one."""
        return self._trainable if self.store is None else self.store.trainable(self.name)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if value and self.role != "param":
            raise ParameterError(f"buffer {self.name!r} cannot be trained", hint="nn.Parameter is trained, nn.Buffer is state")
        self._trainable = bool(value)
        if self.store is not None:
            self.store.set_trainable(self.name, bool(value))

    @property
    def requires_grad(self) -> bool:
        """Another name of ``trainable``: torch's."""
        return self.trainable

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.trainable = value

    def initial(self, seed: int, name: str) -> np.ndarray:
        """The first values under a seed and a name."""
        if self.value is not None:
            return self.value
        what = f"{name} of shape {self.shape}"
        check_size(self.nbytes, what)
        try:
            made = np.asarray(self.init(self.shape, Random(seed, name)))
        except MemoryError:
            raise OutOfMemoryError(f"out of memory: {what} needs {said_bytes(self.nbytes)}") from None
        if made.shape != self.shape:
            raise ShapeError(
                f"{name}: the initialiser gave shape {made.shape} for {self.shape}",
                hint="a function of (shape, random) that gives an array of that shape",
            )
        return made.astype(self.dtype.numpy)

    def bind(self, store: ParameterStore, name: str, seed: int) -> None:
        """Gives the values to a store under a name."""
        value = self.initial(seed, name)
        with no_interrupts():
            store.add(name, value, role=self.role, trainable=self._trainable)
            self.store, self.name = store, name

    def numpy(self) -> np.ndarray:
        """A copy of the values. Raises ParameterError before the first compile of a parameter without given values."""
        if self.store is not None:
            return self.store.numpy(self.name)
        if self.value is not None:
            return self.value.copy()
        raise ParameterError(
            "this parameter has no values yet", hint="compile its model first: gc.compile(module, *specs)"
        )

    def assign(self, value: Any) -> None:
        """Writes new values; raises ParameterError when shape or dtype does not fit."""
        if self.store is not None:
            self.store.write({self.name: value})
            return
        array = np.asarray(value)
        if array.shape != self.shape:
            raise ParameterError(
                f"values of shape {array.shape} for a parameter of shape {self.shape}", hint="an array of the parameter's shape"
            )
        self.value = np.array(array, self.dtype.numpy)

    @property
    def node(self) -> Node:
        """Its tensor in the trace that is being recorded. Raises TraceError outside of one."""
        trace = current_trace()
        if trace is None:
            raise TraceError(
                f"parameter {self.name or self.shape} was used outside of a trace", hint="p.numpy() gives its values"
            )
        return trace.value(self)

    __graphc_node__ = node

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        """A parameter of its own, with the values that this one has now; no store holds it yet."""
        made = object.__new__(type(self))
        vars(made).update(vars(self))
        if self.store is not None:
            made.value, made.store, made.name, made._trainable = self.numpy(), None, "", self.trainable
        elif self.value is not None:
            made.value = self.value.copy()
        memo[id(self)] = made
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or current_trace() is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.node, name)

    def __repr__(self) -> str:
        dims = ", ".join(map(str, self.shape)) + ("," if self.ndim == 1 else "")
        return f"{type(self).__name__}({self.name + ': ' if self.name else ''}{self.dtype}({dims}))"


class Buffer(Parameter):
    """State that training writes but no gradient touches: running statistics, counters.

    Assigning a tensor to the attribute inside ``forward`` (in training) registers the write:
    ``self.running_mean = 0.9 * self.running_mean + 0.1 * mean``.
    """

    role = "state"


def _forward(method: str) -> Any:
    def call(self: Parameter, *args: Any) -> Any:
        return getattr(self.node, method)(*(a.node if isinstance(a, Parameter) else a for a in args))

    call.__name__ = method
    return call


_OPERATORS: Sequence[str] = (
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "pow",
    "rpow",
    "floordiv",
    "rfloordiv",
    "mod",
    "rmod",
    "matmul",
    "rmatmul",
    "neg",
    "abs",
    "round",
    "lt",
    "le",
    "gt",
    "ge",
    "getitem",
)
for _name in _OPERATORS:
    setattr(Parameter, f"__{_name}__", _forward(f"__{_name}__"))


public(globals())
