"""The page docs/errors.md: mistakes and what graphc says of them, made by running them.

``python -m tests.frontend.error_gallery docs/errors.md`` writes it.
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
import re
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import graphc as gc
from graphc import callbacks, data, datasets, nn, ops, optim

HEAD = """# What graphc says of mistakes

Made by running each mistake: `python -m tests.frontend.error_gallery docs/errors.md`. A message says what is wrong, where (the module and
where it was built, the line that used it), why (`note`) and what to do (`hint`).

All errors inherit from `gc.GraphcError` and, where Python has a word for the same, from that too: `ShapeError` is a `ValueError`,
`DTypeError` and `ArgumentError` are `TypeError`s, `MissingFileError` is a `FileNotFoundError`. They stand in `graphc/errors.py`.

Tracebacks show your frames only. With `GRAPHC_TRACEBACK=full` in the environment they show graphc's too; an error that is graphc's own
defect keeps them always.

The scripts below begin with

```python
import numpy as np
import graphc as gc
from graphc import callbacks, data, datasets, nn, ops, optim

x = np.zeros((8, 4), "float32")  # 8 samples of 4 features
y = np.array([0, 1, 2, 0, 1, 2, 0, 1])  # their classes
```
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake in a few words, and a script that makes it."""

    title: str
    script: str
    around: Any = contextlib.nullcontext  # what is put in place while it runs


@contextlib.contextmanager
def broken_printer() -> Iterator[None]:
    """One printer of the CPU backend writes a name that does not exist, into a cache of its own."""
    from graphc.backends.cpu import program
    from graphc.backends.cpu.machine.cache import KernelCache

    printer = program.PRINTERS["map"]

    def broken(*args: Any) -> Any:
        printed = printer(*args)
        return replace(printed, text=printed.text.replace("= mul(", "= mull(", 1))

    with tempfile.TemporaryDirectory() as folder:
        cache = KernelCache(folder)
        with mock.patch.dict(program.PRINTERS, map=broken), mock.patch.object(program, "default_cache", lambda: cache):
            yield


GALLERY: dict[str, list[Mistake]] = {
    "Shapes": [
        Mistake(
            "A layer expects another number of features",
            """
            class Net(nn.Module):
                def __init__(self):
                    self.conv = nn.Conv2d(1, 6, 5)
                    self.fc = nn.Sequential(nn.Linear(800, 120), nn.ReLU(), nn.Linear(120, 10))

                def forward(self, x):
                    x = self.conv(x).relu().max_pool2d(2)
                    return self.fc(x.flatten(1))

            gc.compile(Net(), gc.spec("N", 1, 28, 28))
            """,
        ),
        Mistake("Two layers that do not fit", 'net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(100, 10))\ngc.compile(net, gc.spec("N", 784))'),
        Mistake("Images in Keras' order", 'gc.compile(nn.Conv2d(3, 16, 3), gc.spec("N", 224, 224, 3))'),
        Mistake("Grey images for a layer that takes colours", 'gc.compile(nn.Conv2d(3, 16, 3), gc.spec("N", 1, 28, 28))'),
        Mistake(
            "Pooled away",
            """
            block = [nn.Conv2d(8, 8, 5), nn.MaxPool2d(2)]
            gc.compile(nn.Sequential(nn.Conv2d(1, 8, 5), *block, *block, nn.Conv2d(8, 8, 5)), gc.spec("N", 1, 28, 28))
            """,
        ),
        Mistake("Shapes that do not broadcast", 'def add(a, b):\n    return a + b\n\ngc.compile(add, gc.spec("N", 3), gc.spec("N", 4))'),
        Mistake("A reshape that does not come out even", 'gc.compile(lambda x: x.reshape(-1, 100), gc.spec("N", 7, 9))'),
        Mistake("An axis that is not there", 'gc.compile(lambda x: x.sum(dim=2), gc.spec("N", 4))'),
        Mistake(
            "Sizes that agree only sometimes",
            """
            f = gc.compile(lambda a, b: a @ b, gc.spec("N", "K"), gc.spec("M", 3), target="reference")
            f(np.ones((2, 4)), np.ones((4, 3)))  # K and M are 4: good
            f(np.ones((2, 4)), np.ones((5, 3)))
            """,
        ),
        Mistake("Heads that do not divide the features", "nn.MultiheadAttention(10, 3)"),
    ],
    "Python in `forward`": [
        Mistake(
            "An `if` on a tensor",
            """
            class Net(nn.Module):
                def forward(self, x):
                    if x.sum() > 0:
                        return x
                    return -x

            gc.compile(Net(), gc.spec("N", 4))
            """,
        ),
        Mistake("An `if` on a size that is not known yet", 'def f(x):\n    return x if x.shape[0] > 3 else -x\n\ngc.compile(f, gc.spec("N", 4))'),
        Mistake("`int()` of a tensor", "gc.compile(lambda x: x[int(x[0])], gc.spec(4))"),
        Mistake("`.item()`", "gc.compile(lambda x: x / x.max().item(), gc.spec(4))"),
        Mistake("NumPy on a tensor", "gc.compile(lambda x: np.exp(x), gc.spec(4))"),
        Mistake("Assignment in place", 'def f(x):\n    x[0] = 0\n    return x\n\ngc.compile(f, gc.spec(4))'),
        Mistake("A method that changes in place", "gc.compile(lambda x: x.add_(1), gc.spec(4))"),
        Mistake("`for` over the batch", 'def f(x):\n    return sum(row for row in x)\n\ngc.compile(f, gc.spec("N", 4))'),
        Mistake("`.cuda()`", "gc.compile(lambda x: x.cuda(), gc.spec(4))"),
        Mistake(
            "`loss.backward()`",
            """
            net = nn.Linear(4, 2)

            def step(x, y):
                loss = ((net(x) - y) ** 2).mean()
                loss.backward()
                return loss

            gc.step(step, gc.spec("N", 4), gc.spec("N", 2))
            """,
        ),
        Mistake(
            "`return` is missing",
            """
            class Net(nn.Module):
                def __init__(self):
                    self.fc = nn.Linear(4, 2)

                def forward(self, x):
                    self.fc(x)

            gc.compile(Net(), gc.spec("N", 4))
            """,
        ),
        Mistake(
            "A layer under another name",
            """
            class Net(nn.Module):
                def __init__(self):
                    self.fc1 = nn.Linear(4, 2)

                def forward(self, x):
                    return self.fc2(x)

            gc.compile(Net(), gc.spec("N", 4))
            """,
        ),
        Mistake("A module called with an array", "net = nn.Linear(4, 2)\nnet(x)"),
        Mistake("Float indices", 'gc.compile(nn.Embedding(100, 8), gc.spec("N", 12))'),
    ],
    "Building and compiling": [
        Mistake("A class where a layer belongs", "nn.Sequential(nn.Linear(4, 4), nn.ReLU, nn.Linear(4, 2))"),
        Mistake("Keras' name of a layer", "nn.Dense(10)"),
        Mistake("Keras' name of an argument", "nn.Conv2d(3, 16, 3, strides=2)"),
        Mistake("An argument is missing", "nn.Linear(4)"),
        Mistake("A shape where a spec belongs", "gc.compile(nn.Linear(4, 2), (32, 4))"),
        Mistake("Too few specs", 'gc.compile(lambda a, b: a + b, gc.spec("N", 4))'),
        Mistake("A misspelt loss", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="crossentropy", optimizer="adam")'),
        Mistake("A misspelt metric", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", metrics=["acuracy"])'),
        Mistake("A misspelt optimiser", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="mse", optimizer="adm")'),
        Mistake("An optimiser in torch's way", "net = nn.Linear(4, 3)\noptim.Adam(net.parameters(), lr=1e-3)"),
        Mistake("A misspelt argument", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="mse", optimiser="adam")'),
        Mistake("A misspelt option of the target", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), thread=2)'),
        Mistake("An option with a value that means nothing", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), threads=0)'),
        Mistake("A misspelt target", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="referense")'),
        Mistake("A target that does not exist: there is never a silent change to another", 'gc.compile(nn.Linear(4, 3), gc.spec("N", 4), target="metal")'),
        Mistake("A dtype that does not exist", 'gc.spec("N", 4, dtype="float")'),
    ],
    "Data and labels": [
        Mistake("Labels that count from 1", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")\nmodel.fit(x, y + 1)'),
        Mistake("Labels that are floats", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam")\nmodel.fit(x, y.astype("float32"))'),
        Mistake("One-hot labels", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam")\nmodel.fit(x, np.eye(3)[y])'),
        Mistake("A column of targets is missing", 'model = gc.compile(nn.Linear(4, 1), gc.spec("N", 4), loss="mse", optimizer="adam")\nmodel.fit(x, y.astype("float32"))'),
        Mistake("More inputs than targets", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam")\nmodel.fit(x, y[:7])'),
        Mistake("NaN in the data", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")\nx[3, 2] = np.nan\nmodel.fit(x, y)'),
        Mistake("Integers where floats are declared", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.predict(np.zeros((8, 4), "uint8"))'),
        Mistake("One sample without a batch axis", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.predict(x[0])'),
        Mistake("Rows of different lengths", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.predict([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0]])'),
        Mistake("No data at all", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam")\nmodel.fit(x[:0], y[:0])'),
        Mistake("Samples of different lengths in a batch", "loader = data.DataLoader([np.zeros(2), np.zeros(3)], batch_size=2)\nnext(iter(loader))"),
        Mistake("A file that is not there", 'datasets.read_csv("tabels/train.csv")'),
    ],
    "Training": [
        Mistake("No loss", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.fit(x, y)'),
        Mistake(
            "A generator for two epochs",
            """
            def batches():
                for i in range(0, 8, 2):
                    yield x[i : i + 2], y[i : i + 2]

            model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")
            model.fit(batches(), epochs=2)
            """,
        ),
        Mistake("A misspelt argument of `fit`", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam")\nmodel.fit(x, y, epoch=5)'),
        Mistake(
            "Validation is watched, but there is none",
            'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")\n'
            'model.fit(x, y, callbacks=[callbacks.EarlyStopping(monitor="val_loss")])',
        ),
        Mistake(
            "The logarithm of zero",
            """
            class Net(nn.Module):
                def __init__(self):
                    self.fc = nn.Linear(4, 3)

                def forward(self, x):
                    return (self.fc(x) * 0).log()

            model = gc.compile(Net(), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")
            model.fit(x, y)
            """,
        ),
        Mistake(
            "A step that no gradient passes",
            """
            class Net(nn.Module):
                def __init__(self):
                    self.fc = nn.Linear(4, 3)

                def forward(self, x):
                    return self.fc(x).argmax(-1).cast("float32")

            gc.compile(Net(), gc.spec("N", 4), loss="mse", optimizer="adam")
            """,
        ),
        Mistake("The gradient of what is no number", 'gc.compile(gc.grad(lambda x: x * 2), gc.spec("N", 4))'),
        Mistake("A negative learning rate", "optim.SGD(-0.1)"),
    ],
    "Files": [
        Mistake(
            "The checkpoint of another model",
            """
            small = gc.compile(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), gc.spec("N", 4))
            small.save("small.graphc")
            large = gc.compile(nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 3), nn.Linear(3, 3)), gc.spec("N", 4))
            large.load("small.graphc")
            """,
        ),
        Mistake("A checkpoint that is not there", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.save("weights.graphc")\nmodel.load("weight.graphc")'),
        Mistake(
            "torch's file",
            'open("model.pt", "wb").write(b"PK\\3\\4" + bytes(100))  # as torch.save begins\n'
            'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.load("model.pt")',
        ),
        Mistake("A folder that is not there", 'model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4))\nmodel.save("runs/weights.graphc")'),
        Mistake("Weights under other names", 'net = nn.Sequential(nn.Linear(4, 3))\nnet.load_state_dict({"fc.weight": np.zeros((3, 4)), "fc.bias": np.zeros(3)})'),
    ],
    "Not your mistakes": [
        Mistake(
            "An exception of your own code keeps its name and your frames",
            """
            class Pictures(data.Dataset):
                def __len__(self):
                    return 8

                def __getitem__(self, i):
                    return {"a": 1}[i]

            model = gc.compile(nn.Linear(4, 3), gc.spec("N", 4), loss="cross_entropy", optimizer="adam", target="reference")
            model.fit(data.DataLoader(Pictures(), batch_size=4))
            """,
        ),
        Mistake(
            "A kernel that does not compile (one that was broken on purpose) shows its file, what it computes, and a command that shows the same again",
            """
            class Scale(nn.Module):
                def __init__(self):
                    self.scale = nn.Parameter((4,), init="ones")

                def forward(self, x):
                    return x * self.scale + 1

            model = gc.compile(nn.Sequential(Scale()), gc.spec("N", 4), width=8)
            model.predict(x)
            """,
            broken_printer,
        ),
    ],
}


def run(mistake: Mistake, folder: str) -> Exception:
    """The exception of a script, run in a folder; its own frames only (``GRAPHC_TRACEBACK`` decides over graphc's)."""
    script = inspect.cleandoc(mistake.script)
    linecache.cache["train.py"] = (len(script), None, script.splitlines(True), "train.py")
    names: dict[str, Any] = {
        "np": np, "gc": gc, "callbacks": callbacks, "data": data, "datasets": datasets, "nn": nn, "ops": ops, "optim": optim,
        "__name__": "__main__", "x": np.zeros((8, 4), "float32"), "y": np.array([0, 1, 2, 0, 1, 2, 0, 1]),
    }  # fmt: skip
    gc.set_seed(0)
    with mistake.around(), contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(script, "train.py", "exec"), names)
        except Exception as e:
            assert e.__traceback__ is not None
            return e.with_traceback(e.__traceback__.tb_next)  # without this function
    raise AssertionError(f"no exception: {mistake.title}")


def shown(error: Exception) -> str:
    """What Python prints of it, without the marks below expressions, which depend on Python's version; paths as a user has them."""
    lines = ["Traceback (most recent call last):"]
    for f in traceback.extract_tb(error.__traceback__):
        lines += [f'  File "{f.filename}", line {f.lineno}, in {f.name}', f"    {f.line}"]
    lines += [line.rstrip("\n") for line in traceback.format_exception_only(error)]
    text = "\n".join(lines).replace(shlex.quote(sys.executable), "python")
    return re.sub(r"/\S*/k_[0-9a-f]{16}\.py", "~/.cache/graphc/k_0123456789abcdef.py", text)


@dataclass(frozen=True)
class Entry:
    """A mistake that was made."""

    section: str
    mistake: Mistake
    error: Exception
    text: str


def entries() -> list[Entry]:
    """Every mistake, made."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for section, mistakes in GALLERY.items():
            for m in mistakes:
                error = run(m, folder)
                found.append(Entry(section, m, error, shown(error)))
    return found


def page(found: list[Entry]) -> str:
    """The Markdown page."""
    out, last = [HEAD], ""
    for e in found:
        if e.section != last:
            out.append(f"## {e.section}\n")
            last = e.section
        out.append(f"**{e.mistake.title}**\n\n```python\n{inspect.cleandoc(e.mistake.script)}\n```\n```text\n{e.text}\n```\n")
    return "\n".join(out)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(entries()), encoding="utf-8")
