"""The table that ``model.summary()`` prints."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from graphc.inspect.cost import macs_by_scope
from graphc.ir.dims import Expr, Size
from graphc.ir.types import TensorType, TupleType
from graphc.ops.define import show

from .module import Module
from .parameter import Parameter
from .tree import leaves

if TYPE_CHECKING:
    from .model import Model

__all__ = ["summary_text"]


def _amount(value: Size) -> str:
    return str(value) if isinstance(value, Expr) else f"{value:,}"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def _shapes(output: Any) -> str:
    kinds = [t for _, t in leaves(output, "")]
    return ", ".join(
        show(t.shape) if isinstance(t, TensorType) else "tuple" if isinstance(t, TupleType) else "?" for t in kinds
    )


def _own(module: Module) -> list[Parameter]:
    """Parameters of this module itself, without those of modules below."""
    return [v for path, v in module.walk() if isinstance(v, Parameter) and not _below(module, path)]


def _below(module: Module, path: str) -> bool:
    return any(path.startswith(p + ".") for p, _ in module.named_modules())


def summary_text(model: Model) -> str:
    """Layers in the order of their calls with output shapes, parameters, MACs and bytes; totals below."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{model.name}  {model._function('predict').arguments}", title_justify="left")
    table.add_column("layer")
    table.add_column("output")
    for name in ("parameters", "MACs", "bytes"):
        table.add_column(name, justify="right")
    work = macs_by_scope(model.graph)
    counted: set[int] = set()
    calls = sorted(enumerate(model.calls), key=lambda item: _order(model, item))
    for _, call in calls:
        if not call.path:
            continue
        own = [p for p in _own(call.module) if id(p) not in counted]
        counted |= {id(p) for p in own}
        again = not own and bool(_own(call.module))
        indent = "  " * (call.depth - 2)
        table.add_row(
            f"{indent}{call.path} ({type(call.module).__name__})",
            _shapes(call.output),
            "(shared)" if again else _amount(sum(p.size for p in own)) if own else "",
            _amount(work.pop(call.path)) if call.path in work else "",
            _bytes(sum(p.nbytes for p in own)) if own else "",
        )
    every = [v for _, v in model.module.walk() if isinstance(v, Parameter)]
    rest = [p for p in every if id(p) not in counted]
    if rest or work:
        total: Size = 0
        for w in work.values():
            total = total + w
        table.add_row(
            model.name,
            _shapes(model.calls[-1].output) if model.calls else "",
            _amount(sum(p.size for p in rest)),
            _amount(total),
            _bytes(sum(p.nbytes for p in rest)),
        )
    out = io.StringIO()
    Console(file=out, width=140, no_color=True, force_terminal=False).print(table)
    params = [p for p in every if p.role == "param"]
    trained = sum(p.size for p in params if p.trainable)
    count = sum(p.size for p in params)
    lines = [
        f"parameters {count:,} (trainable {trained:,}, frozen {count - trained:,})  {_bytes(sum(p.nbytes for p in every))}"
    ]
    everything: Size = 0
    for w in macs_by_scope(model.graph).values():
        everything = everything + w
    lines.append(f"MACs {_amount(everything)}  target {model.target}")
    if model.loss is not None:
        lines.append(
            f"loss {model.loss.name}  optimizer {model.optimizer!r}"
            if model.optimizer is not None
            else f"loss {model.loss.name}"
        )
    return out.getvalue() + "\n".join(lines)


def _order(model: Model, item: tuple[int, Any]) -> tuple[int, ...]:
    """Containers before what they contain: calls are recorded when they end."""
    i, call = item
    first = next((j for j, c in enumerate(model.calls) if c.path == call.path or c.path.startswith(call.path + ".")), i)
    return (first, call.depth, i)
