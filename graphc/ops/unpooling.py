"""Back from maxima to planes: what ``max_pool(return_indices=True)`` found is put where it stood."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..ir.dims import prod
from ..ir.dtypes import int32
from ..ir.node import Node
from ..ir.op import Sample
from .define import as_node, composite, constant, rand, show
from .generate import iota
from .pooling import prepare_images
from .scattering import scatter_set
from .views import broadcast_to, reshape

__all__: list[str] = []


def _define_unpool(rank: int) -> None:
    def prepare(ins: list[Node | None], attrs: dict[str, Any]) -> None:
        prepare_images(rank)(ins, attrs)
        x, indices = ins[0], ins[1]
        assert x is not None and indices is not None
        if indices.shape != x.shape or not indices.dtype.is_int:
            raise ShapeError(
                f"indices must be integers of shape {show(x.shape)}, not {indices.type}", hint=f"max_pool{rank}d(return_indices=True)"
            )
        spatial = x.shape[x.ndim - rank :]
        plain = tuple(
            (n - 1) * s - 2 * p + k for n, k, s, p in zip(spatial, attrs["kernel_size"], attrs["stride"], attrs["padding"], strict=True)
        )
        given = attrs["output_size"]
        wanted = plain if given is None else tuple(given)[-rank:]
        for w, n, s in zip(wanted, plain, attrs["stride"], strict=False):
            if len(wanted) != rank or (isinstance(w, int) and isinstance(n, int) and not n - s < w < n + s):
                raise ShapeError(f"output_size={given!r} must lie within one stride of {show(plain)}")
        attrs["output_size"] = wanted

    shape = (1, 2, *(4, 6, 4)[:rank])
    count = math.prod(shape[2:])

    def indices(kernel: int, stride: int) -> np.ndarray:
        """The places of the maxima of a plane of ``shape``, found by brute force."""
        plane = rand(*shape)
        outs = [(n - kernel) // stride + 1 for n in shape[2:]]
        found = np.zeros((*shape[:2], *outs), np.int32)
        places = np.arange(count).reshape(shape[2:])
        for at in itertools.product(*map(range, found.shape)):
            box = tuple(np.s_[o * stride : o * stride + kernel] for o in at[2:])
            found[at] = places[box].ravel()[plane[at[:2]][box].argmax()]
        return found

    @composite(
        f"max_unpool{rank}d", prepare=prepare, inputs=2,
        doc=f"""Values put back where ``max_pool{rank}d(return_indices=True)`` found them, 0 elsewhere; as torch's ``max_unpool{rank}d``.

        ``output_size`` chooses among the sizes that pool to x's, ``(n - 1) stride - 2 padding + kernel_size`` unless given. Where
        windows overlap, the last of several values for one place stays.""",
        samples=lambda: [
            Sample((rand(*indices(2, 2).shape, seed=1), indices(2, 2), 2)), Sample((rand(*indices(2, 2).shape[1:], seed=1), indices(2, 2)[0], 2), {"output_size": tuple(n + 1 for n in shape[2:])}),
        ],
        errors=lambda: [
            Sample((rand(1, 2, *(2,) * rank), np.zeros((1, 2, *(3,) * rank), np.int32), 2), error="indices"),
            Sample((rand(1, 2, *(2,) * rank), np.zeros((1, 2, *(2,) * rank), np.int32), 2), {"output_size": (9,) * rank}, error="output_size"),
        ],
    )  # fmt: skip
    def max_unpool(x: Node, indices: Node, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Node:
        lead, plane = x.shape[: x.ndim - rank], prod(output_size)
        planes, held = prod(lead), prod(x.shape[x.ndim - rank :])
        first = iota((planes, held), 0, int32) * as_node(plane).cast(int32)
        at = reshape(first + reshape(indices, (planes, held)).cast(int32), (planes * held,))
        empty = broadcast_to(constant(0.0, x.dtype), (planes * plane,))
        return reshape(scatter_set(empty, at, reshape(x, (planes * held,))), (*lead, *output_size))


for _rank in (1, 2, 3):
    _define_unpool(_rank)
