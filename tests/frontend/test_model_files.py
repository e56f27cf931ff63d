"""save and load: round trips, damage, hostile files, atomicity."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim


def everything(model):
    return {n: model.store.numpy(n) for n in model.store.names()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_array_equal(a[k], b[k])


@pytest.fixture
def saved(classifier, data, tmp_path):
    model = classifier(dropout=0.2)
    model.fit(*data())
    path = tmp_path / "m.graphc"
    model.save(path)
    return model, path


def split(raw):
    n = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + n]), raw[8 + n :]


def join(header, data):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def sign(header, data):
    """The file with a right digest, as an attacker would write it."""
    from graphc.frontend.files import _canonical, _digest

    header["__metadata__"]["data"] = _digest(data)
    header["__metadata__"]["digest"] = _digest(_canonical(header))
    return join(header, data)


def test_round_trip(saved, classifier, data):
    model, path = saved
    gc.set_seed(99)
    other = classifier(dropout=0.2)
    other.load(path)
    assert_same(everything(model), everything(other))
    assert other.steps == 2
    x, y = data()
    model.fit(x, y)
    other.fit(x, y)  # training goes on alike: moments, step, seed and shuffling come from the file
    assert_same(everything(model), everything(other))


def test_readable_by_safetensors(saved):
    from safetensors.numpy import load_file

    model, path = saved
    for k, v in model.state_dict().items():
        np.testing.assert_array_equal(load_file(path)[k], v)
    header, _ = split(path.read_bytes())
    meta = header["__metadata__"]
    assert (
        meta["format"] == "graphc"
        and meta["version"] == "2"
        and meta["step"] == "2"
        and meta["graph"].startswith("graph mlp_predict".replace("mlp", "MLP"))
    )
    assert json.loads(meta["optimizer"])["name"] == "Adam"


def test_other_optimisers_and_none(saved, classifier, mlp, target):
    model, path = saved
    other = classifier(optim.SGD(0.1), dropout=0.2)
    before = everything(other)
    with pytest.raises(gc.ParameterError) as e:
        other.load(path)
    assert "unexpected: optimizer.v.fc.0.weight" in str(e.value) and e.value.hint == "load(path, optimizer=False)"
    assert_same(before, everything(other))
    other.load(path, optimizer=False)
    np.testing.assert_array_equal(other.state_dict()["fc.0.weight"], model.state_dict()["fc.0.weight"])
    assert other.steps == 0
    plain = gc.compile(mlp(0.2), gc.spec("N", 6), target=target)
    plain.load(path)
    np.testing.assert_array_equal(plain.state_dict()["fc.0.weight"], model.state_dict()["fc.0.weight"])
    plain.save(path)
    model.load(path)


def test_a_second_model_of_one_module_saves_under_the_usual_names(saved, target, data):
    model, path = saved
    second = gc.compile(model.module, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2), target=target)
    second.fit(*data())
    second.save(path)
    assert "optimizer.m.fc.0.weight" in split(path.read_bytes())[0]
    model.load(path)


def test_another_model_is_refused_with_names(saved, target):
    _, path = saved

    class Other(nn.Module):
        def __init__(self):
            self.fc = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Identity(), nn.Linear(9, 3, bias=False))
            self.extra = nn.Linear(3, 3)

        def forward(self, x):
            return self.extra(self.fc(x))

    other = gc.compile(Other(), gc.spec("N", 6), target=target)
    before = everything(other)
    with pytest.raises(gc.ParameterError) as e:
        other.load(path)
    text = str(e.value)
    for line in (
        "missing: extra.weight",
        "unexpected: fc.3.bias",
        "fc.0.weight: the file has float32(8, 6), the model float32(9, 6)",
    ):
        assert line in text
    assert_same(before, everything(other))


def test_float64_files_do_not_fit_float32_models(classifier, tmp_path):
    classifier(dtype="float64").save(tmp_path / "m")
    with pytest.raises(gc.ParameterError, match="float64"):
        classifier().load(tmp_path / "m")


def test_every_damaged_file_is_refused(saved):
    """Hundreds of mutations: flipped bits, cuts, insertions, repeated and swapped pieces."""
    model, path = saved
    raw = path.read_bytes()
    before = everything(model)
    rng = np.random.default_rng(0)
    header_end = 8 + int.from_bytes(raw[:8], "little")
    mutants = [
        b"",
        raw[:7],
        raw[:8],
        raw[:header_end],
        raw[:-1],
        raw + b"\0",
        b"\0" * len(raw),
        b"\xff" * len(raw),
        raw[8:],
        raw * 2,
    ]
    for i in range(400):
        m = bytearray(raw)
        at = int(rng.integers(0, 8 if i % 10 == 0 else header_end if i % 2 else len(raw)))
        kind = i % 5
        if kind == 0:
            m[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            m[at] = int(rng.integers(0, 256))
        elif kind == 2:
            del m[at : at + int(rng.integers(1, 50))]
        elif kind == 3:
            m[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 20)), dtype=np.uint8))
        else:
            m[at : at + 8] = m[at : at + 8][::-1]
        mutants.append(bytes(m))
    refused = 0
    for m in mutants:
        path.write_bytes(m)
        try:
            model.load(path)
        except (gc.FileFormatError, gc.ParameterError):
            refused += 1
        else:
            # only a change that says the same in JSON (or none at all) may pass
            assert split(m) == split(raw) or m == raw
        assert_same(before, everything(model))
    assert refused > 350


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [8, 7]},
        {"shape": [-8, -6]},
        {"shape": [2**62, 6]},
        {"shape": [8.0, 6]},
        {"shape": "x"},
        {"shape": [True, 48]},
        {"dtype": "F16"},
        {"dtype": "O"},
        {"dtype": None},
        {"data_offsets": [0, 2**70]},
        {"data_offsets": [-192, 0]},
        {"data_offsets": [192, 0]},
        {"data_offsets": [0]},
        {"data_offsets": None},
        {"data_offsets": ["0", "192"]},
        {"extra": 1},
    ],
)
def test_hostile_headers_with_a_right_digest(saved, change):
    model, path = saved
    before = everything(model)
    header, data = split(path.read_bytes())
    header["fc.0.weight"].update(change)
    path.write_bytes(sign(header, data))
    with pytest.raises(gc.FileFormatError):
        model.load(path)
    assert_same(before, everything(model))


def test_overlaps_gaps_and_repeated_names(saved):
    model, path = saved
    raw = path.read_bytes()
    header, data = split(raw)
    a = header["fc.3.bias"]["data_offsets"]
    names = [
        k
        for k in header
        if k != "__metadata__" and k != "fc.3.bias" and header[k]["shape"] == [3] and header[k]["dtype"] == "F32"
    ]
    header["fc.3.bias"]["data_offsets"] = header[names[0]]["data_offsets"]
    path.write_bytes(sign(header, data))
    with pytest.raises(gc.FileFormatError, match="belong to no tensor, or to two"):
        model.load(path)
    header["fc.3.bias"]["data_offsets"] = a
    path.write_bytes(sign(header, data + b"1234"))
    with pytest.raises(gc.FileFormatError, match="after the last tensor"):
        model.load(path)
    text = json.dumps(header)
    twice = text[:-1] + ', "fc.3.bias": ' + json.dumps(header["fc.3.bias"]) + "}"
    path.write_bytes(len(twice).to_bytes(8, "little") + twice.encode() + data)
    with pytest.raises(gc.FileFormatError, match="twice"):
        model.load(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n", "the file is a pickle"),
        (b"PK\x03\x04" + bytes(100), "a zip file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        ((2**63).to_bytes(8, "little") + b"{}", "the header claims"),
        (join({}, b""), "not written by graphc"),
        (join([], b""), "not written by graphc"),
        (join({"__metadata__": {"format": "pt"}}, b""), "not written by graphc"),
        (join({"__metadata__": {"format": "graphc", "version": "999"}}, b""), "format version 999"),
        (join({"__metadata__": {"format": "graphc", "version": "1", "x": 3}}, b""), "damaged metadata"),
        (join({"__metadata__": {"format": "graphc", "version": "\u0663"}}, b""), "damaged metadata"),
        (join({"__metadata__": {"format": "graphc", "version": "0"}}, b""), "damaged metadata"),
        ((4).to_bytes(8, "little") + b"\xff\xfe{}", "damaged header"),
        ((3).to_bytes(8, "little") + b"NaN", "NaN in the header"),
        ((100000).to_bytes(8, "little") + b"[" * 100000, "damaged header"),
    ],
)
def test_foreign_files(saved, content, text):
    model, path = saved
    path.write_bytes(content)
    with pytest.raises(gc.FileFormatError, match=text):
        model.load(path)


def test_missing_files(saved, tmp_path):
    model, _ = saved
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "m")


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failed_save_leaves_the_old_file(saved, data, monkeypatch, broken):
    model, path = saved
    old = path.read_bytes()
    model.fit(*data())
    with monkeypatch.context() as m:
        if broken == "write":
            real = os.fdopen

            class Full:
                def __init__(self, f):
                    self.f = f

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    self.f.close()

                def write(self, data):
                    self.f.write(data[:100])
                    raise OSError(28, "No space left on device")

            m.setattr(os, "fdopen", lambda *a: Full(real(*a)))
        else:

            def fail(*_):
                raise OSError(28, "No space left on device")

            m.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space"):
            model.save(path)
    assert path.read_bytes() == old
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    model.save(path)
    assert path.read_bytes() != old


def test_an_interrupted_save_leaves_the_old_file(saved, monkeypatch):
    model, path = saved
    old = path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert path.read_bytes() == old and len(list(path.parent.iterdir())) == 1


def test_saving_is_deterministic(saved, tmp_path):
    model, path = saved
    model.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
