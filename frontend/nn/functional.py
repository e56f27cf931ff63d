"""Every operator as a function, under torch's usual name: ``nn.functional.relu(x)`` is ``graphc.ops.relu(x)``.

Where an operator says ``axis`` and ``keepdims``, torch's ``dim`` and ``keepdim`` are understood too.
Where they differ in more than a name (``pad``, ``sort``, ``one_hot``, ``scatter_add``, norms, dropout, attention) the functions here are torch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from graphc import ops
from graphc.ir.op import numpy_names

from .indexing import one_hot as one_hot
from .indexing import scatter_add as scatter_add
from .indexing import sort as sort
from .indexing import take_along_dim as take_along_dim
from .layer_functions import batch_norm as batch_norm
from .layer_functions import dropout as dropout
from .layer_functions import embedding_bag as embedding_bag
from .layer_functions import group_norm as group_norm
from .layer_functions import instance_norm as instance_norm
from .layer_functions import layer_norm as layer_norm
from .layer_functions import rms_norm as rms_norm
from .layer_functions import scaled_dot_product_attention as scaled_dot_product_attention
from .padding import pad as pad


def _as_torch(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **numpy_names(fn, kwargs))

    return call


def __getattr__(name: str) -> Any:
    value = getattr(ops, name)
    return _as_torch(value) if callable(value) else value


def __dir__() -> list[str]:
    return dir(ops)
