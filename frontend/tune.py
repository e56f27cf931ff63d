"""``gc.tune``: which way of computing its contractions is the fastest for a program on this machine."""

from __future__ import annotations

from typing import Any

from graphc.compiler import find_backend
from graphc.errors import ArgumentError
from graphc.locate import boundary

from .function import Function

__all__ = ["tune"]


@boundary
def tune(fn: Any, *arrays: Any, mode: str = "predict") -> Any:
    """Measures the ways in which each matrix product and convolution of a program can be computed, and keeps the faster ones.

    ``fn`` is what ``gc.compile`` or ``gc.step`` gave, ``arrays`` are arguments of the usual size; of a model, ``mode`` is "predict",
    "evaluate" or "train_step" (the last two take the targets too). Contractions walk over the tiles of their result by columns, by rows
    or in passes over K (see "Contractions" in ``docs/architecture.md``), as a cost model says. Here each walk is forced in turn and whole runs
    are timed, in turn too, on a copy of the parameters: nothing of the model changes. A walk that makes the run 5 % shorter is written to
    ``tuned.json`` in the folder of the kernel cache, for this processor and number of threads. Programs that are compiled later, in any
    process, take it for equal contractions (same sizes, types and layouts), and ``fn`` itself is compiled again when it is called next.
    Results are equal within rounding: a walk may add in another order. Other work on the machine disturbs the times. ``graphc cache
    clear``, or deleting the file, goes back to the cost model.

    Gives a report that prints as a table. Raises ArgumentError for targets other than "cpu".

    >>> import graphc as gc
    >>> import numpy as np
    >>> f = gc.compile(lambda a, b: a @ b, gc.spec("N", 16), gc.spec(16, 8))
    >>> report = gc.tune(f, np.ones((4, 16), np.float32), np.ones((16, 8), np.float32))
    >>> [row.default for row in report.rows], sorted(report.rows[0].seconds)
    (['rows'], ['columns', 'passes', 'rows'])
    """
    from .model import Model

    if not isinstance(fn, (Model, Function)):
        raise ArgumentError(f"{fn!r} is not compiled", hint="gc.tune(gc.compile(fn, *specs), *arrays)")
    if isinstance(fn, Function) and mode != "predict":
        raise ArgumentError(f"a function has no mode {mode!r}", hint="modes are a model's; gc.tune(function, *arrays)")
    backend = find_backend(fn.target, fn.options)
    if not hasattr(backend, "tune"):
        raise ArgumentError(f"programs of {fn.target} cannot be tuned: there is nothing to choose", hint='target="cpu"')
    function = fn._function(mode) if isinstance(fn, Model) else fn
    report = backend.tune(function.graph, function.store, function.arguments.bind(arrays), **function.options)
    if report.changed:
        function.renew()
        if isinstance(fn, Model):
            fn._quick = None
    return report
