"""Metrics: what accuracy does not tell. A classifier of digits, asked twice: which digit is it, and is it an 8?

    python examples/metrics.py

With ten classes, the confusion matrix shows who is taken for whom; macro averages count classes alike, micro averages count
samples alike. "Is it an 8?" is a question with few yeses: to say no always is 90 % accurate and useless. Precision (how many of the
found are right) and recall (how many of the right are found) pull in opposite directions when the threshold moves; F_beta weighs
them, F_beta = (1 + beta^2) TP / ((1 + beta^2) TP + beta^2 FN + FP); the ROC curve shows all thresholds at once.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, RED, digits, figure, need, options, table

import graphc as gc
from graphc import metrics, nn, optim

EIGHT = 8


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "metrics", argv)
    x, y, x_test, y_test = digits(args.seed, fraction=0.5, count=150)  # few, so that there are mistakes to look at

    # metrics of the model are computed inside the compiled evaluation, batch by batch, and are exact over all batches
    model = gc.compile(
        nn.Linear(64, 10),
        gc.spec("N", 64),
        loss="cross_entropy",
        optimizer=optim.Adam(0.01),
        metrics=["accuracy", metrics.f_score(average="macro", name="f1")],
        target=args.target,
    )
    model.fit(x, y, batch_size=32, epochs=10 if args.quick else 30)
    inside = model.evaluate(x_test, y_test, batch_size=100)
    logits = model.predict(x_test)
    found = logits.argmax(axis=1)
    matrix = metrics.confusion_matrix(y_test, found)  # rows: the truth; columns: the answers

    scores = {"precision": metrics.precision_score, "recall": metrics.recall_score, "F1": metrics.f1_score}
    sklearn = need("sklearn.metrics")
    theirs = {"precision": sklearn.precision_score, "recall": sklearn.recall_score, "F1": sklearn.f1_score}
    rows, difference = [], abs(inside["f1"] - metrics.f1_score(y_test, found, average="macro"))
    for name, score in scores.items():
        values = [score(y_test, found, average=a) for a in ("macro", "micro", "weighted")]
        others = [theirs[name](y_test, found, average=a) for a in ("macro", "micro", "weighted")]
        difference = max(difference, np.abs(np.subtract(values, others)).max())
        rows.append((name, *values))
    print(
        f"ten digits: accuracy {inside['accuracy']:.4f} (the micro average of each of these), F1 {inside['f1']:.4f} inside the evaluation"
    )
    table(("ten digits", "macro", "micro", "weighted"), rows)

    # one question: the probability of an 8
    truth = y_test == EIGHT
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = (shifted / shifted.sum(axis=1, keepdims=True))[:, EIGHT]
    rows = [("always no", 0, 0, int(truth.sum()), 1 - truth.mean(), "-", 0.0, 0.0, 0.0)]
    for threshold in (0.5, 0.2, 0.05):
        says = probability > threshold
        tp, fp, fn = int((says & truth).sum()), int((says & ~truth).sum()), int((~says & truth).sum())
        measured = [f(truth, says) for f in (metrics.accuracy_score, *scores.values())]
        f2 = metrics.fbeta_score(truth, says, beta=2)
        difference = max(difference, abs(f2 - sklearn.fbeta_score(truth, says, beta=2)), abs(f2 - 5 * tp / (5 * tp + 4 * fn + fp)))
        rows.append((f"over {threshold}", tp, fp, fn, *measured, f2))
    print()
    table(("is it an 8?", "TP", "FP", "FN", "accuracy", "precision", "recall", "F1", "F2"), rows)
    auc = metrics.roc_auc_score(truth, probability)
    difference = max(difference, abs(auc - sklearn.roc_auc_score(truth, probability)))
    print(f"area under the ROC curve {auc:.4f}; largest difference from scikit-learn, of all numbers: {difference:.1e}")

    with figure(args, 1, 3, size=(11.5, 4)) as (_, (left, middle, right)):
        left.imshow(matrix, cmap="Blues", vmax=matrix.max() * 1.1)
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                left.text(j, i, str(count), ha="center", va="center", fontsize=8, color="white" if i == j else BLACK)
        left.set(title=f"Confusion matrix, accuracy {inside['accuracy']:.3f}", xlabel="answer", ylabel="truth")
        left.set_xticks(range(10))
        left.set_yticks(range(10))
        left.grid(False)

        fpr, tpr, _ = metrics.roc_curve(truth, probability)
        middle.plot(fpr, tpr, color=BLUE, label=f"is it an 8? AUC {auc:.3f}")
        middle.plot([0, 1], [0, 1], color=BLACK, lw=0.8, ls=":", label="guessing, AUC 0.5")
        for threshold, marker in ((0.5, "o"), (0.2, "s"), (0.05, "^")):
            says = probability > threshold
            middle.plot(says[~truth].mean(), says[truth].mean(), marker, color=ORANGE, ls="", label=f"threshold {threshold}")
        middle.set(title="ROC curve", xlabel="FP / (FP + TN)", ylabel="TP / (TP + FN)", aspect="equal")
        middle.legend(loc="lower right")

        thresholds = np.linspace(0.01, 0.99, 99)
        curves = {"precision": (scores["precision"], BLUE, "-"), "recall": (scores["recall"], RED, "--")}
        curves |= {"F1": (scores["F1"], GREEN, "-."), "F2": (lambda t, s: metrics.fbeta_score(t, s, beta=2), ORANGE, ":")}
        for name, (score, colour, line) in curves.items():
            right.plot(thresholds, [score(truth, probability > t) for t in thresholds], line, color=colour, label=name)
        right.set(title="The threshold is a choice", xlabel="an 8 if P(8) is over", ylabel="score", ylim=(0, 1.02))
        right.legend(loc="lower left")
    return {"accuracy": inside["accuracy"], "f1": inside["f1"], "auc": auc, "difference": float(difference)}


if __name__ == "__main__":
    main()
