"""Threads and processes that read batches."""

from __future__ import annotations

import gc as garbage
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc import data, nn, optim
from graphc.errors import ArgumentError, WorkerError
from tests.data import sets

KINDS = [("thread", "-"), ("process", "forkserver"), ("process", "spawn"), ("process", "fork")]


def loader(dataset, kind=("process", "forkserver"), num_workers=2, **options):
    workers, method = kind
    if workers == "process":
        options["multiprocessing_context"] = method
    return data.DataLoader(dataset, options.pop("batch_size", 4), num_workers=num_workers, workers=workers, **options)


def told(batches):
    return [[a.tolist() for a in b] for b in batches]


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_the_same_batches_as_without_workers(kind):
    make = lambda workers: loader(sets.Numbers(23), kind, workers, shuffle=True, seed=3)
    plain = make(0)
    expected = told(plain) + told(plain)
    for workers in (1, 3) if kind[1] in ("-", "fork") else (3,):
        with make(workers) as many:
            assert told(many) + told(many) == expected
            assert (many.epoch, many.batch) == (2, 0)


def test_processes_read_and_stay_for_the_next_epoch():
    with loader(sets.Tells(16), batch_size=2) as reading:
        first, second = ({int(p) for batch in reading for p in batch} for _ in range(2))
    assert len(first) == 2 and os.getpid() not in first and first == second
    for pid in first:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_workers_for_one_epoch():
    with loader(sets.Tells(4), num_workers=1, persistent_workers=False) as reading:
        first, second = ({int(p) for batch in reading for p in batch} for _ in range(2))
        assert len(first) == len(second) == 1 and first != second and not living(first | second)


def test_training_from_worker_processes(tmp_path):
    """While the threads of compiled programs wait."""

    def train(workers):
        gc.set_seed(0)
        model = gc.compile(nn.Linear(2, 1), gc.spec("N", 2), loss="mse", optimizer=optim.SGD(0.1), target="cpu", threads=2)
        with loader(sets.Pairs(40), num_workers=workers, shuffle=True, seed=1) as batches:
            history = model.fit(batches, epochs=2, validation_data=data.DataLoader(sets.Pairs(8)))
        return history["loss"], model.state_dict()["weight"].tolist()

    assert train(0) == train(2)


def test_the_order_holds_though_some_batches_take_longer():
    with loader(sets.Slow(40), ("thread", "-"), 4) as reading:
        assert np.concatenate(list(reading)).tolist() == list(range(40))


@pytest.mark.parametrize("kind", KINDS[:2], ids="-".join)
def test_streams(kind):
    plain = data.DataLoader(sets.Counts(10), 4, seed=2)
    expected = told(plain) + told(plain)
    with loader(sets.Counts(10), kind, 1, seed=2) as reading:
        assert told(reading) + told(reading) == expected
        assert len([b for b, _ in zip(reading, range(1))]) == 1  # left in the middle: what was under way is forgotten
        reading.set_epoch(0)
        assert told(reading) == expected[:3]


@pytest.mark.parametrize("kind", KINDS[:2], ids="-".join)
def test_an_iteration_that_is_left_does_not_disturb_the_next(kind):
    with loader(sets.Slow(40), kind) as reading:
        for _ in range(3):
            for batch in reading:
                assert batch.tolist() == [0, 1, 2, 3]
                break
        assert np.concatenate(list(reading)).tolist() == list(range(40))
        both = [(a.tolist(), b.tolist()) for a, b in zip(reading, reading)]  # the second has workers of its own
        assert len(both) == 10 and all(a == b for a, b in both)


def test_batches_larger_than_a_pipe():
    with loader(sets.Large(12), batch_size=3, prefetch_factor=3) as reading:
        for number, batch in enumerate(reading):
            assert batch.shape == (3, 512, 256) and batch.flags.writeable
            assert (batch == np.arange(3)[:, None, None] + 3 * number).all()
        rows = np.zeros(200_000, dtype=np.int64)  # tasks larger than a pipe, while answers wait
        many = data.DataLoader(sets.Tells(1), batch_sampler=[rows] * 3, num_workers=1)
        assert [len(b) for b in many] == [200_000] * 3
        many.close()


@pytest.mark.parametrize("kind", KINDS[:2], ids="-".join)
def test_exceptions_come_back(kind):
    with loader(sets.Fails(23), kind) as reading:
        for _ in range(2):  # and the workers live on
            with pytest.raises(LookupError, match="the file of sample 7 is empty") as e:
                list(reading)
            assert e.value.__notes__ == ["while sample 7 was read", f"while batch 1 of epoch {reading.epoch} was read"]
            if kind[0] == "process":
                assert "sets.py" in str(e.value.__cause__) and "in __getitem__" in str(e.value.__cause__)
            else:
                assert "__getitem__" in [f.name for f in e.traceback]
    with loader(sets.FailsOddly(3), kind) as reading, pytest.raises((WorkerError, sets.OwnError), match="1 and 2"):
        list(reading)


def test_answers_and_data_sets_that_cannot_be_sent():
    with loader(sets.Unsendable(3), collate_fn=sets.as_given) as reading, pytest.raises(AttributeError, match="local object"):
        list(reading)
    held = sets.Numbers(3)
    held.read = lambda: 0
    with pytest.raises(ArgumentError, match=r"the dataset\.read \(function\) cannot be sent") as e:
        list(loader(held))
    assert 'workers="thread"' in e.value.hint
    assert len(list(loader(held, ("thread", "-")))) == 1
    with pytest.raises(ArgumentError, match=r"collate_fn \(function\) cannot be sent"):
        list(loader(sets.Numbers(3), collate_fn=lambda samples: samples))
    with pytest.raises(WorkerError, match="could not start: AttributeError: Can't get attribute 'Thing'") as e:
        list(loader(sets.NotHere()))
    assert "notebook" in e.value.hint


@pytest.mark.parametrize("kind", KINDS[:2], ids="-".join)
def test_a_worker_that_refuses_to_start(kind):
    with pytest.raises((WorkerError, OSError), match="no licence for worker 0"):
        list(loader(sets.Numbers(3), kind, worker_init_fn=sets.refuses))


def test_a_worker_that_dies_is_told_and_replaced():
    reading = loader(sets.Dies(23))
    with pytest.raises(WorkerError, match="was ended by SIGKILL") as e:
        list(reading)
    assert "out of memory" in e.value.hint
    iterator = iter(reading)
    assert next(iterator).tolist() == [0, 1, 2, 3]
    iterator.close()
    reading.close()


@pytest.mark.parametrize("kind", KINDS[:2], ids="-".join)
def test_a_timeout(kind):
    start = time.perf_counter()
    with pytest.raises(WorkerError, match=r"gave no batch within 2 s"):
        list(loader(sets.Hangs(3), kind, timeout=2))
    assert time.perf_counter() - start < 20


def living(pids):
    out = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                out += [pid] if f.read().rpartition(")")[2].split()[0] != "Z" else []
        except FileNotFoundError:
            pass
    return out


def wait_for(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("close", [False, True], ids=["freed", "freed in the middle"])
def test_workers_end_with_the_loader(close):
    before = {t for t in threading.enumerate() if t.name.startswith("graphc-data")}
    reading, threads = loader(sets.Tells(64), batch_size=2), loader(range(64), ("thread", "-"))
    iterators = [iter(reading), reading.ahead(), iter(threads), threads.ahead()]
    pids = {int(p) for it in iterators[:2] for p in next(it)}
    [next(it) for it in iterators[2:]]
    assert living(pids)
    if not close:
        for it in iterators:
            it.close()
    alive = weakref.ref(reading)
    del reading, threads, iterators
    garbage.collect()
    assert alive() is None or wait_for(lambda: alive() is None)
    assert wait_for(lambda: not living(pids))
    assert wait_for(lambda: {t for t in threading.enumerate() if t.name.startswith("graphc-data")} <= before)


def test_a_forked_child_starts_workers_of_its_own():
    with loader(sets.Numbers(8), ("process", "forkserver")) as reading:
        expected = told(reading)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                reading.set_epoch(0)
                code = 0 if told(reading) == expected else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        reading.set_epoch(0)
        assert told(reading) == expected


def script(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "script.py").write_text(textwrap.dedent(text))
    return [sys.executable, str(tmp_path / "script.py")]


SLOW = """
import sys, time
import numpy as np
from graphc import data

class Slow(data.Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, i):
        time.sleep(0.02)
        return np.zeros((64, 64))
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("how", ["exit", "error", "left"])
def test_a_script_that_ends_in_the_middle(tmp_path, kind, how):
    end = {"exit": "sys.exit(3)", "error": "raise KeyError('mine')", "left": "pass"}[how]
    argv = script(
        tmp_path,
        SLOW
        + f"""
if __name__ == "__main__":
    loader = data.DataLoader(Slow(), 4, num_workers=2, workers={kind!r})
    for iterator in (iter(loader), loader.ahead(), data.DataLoader(Slow(), 4).ahead()):
        globals().setdefault("held", []).append(iterator)
        next(iterator)
    {end}
""",
    )
    start = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == {"exit": 3, "error": 1, "left": 0}[how]
    errors = done.stderr.strip().splitlines()
    assert not errors if how != "error" else errors[-1] == "KeyError: 'mine'" and len(errors) < 6, done.stderr
    assert time.perf_counter() - start < 30


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_ctrl_c(tmp_path, kind):
    """The signal goes to all processes of the terminal; only the main one speaks."""
    argv = script(
        tmp_path,
        SLOW
        + f"""
if __name__ == "__main__":
    for batch in data.DataLoader(Slow(), 4, num_workers=2, workers={kind!r}):
        print("batch", flush=True)
""",
    )
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout.readline() == "batch\n"
    os.killpg(child.pid, signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt"), errors


def test_workers_end_when_the_process_is_killed(tmp_path):
    argv = script(
        tmp_path,
        SLOW
        + """
class Tells(Slow):
    def __getitem__(self, i):
        import os
        return np.array(os.getpid())

if __name__ == "__main__":
    for batch in data.DataLoader(Tells(), 1, num_workers=2):
        print(int(batch[0]), flush=True)
""",
    )
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    pids = {int(child.stdout.readline()) for _ in range(8)}
    assert len(living(pids)) == 2
    child.kill()
    child.wait()
    assert wait_for(lambda: not living(pids))
    child.stdout.close()


def test_a_script_without_a_guard_is_told(tmp_path):
    argv = script(tmp_path, SLOW + "\nlist(data.DataLoader(Slow(), 4, num_workers=1))\n")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr and "WorkerError" in done.stderr
