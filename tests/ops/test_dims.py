"""The algebra of sizes against brute force: an expression simplified in any way has the value that Python computes."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.errors import ShapeError
from graphc.ir.dims import cdiv, coefficient, evaluate, floordiv, lower, prod, substitute, sym, symbols, upper, within

NAMES = ("N", "M", "i0", "i1")


@st.composite
def expressions(draw, depth=3):
    """(our expression, the same as a function of the symbols' values)."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        if draw(st.booleans()):
            name = draw(st.sampled_from(NAMES))
            return sym(name), lambda v, name=name: v[name]
        k = draw(st.integers(-4, 7))
        return k, lambda v, k=k: k
    (a, fa), (b, fb) = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    which = draw(st.sampled_from("+-*/%"))
    if which in "/%":
        k = draw(st.integers(1, 9))
        if which == "/":
            return a // k, lambda v: fa(v) // k
        return a % k, lambda v: fa(v) % k
    if which == "+":
        return a + b, lambda v: fa(v) + fb(v)
    if which == "-":
        return a - b, lambda v: fa(v) - fb(v)
    return a * b, lambda v: fa(v) * fb(v)


values = st.fixed_dictionaries({n: st.integers(0, 12) for n in NAMES})


@settings(max_examples=300, deadline=None)
@given(expressions(), values)
def test_an_expression_has_the_value_python_computes(pair, v):
    expr, brute = pair
    assert evaluate(expr, v) == brute(v)


@settings(max_examples=200, deadline=None)
@given(expressions(), values, st.integers(0, 5))
def test_substitution_in_steps_is_substitution_at_once(pair, v, shift):
    expr, brute = pair
    moved = substitute(expr, {"N": sym("M") + shift})
    assert evaluate(moved, v) == brute({**v, "N": v["M"] + shift})
    assert "N" not in symbols(moved)


@settings(max_examples=300, deadline=None)
@given(expressions(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 6))
def test_bounds_hold_for_every_index(pair, a, b, n):
    """``upper`` and ``lower`` are bounds for values of polynomials whose terms do not turn negative inside a division."""
    expr, brute = pair
    ranges = {"i0": a, "i1": b}
    points = [brute({"N": n, "M": 2, "i0": i, "i1": j}) for i in range(a) for j in range(b)]
    if isinstance(expr, int) or _has_negative(expr):
        return
    fixed = {"N": n, "M": 2}
    assert evaluate(upper(expr, ranges), fixed) >= max(points)
    assert evaluate(lower(expr, ranges), fixed) <= min(points)


def _has_negative(expr):
    return any(c < 0 or any(hasattr(b, "num") and not isinstance(b.num, int) and _has_negative(b.num) for b, _ in m) for m, c in expr.terms)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(1, 12))
def test_division_with_ranges_is_exact_on_every_index(a, b, scale, shift, den):
    i, j = sym("i0"), sym("i1")
    num = i * scale + j + shift
    for q in (floordiv(num, den, {"i0": a, "i1": b}), floordiv(num, den)):
        for x in range(a):
            for y in range(b):
                assert evaluate(q, {"i0": x, "i1": y}) == (x * scale + y + shift) // den


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(-3, 3), st.integers(0, 30))
def test_within_is_never_wrong(a, b, scale, shift, size):
    num = sym("i0") * scale + sym("i1") + shift
    if within(num, size, {"i0": a, "i1": b}):
        assert all(0 <= x * scale + y + shift < size for x in range(a) for y in range(b))


def test_equal_polynomials_are_one_object():
    n, m = sym("N"), sym("M")
    assert (n + m) * (n - m) is n * n - m * m
    assert (n + 1) * 2 - n is n + 2
    assert n - n == 0 and isinstance(n - n, int)
    assert pickle.loads(pickle.dumps(n * 3 + 1)) is n * 3 + 1


def test_divisions_that_come_out_even():
    n, i, j = sym("N"), sym("i"), sym("j")
    assert (n * 6 + 3) // 6 is n
    assert floordiv(i * n + j, n, {"j": n}) is i
    assert floordiv(i * 12 + j, 12, {"j": 12}) is i
    assert cdiv(n * 4, 4) is n
    assert floordiv(n, 1) is n and floordiv(0, n) == 0
    assert floordiv(i * 4 + j, 0) == 0, "an empty axis is never indexed"


def test_the_degree_in_one_symbol():
    n, i = sym("N"), sym("i")
    assert coefficient(i * n + 3, "i") is n
    assert coefficient(i * i, "i") is None and coefficient(i // 2, "i") is None
    assert coefficient(7, "i") == 0


def test_an_unknown_size_is_no_condition():
    n = sym("N")
    with pytest.raises(ShapeError, match="not known"):
        bool(n)
    with pytest.raises(ShapeError, match="needs a value for N"):
        evaluate(n * 2, {})
    assert prod([]) == 1 and prod([n, 2]) is n * 2


def test_a_named_size_divides_its_multiples():
    n, m = sym("N"), sym("M")
    assert floordiv(n * 12, n) == 12
    assert floordiv(n * m * 2 + n, n) == m * 2 + 1
