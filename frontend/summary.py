"""The table that ``model.summary()`` prints: the layers in the order of their calls, and totals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from graphc.errors import ArgumentError
from graphc.inspect.cost import macs_by_scope, show_bytes
from graphc.ir.dims import Expr, Size
from graphc.ir.types import TensorType, TupleType
from graphc.ops.define import show

from .module import Module
from .parameter import Parameter
from .tree import leaves

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Layer", "Summary", "layers", "module_rows", "summarise"]


@dataclass(frozen=True)
class Layer:
    """One call of a module. ``parameters``, ``nbytes`` and ``macs`` are those of the module itself, or with all below it where the
    table ends at its depth; ``activation`` are the bytes of what it gives."""

    path: str
    kind: str
    depth: int
    output: str
    parameters: int
    trainable: int
    nbytes: int
    macs: Size
    activation: Size
    shared: bool = False

    @property
    def training(self) -> str:
        """Whether its parameters are trained."""
        if not self.parameters:
            return ""
        return "yes" if self.trainable == self.parameters else "frozen" if not self.trainable else "in part"


class Summary(str):
    """The text of a summary; ``layers`` are its rows. Notebooks show it as a table."""

    layers: tuple[Layer, ...]
    html: str

    def _repr_html_(self) -> str:
        return self.html


def _amount(value: Size) -> str:
    return str(value) if isinstance(value, Expr) else f"{value:,}"


def _size(value: Size) -> str:
    return f"{value} B" if isinstance(value, Expr) else show_bytes(value)


def _shapes(output: Any) -> str:
    kinds = [t for _, t in leaves(output, "")]
    return ", ".join(show(t.shape) if isinstance(t, TensorType) else "tuple" if isinstance(t, TupleType) else "?" for t in kinds)


def _activation(output: Any) -> Size:
    total: Size = 0
    for _, t in leaves(output, ""):
        for part in t.items if isinstance(t, TupleType) else (t,):
            total = total + (part.nbytes if isinstance(part, TensorType) else 0)
    return total


def _own(module: Module, below: bool) -> list[Parameter]:
    """Parameters of a module itself, or with those of the modules below."""
    inner = [p + "." for p, _ in module.named_modules() if p]
    return [v for path, v in module.walk() if isinstance(v, Parameter) and (below or not path.startswith(tuple(inner)))]


def layers(model: Model, depth: int | None = None) -> list[Layer]:
    """The rows of a model's summary: modules in the order of their calls, containers before what they hold, the model itself last
    where it has parameters or work of its own."""
    if depth is not None and (isinstance(depth, bool) or depth < 1):
        raise ArgumentError(f"depth = {depth!r}", hint="1 shows the outermost layers")
    work = macs_by_scope(model.graph)
    counted: set[int] = set()
    rows = []
    for _, call in sorted(enumerate(model.calls), key=lambda item: _order(model, item)):
        level = call.depth - 1
        if not call.path or (depth is not None and level > depth):
            continue
        whole = depth is not None and level == depth
        held = _own(call.module, whole)
        new = [p for p in held if id(p) not in counted]
        counted |= {id(p) for p in new}
        macs: Size = 0
        for path in [p for p in work if p == call.path or (whole and p.startswith(call.path + "."))]:
            macs = macs + work.pop(path)
        rows.append(_layer(call.path, call.module, level, call.output, new, macs, not new and bool(held)))
    rest = [v for _, v in model.module.walk() if isinstance(v, Parameter) and id(v) not in counted]
    if rest or work:
        total: Size = 0
        for w in work.values():
            total = total + w
        output = model.calls[-1].output if model.calls else ()
        rows.append(_layer("", model.module, 0, output, rest, total, False))
    return rows


def _layer(path: str, module: Module, depth: int, output: Any, params: Sequence[Parameter], macs: Size, shared: bool) -> Layer:
    trained = sum(p.size for p in params if p.role == "param" and p.trainable)
    count = sum(p.size for p in params if p.role == "param")
    nbytes = sum(p.nbytes for p in params)
    return Layer(path, type(module).__name__, depth, _shapes(output), count, trained, nbytes, macs, _activation(output), shared)


def _order(model: Model, item: tuple[int, Any]) -> tuple[int, ...]:
    """Containers before what they contain: calls are recorded when they end."""
    i, call = item
    first = next((j for j, c in enumerate(model.calls) if c.path == call.path or c.path.startswith(call.path + ".")), i)
    return (first, call.depth, i)


def summarise(
    model: Model, depth: int | None = None, show_macs: bool = True, show_bytes: bool = True, times: Mapping[str, float] | None = None, mode: str = "predict"
) -> Summary:
    """The summary of a model; ``times`` are seconds by module path, where they have been measured, of a ``mode``."""
    rows = layers(model, depth)
    total_time = sum((times or {}).values())
    head = ["layer", "output", "parameters", "trained"] + ["MACs"] * show_macs + ["parameter bytes", "activations"] * show_bytes
    head += ["time" if mode == "predict" else f"time ({mode})"] * bool(times)
    body = []
    for r in rows:
        name = f"{'  ' * (r.depth - 1)}{r.path} ({r.kind})" if r.path else model.name
        cells = [name, r.output, "(shared)" if r.shared else _amount(r.parameters) if r.parameters else "", r.training]
        cells += [_amount(r.macs) if r.macs != 0 else ""] * show_macs
        cells += [_size(r.nbytes) if r.nbytes else "", _size(r.activation)] * show_bytes
        if times:
            below = depth is not None and r.depth == depth
            spent = sum(s for p, s in times.items() if p == r.path or (below and p.startswith(r.path + ".")))
            cells.append(f"{100 * spent / total_time:.1f} %" if spent and total_time else "")
        body.append(cells)
    foot = _totals(model, show_bytes)
    title = f"{model.name}  {model._function('predict').arguments}"
    made = Summary(_table(title, head, body) + "\n".join(foot))
    made.layers = tuple(rows)
    made.html = _html(title, head, body, foot)
    return made


def module_rows(model: Model) -> list[dict[str, Any]]:
    """The layers as rows for a report."""
    rows = []
    for r in layers(model):
        row = {
            "path": r.path, "class": r.kind, "depth": max(r.depth - 1, 0), "output": r.output, "parameters": r.parameters,
            "trainable": r.trainable, "macs": _amount(r.macs) if r.macs != 0 else "",
        }  # fmt: skip
        rows.append(row)
    return rows


def _totals(model: Model, show_bytes_too: bool) -> list[str]:
    every = [v for _, v in model.module.walk() if isinstance(v, Parameter)]
    params = [p for p in every if p.role == "param"]
    trained = sum(p.size for p in params if p.trainable)
    count = sum(p.size for p in params)
    size = f"  {show_bytes(sum(p.nbytes for p in every))}" if show_bytes_too else ""
    everything: Size = 0
    for w in macs_by_scope(model.graph).values():
        everything = everything + w
    lines = [
        f"parameters {count:,} (trainable {trained:,}, frozen {count - trained:,}){size}",
        f"MACs {_amount(everything)}  target {model.target}",
    ]
    if model.loss is not None:
        lines.append(f"loss {model.loss.name}" + (f"  optimizer {model.optimizer!r}" if model.optimizer is not None else ""))
    return lines


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < 2 or name == "trained" else "right", overflow="fold")
    for cells in body:
        table.add_row(*map(Text, cells))
    out = io.StringIO()
    Console(file=out, width=160, no_color=True, force_terminal=False).print(table)
    return out.getvalue()


def _html(title: str, head: Sequence[str], body: Sequence[Sequence[str]], foot: Sequence[str]) -> str:
    columns = "".join(f"<th>{escape(h)}</th>" for h in head)
    rows = "".join(
        "<tr>" + "".join(f'<td style="text-align:{"left" if i < 2 else "right"};white-space:pre">{escape(c)}</td>' for i, c in enumerate(cells)) + "</tr>"
        for cells in body
    )
    return (
        f"<div><b>{escape(title)}</b><table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
        + "".join(f"<div>{escape(line)}</div>" for line in foot)
        + "</div>"
    )
