"""Metrics of arrays, and of compiled models over whole evaluations, against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk

import graphc as gc
from graphc import metrics, nn, ops, optim

rng = np.random.default_rng(0)
N = 101
BINARY = rng.integers(0, 2, N)
BINARY_FOUND = np.where(rng.random(N) < 0.7, BINARY, 1 - BINARY)
CLASSES = rng.integers(0, 5, N)
FOUND = np.where(rng.random(N) < 0.6, CLASSES, rng.integers(0, 5, N))
SCORES = np.round(BINARY + rng.normal(size=N), 1)  # ties
ROWS = rng.normal(size=(N, 5)) + 2 * np.eye(5)[CLASSES]
SETS, SETS_FOUND = rng.integers(0, 2, (N, 4)), rng.integers(0, 2, (N, 4))
REAL, REAL_FOUND = rng.uniform(0.5, 3.0, (N, 3)), rng.uniform(0.5, 3.0, (N, 3))


# -- functions of arrays ---------------------------------------------------------------------------------------------------
BY_CLASS = {"precision_score": {}, "recall_score": {}, "f1_score": {}, "fbeta_score": {"beta": 2.0}, "jaccard_score": {}}
DATA = {
    "five classes": (CLASSES, FOUND),
    "binary": (BINARY, BINARY_FOUND),
    "sets": (SETS, SETS_FOUND),
    "a class never found": (CLASSES, np.minimum(FOUND, 3)),
    "names": (np.array(["cat", "dog", "eel"])[CLASSES % 3], np.array(["cat", "dog", "eel"])[FOUND % 3]),
    "one sample": (np.array([2]), np.array([1])),
    "never right": (np.array([0, 1, 2]), np.array([1, 2, 0])),
}


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", BY_CLASS)
def test_scores_by_class(name, data, average):
    y, p = DATA[data]
    wanted = getattr(sk, name)(y, p, average=average, zero_division=0, **BY_CLASS[name])
    np.testing.assert_allclose(getattr(metrics, name)(y, p, average=average, **BY_CLASS[name]), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", BY_CLASS)
def test_scores_of_two_classes_and_of_chosen_labels(name):
    ours, theirs, more = getattr(metrics, name), getattr(sk, name), BY_CLASS[name]
    for label in (0, 1):
        assert ours(BINARY, BINARY_FOUND, pos_label=label, **more) == pytest.approx(theirs(BINARY, BINARY_FOUND, pos_label=label, **more), rel=1e-12)
    for average in ("macro", "micro", None):
        wanted = theirs(CLASSES, FOUND, labels=[4, 1, 7], average=average, zero_division=0, **more)
        np.testing.assert_allclose(ours(CLASSES, FOUND, labels=[4, 1, 7], average=average, **more), wanted, rtol=1e-12)
    with pytest.raises(gc.ArgumentError, match="5 classes"):
        ours(CLASSES, FOUND, **more)


def test_specificity_is_the_recall_of_the_other_class():
    assert metrics.specificity_score(BINARY, BINARY_FOUND) == pytest.approx(sk.recall_score(BINARY, BINARY_FOUND, pos_label=0), rel=1e-12)


@pytest.mark.parametrize("data", ["five classes", "binary", "a class never found", "names", "never right"])
@pytest.mark.parametrize("name", ["accuracy_score", "confusion_matrix", "cohen_kappa_score", "matthews_corrcoef"])
def test_scores_of_labels(name, data):
    np.testing.assert_allclose(getattr(metrics, name)(*DATA[data]), getattr(sk, name)(*DATA[data]), rtol=1e-12, atol=1e-15)


def test_more_scores_of_labels():
    assert metrics.balanced_accuracy_score(CLASSES, FOUND) == pytest.approx(sk.balanced_accuracy_score(CLASSES, FOUND), rel=1e-12)
    assert metrics.accuracy_score(SETS, SETS_FOUND) == pytest.approx(sk.accuracy_score(SETS, SETS_FOUND), rel=1e-12)
    np.testing.assert_array_equal(metrics.confusion_matrix(CLASSES, FOUND, labels=[3, 0, 9]), sk.confusion_matrix(CLASSES, FOUND, labels=[3, 0, 9]))
    for weights in ("linear", "quadratic"):
        wanted = sk.cohen_kappa_score(CLASSES, FOUND, weights=weights)
        assert metrics.cohen_kappa_score(CLASSES, FOUND, weights=weights) == pytest.approx(wanted, rel=1e-12)
    for k in (1, 2, 4):
        assert metrics.top_k_accuracy_score(CLASSES, ROWS, k=k) == pytest.approx(sk.top_k_accuracy_score(CLASSES, ROWS, k=k), rel=1e-12)


def test_of_equal_scores_the_first_counts_as_larger(target):
    """As argmax has it; scikit-learn takes the last."""
    scores = np.array([[1.0, 3.0, 3.0, 3.0]] * 4)
    for k, wanted in ((1, 0.25), (2, 0.5), (3, 0.75), (4, 1.0)):
        assert metrics.top_k_accuracy_score(range(4), scores, k=k) == wanted
        assert evaluated([metrics.top_k_accuracy(k)], scores, np.arange(4), "cross_entropy", target) == {f"top_{k}_accuracy": wanted}
    assert evaluated(["accuracy"], scores, np.arange(4), "cross_entropy", target) == {"accuracy": 0.25}


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("scores", [SCORES, ROWS[:, 0], np.zeros(N)], ids=["ties", "distinct", "constant"])
def test_curves(scores, drop):
    for found, wanted in zip(metrics.roc_curve(BINARY, scores, drop_intermediate=drop), sk.roc_curve(BINARY, scores, drop_intermediate=drop), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    for found, wanted in zip(metrics.precision_recall_curve(BINARY, scores), sk.precision_recall_curve(BINARY, scores), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert metrics.roc_auc_score(BINARY, scores) == pytest.approx(sk.roc_auc_score(BINARY, scores), rel=1e-12)
    assert metrics.average_precision_score(BINARY, scores) == pytest.approx(sk.average_precision_score(BINARY, scores), rel=1e-12)


def test_areas():
    soft = np.exp(ROWS) / np.exp(ROWS).sum(1, keepdims=True)
    for average in ("macro", "weighted"):
        wanted = sk.roc_auc_score(CLASSES, soft, multi_class="ovr", average=average)
        assert metrics.roc_auc_score(CLASSES, soft, multi_class="ovr", average=average) == pytest.approx(wanted, rel=1e-12)
    assert metrics.auc([3, 2, 0], [1, 4, 2]) == sk.auc([3, 2, 0], [1, 4, 2])
    with pytest.raises(gc.ArgumentError, match="neither increasing"):
        metrics.auc([0, 2, 1], [0, 1, 2])
    with pytest.raises(gc.ArgumentError, match="5 classes"):
        metrics.roc_auc_score(CLASSES, soft)
    assert np.isnan(metrics.roc_auc_score([1, 1], [0.2, 0.7])), "one class has no curve"
    assert metrics.average_precision_score([0, 0], [0.2, 0.7]) == 0


REGRESSION = {
    "mean_absolute_error": "mean_absolute_error",
    "mean_squared_error": "mean_squared_error",
    "root_mean_squared_error": "root_mean_squared_error",
    "mean_absolute_percentage_error": "mean_absolute_percentage_error",
    "mean_squared_log_error": "mean_squared_log_error",
    "r2_score": "r2_score",
}


@pytest.mark.parametrize("name", REGRESSION)
def test_scores_of_values(name):
    for y, p in ((REAL, REAL_FOUND), (REAL[:, 0], REAL_FOUND[:, 0]), (np.ones(5), np.ones(5)), (np.ones(5), REAL[:5, 0])):
        assert getattr(metrics, name)(y, p) == pytest.approx(getattr(sk, name)(y, p), rel=1e-12, abs=1e-15)


def test_probabilities():
    soft = np.exp(ROWS) / np.exp(ROWS).sum(1, keepdims=True)
    assert metrics.log_loss(CLASSES, soft) == pytest.approx(sk.log_loss(CLASSES, soft), rel=1e-12)
    p = 1 / (1 + np.exp(-SCORES))
    assert metrics.log_loss(BINARY, p) == pytest.approx(sk.log_loss(BINARY, p), rel=1e-12)
    assert metrics.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]]) == pytest.approx(sk.log_loss([0, 1], [[1.0, 0.0], [1.0, 0.0]]), rel=1e-6)
    assert metrics.perplexity([0, 3, 2], np.full((3, 4), 0.25)) == pytest.approx(4.0)


def test_masks_and_boxes():
    a, b = rng.integers(0, 2, (2, 8, 9))
    assert metrics.dice_score(a, b) == pytest.approx(sk.f1_score(a.ravel(), b.ravel()), rel=1e-12)
    assert metrics.dice_score(a * 0, b * 0) == 1
    assert metrics.jaccard_score(a.ravel(), b.ravel()) == pytest.approx((a & b).sum() / (a | b).sum(), rel=1e-12)
    grid = np.zeros((2, 20, 20), bool)  # boxes at whole numbers are sets of pixels
    grid[0, 2:10, 3:9], grid[1, 5:18, 1:7] = True, True
    found = metrics.box_iou([[2, 3, 10, 9]], [[5, 1, 18, 7], [10, 3, 12, 9]])
    np.testing.assert_allclose(found, [[(grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum(), 0.0]])


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(gc.ShapeError, match="differ"):
        metrics.f1_score([1, 0], [1, 0, 1])
    with pytest.raises(gc.ShapeError, match="no samples"):
        metrics.accuracy_score([], [])
    with pytest.raises(gc.ArgumentError, match="average='mean'"):
        metrics.f1_score(BINARY, BINARY_FOUND, average="mean")
    with pytest.raises(gc.ArgumentError, match="NaN"):
        metrics.roc_curve([0, 1], [0.0, np.nan])
    with pytest.raises(gc.ArgumentError, match="no logarithm"):
        metrics.mean_squared_log_error([1.0], [-1.0])


# -- in a compiled model ---------------------------------------------------------------------------------------------------
class Same(nn.Module):
    """Gives what it is given: the data are the predictions."""

    def forward(self, x):
        return x


def evaluated(names, x, y, loss="mse", target="reference", target_spec=None, batch=8):
    model = gc.compile(Same(), gc.spec("N", *x.shape[1:]), loss=loss, metrics=names, target=target, target_spec=target_spec)
    found = model.evaluate(x.astype(np.float32), y, batch_size=batch)
    found.pop("loss")
    return found


def wanted_classes(y, p, average):
    more = {"average": average, "zero_division": 0}
    return {
        "precision": sk.precision_score(y, p, **more), "recall": sk.recall_score(y, p, **more), "f1": sk.f1_score(y, p, **more), "iou": sk.jaccard_score(y, p, **more),
        "accuracy": sk.accuracy_score(y, p), "cohen_kappa": sk.cohen_kappa_score(y, p), "matthews": sk.matthews_corrcoef(y, p), "balanced_accuracy": sk.balanced_accuracy_score(y, p),
    }  # fmt: skip


def test_classes_over_uneven_batches(target):
    """101 rows in batches of 8, the last of 5: means of the batches' scores would be another number."""
    wanted = wanted_classes(CLASSES, ROWS.argmax(1), "macro")
    found = evaluated(list(wanted), ROWS, CLASSES, "cross_entropy", target)
    assert found == pytest.approx(wanted, rel=1e-6)
    pieces = [sk.precision_score(CLASSES[i : i + 8], ROWS[i : i + 8].argmax(1), average="macro", zero_division=0) for i in range(0, N, 8)]
    assert abs(np.average(pieces, weights=[min(8, N - i) for i in range(0, N, 8)]) - wanted["precision"]) > 1e-3


def test_one_hot_targets_count_alike():
    spec = gc.spec("N", 5)
    found = evaluated(["precision", "f1"], ROWS, np.eye(5, dtype=np.float32)[CLASSES], "cross_entropy", target_spec=spec)
    assert found == pytest.approx(evaluated(["precision", "f1"], ROWS, CLASSES, "cross_entropy"), rel=1e-12)


@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_yes_or_no_takes_the_threshold_of_the_loss(shape, target):
    logits, y = SCORES.reshape(shape) - 0.5, BINARY.reshape(shape).astype(np.float32)
    wanted = wanted_classes(BINARY, SCORES > 0.5, "binary")
    wanted |= {"auc": sk.roc_auc_score(BINARY, SCORES), "average_precision": sk.average_precision_score(BINARY, SCORES), "binary_accuracy": wanted["accuracy"]}
    wanted["specificity"] = sk.recall_score(BINARY, SCORES > 0.5, pos_label=0)
    assert evaluated(list(wanted), logits, y, "bce_with_logits", target) == pytest.approx(wanted, rel=1e-6)
    probabilities = 1 / (1 + np.exp(-logits))
    if target == "reference":
        assert evaluated(list(wanted), probabilities, y, "bce", target) == pytest.approx(wanted, rel=1e-6)
        assert evaluated(list(wanted), logits, y * 2 - 1, "hinge", target) == pytest.approx(wanted, rel=1e-6)


def test_pixels_are_rows(target):
    """Segmentation: scores (N, C, H, W), labels (N, H, W), of which -1 does not count in the metrics."""
    x, y = rng.normal(size=(11, 3, 4, 5)), rng.integers(0, 3, (11, 4, 5))
    found = x.argmax(1)
    wanted = {"iou": sk.jaccard_score(y.ravel(), found.ravel(), average="macro"), "accuracy": (found == y).mean()}
    assert evaluated(list(wanted), x, y, "cross_entropy", target, batch=4) == pytest.approx(wanted, rel=1e-6)
    void = rng.random(y.shape) < 0.3
    loss, labels = nn.CrossEntropyLoss(ignore_index=-1), np.where(void, -1, y)
    wanted = sk.jaccard_score(y[~void], found[~void], average="macro")
    assert evaluated(["iou"], x, labels, loss, target, batch=4) == pytest.approx({"iou": wanted}, rel=1e-6)


def test_settings_of_a_record():
    y = BINARY.astype(np.float32)
    asked = [metrics.precision(threshold=0.3), metrics.f_score(beta=2, threshold=0.3), metrics.recall(average="macro", threshold=0.3, name="r"), metrics.binary_accuracy(0.3)]
    p = SCORES > 0.3
    wanted = {"precision": sk.precision_score(BINARY, p), "f2": sk.fbeta_score(BINARY, p, beta=2), "r": sk.recall_score(BINARY, p, average="macro"), "binary_accuracy": sk.accuracy_score(BINARY, p)}
    assert evaluated(asked, SCORES, y) == pytest.approx(wanted, rel=1e-6)
    sets = [metrics.f_score(task="multilabel", average=a, name=a) for a in ("macro", "micro", "weighted")]
    found = evaluated(sets, SETS_FOUND * 1.0, SETS.astype(np.float32))
    assert found == pytest.approx({a: sk.f1_score(SETS, SETS_FOUND, average=a) for a in found}, rel=1e-6)
    micro = [metrics.precision(average="micro"), metrics.f_score(beta=0.5, average="weighted"), metrics.top_k_accuracy(2)]
    found = evaluated(micro, ROWS, CLASSES, "cross_entropy")
    p = ROWS.argmax(1)
    wanted = {"precision": sk.precision_score(CLASSES, p, average="micro"), "f0.5": sk.fbeta_score(CLASSES, p, beta=0.5, average="weighted")}
    assert found == pytest.approx(wanted | {"top_2_accuracy": sk.top_k_accuracy_score(CLASSES, ROWS, k=2)}, rel=1e-6)


def test_two_scores_rank_by_their_difference():
    x = np.stack([-SCORES, SCORES], 1)
    assert evaluated(["auc"], x, BINARY, "cross_entropy") == pytest.approx({"auc": sk.roc_auc_score(BINARY, SCORES)}, rel=1e-6)


def test_values_over_batches(target):
    y, p = REAL.astype(np.float32), REAL_FOUND.astype(np.float32)
    wanted = {
        "r2": sk.r2_score(y, p), "rmse": sk.root_mean_squared_error(y, p), "mae": sk.mean_absolute_error(y, p), "mse": sk.mean_squared_error(y, p),
        "mape": 100 * sk.mean_absolute_percentage_error(y, p), "msle": sk.mean_squared_log_error(y, p),
        "cosine_similarity": np.mean([sk.pairwise.cosine_similarity(a[None], b[None])[0, 0] for a, b in zip(y, p, strict=True)]),
    }  # fmt: skip
    assert evaluated(list(wanted), p, y, target=target) == pytest.approx(wanted, rel=1e-5)


def test_r2_far_from_zero_and_of_constants():
    """Sums of squares in float32 would have lost the variance."""
    y = (1e4 + REAL[:, 0]).astype(np.float32)
    p = y + rng.normal(size=N).astype(np.float32) * 0.1
    assert evaluated(["r2"], p, y)["r2"] == pytest.approx(sk.r2_score(y.astype(float), p.astype(float)), rel=1e-4)
    same = np.full(20, 0.1, np.float32)
    assert evaluated(["r2"], same, same)["r2"] == 1
    assert evaluated(["r2"], same + 1, same)["r2"] == 0


def test_perplexity_counts_words_and_not_batches():
    y = np.where(rng.random((N, 4)) < 0.3, -100, rng.integers(0, 5, (N, 4)))
    y[:8] = -100  # a batch without any
    x = rng.normal(size=(N, 5, 4))
    logp = x - np.log(np.exp(x).sum(1, keepdims=True))
    picked = [logp[i, y[i, t], t] for i in range(N) for t in range(4) if y[i, t] != -100]
    found = evaluated(["perplexity"], x, y, loss=lambda p, t: ops.cross_entropy(p, t, reduction="sum"), target_spec=gc.spec("N", 4, dtype="int64"))
    assert found["perplexity"] == pytest.approx(np.exp(-np.mean(picked)), rel=1e-5)


def test_in_training_as_in_evaluation(target):
    """With a learning rate of 0 every batch sees the same weights, so the epoch's metrics are those of an evaluation."""
    x, y = ROWS.astype(np.float32), CLASSES
    asked = ["accuracy", "f1", "cohen_kappa"]
    model = gc.compile(nn.Linear(5, 5), gc.spec("N", 5), loss="cross_entropy", optimizer=optim.SGD(0.0), metrics=asked, target=target)
    history = model.fit(x, y, batch_size=16, epochs=2, validation_data=(x, y), verbose=0)
    alone = model.evaluate(x, y)
    for name in asked:
        assert history[name] == pytest.approx([alone[name]] * 2, rel=1e-6)
        assert history[f"val_{name}"] == pytest.approx([alone[name]] * 2, rel=1e-6)
    logs = model.train_on_batch(x[:20], y[:20])
    p = model.predict(x[:20]).argmax(1)
    assert logs["f1"] == pytest.approx(sk.f1_score(y[:20], p, average="macro"), rel=1e-6)


def test_callbacks_see_numbers():
    seen = []

    class Watch(gc.callbacks.Callback):
        def on_batch_end(self, batch, logs):
            seen.append(logs)

    model = gc.compile(nn.Linear(5, 5), gc.spec("N", 5), loss="cross_entropy", optimizer="sgd", metrics=["precision"], target="reference")
    model.fit(ROWS.astype(np.float32), CLASSES, batch_size=50, callbacks=[Watch()], verbose=0)
    assert len(seen) == 3 and all(isinstance(logs["precision"], float) for logs in seen)


def test_a_metric_of_ones_own():
    largest = metrics.Metric("largest", lambda p, y: ops.max(ops.absolute(p - y)).reshape(1), lambda e: float(e.max()), gather=True)
    counted = metrics.Metric("within", lambda p, y: (ops.sum((ops.absolute(p - y) < 0.5).cast("int32")), ops.sum(p * 0 + 1)), lambda a, n: float(a / n))
    p, y = REAL_FOUND.astype(np.float32), REAL.astype(np.float32)
    found = evaluated([largest, counted, lambda a, b: ops.mean(a - b)], p, y)
    assert found.pop("largest") == pytest.approx(np.abs(p - y).max())
    assert found.pop("within") == pytest.approx((np.abs(p - y) < 0.5).mean())
    assert list(found.values()) == pytest.approx([(p - y).mean()], abs=1e-6)


def test_metrics_that_do_not_fit_are_refused_when_the_model_is_compiled():
    def build(metric, shape, loss="mse", **more):
        return gc.compile(nn.Linear(4, shape), gc.spec("N", 4), loss=loss, optimizer="sgd", metrics=[metric], target="reference", **more)

    with pytest.raises(gc.ShapeError, match="one score a target"):
        build("auc", 3, "cross_entropy")
    with pytest.raises(gc.ShapeError, match="neither classes nor yes-or-no"):
        build("precision", 1, "cross_entropy")
    with pytest.raises(gc.ShapeError, match="labels need predictions and targets"):
        build(metrics.recall(task="multilabel"), 3, "cross_entropy")
    with pytest.raises(gc.ShapeError, match="not a scalar"):
        build(metrics.Metric("m", lambda p, y: p), 3)
    with pytest.raises(gc.ArgumentError, match="task='several'"):
        metrics.precision(task="several")
    with pytest.raises(gc.ArgumentError, match="average='mean'"):
        metrics.precision(average="mean")
    with pytest.raises(gc.ArgumentError, match="different names"):
        build("f1", 3, "cross_entropy") and gc.metrics.as_metrics(["f1", metrics.f_score(average="micro")])


def test_scores_in_the_graph_agree_with_scores_of_arrays():
    """The operators of one batch: scikit-learn's order of arguments is the other way round."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f = gc.compile(lambda p, y: ops.f_score(p, y, classes=5, beta=2.0, average="weighted"), gc.spec("N", dtype="int64"), gc.spec("N", dtype="int64"), target="reference")
        for n in (1, 37, N):
            assert f(FOUND[:n], CLASSES[:n]) == pytest.approx(metrics.fbeta_score(CLASSES[:n], FOUND[:n], beta=2.0, average="weighted"), rel=1e-6)
