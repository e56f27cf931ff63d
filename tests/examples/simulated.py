"""What every example reaches with ``--quick --target cuda-sim``: the kernels that a GPU would run, on the simulator.

``python -m tests.examples.simulated docs/cuda_examples.md`` runs them all, each in a process of its own, and writes the table.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.examples import load


class Claim(NamedTuple):
    """A sentence for the table, made from an example's result, and what must hold of the result."""

    says: str
    holds: Callable[[dict[str, Any]], bool]


CLAIMS: dict[str, Claim] = {
    "xor": Claim(
        "XOR: {XOR, 0 hidden:.2f} by a neuron, {XOR, 4 hidden:.2f} with a hidden layer; class in the middle: {class 1 in the middle, 4 hidden:.2f}",
        lambda r: r["XOR, 4 hidden"] == 1.0 and r["XOR, 0 hidden"] <= 0.75 and r["class 1 in the middle, 4 hidden"] > 0.95,
    ),
    "gradient_descent": Claim(
        "{difference:.0e} from the formula of the path; momentum ends {momentum:.1e} from the minimum, without {plain:.1e}",
        lambda r: r["difference"] < 1e-4 and r["fast"] < 1e-6 and r["too fast"] > 4 and r["momentum"] < r["plain"] / 2,
    ),
    "logistic_regression": Claim(
        "accuracy {accuracy:.3f}; weights {weight difference:.0e} from scikit-learn's",
        lambda r: r["accuracy"] >= 0.95 and r["auc"] > 0.98 and r["weight difference"] < 0.05,
    ),
    "regression": Claim(
        "R2 {linear:.3f}, ridge of scikit-learn {ridge:.3f}",
        lambda r: r["weight difference"] < 1e-3 and abs(r["linear"] - r["ridge"]) < 1e-3 and r["linear"] > 0.2 and r["network"] > 0.15,
    ),
    "universal_approximation": Claim(
        "error {1 hidden:.2f} with one sigmoid, {16 hidden:.2f} with 16", lambda r: r["1 hidden"] > 2 * r["16 hidden"] and r["16 hidden"] < 0.3
    ),
    "vanishing_gradient": Claim(
        "gradient of the first of 8 layers to the last: sigmoid {sigmoid:.0e}, residual {tanh, residual:.2f}; accuracy {accuracy, sigmoid:.2f}, "
        "{accuracy, tanh, residual:.2f}",
        lambda r: r["sigmoid"] < 1e-3 and min(r["tanh"], r["ReLU"], r["tanh, residual"]) > 0.2
        and r["accuracy, sigmoid"] < 0.3 and r["accuracy, tanh, residual"] > 0.7,
    ),
    "regularisation": Claim(
        "accuracy {none:.3f} without, L2 {L2 penalty:.3f}, dropout {dropout:.3f}, early stopping {early stopping:.3f}",
        lambda r: all(r[name] > r["none"] + 0.01 for name in ("L2 penalty", "L1 penalty", "dropout", "early stopping")),
    ),
    "metrics": Claim(
        "accuracy {accuracy:.3f}, F1 {f1:.3f}; {difference:.0e} from scikit-learn's scores",
        lambda r: r["difference"] < 1e-9 and r["accuracy"] > 0.84 and r["auc"] > 0.93,
    ),
    "cross_validation": Claim(
        "{chosen} hidden units chosen: {estimate:.3f} foretold, {test:.3f} on test images",
        lambda r: r["narrowest"] < 0.6 and r["chosen"] == 16 and r["test"] > 0.85 and abs(r["test"] - r["estimate"]) < 0.08,
    ),
    "resume_training": Claim(
        "killed after step {end}, went on from {first}: {different} of all numbers differ; accuracy {accuracy:.3f}",
        lambda r: not r["different"] and r["histories"] and r["losses"] and 0 < r["end"] - r["first"] < 7 and r["accuracy"] > 0.85,
    ),
    "mnist_cnn": Claim("accuracy {accuracy:.3f} after 255 images", lambda r: r["accuracy"] > 0.55 and r["epochs"] == 4),
    "learning_rate_finder": Claim(
        "rate {rate:.2f} suggested: accuracy {suggestion:.3f}; a hundredth of it {a hundredth:.3f}",
        lambda r: r["suggestion"] > 0.93 and r["suggestion"] > max(r["a hundredth"], r["too large"]) + 0.05,
    ),
    "custom_step_gan": Claim(
        "{near:.0%} of the points near a place, at first {at first:.0%}; {places} of 8 places found",
        lambda r: r["near"] > 0.15 and r["places"] >= 5 and r["at first"] < 0.05,
    ),
    "vae_digits": Claim(
        "loss {first loss:.1f} to {loss:.1f}; error {error:.3f}, of two principal components {pca:.3f}",
        lambda r: r["loss"] < 0.85 * r["first loss"] and r["error"] < 1.25 * r["pca"] and r["divergence"] > 0.3,
    ),
    "inspect_graph": Claim(
        "one training step, {launches} launches; all views", lambda r: r["launches"] > 20 and "@cuda.jit" in r["kernels"]
    ),
    "profile_training": Claim(
        "nothing is measured; {ratio:.1f} times the bytes a sample in batches of 8 instead of 128",
        lambda r: r["ratio"] > 2 and r["intensity"] > 2 and r["last"] < r["first"],
    ),
    "deploy": Claim(
        "accuracy {accuracy:.3f}; the bundle, for the CPU, differs by at most {largest difference from training's target:.0e}",
        lambda r: r["accuracy"] > 0.85 and not r["different"] and r["largest difference from training's target"] < 1e-4 and r["refused"],
    ),
    "digits_mlp": Claim("accuracy {accuracy:.3f}", lambda r: r["accuracy"] > 0.93),
}  # fmt: skip

HEAD = """# The examples on the simulator of CUDA

`python examples/NAME.py --quick --target cuda-sim`, without a GPU and without a compiler for one. The kernels are those of `--target cuda`; the
first launch of each kernel for each size is checked in full ([cuda.md](cuda.md)). `--quick` does less here than on the CPU (`amount` in
`examples/common.py`). Seconds are processor time with imports, graphs, figures and processes that an example starts; they are no measure of a GPU.
Written by `python -m tests.examples.simulated docs/cuda_examples.md`.

| example | seconds | reached |
|---|---:|---|
"""


def run(name: str, folder: Path | str) -> dict[str, Any]:
    """What an example gives back, in the form of ``CLAIMS``; its tables are not shown."""
    with contextlib.redirect_stdout(io.StringIO()):
        result = load(name).main(["--quick", "--target", "cuda-sim", "--out", str(folder)])
    if name == "digits_mlp":
        return {"accuracy": result}
    if name == "inspect_graph":
        listing = next(text for title, text in result.items() if title.startswith("the launches"))
        kernels = next(text for title, text in result.items() if title.endswith("their source"))
        return {"launches": len(listing.splitlines()), "kernels": kernels}
    return {k: v.item() if hasattr(v, "item") else v for k, v in result.items()}


def alone(name: str) -> tuple[dict[str, Any], float]:
    """An example in another process: its result, and the processor time of it and of the processes that it starts."""
    done = subprocess.run([sys.executable, "-m", "tests.examples.simulated", name], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}:\n{done.stderr}")
    return tuple(json.loads(done.stdout))


def page() -> str:
    """The Markdown page; an example that does not reach what it must is an error."""
    rows = []
    for name, claim in CLAIMS.items():
        result, seconds = alone(name)
        if not claim.holds(result):
            raise SystemExit(f"{name} reached {result}")
        rows.append(f"| [{name}](../examples/{name}.py) | {seconds:.0f} | {claim.says.format_map(result)} |")
        print(rows[-1])
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    if sys.argv[1] in CLAIMS:
        with tempfile.TemporaryDirectory() as folder:
            found = run(sys.argv[1], folder)
        used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps([found, sum(u.ru_utime + u.ru_stime for u in used)]))
    else:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
