"""Finding a learning rate with one short run (the range test of L. N. Smith, 2017).

    python examples/learning_rate_finder.py

The rate grows from step to step, from far too small to far too large. The loss first stands still, then falls, then explodes; a good
rate is where it falls fastest. ``gc.lr_finder`` puts the model back exactly as it was. Three trainings show that the suggestion is
good: with it, with a hundredth of it, and with the rate at which the test ended.
"""

from __future__ import annotations

import numpy as np
from common import BLUE, GREEN, ORANGE, RED, digits, figure, options, table

import graphc as gc
from graphc import callbacks, nn, optim


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "learning_rate_finder", argv)
    x, y, x_test, y_test = digits(args.seed)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = gc.compile(net, gc.spec("N", 64), loss="cross_entropy", optimizer=optim.SGD(0.01, momentum=0.9), metrics=["accuracy"], target=args.target)
    start = model.state_dict()
    curve = gc.lr_finder(model, x, y, start=1e-5, end=1e4, steps=100 if args.quick else 200, batch_size=64)
    assert all(np.array_equal(v, start[k]) for k, v in model.state_dict().items())  # nothing was trained

    first = {n: model.store.numpy(n) for n in model.store.names()}
    epochs = 4 if args.quick else 15
    rates = {"a hundredth": curve.suggestion / 100, "suggestion": curve.suggestion, "too large": curve.rates[-1]}
    histories, accuracy = {}, {}
    for name, rate in rates.items():
        model.store.write(first)
        model.learning_rate = rate
        histories[name] = model.fit(x, y, batch_size=64, epochs=epochs, callbacks=[callbacks.TerminateOnNaN()])
        accuracy[name] = model.evaluate(x_test, y_test)["accuracy"]
    table(["", "learning rate", "test accuracy"], [[name, rate, accuracy[name]] for name, rate in rates.items()])

    with figure(args, 1, 2, size=(9, 3.4)) as (_, (left, right)):
        left.plot(curve.rates, curve.losses, color="0.75", linewidth=1, label="each batch")
        left.plot(curve.rates, curve.smoothed, color=BLUE, label="smoothed")
        left.axvline(curve.suggestion, color=GREEN, linestyle="--", label=f"suggestion {curve.suggestion:.2g}")
        left.set_xscale("log")
        left.set_ylim(0, 1.6 * curve.smoothed[0])
        left.set_xlabel("learning rate")
        left.set_title("loss while the rate grows")
        left.legend()
        for (name, history), colour in zip(histories.items(), (ORANGE, GREEN, RED), strict=True):
            right.plot(np.arange(1, history.epochs + 1), history["loss"], color=colour, marker=".", label=f"{name}, {rates[name]:.2g}")
        right.set_yscale("log")
        right.set_xlabel("epoch")
        right.set_title("training loss")
        right.legend()
    return {"rate": curve.suggestion, **accuracy}


if __name__ == "__main__":
    main()
