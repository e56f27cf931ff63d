"""Files that a user already has, as NumPy arrays."""

from __future__ import annotations

import csv
import gzip
import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, FileFormatError
from graphc.locate import public

from ..data import Dataset

__all__ = ["ImageFolder", "read_csv", "read_idx", "read_image", "read_npz"]

Source = str | os.PathLike[str]
_IDX = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def _bytes(path: Source) -> bytes:
    """The content of a file, unpacked where it is gzip (whatever it is called)."""
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as e:
        raise FileFormatError(f"{path}: damaged gzip file: {e}") from None


def read_idx(path: Source) -> np.ndarray:
    """An IDX file (the format of MNIST), gzip or not, as an array of the shape and dtype that it says."""
    content = _bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX:
        raise FileFormatError(f"{path}: not an IDX file")
    dtype, rank = np.dtype(_IDX[content[2]]), content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise FileFormatError(f"{path}: an IDX file that ends in its header")
    shape = struct.unpack(f">{rank}I", content[4:start])
    size = dtype.itemsize
    for n in shape:
        size *= n
    if len(content) - start != size:
        raise FileFormatError(f"{path}: {len(content) - start} bytes of data, but shape {shape} of {dtype.name} takes {size}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_csv(
    path: Source,
    target: str | int | None = None,
    features: Sequence[str | int] | None = None,
    header: bool = True,
    delimiter: str = ",",
) -> Any:
    """A CSV file, gzip or not: a dict of columns by name, or ``(x, y)`` where ``target`` names a column.

    A column whose cells are all numbers is float64, with NaN for empty cells; any other holds texts. Without a ``header`` the
    names are 0, 1, .... ``x`` is float32, (rows, features): the columns ``features``, or all but the target. ``y`` is int64 for
    whole numbers, float32 for others; texts become the number of their class in sorted order.
    """
    try:
        lines = list(csv.reader(io.StringIO(_bytes(path).decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True))
    except (csv.Error, UnicodeDecodeError) as e:
        raise FileFormatError(f"{path}: not a CSV file: {e}") from None
    rows = [line for line in lines if line]
    if not rows or (header and len(rows) == 1):
        raise FileFormatError(f"{path}: no rows")
    names: list[Any] = [n.strip() for n in rows.pop(0)] if header else list(range(len(rows[0])))
    if len(set(names)) != len(names):
        raise FileFormatError(f"{path}: a column name comes twice", hint="header=False takes numbers for names")
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise FileFormatError(f"{path}: row {i + 1} has {len(row)} cells, expected {len(names)}")
    columns = {n: _column([row[i] for row in rows]) for i, n in enumerate(names)}
    if target is None:
        return columns if features is None else {n: _named(columns, n, path) for n in features}
    y = _target(_named(columns, target, path))
    chosen = [n for n in names if n != target] if features is None else list(features)
    arrays = [_named(columns, n, path) for n in chosen]
    texts = [str(n) for n, a in zip(chosen, arrays, strict=True) if a.dtype.kind == "U"]
    if texts:
        raise ArgumentError(f"{path}: columns of texts cannot be features: {', '.join(texts)}", hint="features=[...] names those to use")
    return np.stack(arrays, axis=1).astype(np.float32), y


def _named(columns: dict[Any, np.ndarray], name: Any, path: Source) -> np.ndarray:
    if name not in columns:
        raise ArgumentError(f"{path}: no column {name!r}", hint="columns: " + ", ".join(map(str, columns)))
    return columns[name]


def _column(cells: Sequence[str]) -> np.ndarray:
    try:
        return np.array([float(c) if c.strip() else np.nan for c in cells])
    except ValueError:
        return np.array([c.strip() for c in cells])


def _target(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind == "U":
        return np.unique(column, return_inverse=True)[1].astype(np.int64)
    whole = np.isfinite(column).all() and (column == np.round(column)).all()
    return column.astype(np.int64 if whole else np.float32)


def read_npz(path: Source) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file by name. Pickled objects in it are refused, since reading them could run code."""
    try:
        with np.load(Path(path), allow_pickle=False) as z:
            if isinstance(z, np.ndarray):
                raise FileFormatError(f"{path}: one array (.npy), not an .npz file", hint="np.load(path)")
            return {k: z[k] for k in z.files}
    except (FileNotFoundError, FileFormatError):
        raise
    except Exception as e:  # the reader of zip files has errors of many kinds
        raise FileFormatError(f"{path}: not an .npz file of plain arrays: {e}") from None


def read_image(path: Source, mode: str | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """A PNG, JPEG, PPM, TIFF, ... as an array: uint8 (height, width, 3) for colours, (height, width) for grey.

    ``mode`` "RGB" or "L" (grey) converts, ``size`` (height, width) scales. Needs Pillow.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ArgumentError("images need Pillow", hint="pip install 'graphc-dl[images]'") from None
    try:
        with Image.open(path) as image:
            if mode is None and image.mode in ("P", "RGBA", "CMYK", "1", "LA"):
                mode = "L" if image.mode in ("1", "LA") else "RGB"
            picture: Any = image if mode in (None, image.mode) else image.convert(mode)
            if size is not None:
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.array(picture)
    except FileNotFoundError:
        raise
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as e:
        raise FileFormatError(f"{path}: not an image: {e}") from None


class ImageFolder(Dataset):
    """Images in one folder for each class: ``root/cat/1.png``. A sample is ``(image, class number)``.

    ``classes`` are the folders' names in sorted order. Images are read when they are asked for (see :func:`read_image`);
    ``size`` (height, width) makes them equal, so that they form batches.
    """

    SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

    def __init__(self, root: Source, mode: str | None = "RGB", size: tuple[int, int] | None = None):
        self.root, self.mode, self.size = Path(root), mode, size
        if not self.root.is_dir():
            raise ArgumentError(f"{root} is no folder", hint="the folder that holds a folder of pictures for each class")
        self.classes = sorted(p.name for p in self.root.iterdir() if p.is_dir())
        self.files = [
            (f, label)
            for label, name in enumerate(self.classes)
            for f in sorted((self.root / name).rglob("*"))
            if f.suffix.lower() in self.SUFFIXES
        ]
        if not self.files:
            raise ArgumentError(f"{root}: no images", hint=f"{root}/<class>/<image>, with endings " + " ".join(self.SUFFIXES))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, int]:
        path, label = self.files[index]
        return read_image(path, self.mode, self.size), label


public(globals())
