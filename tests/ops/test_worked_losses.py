"""Losses and metrics of the course notes: their worked examples, and for each of their mistakes that ours is the right form.

"Row" is a row of the catalogue's table of examples, "line" a line of the notes where the catalogue lists a mistake.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import ops
from graphc.autodiff import gradients
from graphc.compiler import compile_graph
from graphc.ir.graph import Graph
from graphc.testing import build_graph

rng = np.random.default_rng(0)


def value(target, fn, *args):
    graph, arrays = build_graph(fn, *args)
    found = list(compile_graph(graph, target)(arrays).values())
    return found[0] if len(found) == 1 else found


def gradient(target, fn, *args, wrt=0):
    graph, arrays = build_graph(fn, *args)
    (g,) = gradients([graph.outputs[0][1]], None, [graph.inputs[wrt].node])
    return compile_graph(Graph("gradient", graph.inputs, (("g", g),)), target)(arrays)["g"]


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def labelled(tp, fp, fn, tn=0):
    """Predictions and targets with these counts."""
    return np.repeat([1, 1, 0, 0], [tp, fp, fn, tn]), np.repeat([1, 0, 1, 0], [tp, fp, fn, tn])


# -- the worked examples ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
def test_row_23_huber_inside_outside_and_at_the_seam(target, delta):
    x = np.array([0.3 * delta, -0.9 * delta, 1.5 * delta, -4 * delta])
    inside, outside = 0.5 * x**2, delta * (np.abs(x) - delta / 2)
    wanted = np.where(np.abs(x) < delta, inside, outside)
    np.testing.assert_allclose(value(target, lambda a, b: ops.huber_loss(a, b, "none", delta), x, x * 0), wanted, rtol=1e-12)
    slopes = gradient(target, lambda a, b: ops.huber_loss(a, b, "sum", delta), x, x * 0)
    np.testing.assert_allclose(slopes, np.where(np.abs(x) < delta, x, delta * np.sign(x)), rtol=1e-12)
    seam = np.array([delta * (1 - 1e-9), delta, delta * (1 + 1e-9)])
    np.testing.assert_allclose(value(target, lambda a, b: ops.huber_loss(a, b, "none", delta), seam, seam * 0), 0.5 * delta**2, rtol=1e-8)


def test_row_37_the_area_under_the_curve(target):
    y = np.array([0, 0, 0, 1, 1])
    assert value(target, ops.roc_auc, y * 1.0, y) == 1, "perfect"
    assert value(target, ops.roc_auc, y * 0.0, y) == 0.5, "one score for all is chance"
    assert value(target, ops.roc_auc, y * -1.0, y) == 0, "worse than chance"
    many, scores = rng.integers(0, 2, 2000), rng.random(2000)
    assert value(target, ops.roc_auc, scores, many) == pytest.approx(0.5, abs=0.03), "random scores"
    assert gc.metrics.roc_auc_score(many, scores) == pytest.approx(float(value(target, ops.roc_auc, scores, many)), rel=1e-12)


def test_row_38_and_line_2113_f_beta(target):
    """As printed, (b^2+1) TP / ((b^2+1) TP + FP + FN), which agrees at b = 1 only."""
    p, y = labelled(tp=6, fp=3, fn=5)
    found = {b: float(value(target, lambda a, c, b=b: ops.f_score(a, c, classes=2, beta=b, average="binary"), p, y)) for b in (1.0, 2.0)}
    assert found == pytest.approx({1.0: 0.6, 2.0: 30 / 53}, rel=1e-6)
    assert found[2.0] == pytest.approx(0.5660, abs=5e-5) and found[2.0] != pytest.approx(0.7895, abs=5e-3)
    precision, recall = 6 / 9, 6 / 11
    assert found[2.0] == pytest.approx(5 * precision * recall / (4 * precision + recall), rel=1e-6), "line 2107"
    assert gc.metrics.fbeta_score(y, p, beta=2.0) == pytest.approx(30 / 53, rel=1e-12)


def test_row_39_and_lines_2166_2172_macro_and_micro_precision(target):
    """tp = [5, 1], fp = [1, 3]: the mean of the quotients; the quotient of the sums divided by K would be 0.3."""
    p, y = np.array([0] * 6 + [1] * 4), np.array([0] * 5 + [1] + [1] + [0] * 3)
    tp, fp, _, _ = value(target, lambda a, b: ops.class_counts(a, b, classes=2), p, y)
    assert (tp.tolist(), fp.tolist()) == ([5, 1], [1, 3])
    macro, micro = (float(value(target, lambda a, b, k=k: ops.precision(a, b, classes=2, average=k), p, y)) for k in ("macro", "micro"))
    assert macro == pytest.approx((5 / 6 + 1 / 4) / 2, rel=1e-6) and macro == pytest.approx(0.5417, abs=5e-5)
    assert micro == pytest.approx(0.6, rel=1e-6)
    assert gc.metrics.precision_score(y, p, average="macro") == pytest.approx(13 / 24)


def test_rates_of_the_curve(target):
    """TPR = TP / (TP + FN), FPR = FP / (FP + TN), at each threshold."""
    scores, y = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.4]), np.array([1, 1, 0, 1, 0, 0])
    fpr, tpr = value(target, ops.roc_curve, scores, y, np.array([1.0, 0.75, 0.5, 0.0]))
    np.testing.assert_allclose(tpr, [0, 2 / 3, 1, 1])
    np.testing.assert_allclose(fpr, [0, 0, 2 / 3, 1])


def test_iou_counts_pixels(target):
    """|A n B| / |A u B| on sets of pixels, which the areas of boxes at whole numbers are."""
    a, b = np.zeros((6, 7), np.int64), np.zeros((6, 7), np.int64)
    a[1:4, 1:5], b[2:6, 3:7] = 1, 1
    wanted = (a & b).sum() / (a | b).sum()
    assert value(target, lambda p, t: ops.jaccard(p, t, classes=2, average="binary"), a, b) == pytest.approx(wanted, rel=1e-6)
    boxes = value(target, ops.box_iou, np.array([[1.0, 1.0, 4.0, 5.0]]), np.array([[2.0, 3.0, 6.0, 7.0]]))
    np.testing.assert_allclose(boxes, [[wanted]], rtol=1e-12)


# -- mistakes: cross entropy -----------------------------------------------------------------------------------------------
A, ONE_HOT = rng.normal(size=(4, 3)), np.eye(3)[[0, 2, 1, 2]]


def test_line_813_the_sign_of_cross_entropy(target):
    """- sum y log f: positive, and smaller for the better prediction."""
    good, bad = 3 * ONE_HOT, -3 * ONE_HOT
    losses = [float(value(target, ops.cross_entropy, a, ONE_HOT)) for a in (good, bad)]
    assert 0 < losses[0] < losses[1]
    assert value(target, lambda a, y: ops.cross_entropy(a, y, reduction="sum"), A, ONE_HOT) == pytest.approx(-(ONE_HOT * np.log(softmax(A))).sum(), rel=1e-12)


def test_lines_1471_and_1768_the_derivative_by_f_is_not_the_loss_nor_the_delta(target):
    """The loss is -sum y log f; its derivative by f is -y / f; by the logits, through softmax, it is f - y."""
    f = softmax(A)

    def loss(p, y):
        return -(y * p.log()).sum()

    by_f = gradient(target, loss, f, ONE_HOT)
    np.testing.assert_allclose(by_f, -ONE_HOT / f, rtol=1e-12)
    assert abs(float(value(target, loss, f, ONE_HOT)) - by_f.sum()) > 1, "line 1471 calls this the loss"
    by_a = gradient(target, lambda a, y: ops.cross_entropy(a, y, reduction="sum"), A, ONE_HOT)
    np.testing.assert_allclose(by_a, f - ONE_HOT, rtol=1e-10, atol=1e-14)
    assert np.abs(by_a - by_f).max() > 0.1, "line 1768 takes one for the other"


def test_lines_1755_1763_the_derivative_of_softmax_is_a_matrix(target):
    """dL/da = J dL/df with J = diag(f) - f f^T, not dL/df times f (1 - f)."""
    f = softmax(A)
    jacobian = np.stack([np.diag(r) - np.outer(r, r) for r in f])
    by_a = gradient(target, lambda a, y: -(y * a.softmax(-1).log()).sum(), A, ONE_HOT)
    np.testing.assert_allclose(by_a, np.einsum("nij,nj->ni", jacobian, -ONE_HOT / f), rtol=1e-10, atol=1e-14)
    assert np.abs(by_a - (-ONE_HOT / f) * f * (1 - f)).max() > 0.1


def test_lines_1530_1538_the_mean_divides_and_the_true_class_pulls(target):
    total, mean = (gradient(target, lambda a, y, r=r: ops.cross_entropy(a, y, reduction=r), A, ONE_HOT) for r in ("sum", "mean"))
    np.testing.assert_allclose(mean, total / 4, rtol=1e-12)
    assert (total[ONE_HOT == 1] < 0).all() and (total[ONE_HOT == 0] > 0).all()


def test_line_6135_n_counts_samples(target):
    """A sample's loss sums over classes; the mean is over samples, not over N times K terms."""
    rows = value(target, lambda a, y: ops.cross_entropy(a, y, reduction="none"), A, ONE_HOT)
    assert rows.shape == (4,)
    assert value(target, ops.cross_entropy, A, ONE_HOT) == pytest.approx(rows.sum() / 4, rel=1e-12)


# -- mistakes: metrics -----------------------------------------------------------------------------------------------------
def test_line_2084_accuracy_is_correct_over_all(target):
    """Not sum_k (TP_k + TN_k) / K, nor a mean over classes of (TP_k + TN_k) / N, which counts true negatives too."""
    logits, y = np.eye(4)[[0, 1, 2, 3, 3]], np.array([0, 1, 3, 2, 3])
    assert value(target, ops.accuracy, logits, y) == pytest.approx(3 / 5, rel=1e-6)
    tp, _, _, tn = value(target, lambda p, t: ops.class_counts(p, t, classes=4), logits.argmax(1), y)
    assert (tp + tn).sum() / 4 == pytest.approx(4.0) and (tp + tn).mean() / 5 == pytest.approx(0.8)


def test_line_2178_the_macro_f_is_the_mean_of_the_classes_f(target):
    p, y = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    each = value(target, lambda a, b: ops.f_score(a, b, classes=3, average=None), p, y)
    macro = float(value(target, lambda a, b: ops.f_score(a, b, classes=3), p, y))
    assert macro == pytest.approx(each.mean(), rel=1e-6)
    precision, recall = (float(value(target, lambda a, b, f=f: f(a, b, classes=3), p, y)) for f in (ops.precision, ops.recall))
    assert abs(macro - 2 * precision * recall / (precision + recall)) > 1e-4, "the F of the means is another number"


def test_line_2121_the_area_hides_rare_positives(target):
    """The ROC's area looks good where most alarms are false; average precision does not."""
    y = np.repeat([1, 0, 0], [5, 45, 950])
    scores = np.concatenate([np.full(5, 0.8), np.full(45, 0.9), np.linspace(0, 0.5, 950)])
    assert value(target, ops.roc_auc, scores, y) > 0.95
    assert value(target, ops.average_precision, scores, y) == pytest.approx(0.1, rel=1e-12)


# -- mistakes: word vectors ------------------------------------------------------------------------------------------------
U, V_C, O = rng.normal(size=(6, 4)), rng.normal(size=4), 2  # all context vectors, one centre, the word seen


def pair_loss(v, u):
    """-log P(o | c) as the cross entropy of the scores u v_c."""
    return ops.cross_entropy(u @ v, ops.const(O, "int64"))


def test_lines_5806_5808_5836_the_pair_loss_is_minus_the_log_probability(target):
    scores = U @ V_C
    assert value(target, pair_loss, V_C, U) == pytest.approx(-(scores[O] - np.log(np.exp(scores).sum())), rel=1e-12)


def test_lines_5846_5895_5903_the_gradient_of_the_loss_points_away_from_the_word_seen(target):
    """u_o - sum P(j|c) u_j is the gradient of log P; the loss's has the other sign, so a step moves v_c towards u_o."""
    p = softmax(U @ V_C)
    g = gradient(target, pair_loss, V_C, U)
    np.testing.assert_allclose(g, -(U[O] - p @ U), rtol=1e-10)
    stepped = V_C - 0.1 * g
    assert softmax(U @ stepped)[O] > p[O]
    assert (stepped - V_C) @ (U[O] - p @ U) > 0


def test_line_5698_the_loss_of_a_text_is_a_sum_of_logarithms(target):
    """Products of probabilities over centre and context words turn into sums; row 30's four context words."""
    context = np.array([0, 1, 3, 4])
    total = value(target, lambda v, u: ops.cross_entropy(ops.broadcast_to(u @ v, (4, 6)), ops.const(context), reduction="sum"), V_C, U)
    assert total == pytest.approx(-np.log(np.prod(softmax(U @ V_C)[context])), rel=1e-10)


def test_line_5921_negative_sampling_pushes_noise_away(target):
    """-log s(u_o.v_c) - sum_k log s(-u_k.v_c); the notes write only the first term, whose minimum makes all vectors alike."""
    noise = U[3:]
    wanted = -np.log(sigmoid(U[O] @ V_C)) - np.log(sigmoid(-noise @ V_C)).sum()
    assert value(target, ops.negative_sampling_loss, V_C, U[O], noise) == pytest.approx(wanted, rel=1e-12)
    g = gradient(target, ops.negative_sampling_loss, V_C, U[O], noise)
    np.testing.assert_allclose(g, (sigmoid(U[O] @ V_C) - 1) * U[O] + sigmoid(noise @ V_C) @ noise, rtol=1e-10)
    away = gradient(target, ops.negative_sampling_loss, V_C, U[O], noise, wrt=2)
    assert (away @ V_C > 0).all(), "a step lowers the noise words' scores"


# -- misleading statements -------------------------------------------------------------------------------------------------
def test_line_3844_huber_and_smooth_l1_differ_by_their_parameter(target):
    x = rng.normal(size=9) * 2
    for delta in (0.5, 1.0, 3.0):
        huber, smooth = (float(value(target, lambda a, b, f=f, d=delta: f(a, b, "mean", d), x, x * 0)) for f in (ops.huber_loss, ops.smooth_l1_loss))
        assert smooth == pytest.approx(huber / delta, rel=1e-12)
    far = gradient(target, lambda a, b: ops.smooth_l1_loss(a, b, "sum", 0.5), np.array([10.0]), np.array([0.0]))
    np.testing.assert_allclose(far, [1.0])


def test_line_772_mape_does_not_depend_on_the_scale(target):
    y, f = rng.uniform(1, 2, 9), rng.uniform(1, 2, 9)
    assert value(target, ops.mape_loss, 1000 * f, 1000 * y) == pytest.approx(float(value(target, ops.mape_loss, f, y)), rel=1e-12)
    assert np.isfinite(value(target, ops.mape_loss, np.array([1.0]), np.array([0.0]))) and value(target, ops.mape_loss, np.array([1.0]), np.array([0.0])) > 1e8


def test_line_778_msle_needs_values_above_minus_one(target):
    assert value(target, ops.msle_loss, np.array([-0.5, 3.0]), np.array([0.0, 3.0])) == pytest.approx(np.log(0.5) ** 2 / 2, rel=1e-12)
    assert np.isnan(value(target, ops.msle_loss, np.array([-1.5]), np.array([0.0]))), "training stops instead of going wrong"


def test_line_782_a_larger_cosine_is_better_so_the_loss_is_one_minus_it(target):
    x = np.array([[1.0, 2.0, 3.0]])
    cos = [float(value(target, ops.cosine_similarity, x, y)[0]) for y in (2 * x, -x, np.array([[3.0, 0.0, -1.0]]))]
    assert cos == pytest.approx([1, -1, 0], abs=1e-12)
    loss = gc.losses.as_loss("cosine").fn
    assert [float(np.mean(value(target, loss, x, y))) for y in (2 * x, -x)] == pytest.approx([0, 2], abs=1e-12)  # one a row


def test_sums_and_means(target):
    """SSE and the multi-class SSE are sums, MSE is the mean over all elements; the derivative is -2 (y - f)."""
    f, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    assert value(target, ops.sse_loss, f, y) == pytest.approx(((y - f) ** 2).sum(), rel=1e-12)
    assert value(target, ops.mse_loss, f, y) == pytest.approx(((y - f) ** 2).mean(), rel=1e-12)
    np.testing.assert_allclose(gradient(target, ops.sse_loss, f, y), -2 * (y - f), rtol=1e-12)
