"""Deployment: a trained network as one file that predicts in a process without a compiler.

    python examples/deploy.py

A network learns handwritten digits and is written as a bundle: machine code, launch list and weights. Another process loads it, which takes
less than a tenth of a second, and predicts the test images; its numbers are the model's, bit by bit. It imports neither Numba nor
llvmlite. A bundle is for the CPU: a network that was trained elsewhere is compiled for the CPU with the weights that it has then. On
damaged files and on other processors it says so. docs/deploy.md has the whole story.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
from common import options, table

import graphc as gc
from graphc import data, datasets, nn, optim

SERVER = """
import json, sys, time
begin = time.perf_counter()
import numpy as np
import graphc as gc
bundle = gc.load_bundle(sys.argv[1])
loaded = time.perf_counter() - begin
images = np.load(sys.argv[2])
scores = bundle.predict(images)                          # any number of images
single = bundle.predict(images[:1])
begin = time.perf_counter()
for _ in range(1000):
    bundle.predict(images[:1])
call = (time.perf_counter() - begin) / 1000
np.save(sys.argv[3], scores)
compiler = [m for m in ("numba", "llvmlite") if m in sys.modules]
print(json.dumps({"seconds to load": loaded, "microseconds a call": call * 1e6, "compiler": compiler}))
"""


def main(argv: list[str] | None = None) -> dict[str, float]:
    args = options(__doc__, "deploy", argv)
    images, labels = datasets.digits()
    pixels = images.reshape(-1, 64).astype(np.float32) / 16
    x, x_test, y, y_test = data.split(pixels, labels, fraction=0.25, seed=args.seed, stratify=labels)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model = gc.compile(net, gc.spec("N", 64), loss="cross_entropy", optimizer=optim.Adam(3e-3), target=args.target)
    model.fit(x, y, batch_size=32, epochs=3 if args.quick else 15, verbose=0)
    trained = model.predict(x_test)
    if args.target != "cpu":
        model = gc.compile(net, gc.spec("N", 64))

    path, given, got = args.out / "digits.gcb", args.out / "images.npy", args.out / "scores.npy"
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    model.save_bundle(path)
    saving = time.perf_counter() - begin
    np.save(given, x_test)
    done = subprocess.run([sys.executable, "-c", SERVER, str(path), str(given), str(got)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    scores = np.load(got)

    damaged = args.out / "damaged.gcb"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    damaged.write_bytes(bytes(raw))
    try:
        refused = ""
        gc.load_bundle(damaged)
    except gc.FileFormatError as e:
        refused = e.message
    result = {
        "accuracy": float((scores.argmax(1) == y_test).mean()),
        "different": float((scores != model.predict(x_test)).sum()),
        "largest difference from training's target": float(np.abs(scores - trained).max()),
        "kilobytes": path.stat().st_size / 1024,
        "seconds to save": saving,
        "seconds to load": told["seconds to load"],
        "microseconds a call": told["microseconds a call"],
    }
    rows = [(name, f"{value:.4g}") for name, value in result.items()]
    table(["", ""], [*rows, ("compiler in the server", ", ".join(told["compiler"]) or "none"), ("one bit changed", refused.rpartition(": ")[2] or "not noticed")])
    return result | {"refused": float(bool(refused)), "compiler": float(len(told["compiler"]))}


if __name__ == "__main__":
    main()
