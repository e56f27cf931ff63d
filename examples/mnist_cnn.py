"""A small convolutional network that reads handwritten digits, trained as a product would be.

    python examples/mnist_cnn.py

The images are scikit-learn's 1797 digits of 8x8 pixels. Training keeps a checkpoint of the best epoch, writes a CSV file, halves the
learning rate when the validation loss stands still, and stops early; the best checkpoint is what is tested, once. Afterwards the
outputs of the first convolution are looked at by name: ``model.predict(x, outputs="conv1")``.
"""

from __future__ import annotations

import numpy as np
from common import BLUE, ORANGE, digits, figure, options, table

import graphc as gc
from graphc import callbacks, nn, optim


class SmallCNN(nn.Module):
    """(N, 1, 8, 8) -> (N, 10) logits."""

    def __init__(self):
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.conv1(x).relu().max_pool2d(2)
        x = self.conv2(x).relu().max_pool2d(2)
        return self.fc(self.drop(x.flatten(1)))


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "mnist_cnn", argv)
    x, y, x_test, y_test = digits(args.seed)
    x, x_test = (a.astype(np.float32).reshape(-1, 1, 8, 8) for a in (x, x_test))
    args.out.mkdir(parents=True, exist_ok=True)
    best = args.out / "best.graphc"

    model = gc.compile(
        SmallCNN(), gc.spec("N", 1, 8, 8), loss="cross_entropy", optimizer=optim.Adam(5e-3), metrics=["accuracy"], target=args.target
    )
    model.summary()
    history = model.fit(
        x,
        y,
        batch_size=32,
        epochs=8 if args.quick else 60,
        verbose=2,
        validation_split=0.15,
        callbacks=[
            callbacks.ReduceLROnPlateau(factor=0.5, patience=3),
            callbacks.EarlyStopping(patience=8),
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
        image = x_test[0]
        channels = model.predict(image[None], outputs="conv1")[0]
        grid = np.concatenate([np.concatenate([image[0], *channels[:2]], 1), np.concatenate(list(channels[2:5]), 1), np.concatenate(list(channels[5:8]), 1)])
        right.imshow(grid, cmap="gray")
        right.set_title(f"a {y_test[0]}, and what conv1 makes of it")
        right.axis("off")
    return {"accuracy": result["accuracy"], "loss": result["loss"], "epochs": history.epochs}


if __name__ == "__main__":
    main()
