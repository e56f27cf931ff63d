"""The data sets of the lock as NumPy arrays: images uint8, features and series float32, classes int64."""

from __future__ import annotations

import ast
import csv
import gzip
import io

import numpy as np

from graphc.errors import DatasetError
from graphc.locate import public

from .readers import read_csv, read_idx, read_image
from .store import paths

__all__ = [
    "autompg", "breast_cancer", "co2", "diabetes", "digits", "elnino", "fashion_mnist", "iris", "lee_news", "lfw_faces",
    "macrodata", "mnist_5k", "movie_reviews", "nuclei", "seattle_weather", "sunspots", "taylor", "textures", "wine",
    "word_analogies",
]  # fmt: skip

Pair = tuple[np.ndarray, np.ndarray]


def _numbers(text: str, delimiter: str | None = ",", skip: int = 0) -> np.ndarray:
    return np.loadtxt(io.StringIO(text), delimiter=delimiter, skiprows=skip, ndmin=2)


def _gunzip(content: bytes) -> str:
    return gzip.decompress(content).decode("utf-8")


# -- images ----------------------------------------------------------------------------------------------------------------
def digits() -> Pair:
    """Handwritten digits: images (1797, 8, 8) uint8 of 0..16, classes (1797,)."""
    table = _numbers(_gunzip(paths("digits")["digits.csv.gz"].read_bytes()))
    return table[:, :64].reshape(-1, 8, 8).astype(np.uint8), table[:, 64].astype(np.int64)


def mnist_5k() -> Pair:
    """500 images of each digit of MNIST: images (5000, 28, 28) uint8, classes (5000,), in order of the classes."""
    table = _numbers(_gunzip(paths("mnist_5k")["mnist_5k.csv.gz"].read_bytes()))
    return table[:, :784].reshape(-1, 28, 28).astype(np.uint8), table[:, 784].astype(np.int64)


def fashion_mnist() -> tuple[Pair, Pair]:
    """Clothes: ((images (60000, 28, 28) uint8, classes), (test images (10000, 28, 28), test classes)), ten classes."""
    files = paths("fashion_mnist")
    train, test = (
        (read_idx(files[f"{part}-images-idx3-ubyte.gz"]), read_idx(files[f"{part}-labels-idx1-ubyte.gz"]).astype(np.int64))
        for part in ("train", "t10k")
    )
    return train, test


def lfw_faces() -> Pair:
    """Faces and other crops of photographs: images (200, 25, 25) uint8, classes (200,) with 1 for a face."""
    images = np.load(paths("lfw_faces")["lfw_subset.npy"], allow_pickle=False)
    return np.round(images * 255).astype(np.uint8), np.repeat(np.array([1, 0]), 100)


def textures() -> Pair:
    """Brick, grass and gravel: images (3, 512, 512) uint8 to cut patches from, classes (3,). Needs Pillow."""
    files = paths("textures")
    return np.stack([read_image(files[f"{n}.png"], "L") for n in ("brick", "grass", "gravel")]), np.arange(3)


def nuclei() -> Pair:
    """Cell nuclei under a microscope: image (512, 512) float32 of 0..255, mask (512, 512) int64, 0 or the nucleus's number. Needs Pillow."""
    files = paths("nuclei")
    return read_image(files["img2d.tif"]).astype(np.float32), read_image(files["mask2d.tif"]).astype(np.int64)


# -- tables ----------------------------------------------------------------------------------------------------------------
def _table(name: str, file: str) -> Pair:
    table = _numbers(paths(name)[file].read_text(encoding="utf-8"), skip=1)
    return table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)


def iris() -> Pair:
    """Iris flowers: features (150, 4), classes (150,) of three species."""
    return _table("iris", "iris.csv")


def wine() -> Pair:
    """Chemical analysis of wines: features (178, 13), classes (178,) of three growers."""
    return _table("wine", "wine_data.csv")


def breast_cancer() -> Pair:
    """Features of cell nuclei (569, 30), classes (569,): 0 malignant, 1 benign."""
    return _table("breast_cancer", "breast_cancer.csv")


def diabetes() -> Pair:
    """Ten measurements of patients (442, 10), progress of the disease after a year (442,) float32."""
    files = paths("diabetes")
    x = _numbers(_gunzip(files["diabetes_data_raw.csv.gz"].read_bytes()), delimiter=None)
    y = _numbers(_gunzip(files["diabetes_target.csv.gz"].read_bytes()))
    return x.astype(np.float32), y[:, 0].astype(np.float32)


def autompg() -> Pair:
    """Cars: features (392, 7), miles per gallon (392,) float32."""
    rows = list(csv.reader(io.StringIO(_gunzip(paths("autompg")["autompg.csv.gz"].read_bytes()))))
    x = np.array([[float(v) for v in row[:7]] for row in rows], dtype=np.float32)
    return x, np.array([float(row[8]) for row in rows], dtype=np.float32)


# -- series ----------------------------------------------------------------------------------------------------------------
def _series(name: str, file: str) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = read_csv(paths(name)[file])
    return columns


def co2() -> np.ndarray:
    """Carbon dioxide at Mauna Loa, weekly from 1958 to 2001, ppm: (2284,), NaN where nothing was measured."""
    return _series("co2", "co2.csv")["co2"].astype(np.float32)


def sunspots() -> Pair:
    """Sunspots: years (309,) int64 from 1700 to 2008, numbers (309,)."""
    columns = _series("sunspots", "sunspots.csv")
    return columns["YEAR"].astype(np.int64), columns["SUNACTIVITY"].astype(np.float32)


def elnino() -> Pair:
    """Temperature of the sea: years (61,) int64, degrees (61, 12) of each month."""
    columns = list(_series("elnino", "elnino.csv").values())
    return columns[0].astype(np.int64), np.stack(columns[1:], axis=1).astype(np.float32)


def macrodata() -> np.ndarray:
    """Economy of the United States, quarterly from 1959 to 2009: (203, 14), columns in the lock."""
    return np.stack(list(_series("macrodata", "macrodata.csv").values()), axis=1).astype(np.float32)


def taylor() -> np.ndarray:
    """Demand for electricity in England and Wales, megawatts each half hour of twelve weeks: (4032,)."""
    tree = ast.parse(paths("taylor")["taylor.py"].read_text(encoding="utf-8"))  # the numbers stand in a program: it is read, not run
    lists = [n for n in ast.walk(tree) if isinstance(n, ast.List) and len(n.elts) == 4032]
    if len(lists) != 1:
        raise DatasetError("taylor: no list of 4032 numbers in the file")
    return np.array(ast.literal_eval(lists[0]), dtype=np.float32)


def seattle_weather() -> tuple[np.ndarray, np.ndarray]:
    """Days of 2012 to 2015: (1461, 4) rain, highest and lowest temperature, wind; classes (1461,) of the weather."""
    x, y = read_csv(paths("seattle_weather")["seattle-weather.csv"], "weather", ("precipitation", "temp_max", "temp_min", "wind"))
    return x, y


# -- texts -----------------------------------------------------------------------------------------------------------------
def movie_reviews(source: str | None = None) -> tuple[list[str], np.ndarray]:
    """Reviews of films as texts, classes (N,): 1 for praise. ``source`` takes those of one origin, such as "rotten_tomatoes" (8530)."""
    rows = csv.DictReader(io.StringIO(paths("movie_reviews")["combined_movie_reviews.csv"].read_text(encoding="utf-8"), newline=""))
    chosen = [(row["text"], int(row["label"])) for row in rows if source in (None, row["source"])]
    if not chosen:
        raise DatasetError(f"movie_reviews: nothing from {source!r}")
    return [text for text, _ in chosen], np.array([label for _, label in chosen], dtype=np.int64)


def lee_news() -> list[str]:
    """300 short news texts (60,000 words), for word vectors and language models."""
    return paths("lee_news")["lee_background.cor"].read_text(encoding="utf-8").splitlines()


def word_analogies() -> list[tuple[str, str, str, str, str]]:
    """19,544 questions "a is to b as c is to d" for word vectors: (kind, a, b, c, d)."""
    out, kind = [], ""
    for line in paths("word_analogies")["questions-words.txt"].read_text(encoding="utf-8").splitlines():
        if line.startswith(":"):
            kind = line[1:].strip()
        elif line:
            a, b, c, d = line.split()
            out.append((kind, a, b, c, d))
    return out


public(globals())
