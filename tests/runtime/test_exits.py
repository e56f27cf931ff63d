"""The end of the interpreter, in whatever way: the right exit code, no hang, nothing on stderr that was not asked for."""

from __future__ import annotations

import signal
import threading

import pytest

from graphc.backends.cpu.machine import pool

from .common import model, python

HEAD = """
import atexit, os, signal, sys, threading, time
BEFORE
from graphc import callbacks
from tests.runtime.common import *
m = model()
x, y = batch()
m.train_on_batch(x, y)
m.predict(x)

def at_batch(what):
    m.fit(x, y, callbacks=[callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: what())], verbose=0)

def in_threads(what, count=3, daemon=True):
    def work():
        while True:
            what()
    for _ in range(count):
        threading.Thread(target=work, daemon=daemon).start()
    time.sleep(0.1)
"""


def ends(code: str, before: str = "") -> tuple[int, str, str]:
    done = python(HEAD.replace("BEFORE", before) + code)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("print(m.steps)", 0, "1\n"),  # with workers alive
        ("sys.exit(7)", 7, ""),
        ("os._exit(5)", 5, ""),
        ("at_batch(lambda: sys.exit(3))", 3, ""),
        ("at_batch(lambda: os._exit(4))", 4, ""),
        ("threading.Thread(target=lambda: [m.predict(x) for _ in range(200)] and print('all')).start()", 0, "all\n"),
        ("atexit.register(lambda: print(m.predict(x).shape))", 0, "(256, 8)\n"),
        ("pid = os.fork()\nif not pid:\n    m.predict(x)\n    sys.exit(6)\nprint(ended(pid))", 0, "6\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)", -signal.SIGTERM, ""),
    ],
    ids=["alive", "exit", "_exit", "exit in a callback", "_exit in a callback", "thread", "atexit", "fork", "terminated"],
)
def test_quiet(code, status, said):
    assert ends(code) == (status, said, "")


@pytest.mark.parametrize("what", ["m.predict(x)", "m.train_on_batch(x, y)", "model()"])
def test_daemon_threads_at_work(what):
    for _ in range(3):
        assert ends(f"in_threads(lambda: {what})") == (0, "", "")


def test_a_handler_that_runs_after_the_pool_has_ended():
    """Registered before graphc's own, which therefore runs first."""
    late = "atexit.register(lambda: print(m.predict(x).shape))"
    assert ends("", before=late) == (0, "(256, 8)\n", "")
    code, out, err = ends("in_threads(lambda: m.predict(x))", before=late)
    assert (code, out, err) == (0, "(256, 8)\n", "")


def test_an_exception_that_nobody_handles():
    code, out, err = ends("in_threads(lambda: m.predict(x))\nraise ValueError('mine')")
    assert (code, out) == (1, "") and err.startswith("Traceback") and err.endswith("ValueError: mine\n") and err.count("Traceback") == 1
    code, out, err = ends("def fail():\n    raise ValueError('mine')\nat_batch(fail)")
    assert (code, out) == (1, "") and err.endswith("ValueError: mine\n") and err.count("Traceback") == 1


def test_ctrl_c_that_nobody_handles():
    code, out, err = ends("at_batch(lambda: signal.raise_signal(signal.SIGINT))")
    assert (code, out) == (-signal.SIGINT, "") and err.endswith("KeyboardInterrupt\n") and err.count("Traceback") == 1


def test_a_pool_whose_threads_do_not_start_leaves_none_behind(monkeypatch):
    model()
    start, begun = threading.Thread.start, []

    def second_fails(self):
        begun.append(self)
        if len(begun) == 2:
            raise KeyboardInterrupt
        start(self)

    monkeypatch.setattr(threading.Thread, "start", second_fails)
    with pytest.raises(KeyboardInterrupt):
        pool.get_pool(7)
    monkeypatch.undo()
    begun[0].join(60)
    assert not begun[0].is_alive() and 7 not in pool._pools
