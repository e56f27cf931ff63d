"""Regression: how far diabetes has progressed after a year, from 10 measurements of each of 442 patients.

    python examples/regression.py

A linear model is one layer with the identity as its output. Trained on the mean squared error with an L2 penalty it is ridge
regression, which scikit-learn solves in closed form: the weights must be the same. A network with a hidden layer can bend, but
with so few and so noisy samples it soon learns the noise: the validation data say when to stop. (On 88 test patients a few
hundredths of R2 are chance: other seeds change the order.)
"""

from __future__ import annotations

import numpy as np
from common import BLACK, BLUE, GREEN, ORANGE, figure, need, options, standardise, table

import graphc as gc
from graphc import nn, optim

STRENGTH = 10.0  # of the penalty: the sum of squared errors + STRENGTH * |w|^2


def train(net: nn.Module, optimizer: optim.Optimizer, data: tuple, validation: tuple, epochs: int, batch: int, patience: int, target: str):
    """A trained model (that of the epoch with the least validation loss, if patient) and its history."""
    model = gc.compile(net, gc.spec("N", data[0].shape[1]), loss="mse", optimizer=optimizer, target=target)
    stop = [gc.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)] if patience else []
    return model, model.fit(*data, batch_size=batch, epochs=epochs, validation_data=validation, callbacks=stop)


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "regression", argv)
    data = need("sklearn.datasets").load_diabetes(scaled=False)
    x, x_test, y, y_test = gc.data.split(data.data, data.target[:, None], fraction=0.2, seed=args.seed)
    x, x_val, y, y_val = gc.data.split(x, y, fraction=0.2, seed=args.seed + 1)
    # inputs and target in units of the training data's deviations; results below are in the target's own units again
    mean, scale = y.mean(), y.std()
    (x, x_val, x_test), (y, y_val) = standardise(x, x_val, x_test), standardise(y, y_val)
    training, validation, features = (x, y), (x_val, y_val), x.shape[1]

    steps = 300 if args.quick else 1000
    descent = optim.Adam(0.1, l2=STRENGTH / len(x), groups=[optim.Group("bias", l2=0.0)], schedule=optim.schedules.Cosine(steps))
    linear, _ = train(nn.Linear(features, 1), descent, training, validation, steps, len(x), 0, args.target)
    ridge = need("sklearn.linear_model").Ridge(alpha=STRENGTH).fit(x, y[:, 0])

    def network():
        return nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 1))

    epochs = 60 if args.quick else 300
    full, history = train(network(), optim.Adam(3e-3), training, validation, epochs, 32, 0, args.target)
    stopped, short = train(network(), optim.Adam(3e-3), training, validation, epochs, 32, 20, args.target)

    guesses = {
        "mean of the training data": np.zeros_like(y_test),
        "linear, graphc": linear.predict(x_test),
        "ridge, scikit-learn": ridge.predict(x_test)[:, None],
        "network, stopped early": stopped.predict(x_test),
        f"network, {epochs} epochs": full.predict(x_test),
    }
    guesses = {name: mean + scale * g for name, g in guesses.items()}
    r2 = {name: gc.metrics.r2_score(y_test, g) for name, g in guesses.items()}
    table(
        ("test data", "R2", "RMSE", "MAE"),
        [
            (name, r2[name], gc.metrics.root_mean_squared_error(y_test, g), gc.metrics.mean_absolute_error(y_test, g))
            for name, g in guesses.items()
        ],
    )
    weights = linear.state_dict()["weight"][0]
    difference = float(np.abs(weights - ridge.coef_).max())
    best = int(np.argmin(short["val_loss"])) + 1
    print(f"largest difference of a weight from scikit-learn's {difference:.1e}; the network's best epoch is {best}")

    with figure(args, 1, 3, size=(11, 3.8)) as (_, (left, middle, right)):
        left.scatter(y_test, guesses["linear, graphc"], s=18, color=BLUE, label="linear")
        left.scatter(y_test, guesses["network, stopped early"], s=18, marker="^", facecolor="none", edgecolor=ORANGE, label="network")
        ends = [y_test.min(), y_test.max()]
        left.plot(ends, ends, color=BLACK, lw=0.8, ls=":", label="perfect")
        left.set(title="Test patients", xlabel="measured progression", ylabel="predicted progression", aspect="equal")
        left.legend()

        place = np.arange(features)
        middle.barh(place + 0.2, weights, 0.38, color=BLUE, label="graphc")
        middle.barh(place - 0.2, ridge.coef_, 0.38, color=ORANGE, label="scikit-learn")
        middle.set_yticks(place, data.feature_names)
        middle.set(title="Weights of the linear model", xlabel="per standard deviation")
        middle.legend()

        right.plot(range(1, epochs + 1), history["loss"], color=BLUE, label="network, training")
        right.plot(range(1, epochs + 1), history["val_loss"], color=ORANGE, ls="--", label="network, validation")
        right.axhline(linear.evaluate(x_val, y_val)["loss"], color=GREEN, lw=1.2, ls="-.", label="linear, validation")
        right.axvline(best, color=BLACK, lw=0.8, ls=":", label="stopped here")
        right.set(title="The network learns the noise", xlabel="epoch", ylabel="mean squared error", xscale="log", ylim=(0, None))
        right.legend()
    return {
        "linear": r2["linear, graphc"],
        "ridge": r2["ridge, scikit-learn"],
        "network": r2["network, stopped early"],
        "weight difference": difference,
    }


if __name__ == "__main__":
    main()
