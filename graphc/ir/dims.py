"""Sizes and indices: integer polynomials with floor-division atoms.

One algebra serves three uses: the sizes of named dimensions (``N * 3 + 1``), the index maps of the loop IR
(``(i0 * 12 + i1) // 4``) and the address arithmetic of the printers. A static value is a plain ``int``; anything else is
an :class:`Expr` in canonical form, so two equal polynomials are one object and ``==`` on them is a legality test.

>>> n = sym("N")
>>> (n + 1) * 2 - n
N + 2
>>> (n * 6 + 3) // 6
N
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Union

from ..errors import ShapeError
from .interned import Interned

__all__ = ["Expr", "FloorDiv", "Size", "Sym", "cdiv", "evaluate", "floordiv", "interval", "prod", "substitute", "sym", "symbols"]


@dataclass(frozen=True, slots=True)
class Sym:
    """A named unknown: a dimension (``N``), a loop axis (``i0``) or the trip counter of a scan."""

    name: str

    @property
    def sort_key(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """``num // den``, where the polynomial division does not come out even."""

    num: Size
    den: Size

    @property
    def sort_key(self) -> str:
        return f"({self.num})//({self.den})"

    def __str__(self) -> str:
        return f"({self.num})//({self.den})" if isinstance(self.den, Expr) else f"({self.num})//{self.den}"


Atom = Any  # Sym, FloorDiv, or another hashable with ``sort_key`` (loops.scalar puts loaded values here)
Monomial = tuple[tuple[Atom, int], ...]
Size = Union[int, "Expr"]

_interned: Interned[Expr] = Interned()


class Expr:
    """A canonical integer polynomial; build it with :func:`sym` and the operators ``+ - * // %``.

    Comparison with ``==`` is identity of canonical forms: it answers "provably equal", not "may be equal".
    """

    __slots__ = ("__weakref__", "terms")
    terms: tuple[tuple[Monomial, int], ...]

    # with a tensor the tensor decides: it takes the size as a value
    def __add__(self, other: Size) -> Size:
        if not _is_size(other):
            return self._no_size(other)
        return from_terms([*self.terms, *_terms(other)]) if isinstance(other, Expr) or other else self

    __radd__ = __add__

    def __neg__(self) -> Size:
        return from_terms([(m, -c) for m, c in self.terms])

    def __sub__(self, other: Size) -> Size:
        if not _is_size(other):
            return self._no_size(other)
        return self + (-other)

    def __rsub__(self, other: Size) -> Size:
        if not _is_size(other):
            return self._no_size(other)
        return (-self) + other

    def __mul__(self, other: Size) -> Size:
        if not _is_size(other):
            return self._no_size(other)
        if not isinstance(other, Expr):
            other = int(other)
            return self if other == 1 else from_terms([(a, c * other) for a, c in self.terms])
        return from_terms([(_times(a, b), c * d) for a, c in self.terms for b, d in other.terms])

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other) if _is_size(other) else self._no_size(other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floordiv(other, self) if _is_size(other) else self._no_size(other)

    def __truediv__(self, other: Any) -> Any:
        return self._no_size(other)

    __rtruediv__ = __truediv__

    def _no_size(self, other: Any) -> Size:
        """For what is no size on the other side of an operator."""
        if isinstance(other, (int, float, Expr)):
            raise ShapeError(
                f"{self} is a size, an integer that is not known when the graph is built, and does not go with {other!r} here",
                hint="ops.dim(size) is the number in the graph: ops.dim(x.shape[0]) * 0.5",
            )
        return NotImplemented  # type: ignore[no-any-return]

    def __mod__(self, other: Size) -> Size:
        if not _is_size(other):
            return self._no_size(other)
        return self - floordiv(self, other) * other

    def __bool__(self) -> bool:
        raise _unknown(f"the size {self}")

    def __lt__(self, other: object) -> bool:
        raise _unknown(f"whether {self} < {other}")

    def __le__(self, other: object) -> bool:
        raise _unknown(f"whether {self} <= {other}")

    def __gt__(self, other: object) -> bool:
        raise _unknown(f"whether {self} > {other}")

    def __ge__(self, other: object) -> bool:
        raise _unknown(f"whether {self} >= {other}")

    def __index__(self) -> int:
        raise _unknown(f"the size {self}")

    def __repr__(self) -> str:
        out = ""
        for mono, coef in self.terms:
            body = "*".join(str(a) if p == 1 else f"{a}^{p}" for a, p in mono)
            sign = "-" if coef < 0 else "+"
            text = body if abs(coef) == 1 and body else (f"{abs(coef)}*{body}" if body else str(abs(coef)))
            out += (f" {sign} " if out else ("-" if sign == "-" else "")) + text
        return out

    __str__ = __repr__

    def __reduce__(self) -> tuple[Callable[..., Size], tuple[Any]]:
        return from_terms, (list(self.terms),)


def _unknown(what: str) -> ShapeError:
    return ShapeError(
        f"{what} is not known when the graph is built", hint="a fixed size in gc.spec(...) can be compared and counted; == asks whether sizes are always equal"
    )


def sym(name: str) -> Expr:
    """The polynomial that is just the unknown ``name``."""
    result = atom(Sym(name))
    assert isinstance(result, Expr)
    return result


def atom(value: Atom) -> Size:
    """The polynomial that is just ``value``."""
    return from_terms([(((value, 1),), 1)])


def _is_size(x: Any) -> bool:
    return isinstance(x, (Expr, int, Integral))  # the last for NumPy's: it is slow


def _terms(x: Size) -> Iterable[tuple[Monomial, int]]:
    if isinstance(x, Expr):
        return x.terms
    return (((), int(x)),) if x else ()


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers: dict[Atom, int] = dict(a)
    for base, p in b:
        powers[base] = powers.get(base, 0) + p
    if len(powers) == 1:
        return tuple(powers.items())
    return tuple(sorted(powers.items(), key=lambda kv: kv[0].sort_key))


def _mono_key(mono: Monomial) -> tuple[int, tuple[str, ...]]:
    # constants last, then higher degrees first, then by name: the order people write polynomials in
    return (-sum(p for _, p in mono), tuple(a.sort_key for a, _ in mono))


def from_terms(terms: Iterable[tuple[Monomial, int]]) -> Size:
    """The canonical polynomial (or int) of monomials with their factors."""
    acc: dict[Monomial, int] = {}
    for mono, coef in terms:
        acc[mono] = acc.get(mono, 0) + coef
    kept = [(m, c) for m, c in acc.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]
    key = (kept[0],) if len(kept) == 1 else tuple(sorted(kept, key=lambda t: _mono_key(t[0])))
    found = _interned.get(key)
    if found is None:
        found = object.__new__(Expr)
        found.terms = key
        found = _interned.add(key, found)
    return found


def _divide_monomial(mono: Monomial, by: Monomial) -> Monomial | None:
    powers = dict(mono)
    for base, p in by:
        left = powers.get(base, 0) - p
        if left < 0:
            return None
        powers[base] = left
        if not left:
            del powers[base]
    return tuple(sorted(powers.items(), key=lambda kv: kv[0].sort_key))


def floordiv(num: Size, den: Size, ranges: Mapping[str, Size] | None = None) -> Size:
    """``num // den``, simplified as far as can be proven.

    ``ranges`` gives the exclusive upper bound of each axis symbol (all are >= 0); with it ``(i*12 + j) // 12`` becomes ``i``
    when ``j < 12``. Terms that ``den`` divides leave the quotient exactly, also for symbolic ``den`` (``(i*C + j) // C``).
    """
    if isinstance(num, int) and isinstance(den, int):
        return num // den if den else 0
    if den == 1:
        return num
    if num == 0 or den == 0:  # by zero only where an axis is empty: the index is never used
        return 0
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    den_terms = list(_terms(den))
    if len(den_terms) == 1:
        ((dm, dc),) = den_terms
        for mono, coef in _terms(num):
            q = _divide_monomial(mono, dm)
            if q is not None and dc and coef % dc == 0:
                whole.append((q, coef // dc))
            else:
                rest.append((mono, coef))
    elif num == den:
        return 1
    else:
        rest = list(_terms(num))
    remainder = from_terms(rest)
    if isinstance(den, int) and isinstance(remainder, Expr):
        # 6*i + 13 over 6: the constant's whole part leaves as well
        const = dict(remainder.terms).get((), 0)
        whole.append(((), const // den))
        remainder = remainder - (const // den) * den
    head = from_terms(whole)
    if remainder == 0:
        return head
    if isinstance(remainder, int) and isinstance(den, int):
        return head + remainder // den
    bounds = ranges or {}
    if _nonnegative(lower(remainder, bounds)) and _nonnegative(den - 1 - upper(remainder, bounds)):
        return head
    return head + atom(FloorDiv(remainder, den))


def cdiv(num: Size, den: Size) -> Size:
    """``num / den`` rounded up."""
    return floordiv(num + den - 1, den)


def _nonnegative(x: Size) -> bool:
    """True where ``x >= 0`` follows from every symbol being >= 0 (a sufficient test)."""
    return x >= 0 if isinstance(x, int) else all(c >= 0 for _, c in x.terms)


def _bound(x: Size, ranges: Mapping[str, Size], high: bool) -> Size:
    if isinstance(x, int):
        return x
    total: Size = 0
    for mono, coef in x.terms:
        use_high = high == (coef > 0)
        value: Size = coef
        for base, p in mono:
            if isinstance(base, Sym) and base.name in ranges:
                edge: Size = ranges[base.name] - 1 if use_high else 0
            elif isinstance(base, FloorDiv):
                if use_high:
                    edge = floordiv(_bound(base.num, ranges, True), base.den)
                else:
                    edge = min(_least(base, ranges), 0)
            else:
                edge = atom(base)
            for _ in range(p):
                value = value * edge
        total = total + value
    return total


def _least(f: FloorDiv, ranges: Mapping[str, Size]) -> int:
    """The least value of a quotient of axes, which may be negative; 0 for others: they are parts of indices."""
    plain = isinstance(f.num, Expr) and all(isinstance(b, Sym) and b.name in ranges for mono, _ in f.num.terms for b, _p in mono)
    least = _bound(f.num, ranges, False) if plain and isinstance(f.den, int) else 0
    return floordiv(least, f.den) if isinstance(least, int) else 0  # type: ignore[return-value]


def upper(x: Size, ranges: Mapping[str, Size]) -> Size:
    """An inclusive upper bound of ``x`` when every axis in ``ranges`` runs over ``[0, ranges[axis])``."""
    return _bound(x, ranges, True)


def lower(x: Size, ranges: Mapping[str, Size]) -> Size:
    """An inclusive lower bound of ``x``, as :func:`upper`."""
    return _bound(x, ranges, False)


def within(x: Size, size: Size, ranges: Mapping[str, Size]) -> bool:
    """True where ``0 <= x < size`` can be proven."""
    return _nonnegative(lower(x, ranges)) and _nonnegative(size - 1 - upper(x, ranges))


def substitute(x: Size, values: Mapping[str, Size], ranges: Mapping[str, Size] | None = None) -> Size:
    """``x`` with symbols replaced; floor divisions are simplified again (with ``ranges``, as in :func:`floordiv`)."""
    return rewrite_atoms(x, lambda base: base.substitute(values, ranges) if hasattr(base, "substitute") else None, values, ranges)


def rewrite_atoms(x: Size, swap: Callable[[Atom], Any], values: Mapping[str, Size], ranges: Mapping[str, Size] | None = None) -> Size:
    """``x`` with symbols replaced by ``values`` and foreign atoms by ``swap`` (a size, an atom, or None to keep)."""
    if isinstance(x, int):
        return x
    total: Size = 0
    for mono, coef in x.terms:
        value: Size = coef
        for base, p in mono:
            if isinstance(base, Sym):
                factor: Size = values.get(base.name, atom(base))
            elif isinstance(base, FloorDiv):
                factor = floordiv(rewrite_atoms(base.num, swap, values, ranges), rewrite_atoms(base.den, swap, values, ranges), ranges)
            else:
                new = swap(base)
                factor = atom(base) if new is None else new if isinstance(new, (int, Expr)) else atom(new)
            for _ in range(p):
                value = value * factor
        total = total + value
    return total


def evaluate(x: Size, values: Mapping[str, int]) -> int:
    """The integer value of ``x``; raises :class:`ShapeError` naming the symbol that has no value."""
    if isinstance(x, int):
        return x
    result = substitute(x, values)
    if isinstance(result, Expr):
        missing = ", ".join(sorted(symbols(result)))
        raise ShapeError(f"the size {x} needs a value for {missing}")
    return result


def interval(x: Size, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Least and greatest value that ``x`` may have when each symbol lies in its range, ends included: perhaps wider than what it
    takes on, since each term is bounded by itself. None where something else than symbols with a range is in it.

    >>> interval(3 * sym("i") - sym("j") + 1, {"i": (2, 4), "j": (0, 5)})
    (2, 13)
    """
    if isinstance(x, int):
        return x, x
    least = most = 0
    for mono, coef in x.terms:
        low = high = coef
        for base, p in mono:
            found = _interval_of(base, ranges)
            if found is None:
                return None
            for _ in range(p):
                edges = [a * b for a in (low, high) for b in found]
                low, high = min(edges), max(edges)
        least, most = least + low, most + high
    return least, most


def _interval_of(base: Atom, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    if isinstance(base, Sym):
        return ranges.get(base.name)
    if not isinstance(base, FloorDiv):
        return None
    num, den = interval(base.num, ranges), interval(base.den, ranges)
    if num is None or den is None or den[0] != den[1] or den[0] <= 0:
        return None
    return num[0] // den[0], num[1] // den[0]


def symbols(x: Size) -> set[str]:
    """Names of all symbols in ``x``."""
    if isinstance(x, int):
        return set()
    found: set[str] = set()
    for mono, _ in x.terms:
        for base, _p in mono:
            if isinstance(base, Sym):
                found.add(base.name)
            elif isinstance(base, FloorDiv):
                found |= symbols(base.num) | symbols(base.den)
            elif hasattr(base, "symbols"):
                found |= base.symbols()
    return found


def coefficient(x: Size, name: str) -> Size | None:
    """The factor of symbol ``name`` if ``x`` is affine in it, else None (also None when it hides in a floor division)."""
    if isinstance(x, int):
        return 0
    total: Size = 0
    for mono, coef in x.terms:
        rest: list[tuple[Atom, int]] = []
        power = 0
        for base, p in mono:
            if isinstance(base, Sym) and base.name == name:
                power = p
            elif name in symbols(atom(base)):
                return None
            else:
                rest.append((base, p))
        if power > 1:
            return None
        if power == 1:
            total = total + from_terms([(tuple(rest), coef)])
    return total


def prod(sizes: Iterable[Size]) -> Size:
    """The product of sizes (1 for none)."""
    total: Size = 1
    for s in sizes:
        total = total * s
    return total
