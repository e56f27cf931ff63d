"""A small convolutional network that reads handwritten digits, trained as a product would be.

    python examples/mnist_cnn.py

The images are 5000 of MNIST's, which ``gc.datasets`` fetches once. Training keeps a checkpoint of the best epoch, writes a CSV file, halves the
learning rate when the validation loss stands still, and stops early; the best checkpoint is what is tested, once. Afterwards the
outputs of the first convolution are looked at by name: ``model.predict(x, outputs="conv1")``.
"""

from __future__ import annotations

import numpy as np
from common import BLUE, ORANGE, amount, figure, options, table

import graphc as gc
from graphc import callbacks, nn, optim


class SmallCNN(nn.Module):
    """(N, 1, 28, 28) -> (N, 10) logits; convolutions with stride 2 halve the image twice."""

    def __init__(self):
        self.conv1 = nn.Conv2d(1, 8, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        x = self.conv2(self.conv1(x).relu()).relu()
        return self.fc(self.drop(x.flatten(1)))


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "mnist_cnn", argv)
    images, labels = gc.datasets.mnist_5k()
    x, x_test, y, y_test = gc.data.split(images[:, None].astype(np.float32) / 255, labels, fraction=0.2, seed=args.seed)
    count, tested = amount(args, (len(x), len(x_test)), (2000, len(x_test)), (300, 200))
    x, y, x_test, y_test = x[:count], y[:count], x_test[:tested], y_test[:tested]
    args.out.mkdir(parents=True, exist_ok=True)
    best = args.out / "best.graphc"

    model = gc.compile(
        SmallCNN(), gc.spec("N", 1, 28, 28), loss="cross_entropy", optimizer=optim.Adam(3e-3), metrics=["accuracy"], target=args.target
    )
    model.summary()
    history = model.fit(
        x,
        y,
        batch_size=32,
        epochs=4 if args.quick else 40,
        verbose=2,
        validation_split=0.15,
        callbacks=[
            callbacks.ReduceLROnPlateau(factor=0.5, patience=2),
            callbacks.EarlyStopping(patience=6),
            callbacks.ModelCheckpoint(best, save_best_only=True),
            callbacks.CSVLogger(args.out / "mnist_cnn.csv"),
        ],
    )
    model.load(best)
    result = model.evaluate(x_test, y_test)
    wrong = np.flatnonzero(model.predict(x_test).argmax(1) != y_test)
    table(["", "value"], [["epochs", history.epochs], ["test accuracy", result["accuracy"]], ["test loss", result["loss"]], ["wrong", len(wrong)]])

    with figure(args, 1, 3, size=(10, 3.2)) as (_, (left, middle, right)):
        for ax, name in ((left, "loss"), (middle, "accuracy")):
            for key, colour, label in ((name, BLUE, "training"), (f"val_{name}", ORANGE, "validation")):
                ax.plot(np.arange(1, history.epochs + 1), history[key], color=colour, label=label)
            ax.set_title(name)
            ax.set_xlabel("epoch")
            ax.legend()
        shown = model.predict(x_test[:1], outputs="conv1")[0]
        right.imshow(shown.reshape(2, 4, 14, 14).transpose(0, 2, 1, 3).reshape(28, 56), cmap="gray")
        right.set_title(f"what conv1 makes of a {y_test[0]}")
        right.axis("off")
    return {"accuracy": result["accuracy"], "loss": result["loss"], "epochs": history.epochs}


if __name__ == "__main__":
    main()
