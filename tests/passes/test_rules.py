"""Every rewrite rule tests itself on samples made from its pattern; the language of rules; and the driver."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings

import graphc.ops as ops
from graphc.backends.reference import interpret
from graphc.errors import GraphcError, VerifyError
from graphc.ir.dtypes import as_dtype, float64
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node, toposort
from graphc.ir.op import OpDef, all_ops
from graphc.ir.text import parse_graph
from graphc.ir.types import TensorType
from graphc.passes.patterns import Rule, attributes, computed, numbers, of_kind, one_of, op, result, tensors
from graphc.passes.pipeline import Settings, lower
from graphc.passes.rules import RULES
from graphc.passes.simplify import simplify
from graphc.testing import assert_graph_equal, random_graphs

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 1.5, -2.25], np.float32)


def whole(rule: Rule) -> list[tuple[Graph, Node]]:
    """Each sample of a rule as a graph: its placeholders are the inputs."""
    out = []
    for node in rule.samples():
        leaves = [n for n in toposort([node]) if n.op.kind == "input"]
        out.append((Graph("sample", tuple(Input(n.attrs["name"], n) for n in leaves), (("out", node),)), node))
    return out


def arrays(graph: Graph, seed: int, special: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {}
    for i in graph.inputs:
        dtype, shape = i.node.dtype, i.node.shape
        a = rng.standard_normal(shape).astype(dtype.numpy) if dtype.is_float else rng.integers(0, 2 if dtype.kind == "b" else 120, shape).astype(dtype.numpy)
        if dtype.is_float and special:  # special values in every place, over the seeds
            a = rng.permutation(np.resize(SPECIAL, max(a.size, SPECIAL.size)))[: a.size].reshape(a.shape).astype(a.dtype)
        out[i.name] = a
    return out


def check(rule: Rule, rules: list[Rule]) -> None:
    """The meaning of every sample is kept by ``rules``: every bit if the rule says so."""
    for graph, _ in whole(rule):
        after = simplify(graph, rules)
        for seed in range(6):
            values = arrays(graph, seed, special=rule.exact and seed > 0)
            a, b = interpret(graph, values)[0]["out"], interpret(after, values)[0]["out"]
            assert a.dtype == b.dtype and a.shape == b.shape
            if rule.exact:
                # every bit but a NaN's sign and payload, which IEEE leaves open
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (str(graph), a, b)
                if a.dtype.kind == "f":
                    assert np.array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)]), (str(graph), a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b[np.isfinite(b)]).max(initial=0))  # (terms of a sum may cancel)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
class TestRule:
    def test_its_pattern_makes_samples_that_it_matches(self, rule: Rule):
        samples = rule.samples()
        assert samples, f"{rule} matches no sample of its own pattern"
        for node in samples:
            new = rule.apply(node)
            assert new is not None and new is not node and new.type == node.type

    def test_the_driver_applies_it(self, rule: Rule):
        fired: Counter[str] = Counter()
        for graph, node in whole(rule):
            assert dict(simplify(graph, [rule], fired).outputs)["out"] is not node
        assert fired[rule.name] >= 1 and set(fired) == {rule.name}

    def test_meaning_is_kept(self, rule: Rule):
        check(rule, [rule])

    def test_it_has_a_name_of_its_own_and_prints_as_a_line(self, rule: Rule):
        assert sum(r.name == rule.name for r in RULES) == 1
        assert " -> " in str(rule) and "\n" not in str(rule) and "lambda" not in str(rule)


class TestLanguage:
    x, y = tensors("x y")

    def nodes(self):
        return ops.input("x", (3,), "float32"), ops.input("y", (3,), "float32")

    def test_a_wrong_rule_is_caught_by_its_own_test(self):
        x, y = self.x, self.y
        for wrong in (
            Rule("wrong sign", x + (-y), y - x),
            Rule("not every bit", x + 0.0, x),
            Rule("a NaN is lost", x * 0.0, 0.0),
            Rule("not for floats", op.logical_not(x < y), y <= x),
        ):
            with pytest.raises(AssertionError):
                check(wrong, [wrong])

    def test_a_wrong_type_is_refused(self):
        rule = Rule("shape", op.reshape(self.x, shape=(6,)), self.x)
        with pytest.raises(VerifyError, match="'shape' replaces"):
            rule.samples()

    def test_a_variable_twice_is_the_same_node_twice(self):
        a, b = self.nodes()
        rule = Rule("same", op.maximum(self.x, self.x), self.x)
        assert rule.apply(ops.maximum(a, a)) is a and rule.apply(ops.maximum(a, b)) is None
        assert rule.apply(ops.maximum(a + b, a + b)) is a + b  # the same computation is the same node

    def test_commutative_operators_are_tried_in_both_orders(self):
        a, b = self.nodes()
        rule = Rule("add neg", self.x + (-self.y), self.x - self.y)
        assert rule.apply(a + (-b)) is a - b and rule.apply((-b) + a) is a - b
        other = Rule("sub neg", self.x - (-self.y), self.x + self.y)
        assert other.apply(a - (-b)) is a + b and other.apply((-b) - a) is None

    def test_a_number_is_seen_behind_views_and_has_a_sign_and_a_kind(self):
        a, _ = self.nodes()
        one = Rule("one", self.x * 1, self.x)
        assert one.apply(a * 1.0) is a
        assert one.apply(a * ops.broadcast_to(ops.const(1.0, "float32").reshape(1), (3,))) is a
        assert one.apply(a * 2.0) is None
        zero = Rule("zero", self.x - 0.0, self.x)
        assert zero.apply(a - 0.0) is a and zero.apply(a - ops.const(-0.0, "float32")) is None
        true = Rule("true", op.where(True, self.x, self.y), self.x)
        b, c = ops.input("b", (3,), "bool"), ops.const(True)
        assert true.apply(ops.where(c, a, a * 2.0)) is a and true.apply(ops.where(b, a, a * 2.0)) is None

    def test_attributes_are_taken_and_compared(self):
        (p,) = attributes("p")
        a = ops.input("a", (2, 2), "float32")
        twice = Rule("twice", op.transpose(op.transpose(self.x, perm=p), perm=p), self.x)
        t = ops.transpose(ops.transpose(a, 1, 0), 1, 0)
        assert twice.apply(t) is a
        b = ops.input("b", (2, 2, 2), "float32")
        assert twice.apply(ops.transpose(ops.transpose(b, 1, 0, 2), 0, 2, 1)) is None

    def test_families_stand_for_what_they_matched(self):
        f = one_of("f", "maximum", "minimum")
        a, b = self.nodes()
        rule = Rule("negated", -f(-self.x, -self.y), f(self.x, self.y))  # (wrong as mathematics: it is about the language)
        assert rule.apply(-ops.minimum(-a, -b)) is ops.minimum(a, b) and rule.apply(-ops.maximum(-a, -b)) is ops.maximum(a, b)
        assert rule.apply(-((-a) + (-b))) is None

    def test_conditions_are_named_and_asked(self):
        @computed
        def is_long(x):
            return x.shape[0] > 2

        rule = Rule("long", -(-self.x), self.x, [is_long(self.x)])
        assert str(rule) == "neg(neg(x)) -> x  where is_long(x)"
        a, short = ops.input("a", (3,), "float32"), ops.input("s", (2,), "float32")
        assert rule.apply(-(-a)) is a and rule.apply(-(-short)) is None

    def test_rules_print_as_mathematics(self):
        assert str(Rule("add neg", self.x + (-self.y), self.x - self.y)) == "add(x, neg(y)) -> sub(x, y)"
        s, t = attributes("s t")
        assert str(Rule("r", op.reshape(op.reshape(self.x, shape=s), shape=t), op.reshape(self.x, shape=t))) == (
            "reshape(reshape(x, shape=s), shape=t) -> reshape(x, shape=t)"
        )

    def test_a_replacement_knows_only_what_was_captured(self):
        with pytest.raises(VerifyError, match="'unknown': y stands in add\\(x, y\\), but not in the pattern"):
            Rule("unknown", -self.x, self.x + self.y)

    def test_all_operands_as_numbers(self):
        (c,) = numbers("c")
        f = of_kind("f", "elementwise")
        rule = Rule("constants", f(*c), result)
        assert str(rule) == "f(*c) -> result"
        a, _ = self.nodes()
        ((_, matcher),) = rule.variants
        captures = rule.match(matcher, ops.where(True, ops.broadcast_to(2.5, (3,)), 1.5))
        assert captures is not None and captures["c"] == (True, 2.5, 1.5) and captures["f"].name == "where"
        assert rule.match(matcher, a + 1.0) is None and rule.match(matcher, ops.reshape(ops.const([1.0, 2.0]), (2, 1))) is None
        with pytest.raises(VerifyError, match="stands alone"):
            Rule("two", f(*c, self.x), self.x).variants


OPERANDS = (SPECIAL, np.array([0, 1, -1, 5, -128, 127, 3], np.int8), np.array([False, True]))


ELEMENTWISE = [o for o in all_ops() if o.kind == "elementwise"]


@pytest.mark.parametrize("operator", [o for o in ELEMENTWISE if list(inspect.signature(o.call).parameters) == ["x", "y"]], ids=lambda o: o.name)
def test_records_say_truly_whether_operands_may_change_places(operator: OpDef):
    tried = []
    for special in OPERANDS:
        a, b = (m.ravel() for m in np.meshgrid(special, special))
        kind = TensorType(a.shape, as_dtype(a.dtype))
        try:
            operator.infer(kind, kind)
        except GraphcError:
            continue  # not of these types
        assert operator.numpy is not None
        with np.errstate(all="ignore"):
            there, back = operator.numpy(a, b), operator.numpy(b, a)
        tried.append(np.array_equal(there, back, equal_nan=there.dtype.kind == "f"))
    assert tried and all(tried) == operator.commutative


@pytest.mark.parametrize("operator", [o for o in ELEMENTWISE if o.samples is not None], ids=lambda o: o.name)
def test_constants_are_folded_whatever_the_operator(operator: OpDef):
    """From the record's own samples: their first element alone, in each dtype as it is."""
    assert operator.samples is not None
    sample = next(s for s in operator.samples() if all(np.size(a) for a in s.args))
    first = [ops.const(np.asarray(a).ravel()[0], as_dtype(np.asarray(a).dtype)) for a in sample.args]
    node = operator.call(*first, **sample.kwargs)
    graph = Graph("g", (), (("number", node), ("copies", operator.call(*(ops.broadcast_to(n, (2, 3)) for n in first), **sample.kwargs))))
    after = simplify(graph)
    assert {n.op.name for n in after.nodes} <= {"const", "broadcast_to"}
    for k, want in interpret(graph, {})[0].items():
        np.testing.assert_array_equal(interpret(after, {})[0][k], want)


def test_who_made_a_node_is_known():
    x, y = ops.input("x", (3,), "float32"), ops.input("y", (3,), "float32")
    graph = Graph("g", (Input("x", x), Input("y", y)), (("out", ops.tanh((x * 1.0) + (-y))),))
    fired: Counter[str] = Counter()
    after = simplify(graph, fired=fired)
    assert fired == {"mul one": 1, "add neg": 1}
    assert after.provenance.rules(x - y) == ["add neg"] and after.provenance.rules(dict(after.outputs)["out"]) == []
    low = lower(graph, Settings(16))
    assert low.passes[0].rules == {"mul one": 1, "add neg": 1} and not any(p.rules for p in low.passes[1:])


@pytest.mark.parametrize(
    "build",
    [
        lambda x: x + 0.0,  # -0 + 0 is +0
        lambda x: x * 0.0,  # NaN and infinity stay
        lambda x: 0.0 - x,  # 0 - 0 is +0, -(0) is -0
        lambda x: x / 3.0,  # 1/3 is not a float
        lambda x: x - x,
        lambda x: x / x,
        lambda x: 1.0 / x,
        lambda x: x - ops.const(-0.0, x.dtype),  # +0 - -0 is +0, but -0 - -0 is +0 too
    ],
)
def test_no_rule_where_bits_would_change(build):
    x = ops.input("x", (SPECIAL.size,), "float32")
    graph = Graph("g", (Input("x", x),), (("out", build(x)),))
    a, b = (interpret(g, {"x": SPECIAL})[0]["out"] for g in (graph, simplify(graph)))
    assert np.array_equal(a, b, equal_nan=True)
    assert np.array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])


def test_rules_on_integers_keep_wrap_around():
    x = ops.input("x", (4,), "int32")
    graph = Graph("g", (Input("x", x),), (("a", x * 1), ("b", -(-x)), ("c", x - 0), ("d", x + (-x))))
    values = {"x": np.array([2**31 - 1, -(2**31), 0, 5], np.int32)}
    before, after = interpret(graph, values)[0], interpret(simplify(graph), values)[0]
    for k in before:
        assert np.array_equal(before[k], after[k])


def test_rules_in_a_circle_are_named():
    x, y = tensors("x y")
    swap = Rule("left to right", op.div(x, y), op.div(y, x))
    rules = [swap, Rule("there", x + y, x - y), Rule("and back", x - y, x + y)]
    a, b = ops.input("x", (3,), "float32"), ops.input("y", (3,), "float32")
    inputs = (Input("x", a), Input("y", b))
    with pytest.raises(VerifyError, match=r"circles.*(there, and back|and back, there)"):
        simplify(Graph("g", inputs, (("out", a + b),)), rules)
    with pytest.raises(VerifyError, match="left to right"):
        simplify(Graph("g", inputs, (("out", a / b),)), rules)


def test_what_a_rule_makes_below_its_top_is_rewritten_too():
    x, y = tensors("x y")
    a, b = ops.input("x", (3,), "float32"), ops.input("y", (3,), "float32")
    rules = [Rule("outer", op.sub(x, y), op.tanh(x + (-y))), Rule("inner", x + (-y), op.maximum(x, y))]
    fired: Counter[str] = Counter()
    after = simplify(Graph("g", (Input("x", a), Input("y", b)), (("out", (a - b) * 2.0),)), rules, fired)
    assert dict(after.outputs)["out"] is ops.tanh(ops.maximum(a, b)) * 2.0 and fired == {"outer": 1, "inner": 1}
    assert after.provenance.rules(ops.maximum(a, b)) == ["inner"] and after.provenance.rules(-b) == ["outer"]
    with pytest.raises(VerifyError, match=r"circles.*grows"):
        simplify(Graph("g", (Input("x", a),), (("out", -a),)), [Rule("grows", -x, -(-(-x)))])


def test_a_stage_says_which_rules_fired_and_is_still_read_back():
    x = ops.input("x", (3,), "float32")
    low = lower(Graph("g", (Input("x", x),), (("out", ops.tanh(-(-x)) * 1.0 + (-(-x))),)), Settings(16))
    text = low.as_text("simplify")
    assert text.startswith("# neg neg, mul one\ngraph g(")
    assert_graph_equal(parse_graph(text), low.passes[0].after)


@settings(max_examples=30, deadline=None)
@given(random_graphs(dtype=float64))
def test_random_graphs_keep_their_results_and_are_simplified_once(drawn):
    graph, values = drawn
    after = simplify(graph)
    assert simplify(after).structural_key == after.structural_key
    want, got = interpret(graph, values, "exact")[0], interpret(after, values, "exact")[0]
    for k in want:
        np.testing.assert_allclose(got[k], want[k], rtol=1e-9, atol=1e-12)


def test_simplify_twice_is_simplify_once():
    x, y = ops.input("x", (2, 6), "float32"), ops.input("y", (2, 6), "float32")
    out = (-(-(x * 1.0)) + (-y)).reshape(12).reshape(3, 4).transpose().transpose() / 4.0 - 0.0
    once = simplify(Graph("g", (Input("x", x), Input("y", y)), (("out", out),)))
    assert simplify(once).structural_key == once.structural_key
