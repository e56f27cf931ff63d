"""The language of rewrite rules: patterns and replacements as data, written like mathematics.

Variables are made once, and Python's operators on them build expressions, as in a computer algebra system::

    x, y = tensors("x y")
    Rule("add neg", x + (-y), x - y)

``Rule`` prints as ``add(x, neg(y)) -> sub(x, y)``. The parts of a pattern:

- a **tensor** variable stands for any node; used twice, it stands for the same node twice (nodes are hash-consed, so the
  same node is the same computation);
- a **number** variable, or a Python number, stands for a node that is one constant everywhere, also behind broadcasts and
  reshapes; ``1`` matches 1.0, but 0.0 does not match -0.0 nor 1 True;
- ``op.name(x, attribute=s)`` is an operator's node; attributes that are not mentioned may have any value, an **attribute**
  variable takes one out. The operands of an operator whose record says ``commutative`` are tried in both orders;
- ``f(*c)`` is an operator all of whose operands are numbers; ``one_of("f", "sum", "max")`` and ``of_kind("f", "elementwise")`` stand for any of several operators;
- a function made by :func:`computed` says what a structure cannot: in ``where=`` it is a condition, as an attribute or in a
  replacement it is a value worked out from what was captured. It prints as its call. ``result`` is the matched node itself.

Expressions are data instead of Python functions that are traced, since a pattern needs to be turned around (commutativity),
indexed by operator, printed, and filled with placeholders: the last makes a rule's samples, so that each rule tests itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import Any, cast

import numpy as np

from ..errors import GraphcError, VerifyError
from ..ir.attrs import attr_key
from ..ir.dtypes import DType, bool_, float32, float64, int32, uint8
from ..ir.node import Node
from ..ir.op import OpDef, all_ops, lookup
from ..ops.define import constant
from ..ops.views import broadcast_to

__all__ = [
    "Apply",
    "Attribute",
    "Computed",
    "Family",
    "Literal",
    "Number",
    "Rule",
    "RuleSet",
    "Tensor",
    "Term",
    "attributes",
    "computed",
    "constant_value",
    "numbers",
    "of_kind",
    "one_of",
    "op",
    "result",
    "tensors",
]

Captures = dict[str, Any]
"""What the variables of a pattern stand for in one match."""
Matcher = Callable[[Node, Captures], bool]


# -- expressions ---------------------------------------------------------------------------------------------------------
class Term:
    """An expression of a rule."""

    def __add__(self, other: Any) -> Apply:
        return op.add(self, other)

    def __radd__(self, other: Any) -> Apply:
        return op.add(other, self)

    def __sub__(self, other: Any) -> Apply:
        return op.sub(self, other)

    def __rsub__(self, other: Any) -> Apply:
        return op.sub(other, self)

    def __mul__(self, other: Any) -> Apply:
        return op.mul(self, other)

    def __rmul__(self, other: Any) -> Apply:
        return op.mul(other, self)

    def __truediv__(self, other: Any) -> Apply:
        return op.div(self, other)

    def __rtruediv__(self, other: Any) -> Apply:
        return op.div(other, self)

    def __pow__(self, other: Any) -> Apply:
        return op.pow(self, other)

    def __neg__(self) -> Apply:
        return op.neg(self)

    def __lt__(self, other: Any) -> Apply:
        return op.lt(self, other)

    def __le__(self, other: Any) -> Apply:
        return op.le(self, other)


@dataclass(frozen=True)
class Variable(Term):
    name: str

    def __str__(self) -> str:
        return self.name


class Tensor(Variable):
    """Any node."""


class Number(Variable):
    """The value of a node that is one constant everywhere. ``f(*c)``: all operands, one or more, are such nodes."""

    def __iter__(self) -> Iterator[Rest]:
        return iter((Rest(self.name),))


class Rest(Variable):
    """The values of all operands."""

    def __str__(self) -> str:
        return f"*{self.name}"


class Attribute(Variable):
    """The value of an operator's attribute."""


@dataclass(frozen=True)
class Literal(Term):
    """A Python value: a number among operands, anything as an attribute."""

    value: Any

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Family:
    """Any one of several operators, by name or by kind; what it stood for in the pattern it stands for in the replacement."""

    name: str
    members: tuple[str, ...] = ()
    kind: str = ""

    def __contains__(self, op: OpDef) -> bool:
        return op.kind == self.kind or op.name in self.members

    def __call__(self, *operands: Any, **attrs: Any) -> Apply:
        return apply(self, *operands, **attrs)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Apply(Term):
    """An operator on operands."""

    op: str | Family
    operands: tuple[Term, ...]
    attrs: tuple[tuple[str, Term], ...] = ()

    def __str__(self) -> str:
        return f"{self.op}({', '.join([*map(str, self.operands), *(f'{k}={v}' for k, v in self.attrs)])})"


@dataclass(frozen=True)
class Computed(Term):
    """A Python function of what was captured."""

    fn: Callable[..., Any]
    args: tuple[Term, ...]

    def __str__(self) -> str:
        return f"{self.fn.__name__}({', '.join(map(str, self.args))})"


def apply(operator: str | Family, *operands: Any, **attrs: Any) -> Apply:
    return Apply(operator, tuple(map(_term, operands)), tuple((k, _term(v)) for k, v in attrs.items()))


def _term(value: Any) -> Term:
    return value if isinstance(value, Term) else Literal(value)


class _Operators:
    """``op.name(...)``: an expression with the operator of that name."""

    def __getattr__(self, name: str) -> Callable[..., Apply]:
        return lambda *operands, **attrs: apply(name, *operands, **attrs)


op = _Operators()
result = Tensor("result")
"""The matched node, in conditions and replacements."""


def tensors(names: str) -> tuple[Tensor, ...]:
    """Variables for any node: ``x, y = tensors("x y")``."""
    return tuple(map(Tensor, names.split()))


def numbers(names: str) -> tuple[Number, ...]:
    """Variables for constants; in a replacement they are Python numbers."""
    return tuple(map(Number, names.split()))


def attributes(names: str) -> tuple[Attribute, ...]:
    """Variables for attributes."""
    return tuple(map(Attribute, names.split()))


def one_of(name: str, *members: str) -> Family:
    """A variable for any of the operators named."""
    return Family(name, members)


def of_kind(name: str, kind: str) -> Family:
    """A variable for any operator of a kind (:data:`graphc.ir.op.KINDS`)."""
    return Family(name, kind=kind)


def computed(fn: Callable[..., Any]) -> Callable[..., Computed]:
    """Decorator: calling ``fn`` on variables gives an expression; it runs on their values when a rule fires."""

    @wraps(fn)
    def term(*args: Any) -> Computed:
        return Computed(fn, tuple(map(_term, args)))

    return term


def _variables(term: Term) -> set[str]:
    if isinstance(term, Variable):
        return {term.name}
    if isinstance(term, Computed):
        return set().union(*map(_variables, term.args))
    if isinstance(term, Apply):
        own = {term.op.name} if isinstance(term.op, Family) else set()
        return own.union(*map(_variables, term.operands), *(_variables(v) for _, v in term.attrs))
    return set()


# -- matching ------------------------------------------------------------------------------------------------------------
_SPREAD = ("broadcast_to", "reshape")
"""Operators behind which a constant is still seen."""


def constant_value(n: Node) -> Any:
    """The one number a node consists of, if it is a constant, broadcast or not; else None."""
    while n.op.kind == "view" and n.op.name in _SPREAD:
        n = n.inputs[0]
    if n.op.kind == "const" and n.attrs["value"].size == 1:
        return n.attrs["value"].item()
    return None


def _same_number(a: Any, b: Any) -> bool:
    """Equal as numbers, with the sign of zero; a bool is no number."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool) and (a != 0 or math.copysign(1, a) == math.copysign(1, b))


def _compile(term: Term) -> Matcher:
    """The expression as a function that fills in captures and says whether it matched."""
    if isinstance(term, Tensor):
        return lambda node, env, name=term.name: env.setdefault(name, node) is node  # type: ignore[misc]
    if isinstance(term, Number):
        return lambda node, env: (c := constant_value(node)) is not None and _same_number(env.setdefault(term.name, c), c)
    if isinstance(term, Literal):
        return lambda node, env: (c := constant_value(node)) is not None and _same_number(c, term.value)
    if isinstance(term, Apply):
        return _compile_apply(term)
    raise VerifyError(f"{term} cannot be matched: it is no node")


def _compile_apply(term: Apply) -> Matcher:
    name = term.op if isinstance(term.op, str) else ""
    family = term.op if isinstance(term.op, Family) else None
    operands = _compile_operands(term.operands)
    attrs = [(k, _compile_attribute(v)) for k, v in term.attrs]  # after the operands, of which they may be computed

    def matches(node: Node, env: Captures) -> bool:
        if node.op.name != name and (family is None or node.op not in family or env.setdefault(family.name, node.op) is not node.op):
            return False
        return operands(node.inputs, env) and all(k in node.attrs and part(node.attrs[k], env) for k, part in attrs)

    return matches


def _compile_operands(terms: tuple[Term, ...]) -> Callable[[tuple[Node, ...], Captures], bool]:
    rest = [t for t in terms if isinstance(t, Rest)]
    if rest and len(terms) > 1:
        raise VerifyError(f"{rest[0]} stands for all operands, so it stands alone")
    # what may fail stands first, and a bare variable last
    parts = [] if rest else sorted(enumerate(map(_compile, terms)), key=lambda p: isinstance(terms[p[0]], Tensor))
    count = len(terms)

    def each(ins: tuple[Node, ...], env: Captures) -> bool:
        return len(ins) == count and all(part(ins[i], env) for i, part in parts)

    def constants(ins: tuple[Node, ...], env: Captures) -> bool:
        values = env[rest[0].name] = tuple(map(constant_value, ins))
        return bool(values) and all(v is not None for v in values)

    return constants if rest else each


def _compile_attribute(term: Term) -> Callable[[Any, Captures], bool]:
    if isinstance(term, Attribute):
        return lambda value, env: _same_attribute(env.setdefault(term.name, value), value)
    return lambda value, env: _same_attribute(evaluate(term, env), value)


def _same_attribute(a: Any, b: Any) -> bool:
    return a is b or bool(attr_key(a) == attr_key(b))


def _orders(term: Term) -> list[Term]:
    """The expression with the operands of commutative operators in either order."""
    if not isinstance(term, Apply):
        return [term]
    out: list[Term] = [replace(term, operands=c) for c in itertools.product(*map(_orders, term.operands))]
    if isinstance(term.op, str) and lookup(term.op).commutative and len(term.operands) == 2:
        out += [replace(t, operands=t.operands[::-1]) for t in cast("list[Apply]", out)]
    return list(dict.fromkeys(out))


# -- values --------------------------------------------------------------------------------------------------------------
def evaluate(term: Term, env: Captures) -> Any:
    """The value of an expression: a node, a Python number, or what a function gives. Arithmetic on numbers is done now."""
    if isinstance(term, Variable):
        return env[term.name]
    if isinstance(term, Literal):
        return term.value
    if isinstance(term, Computed):
        return term.fn(*(evaluate(a, env) for a in term.args))
    assert isinstance(term, Apply)
    operator: OpDef = lookup(term.op) if isinstance(term.op, str) else env[term.op.name]
    operands = [evaluate(a, env) for a in term.operands]
    if operands and not any(isinstance(o, Node) for o in operands) and operator.kind == "elementwise" and operator.numpy is not None:
        with np.errstate(all="ignore"):
            return operator.numpy(*(np.asarray(o, np.result_type(*operands)) for o in operands)).item()
    if operator.kind == "elementwise" and not term.attrs:
        return operator.call(*operands)  # broadcasts numbers and gives them the operands' dtype
    operands = [o if isinstance(o, Node) else constant(o) for o in operands]
    return Node.make(operator, operands, **{k: evaluate(v, env) for k, v in term.attrs})


@dataclass(frozen=True, eq=False)
class Rule:
    """``pattern -> to``, where every condition holds. Prints as that line.

    ``exact`` rules keep every bit, NaN and infinities included; the others are right to rounding, on finite numbers.

    Samples for the rule's own test are made from the pattern. Where conditions or attributes need more than placeholders,
    ``at`` gives the shapes of tensors and the values of numbers and attributes (several: several samples), or is a function
    that gives nodes which must match.
    """

    name: str
    pattern: Apply
    to: Any
    where: Sequence[Computed] = ()
    exact: bool = True
    at: Mapping[str, Any] | Sequence[Mapping[str, Any]] | Callable[[], list[Node]] = field(default_factory=dict)
    doc: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "to", _term(self.to))
        known = _variables(self.pattern) | {"result"}
        for term in (self.to, *self.where):
            if unknown := sorted(_variables(term) - known):
                raise VerifyError(f"rule {self.name!r}: {', '.join(unknown)} stands in {term}, but not in the pattern")

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.to}" + (f"  where {', '.join(map(str, self.where))}" if self.where else "")

    @cached_property
    def variants(self) -> list[tuple[Apply, Matcher]]:
        """The pattern in every order of commutative operands, with its matcher."""
        return [(cast(Apply, t), _compile(t)) for t in _orders(self.pattern)]

    def apply(self, node: Node) -> Node | None:
        """The replacement of a node; None where the rule does not match, or would change nothing."""
        for _, matcher in self.variants:
            env = self.match(matcher, node)
            new = None if env is None else self.build(env)
            if new is not None:
                return new
        return None

    def match(self, matcher: Matcher, node: Node) -> Captures | None:
        """What the variables stand for, in one order of operands; None where that does not match."""
        env: Captures = {"result": node}
        return env if matcher(node, env) and all(evaluate(c, env) for c in self.where) else None

    def build(self, env: Captures) -> Node | None:
        """The replacement of what was matched; None where it is the node itself."""
        node, new = env["result"], evaluate(self.to, env)
        if not isinstance(new, Node):
            new = broadcast_to(constant(new, node.dtype), node.shape)
        if new.type != node.type:
            raise VerifyError(f"rule {self.name!r} replaces {node!r} by {new!r}")
        return None if new is node else new

    def samples(self) -> list[Node]:
        """Nodes that the rule matches: its pattern filled with placeholders, for each operator and each dtype that it takes."""
        if callable(self.at):
            return self.at()
        given = [self.at] if isinstance(self.at, Mapping) else self.at
        return [n for at in given for n in _fill(self.pattern, at) if self.apply(n) is not None]


_DTYPES = (float32, float64, int32, uint8, bool_)


def _fill(pattern: Apply, at: Mapping[str, Any]) -> Iterator[Node]:
    """The pattern with placeholders for its variables, once for each way to choose dtypes and operators."""
    free = list({v.name: v for v in _leaves(pattern)}.values())
    choices: list[Iterable[tuple[str, Any]]] = []
    for v in free:
        if isinstance(v, Tensor):
            choices.append([(v.name, _placeholder(v.name, at.get(v.name, (2, 3)), d)) for d in _DTYPES])
        elif isinstance(v, Family):
            choices.append([(v.name, o) for o in all_ops() if o in v])
        else:
            choices.append([(v.name, at.get(v.name, 3))])
    seen: set[Node] = set()
    for chosen in itertools.product(*choices):
        try:
            node = evaluate(pattern, dict(chosen))
        except (GraphcError, OverflowError):
            continue  # dtypes that these operators do not take, or that a number does not fit
        if isinstance(node, Node) and node not in seen:
            seen.add(node)
            yield node


def _leaves(term: Term) -> Iterator[Variable | Family]:
    if isinstance(term, Variable):
        yield term
    elif isinstance(term, Apply):
        if isinstance(term.op, Family):
            yield term.op
        for part in (*term.operands, *(v for _, v in term.attrs)):
            yield from _leaves(part)


def _placeholder(name: str, shape: Sequence[Any], dtype: DType) -> Node:
    return Node.make(lookup("input"), (), name=name, shape=tuple(shape), dtype=dtype)


# -- looking rules up ----------------------------------------------------------------------------------------------------
Step = tuple[Rule, Matcher]


class RuleSet:
    """An ordered list of rules, indexed: which of them could match is asked once for each operator and its operands' operators."""

    def __init__(self, rules: Iterable[Rule]):
        self.rules = tuple(rules)
        self._candidates: dict[tuple[OpDef, ...], tuple[Step, ...]] = {}

    def candidates(self, node: Node) -> tuple[Step, ...]:
        """Rules in order, each with the matcher of one order of operands, that the operators here do not rule out."""
        key = (node.op, *[i.op for i in node.inputs[:3]])  # a concat of many has its first operands in the key
        found = self._candidates.get(key)
        if found is None:
            steps = ((r, v, m) for r in self.rules for v, m in r.variants if _may_be(v, key[0]))
            found = self._candidates[key] = tuple((r, m) for r, v, m in steps if all(map(_may_be, v.operands, key[1:])))
        return found


def _may_be(term: Term, operator: OpDef) -> bool:
    """Whether a node of an operator could match an expression."""
    if isinstance(term, Apply):
        return operator.name == term.op if isinstance(term.op, str) else operator in term.op
    if isinstance(term, (Number, Rest, Literal)):
        return operator.kind == "const" or operator.name in _SPREAD
    return True
