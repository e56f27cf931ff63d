"""Real data sets that package indexes carry, and readers for files that a user already has.

``datasets.digits()`` gives arrays; the files are fetched once, verified on every load, and kept in ``~/.cache/graphc/datasets``
(or GRAPHC_DATA). ``graphc datasets list`` shows all.
"""

from .catalog import (
    autompg,
    breast_cancer,
    co2,
    diabetes,
    digits,
    elnino,
    fashion_mnist,
    iris,
    lee_news,
    lfw_faces,
    macrodata,
    mnist_5k,
    movie_reviews,
    nuclei,
    seattle_weather,
    sunspots,
    taylor,
    textures,
    wine,
    word_analogies,
)
from .readers import ImageFolder, read_csv, read_idx, read_image, read_npz
from .store import entries, fetch, folder, status

__all__ = [
    "ImageFolder",
    "autompg",
    "breast_cancer",
    "co2",
    "diabetes",
    "digits",
    "elnino",
    "entries",
    "fashion_mnist",
    "fetch",
    "folder",
    "iris",
    "lee_news",
    "lfw_faces",
    "macrodata",
    "mnist_5k",
    "movie_reviews",
    "nuclei",
    "read_csv",
    "read_idx",
    "read_image",
    "read_npz",
    "seattle_weather",
    "status",
    "sunspots",
    "taylor",
    "textures",
    "wine",
    "word_analogies",
]
