"""Detection in the course notes: rows 41 and 42 of the catalogue, with the rules that the text gives and no numbers for.

Boxes are corners (x1, y1, x2, y2). Suppression, matching and mining are programs of array operators.
"""

from __future__ import annotations

import numpy as np
import pytest

from graphc import ops
from tests.ops.test_worked_examples import gradient, value


def some_boxes(rng, n):
    """Boxes in a crowd: some share more than 0.7."""
    corner = rng.uniform(0, 2, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(2, 4, (n, 2))], 1)


def test_row_41_iou_by_hand(target, rng):
    a = np.array([[0.0, 0, 4, 2]])
    others = np.array([[0.0, 0, 4, 2], [2, 0, 6, 2], [0, 0, 2, 2], [4, 0, 8, 2], [5, 5, 6, 6], [1, 1, 1, 1]])
    np.testing.assert_allclose(value(target, ops.box_iou, a, others), [[1, 4 / 12, 4 / 8, 0, 0, 0]], rtol=1e-14)
    x, y = some_boxes(rng, 5), some_boxes(rng, 7)
    np.testing.assert_allclose(value(target, ops.box_iou, x, y), value(target, ops.box_iou, y, x).T, rtol=1e-14)


# -- suppression -------------------------------------------------------------------------------------------------------------
def suppress(boxes, scores, threshold):
    """Which boxes are kept: the best by score, then the best that overlaps no kept box by more than the threshold, and so on."""
    order = ops.argsort(scores, descending=True)
    ranked = ops.take(boxes, order, 0)
    close = ops.box_iou(ranked, ranked) > threshold

    def visit(kept, box):
        """One box after another, from the best down: if it is still there, those close behind it go."""
        here, near = box
        alive = (kept & here).any()
        return kept & ~(alive & near & ~here), None

    places = ops.arange(boxes.shape[0])
    here = ops.eq(places.expand_dims(1), places.expand_dims(0))
    later = places.expand_dims(1) < places.expand_dims(0)
    kept = ops.scan(visit, places >= 0, (here, close & later))[0]
    return ops.take(kept, ops.argsort(order), 0)


def by_the_text(boxes, scores, threshold):
    """Lines 3708-3740: repeat: take the highest score, delete the boxes whose IoU with it is over the threshold."""
    left, kept = list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        kept.append(best)
        left = [i for i in left if i != best and iou(boxes[i], boxes[best]) <= threshold]
    return np.isin(np.arange(len(boxes)), kept)


def iou(a, b):
    width, height = (max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]), 0.0) for i in (0, 1))
    area = lambda c: (c[2] - c[0]) * (c[3] - c[1])
    return width * height / (area(a) + area(b) - width * height)


def test_row_41_suppression_by_hand(target):
    """A chain: each box overlaps the next by 0.6. The second goes, so the third stays although it was close to the second.

    "IoU with that first box" (3735) holds for the box selected now, and "keep only the highest" (3710) only among close ones.
    """
    boxes = np.array([[0.0, 0, 4, 1], [1, 0, 5, 1], [2, 0, 6, 1], [20, 0, 24, 1], [20.1, 0, 24, 1]])
    scores = np.array([0.9, 0.8, 0.7, 0.3, 0.4])
    found = value(target, lambda b, s: suppress(b, s, 0.5), boxes, scores)
    assert found.tolist() == [True, False, True, False, True]
    assert value(target, lambda b, s: suppress(b, s, 0.6), boxes, scores).tolist() == [True, True, True, False, True], "not over 0.6"


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_row_41_suppression_follows_the_text(target, rng, threshold):
    boxes, scores = some_boxes(rng, 40), rng.permutation(40) / 40
    found = value(target, lambda b, s: suppress(b, s, threshold), boxes, scores)
    np.testing.assert_array_equal(found, by_the_text(boxes, scores, threshold))
    assert 0 < found.sum() < 40
    near = value(target, ops.box_iou, boxes[found], boxes[found]) - np.eye(found.sum())
    assert near.max() <= threshold, "no two that are kept are close"


# -- matching ----------------------------------------------------------------------------------------------------------------
def match(anchors, objects, threshold=0.5):
    """(the object of each anchor, whether it has one): IoU over the threshold, and each object's best anchor in any case."""
    near = ops.box_iou(anchors, objects)
    best = near.argmax(0)
    forced = ops.eq(ops.arange(anchors.shape[0]).expand_dims(1), best.expand_dims(0))
    chosen = ops.where(forced, 2.0, near)  # more than any IoU
    return chosen.argmax(1), chosen.max(1) > threshold


def test_row_42_anchors_match_over_one_half(target):
    """Line 3828 alone leaves the small object without an anchor; its best one takes it."""
    anchors = np.array([[0.0, 0, 4, 4], [1, 0, 5, 4], [2, 0, 6, 4], [10, 10, 14, 14], [30, 30, 31, 31]])
    objects = np.array([[0.0, 0, 4, 4], [11, 11, 12, 12]])
    near = value(target, ops.box_iou, anchors, objects)
    np.testing.assert_allclose(near[:, 0], [1, 12 / 20, 8 / 24, 0, 0])
    assert near[:, 1].max() < 0.5
    of, positive = (value(target, lambda a, o, k=k: match(a, o)[k], anchors, objects) for k in (0, 1))
    assert positive.tolist() == [True, True, False, True, False]
    assert of[positive].tolist() == [0, 0, 1]
    exactly = np.array([[0.0, 0, 2, 1], [0, 0, 1, 1]])
    assert value(target, lambda a, o: match(a, o)[1], exactly, exactly[:1]).tolist() == [True, False], "0.5 is not over 0.5"


# -- mining ------------------------------------------------------------------------------------------------------------------
def confidence_loss(logits, labels, ratio=3):
    """Cross entropy of the positives (label > 0) and of the worst ``ratio`` times as many negatives, over the number of positives."""
    losses = ops.cross_entropy(logits, labels, reduction="none")
    positive = labels > 0
    count = positive.cast("int32").sum()
    hardness = ops.where(positive, -1.0, ops.stop_gradient(losses))
    rank = ops.argsort(ops.argsort(hardness, descending=True))
    mined = positive | (rank < ratio * count)
    return ops.where(mined, losses, 0.0).sum() / ops.maximum(count, 1).cast(logits.dtype), mined


@pytest.mark.parametrize("positives", [0, 1, 3, 12])
def test_row_42_at_most_three_negatives_for_each_positive(target, rng, positives):
    """The hardest, by confidence loss; without a positive the loss is 0 (3833)."""
    n = 24
    labels = np.zeros(n, np.int64)
    labels[rng.permutation(n)[:positives]] = rng.integers(1, 4, positives)
    logits = rng.normal(size=(n, 4))
    loss, mined = (value(target, lambda a, y, k=k: confidence_loss(a, y)[k], logits, labels) for k in (0, 1))
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(n), labels]
    negative = np.flatnonzero(labels == 0)
    hardest = negative[np.argsort(-each[negative])][: 3 * positives]
    assert set(np.flatnonzero(mined)) == set(np.flatnonzero(labels)) | set(hardest)
    assert (mined & (labels == 0)).sum() == min(3 * positives, n - positives)
    assert loss == pytest.approx(each[mined].sum() / max(positives, 1), rel=1e-12, abs=0)
    slope = gradient(target, lambda a, y: confidence_loss(a, y)[0], logits, labels)
    np.testing.assert_array_equal(np.abs(slope).sum(1) > 0, mined)
