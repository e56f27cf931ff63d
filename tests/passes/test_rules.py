"""Every rewrite rule tests itself, and the driver of rules."""

from __future__ import annotations

import numpy as np
import pytest

import graphc.ops as ops
from graphc.backends.reference import interpret
from graphc.errors import VerifyError
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node
from graphc.ir.op import lookup
from graphc.passes.rules import RULES, Rule
from graphc.passes.simplify import simplify

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 1.5, -2.25], np.float32)


def sample_graph(rule: Rule, dtype: str = "float32") -> tuple[Graph, Node]:
    inputs: dict[str, Node] = {}

    def x(name: str, *shape: int) -> Node:
        return inputs.setdefault(name, ops.input(name, shape, dtype))

    node = rule.sample(x)
    return Graph("sample", tuple(Input(k, n) for k, n in inputs.items()), (("out", node),)), node


def arrays(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    out = {}
    for i in graph.inputs:
        a = rng.standard_normal(i.node.shape).astype(i.node.dtype.numpy)
        if seed:  # special values in every place, over the seeds
            a = rng.permutation(np.resize(SPECIAL, max(a.size, SPECIAL.size)))[: a.size].reshape(a.shape).astype(a.dtype)
        out[i.name] = a
    return out


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
class TestRule:
    def test_sample_matches(self, rule: Rule):
        _, node = sample_graph(rule)
        assert node.op.name == rule.op
        new = rule.apply(node)
        assert new is not None and new is not node
        assert new.type == node.type

    def test_driver_applies_it(self, rule: Rule):
        graph, node = sample_graph(rule)
        assert dict(simplify(graph, [rule]).outputs)["out"] is not node

    def test_meaning_is_kept(self, rule: Rule):
        graph, _ = sample_graph(rule)
        after = simplify(graph, [rule])
        for seed in range(8):
            values = arrays(graph, seed)
            a, b = interpret(graph, values)[0]["out"], interpret(after, values)[0]["out"]
            assert a.dtype == b.dtype and a.shape == b.shape
            if rule.exact:
                # every bit but a NaN's sign and payload, which IEEE leaves open
                assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), (a, b)
                assert np.array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])
            else:
                np.testing.assert_allclose(a, b, rtol=1e-6)

    def test_has_words(self, rule: Rule):
        assert rule.name and rule.doc
        assert sum(r.name == rule.name for r in RULES) == 1


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
    swap = lambda n: Node.make(lookup("mul"), (n.inputs[1], n.inputs[0]))
    rules = [
        Rule("left to right", "mul", "", swap, lambda x: x("x", 3) * x("y", 3)),
        Rule("there", "add", "", lambda n: n.inputs[0] - n.inputs[1], lambda x: x("x", 3) + x("y", 3)),
        Rule("and back", "sub", "", lambda n: n.inputs[0] + n.inputs[1], lambda x: x("x", 3) - x("y", 3)),
    ]
    x, y = ops.input("x", (3,), "float32"), ops.input("y", (3,), "float32")
    inputs = (Input("x", x), Input("y", y))
    with pytest.raises(VerifyError, match=r"circles.*(there, and back|and back, there)"):
        simplify(Graph("g", inputs, (("out", x + y),)), rules)
    with pytest.raises(VerifyError, match="left to right"):
        simplify(Graph("g", inputs, (("out", x * y),)), rules)


def test_a_rule_that_gives_the_node_itself_has_not_fired():
    x = ops.input("x", (3,), "float32")
    graph = Graph("g", (Input("x", x),), (("out", -x),))
    assert simplify(graph, [Rule("nothing", "neg", "", lambda n: n, lambda x: -x("x", 3))]).structural_key == graph.structural_key


def test_simplify_twice_is_simplify_once():
    x, y = ops.input("x", (2, 6), "float32"), ops.input("y", (2, 6), "float32")
    out = (-(-(x * 1.0)) + (-y)).reshape(12).reshape(3, 4).transpose().transpose() / 4.0 - 0.0
    once = simplify(Graph("g", (Input("x", x), Input("y", y)), (("out", out),)))
    assert simplify(once).structural_key == once.structural_key
