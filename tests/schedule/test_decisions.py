"""Which operators share a kernel, and the sentence that says why."""

from __future__ import annotations

import pytest

import graphc.ops as ops
from graphc.ir.dims import sym
from graphc.ir.graph import Graph, Input
from graphc.ir.node import Node
from graphc.passes.pipeline import Settings, lower
from graphc.schedule.explain import explain
from graphc.schedule.limits import Limits
from graphc.schedule.program import Schedule, schedule_graph
from tests.models import Builder, mlp_step

N = sym("N")


def scheduled(graph: Graph) -> Schedule:
    low = lower(graph, Settings(16, {}, may_choose=bool(graph.updates)))
    return schedule_graph(low.graph, low.layouts)


def one(*outputs: Node) -> Schedule:
    """The schedule of a graph whose inputs are found by walking it."""
    from graphc.ir.node import toposort

    leaves = [n for n in toposort(outputs) if n.op.kind == "input"]
    inputs = tuple(Input(n.attrs["name"], n) for n in leaves)
    return scheduled(Graph("g", inputs, tuple((f"o{i}", n) for i, n in enumerate(outputs))))


def x(*shape: object, name: str = "x", dtype: str = "float32") -> Node:
    return ops.input(name, shape, dtype)  # type: ignore[no-any-return]


def kinds(s: Schedule) -> list[str]:
    return [i.nest.kind for i in s.launches()]


class TestTogether:
    def test_bias_and_relu_are_an_epilogue(self):
        s = one((x(N, 32) @ x(32, 24, name="w") + x(24, name="b")).relu())
        assert kinds(s) == ["contract"]
        sentence = explain(s.grouping, "dot_general", "add")
        assert sentence == "dot_general and add are one kernel: read at the index where it is made: same contract kernel"
        assert "one kernel" in explain(s.grouping, "add", "maximum")

    def test_softmax_is_one_row_nest(self):
        s = one(ops.softmax(x(N, 50), -1))
        assert kinds(s) == ["row"]
        assert len(s.launches()[0].nest.stages) == 3
        assert explain(s.grouping, "exp", "sum") == "exp and sum are one kernel: folded where it is made: same row kernel"

    def test_a_sum_of_a_part_is_not_folded_with_the_whole(self):
        y = x(11).exp()
        s = one(y, ops.slice(y, (0,), (10,), (1,)).sum())
        assert kinds(s) == ["map", "row"]
        assert "a part of what the kernel computes" in explain(s.grouping, "exp", "sum")

    def test_layer_norm_is_one_row_nest(self):
        assert kinds(one(ops.layer_norm(x(N, 50), x(50, name="g"), x(50, name="b")))) == ["row"]

    def test_elementwise_chains_are_one_map(self):
        s = one((x(N, 7).tanh() + x(7, name="b")).exp() * 3.0)
        assert kinds(s) == ["map"]

    def test_a_transposed_reader_stands_transposed(self):
        s = one(x(6, 8).exp().transpose() + x(8, 6, name="y"))
        assert kinds(s) == ["map"]

    def test_adam_is_fused_into_the_contraction_of_a_transposed_gradient(self):
        s = scheduled(mlp_step((24, 20, 10))[0])
        update = dict(s.graph.updates)["fc0.weight"]
        home = s.grouping.home[update]
        assert home.kind == "contract" and home.contract is not None
        # the contraction makes the gradient as (in, out) = (m, n); the weight is (out, in): its update stands at (n, m)
        assert [home.contract.m.size, home.contract.n.size] == [24, 20] and update.shape == (20, 24)
        assert [str(i) for i in home.index[update]] == [home.contract.n.name, home.contract.m.name]

    def test_a_reshaped_reader_stands_on_the_merged_axis(self):
        a, w = x(N, 6, 16), x(16, 8, name="w")
        s = one(((a @ w) + x(8, name="c") + x(N, 6, 8, name="r")).tanh())
        assert kinds(s) == ["contract"]  # the product is (6 N, 8), what reads it (N, 6, 8)
        (launch,) = s.launches()
        assert [str(i.size) for i in launch.nest.outer] == ["6*N", "8"]
        s = one((x(12, 8) @ w.transpose()).reshape(3, 4, 16).exp())
        assert kinds(s)[-1] == "contract" and s.launches()[-1].nest.name == "dot_general_exp"

    def test_a_reader_that_walks_another_way_is_apart(self):
        s = one((x(12, 8) @ x(8, 5, name="w")).reshape(3, 4, 5).transpose(1, 0, 2).exp() + x(4, 3, 5, name="r"))
        assert kinds(s) == ["contract"]  # transposed after the split: still one walk of the rows, in another order
        s = one((x(12, 8) @ x(8, 6, name="w")).reshape(12, 2, 3).sum(1).exp())
        assert kinds(s)[0] == "contract" and len(kinds(s)) == 2

    def test_cheap_nodes_are_computed_again_and_not_stored(self):
        a = x(N, 9)
        mask = a * 2.0
        s = one(mask.exp(), mask.sum(0))
        assert "computed where it is read" in explain(s.grouping, "input", "mul")
        assert all("mul" not in [n.op.name for n in i.nest.nodes] for i in s.launches())


class TestPrologues:
    def test_an_operand_that_one_panel_reads_is_computed_there(self):
        s = one(ops.cast(x(N, 8, dtype="uint8"), "float32").exp() @ x(8, 9, name="w"))
        assert kinds(s) == ["contract"]
        assert s.launches()[0].nest.name == "cast_exp_into_dot_general"
        assert explain(s.grouping, "exp", "dot_general").endswith("it is computed where it is read: a prologue")
        assert s.launches()[0].nest.contract.a.dtype.name == "float32"

    def test_cheap_work_is_done_for_some_panels_and_stored_for_many(self):
        scaled = lambda width: kinds(one((ops.cast(x(N, 8, dtype="uint8"), "float32") * 0.5) @ x(8, width, name="w")))
        assert scaled(96) == ["contract"] and scaled(512) == ["map", "contract"]

    def test_the_right_operand_of_few_rows(self):
        w = lambda: ops.cast(x(8, 64, name="w", dtype="int8"), "float32") * x(64, name="scale")
        assert kinds(one(x(4, 8) @ w())) == ["contract"]
        assert kinds(one(x(200, 8) @ w())) == ["map", "contract"]
        assert kinds(one(x(N, 8) @ w())) == ["map", "contract"]  # nobody knows how many rows

    def test_a_kernel_that_makes_what_it_reads_takes_it_instead(self):
        s = one(((x(N, 8) @ x(8, 40, name="v")).exp()) @ x(40, 9, name="w"))
        assert [i.nest.name for i in s.launches()] == ["dot_general_exp", "dot_general"]

    def test_an_operand_with_another_reader_is_stored(self):
        e = x(N, 8).exp()
        s = one(e @ x(8, 9, name="w"), e.sum(0))
        assert kinds(s) == ["row", "contract"]

    def test_an_operand_that_is_returned_is_stored(self):
        e = x(N, 8).exp()
        s = one(e @ x(8, 9, name="w"), e)
        assert kinds(s) == ["map", "contract"]

    def test_padding_is_stored(self):
        s = one(ops.pad(x(N, 8), (0, 1), (0, 0)).exp() @ x(9, 9, name="w"))
        assert kinds(s) == ["map", "contract"]


class TestSiblings:
    def test_maps_that_read_the_same_values_are_one(self):
        a, b = x(N, 9), x(N, 9, name="y")
        s = one(a.exp() * b, (a * b).tanh())
        assert kinds(s) == ["map"]
        assert "one pass for both" in explain(s.grouping, "input", "tanh") or "one pass" in " ".join(d.reason for d in s.decisions)

    def test_maps_that_read_them_at_other_places_are_two(self):
        a = x(9, 9)
        assert kinds(one(a.exp(), a.transpose().tanh().exp())) in (["map", "map"], ["map"])
        s = one(x(9, 6).exp(), x(9, 6)[::-1].tanh())
        assert kinds(s) == ["map", "map"]


class TestApart:
    def test_an_operand_of_a_contraction_is_stored(self):
        s = one(x(N, 8).exp() @ x(8, 200, name="w"))
        assert kinds(s) == ["map", "contract"]
        assert explain(s.grouping, "exp", "dot_general").endswith("an operand of a contraction is read many times, so it is stored")

    def test_a_contraction_does_not_fold(self):
        s = one((x(N, 8) @ x(8, 9, name="w")).sum(-1))
        assert explain(s.grouping, "dot_general", "sum").endswith("a contract kernel does not fold its results")

    def test_other_axes_are_another_kernel(self):
        e = x(N, 9).exp()
        s = one(e.sum(0), e.sum(1))
        assert len(kinds(s)) == 2

    def test_a_shifted_reader_is_another_kernel(self):
        e = x(12, 6).exp()
        s = one(e[1:] + e[:-1])
        assert len(kinds(s)) == 2
        assert explain(s.grouping, "exp", "add") == "exp and add are two kernels: their shapes are no common iteration space"
        e = x(12, 6).exp()
        s = one(e + ops.flip(e, 0))
        assert explain(s.grouping, "exp", "add").endswith("exp is read at another index than the one where it is made")

    def test_an_outer_product_is_no_diagonal(self):
        for v in (x(N, 9).sum(-1), (x(9, 8) @ x(8, 1, name="w")).reshape(9), x(9).exp()):
            s = one(v.expand_dims(-1) * v.expand_dims(-2))
            assert [len(i.nest.outer) for i in s.launches()][-1] == 2 and len(kinds(s)) == 2

    def test_unrelated_nodes_are_not_joined(self):
        s = one(x(N, 9).exp(), x(N, 9, name="y").tanh())
        assert explain(s.grouping, "exp", "tanh").endswith("neither reads the other, and kernels are only joined along a value")

    def test_a_name_that_is_nowhere(self):
        s = one(x(N, 9).exp())
        assert explain(s.grouping, "exp", "conv").startswith("conv is in no kernel")

    def test_a_long_fold_to_one_value_is_split_over_threads(self):
        s = one(x(Limits.serial_fold * 2).exp().sum())
        assert len(kinds(s)) >= 2
        short = one(x(64).exp().sum())
        assert kinds(short) == ["row"]

    def test_the_clipped_update_waits_for_the_norm(self):
        s = scheduled(mlp_step((24, 20, 10), "clipped")[0])
        contractions = [i for i in s.launches() if i.nest.kind == "contract"]
        assert not any(b.space == "slot" for i in contractions for b in i.writes)


@pytest.mark.parametrize("width", [16, 8, 4])
def test_decisions_do_not_depend_on_the_vector_width(width: int):
    graph = mlp_step((24, 20, 10))[0]
    low = lower(graph, Settings(width, {}, may_choose=True))
    s = schedule_graph(low.graph, low.layouts)
    assert [i.nest.name for i in s.launches()] == [i.nest.name for i in scheduled(graph).launches()]


def test_every_decision_is_a_sentence():
    for d in scheduled(mlp_step((24, 20, 10), "clipped")[0]).decisions:
        assert len(d.reason.split()) > 3 and "\n" not in d.reason


def test_views_cost_nothing():
    b = Builder()
    a = b.arg("x", (N, 4, 6))
    s = scheduled(b.graph({"out": a.transpose(0, 2, 1).reshape(N * 6, 4).exp()}))
    assert kinds(s) == ["map"] and not any(c.space == "temp" for c in s.buffers.values())
