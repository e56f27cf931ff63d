"""Cross-validation: how wide must a hidden layer be, and how good will the network be on new images?

    python examples/cross_validation.py

The training images of handwritten digits are dealt into five folds that hold each digit alike. Each width is trained five times,
each time without one fold, and measured on that fold; the pixels are scaled with statistics of the images that it is trained on,
never of those that it is measured on. The narrowest network that is within one standard error of the best is chosen, trained on
all five folds, and the test images are looked at once: the folds have told beforehand about how good it would be.
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, amount, figure, need, options, table

import graphc as gc
from graphc import data, datasets, nn, optim


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def train(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, y_new: np.ndarray, width: int, epochs: int, target: str) -> list[float]:
    """The accuracy on new images after each epoch."""
    scale = data.Normalizer().fit(x)
    model = gc.compile(
        network(width),
        gc.spec("N", 64),
        loss="cross_entropy",
        optimizer=optim.Adam(3e-3),
        metrics=["accuracy"],
        target=target,
    )
    batches = data.DataLoader(data.TensorDataset(scale(x), y), batch_size=32, shuffle=True)
    return model.fit(batches, epochs=epochs, validation_data=(scale(x_new), y_new))["val_accuracy"]


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "cross_validation", argv)
    widths, epochs, parts = amount(args, ((2, 4, 8, 16, 32, 64, 128), 30, 5), ((2, 16), 10, 5), ((2, 16), 4, 3))
    images, labels = datasets.digits()
    x, x_test, y, y_test = data.split(images.reshape(-1, 64), labels, fraction=0.25, seed=args.seed, stratify=labels)
    folds = list(data.k_fold(len(x), parts, seed=args.seed, stratify=y))

    curves = {w: [train(x[a], y[a], x[b], y[b], w, epochs, args.target) for a, b in folds] for w in widths}
    found = {w: np.array([curve[-1] for curve in c]) for w, c in curves.items()}
    mean = {w: float(a.mean()) for w, a in found.items()}
    error = {w: float(a.std(ddof=1) / np.sqrt(parts)) for w, a in found.items()}
    best = max(widths, key=mean.__getitem__)
    chosen = min(w for w in widths if mean[w] >= mean[best] - error[best])
    test = train(x, y, x_test, y_test, chosen, epochs, args.target)[-1]

    linear, selection = need("sklearn.linear_model"), need("sklearn.model_selection")
    scaled = need("sklearn.pipeline").make_pipeline(
        need("sklearn.preprocessing").StandardScaler(), linear.LogisticRegression(max_iter=1000, C=0.1)
    )
    baseline = float(selection.cross_val_score(scaled, x, y, cv=folds).mean())

    table(
        ("hidden units", "mean of the folds", "standard error", "worst fold", "best fold"),
        [(str(w), mean[w], error[w], float(a.min()), float(a.max())) for w, a in found.items()],
    )
    print(f"\nlogistic regression of scikit-learn, same folds: {baseline:.4f}")
    print(f"chosen: {chosen} hidden units, {mean[chosen]:.4f} by the folds, {test:.4f} on {len(x_test)} test images")

    with figure(args, columns=2) as (_, (left, right)):
        for w in widths:
            left.plot([w] * parts, found[w], "o", color=ORANGE, alpha=0.4, markeredgewidth=0, label="a fold" if w == widths[0] else None)
        left.errorbar(widths, list(mean.values()), list(error.values()), color=BLUE, capsize=3, label="mean and its standard error")
        left.axhline(baseline, color=BLACK, linewidth=1, linestyle=":", label="logistic regression")
        left.plot(chosen, test, "*", color=GREEN, markersize=13, label="chosen, on the test images")
        left.set(xscale="log", xticks=widths, xticklabels=map(str, widths), xlabel="hidden units", ylabel="accuracy", title="Width")
        left.minorticks_off()
        left.legend()
        for curve in curves[chosen]:
            right.plot(range(1, epochs + 1), curve, color=ORANGE, linewidth=1)
        right.plot(range(1, epochs + 1), np.mean(curves[chosen], axis=0), color=BLUE)
        right.set(xlabel="epoch", ylabel="accuracy", ylim=(0.8, 1.0), title=f"{chosen} hidden units, each fold and their mean")
    return {"estimate": mean[chosen], "test": test, "chosen": chosen, "baseline": baseline, "narrowest": mean[widths[0]]}


if __name__ == "__main__":
    main()
