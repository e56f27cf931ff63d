"""What all examples share: their options, their data, their tables and their figures."""

from __future__ import annotations

import argparse
import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import graphc as gc

TARGETS = ("cpu", "reference", "cuda-sim", "cuda")

# Okabe and Ito's colours, which people with colour-blindness can tell apart
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def options(doc: str | None, name: str, argv: Sequence[str] | None, more: Callable[[Any], Any] = lambda parser: None) -> argparse.Namespace:
    """The options of an example, with ``gc.set_seed`` done; ``more(parser)`` adds others."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu", choices=TARGETS, help="what the model is compiled for (default: cpu)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, as a smoke test (some more with cuda-sim)")
    parser.add_argument("--seed", type=int, default=1, help="initial values, order and split of the data (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("out") / name, help=f"folder for what is written (default: out/{name})")
    more(parser)
    args = parser.parse_args(argv)
    args.name = name
    gc.set_seed(args.seed)
    return args


def amount(args: argparse.Namespace, full: Any, quick: Any, simulated: Any) -> Any:
    """How much of something: in full, for ``--quick``, and for ``--quick`` on the simulator of CUDA, where a step takes many times longer."""
    return full if not args.quick else simulated if args.target == "cuda-sim" else quick


def need(module: str) -> Any:
    """A module of another package, or the message what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = {"sklearn": "scikit-learn"}.get(module.partition(".")[0], module.partition(".")[0])
        raise SystemExit(f"this example needs {package}: pip install 'graphc-dl[examples]'") from None


# -- data ------------------------------------------------------------------------------------------------------------------
def standardise(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Each column with mean 0 and standard deviation 1 on the *training* data: the others must not leak into the statistics."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    return tuple((a - mean) / std for a in (train, *others))


def digits(seed: int, fraction: float = 0.2, validation: float = 0.0, count: int | None = None) -> tuple[np.ndarray, ...]:
    """(x, y, x_test, y_test), or with ``validation`` (x, y, x_val, y_val, x_test, y_test): scikit-learn's 1797 images of 8x8 pixels.

    ``fraction`` of the images are for the test, ``validation`` of the rest for the validation; ``count`` of what then remains are trained
    on. All are scaled with the statistics of the images that are trained on, and of no others.
    """
    images, labels = need("sklearn.datasets").load_digits(return_X_y=True)
    x, x_test, y, y_test = gc.data.split(images, labels, fraction=fraction, seed=seed)
    held = [(x_test, y_test)]
    if validation:
        x, x_val, y, y_val = gc.data.split(x, y, fraction=validation, seed=seed + 1)
        held.insert(0, (x_val, y_val))
    x, y = x[:count], y[:count]
    mean, std = x.mean(axis=0), x.std()  # one deviation for all pixels: some are always 0
    return tuple(part for images, labels in [(x, y), *held] for part in ((images - mean) / std, labels))


# -- results ---------------------------------------------------------------------------------------------------------------
def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows in columns; numbers stand to the right."""
    cells = [list(header), *([v if isinstance(v, str) else f"{v:d}" if isinstance(v, int) else f"{v:.4g}" for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for i, row in enumerate(cells):
        print("  ".join(c.ljust(w) if j == 0 else c.rjust(w) for j, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip())
        if i == 0:
            print("  ".join("-" * w for w in widths))


@contextmanager
def figure(
    args: argparse.Namespace, rows: int = 1, columns: int = 1, size: tuple[float, float] = (9.0, 3.6), **grid: Any
) -> Iterator[tuple[Any, Any]]:
    """Gives (figure, axes) to draw on, then writes ``<out>/<name>.png``. Figures of their own need no display and no pyplot."""
    need("matplotlib")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        fig = Figure(figsize=size, layout="constrained")
        yield fig, fig.subplots(rows, columns, **grid)
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{args.name}.png"
        buffer = io.BytesIO()
        fig.savefig(buffer, dpi=100)
        image = need("PIL.Image").open(buffer).convert("RGB")
        image.quantize(255, dither=0).save(path, optimize=True)  # a palette: a third of the bytes
    print(f"wrote {path}")


def two_colours() -> Any:
    """A colour map from class 0 (blue) over white to class 1 (orange), pale enough to draw points on."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("two", ["#9cc3e0", "#ffffff", "#f6d9a0"])
