"""Logistic regression: one sigmoid neuron tells malignant from benign tumours (569 samples, 30 measurements of cell nuclei).

    python examples/logistic_regression.py

The neuron's sum a = b + w.x becomes a probability, sigmoid(a). The loss is binary cross-entropy with a small L2 penalty, so the
optimum is unique: scikit-learn's LogisticRegression, which finds it by another way (L-BFGS), must arrive at the same weights.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, ORANGE, RED, figure, need, options, standardise, table

import graphc as gc
from graphc import nn, optim


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "logistic_regression", argv)
    data = need("sklearn.datasets").load_breast_cancer()
    x, x_test, y, y_test = gc.data.split(data.data, 1.0 - data.target, seed=args.seed)  # scikit-learn's 0 is malignant, ours is 1
    x, x_test = standardise(x, x_test)
    epochs = 300 if args.quick else 1000

    # LogisticRegression(C) minimises |w|^2 / 2 + C sum(loss); over n samples that is mean(loss) + |w|^2 / (2 C n). Biases are free.
    strength = 1.0 / (2 * len(x))
    model = gc.compile(
        nn.Linear(x.shape[1], 1),
        gc.spec("N", x.shape[1]),
        loss="bce_with_logits",
        optimizer=optim.Adam(0.3, l2=strength, groups=[optim.Group("bias", l2=0.0)], schedule=optim.schedules.Cosine(epochs)),
        metrics=["accuracy", gc.metrics.precision(), gc.metrics.recall()],
        target=args.target,
    )
    # the whole training set in every step: plain (batch) gradient descent
    history = model.fit(x, y[:, None], batch_size=len(x), epochs=epochs, validation_data=(x_test, y_test[:, None]))
    ours = model.evaluate(x_test, y_test[:, None])

    other = need("sklearn.linear_model").LogisticRegression(C=1.0, tol=1e-6, max_iter=1000).fit(x, y)
    majority = max(y_test.mean(), 1 - y_test.mean())
    weights, theirs = model.state_dict()["weight"][0], other.coef_[0]
    result = {
        "accuracy": ours["accuracy"],
        "auc": gc.metrics.roc_auc_score(y_test, model.predict(x_test)[:, 0]),
        "sklearn": float(other.score(x_test, y_test)),
        "weight difference": float(np.abs(weights - theirs).max()),
    }
    table(
        ("test data", "accuracy", "precision", "recall"),
        [
            ("graphc", ours["accuracy"], ours["precision"], ours["recall"]),
            ("scikit-learn", result["sklearn"], *_precision_recall(y_test, other.predict(x_test))),
            ("always the larger class", majority, "-", "-"),
        ],
    )
    print(
        f"area under the ROC curve {result['auc']:.4f}; largest difference of a weight from scikit-learn's {result['weight difference']:.1e}"
    )

    with figure(args, 1, 3, size=(10.5, 3.6)) as (_, (left, middle, right)):
        left.plot(range(1, epochs + 1), history["loss"], color=BLUE, label="training")
        left.plot(range(1, epochs + 1), history["val_loss"], color=ORANGE, ls="--", label="test")
        left.set(title="Loss", xlabel="epoch", ylabel="binary cross-entropy", xscale="log")
        left.legend()

        a = np.linspace(-12, 12, 200)
        sums, noise = model.predict(x_test)[:, 0], np.random.default_rng(args.seed).uniform(-0.04, 0.04, len(x_test))
        middle.plot(a, 1 / (1 + np.exp(-a)), color=BLACK, label="sigmoid(a)")
        for label, colour, marker, name in ((1, RED, "s", "malignant"), (0, BLUE, "o", "benign")):
            chosen = y_test == label
            middle.scatter(sums[chosen].clip(-12, 12), label + noise[chosen], s=14, color=colour, marker=marker, alpha=0.6, label=name)
        middle.axvline(0, color=BLACK, lw=0.8, ls=":")
        middle.set(title=f"Test data, accuracy {ours['accuracy']:.3f}", xlabel="a = b + w·x", ylabel="P(malignant)")
        middle.legend(loc="center right")

        reach = 1.1 * np.abs(theirs).max()
        right.plot([-reach, reach], [-reach, reach], color=BLACK, lw=0.8, ls=":", label="equal")
        right.scatter(theirs, weights, s=22, color=BLUE, label="the 30 weights")
        right.set(title="Same optimum", xlabel="weight, scikit-learn", ylabel="weight, graphc", aspect="equal")
        right.legend()
    return result


def _precision_recall(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    return gc.metrics.precision_score(truth, found), gc.metrics.recall_score(truth, found)


if __name__ == "__main__":
    main()
