"""A small network that reads handwritten digits: scikit-learn's 1797 images of 8x8 pixels.

    python examples/digits_mlp.py --target cpu

Shows what the compiler makes of it (passes, kernels), trains, and writes the model, the text of every stage and an
HTML page.
"""

from __future__ import annotations

import time

from common import digits, options

import graphc as gc
from graphc import nn, optim
from graphc.inspect.text import dump_stages, kernel_table, pass_table


class DigitsMLP(nn.Module):
    """(N, 64) pixels -> (N, 10) logits."""

    def __init__(self, hidden: int = 256, dropout: float = 0.3):
        self.body = nn.Sequential(
            nn.Linear(64, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, 10)

    def forward(self, x):
        return self.head(self.body(x))


def main(argv: list[str] | None = None) -> float:
    args = options(__doc__, "digits_mlp", argv, lambda parser: parser.add_argument("--epochs", type=int, default=30))
    x, y, x_test, y_test = digits(args.seed)
    model = gc.compile(
        DigitsMLP(),
        gc.spec(gc.Dim("N", hint=64), 64),
        loss="cross_entropy",
        optimizer=optim.Adam(1e-3),
        metrics=["accuracy"],
        target=args.target,
    )
    model.summary()

    start = time.perf_counter()
    model.compile_all()
    print(f"\ncompiled 3 programs in {time.perf_counter() - start:.2f} s")
    step = model.executables["train_step"]
    print(f"\npasses of train_step:\n{pass_table(step)}")
    print(f"\nkernels of train_step:\n{kernel_table(step)}\n")

    start = time.perf_counter()
    epochs = 5 if args.quick else args.epochs
    history = model.fit(x, y, batch_size=64, epochs=epochs, verbose=1)
    seconds = time.perf_counter() - start

    result = model.evaluate(x_test, y_test)
    print(f"\n{history.epochs} epochs, {model.steps} steps in {seconds:.2f} s")
    print(f"test accuracy {result['accuracy']:.4f}  loss {result['loss']:.4f}  ({len(y_test)} images)")

    args.out.mkdir(parents=True, exist_ok=True)
    model.save(args.out / "model.graphc")
    files = [p for mode, program in model.executables.items() for p in dump_stages(args.out / "stages", mode, program)]
    model.report(args.out / "model.html")
    print(f"wrote {args.out}/model.graphc, {args.out}/model.html and {len(files)} files in {args.out}/stages")
    return result["accuracy"]


if __name__ == "__main__":
    main()
