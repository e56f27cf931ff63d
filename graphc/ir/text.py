"""The text form of a graph: what ``print(graph)`` shows, and what :func:`parse_graph` reads back.

::

    graph f(arg x: f32[N, 3]) {
      %0 = exp(%x) : f32[N, 3]    # model.py:7 fc
      return y=%0
    }
"""

from __future__ import annotations

import ast
import base64
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import FileFormatError, GraphcError
from .dims import Expr, Size, floordiv, sym
from .dtypes import DType, as_dtype
from .graph import Graph, Input
from .layout import Layout
from .node import Node
from .op import OpDef, lookup

__all__ = ["attr_text", "node_names", "node_text", "parse_graph", "print_graph"]


WORDS = 6
"""Lines and scopes that the comment of a node names."""


def node_names(graph: Graph) -> dict[Node, str]:
    """The name of each node in the text form: ``%x`` for an input, else ``%0``, ``%1``, ... in order."""
    names: dict[Node, str] = {i.node: f"%{i.name}" for i in graph.inputs}
    given = len(names)
    for node in graph.nodes:
        if node not in names:
            names[node] = f"%{len(names) - given}"
    return names


def node_text(node: Node, names: Mapping[Node, str], indent: str = "") -> str:
    """One node as a line of the text form."""
    parts = [names.get(i, "?") for i in node.inputs]
    parts += [f"{k}={attr_text(v, indent + '  ')}" for k, v in sorted(node.attrs.items())]
    return f"{names.get(node, '?')} = {node.op.name}({', '.join(parts)}) : {node.type}"


def print_graph(graph: Graph, *, locations: bool = True, indent: str = "") -> str:
    """The graph as text; ``locations`` adds user lines and scopes as comments."""
    names = node_names(graph)
    leaves = {i.node for i in graph.inputs}
    rows: list[tuple[str, str]] = []
    for node in graph.nodes:
        if node in leaves:
            continue
        origin = graph.provenance.of(node)
        words = [str(x) for x in sorted(origin.locs)] + sorted(s for s in origin.scopes if s)
        if len(words) > WORDS:
            words = [*words[:WORDS], f"and {len(words) - WORDS} more"]
        rows.append((node_text(node, names, indent), "  # " + " ".join(words) if words else ""))
    width = min(max((len(r) for r, _ in rows), default=0), 90)
    head = ", ".join(f"{i.role} {i.name}: {i.node.type}" for i in graph.inputs)
    lines = [f"graph {graph.name}({head}) {{"]
    lines += [f"  {r.ljust(width) if c and locations else r}{c if locations else ''}" for r, c in rows]
    for word, pairs in (("return", graph.outputs), ("update", graph.updates)):
        if pairs:
            lines.append(f"  {word} " + ", ".join(f"{k}={names[n]}" for k, n in pairs))
    if graph.finite:
        lines.append(f"  finite {graph.finite}")
    lines.append("}")
    return ("\n" + indent).join(lines)


def attr_text(value: Any, indent: str = "") -> str:
    """The text of an attribute, as the text form has it."""
    if isinstance(value, np.ndarray):
        if value.size <= 16 and value.dtype.kind != "b":
            return f"array({as_dtype(value.dtype).code!r}, {value.shape!r}, {value.ravel().tolist()!r})"
        raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return f"array({as_dtype(value.dtype).code!r}, {value.shape!r}, {raw!r})"
    if isinstance(value, DType):
        return value.code
    if isinstance(value, Expr):
        return f"<{value}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(attr_text(v, indent) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, Layout):
        return f"layout({attr_text(value.perm, indent)}, {value.panel}, {value.pad})"
    if isinstance(value, Graph):
        return print_graph(value, locations=False, indent=indent)
    if isinstance(value, OpDef):
        return f"op:{value.name}"
    if isinstance(value, float):
        return repr(value) if np.isfinite(value) else f"float({str(value)!r})"
    return repr(value)


# -- parsing ------------------------------------------------------------------------------------------------------------
_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*(?P<t>%[\w.$]+|\d+(?:\.\d+)*\.[A-Za-z_][\w.]*|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+\.?\d*(?:[eE][-+]?\d+)?"""
    r"""|[A-Za-z_$][\w.]*|//|.)""",
    re.S,
)


class _Reader:
    """A cursor over tokens; every failure names the line."""

    def __init__(self, text: str):
        self.text = text
        self.items: list[tuple[str, int]] = []
        pos = 0
        while pos < len(text) and text[pos:].strip():
            m = _TOKEN.match(text, pos)
            if m is None:
                break
            self.items.append((m["t"], m.start("t")))
            pos = m.end()
        self.pos = 0

    @property
    def peek(self) -> str:
        return self.items[self.pos][0] if self.pos < len(self.items) else ""

    def next(self) -> str:
        token = self.peek
        if not token:
            raise self.fail("more text")
        self.pos += 1
        return token

    def fail(self, wanted: str) -> FileFormatError:
        at = self.items[min(self.pos, len(self.items) - 1)][1] if self.items else 0
        line = self.text.count("\n", 0, at) + 1
        return FileFormatError(f"graph text, line {line}: expected {wanted}, found {self.peek!r}")

    def expect(self, token: str) -> None:
        if self.next() != token:
            self.pos -= 1
            raise self.fail(repr(token))

    def accept(self, token: str) -> bool:
        if self.peek == token:
            self.pos += 1
            return True
        return False


def parse_graph(text: str) -> Graph:
    """The graph of a text form. Operators are looked up by name; nothing in the text is ever executed.

    Raises :class:`FileFormatError` naming the line, or the operator's own error where operands do not fit.
    """
    r = _Reader(text)
    try:
        graph = _graph(r)
    except GraphcError:
        raise
    except Exception as e:  # attributes of the wrong kind reach deep into records before they fail
        raise r.fail(f"something that makes sense here ({type(e).__name__}: {e})") from e
    if r.peek:
        raise r.fail("the end of the text")
    return graph


def _graph(r: _Reader) -> Graph:
    r.expect("graph")
    name = r.next()
    r.expect("(")
    inputs: list[Input] = []
    values: dict[str, Node] = {}
    while not r.accept(")"):
        role = r.next()
        if role not in ("arg", "param", "state"):
            raise r.fail("arg, param or state")
        input_name = _name(r)
        r.expect(":")
        dtype, shape = _tensor(r)
        node = Node.make(lookup("input"), (), name=input_name, shape=shape, dtype=dtype)
        inputs.append(Input(input_name, node, role))
        values["%" + input_name] = node
        r.accept(",")
    r.expect("{")
    outputs: list[tuple[str, Node]] = []
    updates: list[tuple[str, Node]] = []
    finite = ""
    while not r.accept("}"):
        word = r.next()
        if word in ("return", "update"):
            while True:
                key = _name(r)
                r.expect("=")
                (outputs if word == "return" else updates).append((key, _value(r, values)))
                if not r.accept(","):
                    break
        elif word == "finite":
            finite = _name(r)
        elif word.startswith("%"):
            r.expect("=")
            values[word] = _node(r, values)
        else:
            raise r.fail("a node, return, update, finite or }")
    return Graph(name, tuple(inputs), tuple(outputs), tuple(updates), finite)


def _name(r: _Reader) -> str:
    name = r.next()
    if not re.fullmatch(r"[A-Za-z_$][\w.]*|\d+(?:\.\d+)*\.[A-Za-z_][\w.]*|\d+", name):
        r.pos -= 1
        raise r.fail("a name")
    return name


def _value(r: _Reader, values: dict[str, Node]) -> Node:
    token = r.next()
    if token not in values:
        r.pos -= 1
        raise r.fail("a value that is already defined")
    return values[token]


def _node(r: _Reader, values: dict[str, Node]) -> Node:
    op = lookup(r.next())
    r.expect("(")
    inputs: list[Node] = []
    attrs: dict[str, Any] = {}
    while not r.accept(")"):
        if r.peek.startswith("%"):
            inputs.append(_value(r, values))
        else:
            key = r.next()
            r.expect("=")
            attrs[key] = _read_attr(r)
        r.accept(",")
    node = Node.make(op, inputs, **attrs)
    if r.accept(":"):
        _skip_type(r)
    return node


def _skip_type(r: _Reader) -> None:
    if r.accept("("):
        while not r.accept(")"):
            _tensor(r)
            r.accept(",")
    else:
        _tensor(r)


def _tensor(r: _Reader) -> tuple[DType, tuple[Size, ...]]:
    dtype = as_dtype(r.next())
    r.expect("[")
    shape: list[Size] = []
    while not r.accept("]"):
        shape.append(_size(r))
        r.accept(",")
    return dtype, tuple(shape)


def _size(r: _Reader) -> Size:
    total = _product(r)
    while r.peek in ("+", "-") or re.fullmatch(r"-\d+", r.peek):
        if r.peek not in ("+", "-"):
            total = total + _product(r)
        else:
            total = total + _product(r) if r.next() == "+" else total - _product(r)
    return total


def _product(r: _Reader) -> Size:
    negative = r.accept("-")
    total = _factor(r)
    while True:
        if r.accept("*"):
            total = total * _factor(r)
        elif r.accept("//"):
            total = floordiv(total, _factor(r))
        else:
            return -total if negative else total


def _factor(r: _Reader) -> Size:
    value: Size
    if r.accept("("):
        value = _size(r)
        r.expect(")")
    else:
        token = r.next()
        value = int(token) if re.fullmatch(r"-?\d+", token) else sym(token)
    if r.accept("^"):
        power = int(r.next())
        base = value
        for _ in range(power - 1):
            value = value * base
    return value


def _read_attr(r: _Reader) -> Any:
    token = r.next()
    if token == "(":
        items = []
        while not r.accept(")"):
            items.append(_read_attr(r))
            r.accept(",")
        return tuple(items)
    if token == "<":
        size = _size(r)
        r.expect(">")
        return size
    if token == "graph":
        r.pos -= 1
        return _graph(r)
    if token in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[token]
    if token == "float":
        r.expect("(")
        value = float(ast.literal_eval(r.next()))
        r.expect(")")
        return value
    if token == "array":
        return _read_array(r)
    if token == "layout":
        r.expect("(")
        perm = _read_attr(r)
        r.expect(",")
        panel = int(r.next())
        r.expect(",")
        layout = Layout(perm, panel, int(r.next()))
        r.expect(")")
        return layout
    if token == "op":
        r.expect(":")
        return lookup(r.next())
    if token[0] in "'\"":
        return ast.literal_eval(token)
    if re.fullmatch(r"-?\d+", token):
        return int(token)
    if re.fullmatch(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?", token):
        return float(token)
    return as_dtype(token)


def _read_array(r: _Reader) -> np.ndarray:
    r.expect("(")
    dtype = as_dtype(ast.literal_eval(r.next())).numpy
    r.expect(",")
    shape = _read_attr(r)
    r.expect(",")
    if r.accept("["):
        items = []
        while not r.accept("]"):
            items.append(_read_number(r))
            r.accept(",")
        value = np.array(items, dtype).reshape(shape)
    else:
        value = np.frombuffer(base64.b64decode(ast.literal_eval(r.next())), dtype).reshape(shape)
    r.expect(")")
    return value


def _read_number(r: _Reader) -> float:
    token = r.next()
    return (
        {"inf": np.inf, "nan": np.nan}.get(token)
        if token in ("inf", "nan")
        # type: ignore[return-value]
        else (-np.inf if token == "-" and r.accept("inf") else ast.literal_eval(token))
    )
