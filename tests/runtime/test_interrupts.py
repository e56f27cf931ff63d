"""Ctrl-C: what was begun is whole or not there, and one goes on with the same objects, as in a notebook."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

import numpy as np
import pytest

import graphc as gc
from graphc import callbacks, nn, optim
from graphc.backends.cpu.binding import Binding
from graphc.runtime.interrupts import no_interrupts
from tests.stress import interrupts

from .common import batch, model, weights

pytestmark = pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals come to the main thread")


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# -- the tool ----------------------------------------------------------------------------------------------------------------
def test_the_body_ends_before_the_interrupt():
    done = []
    with pytest.raises(KeyboardInterrupt), no_interrupts():
        press()
        done.append(1)
        with no_interrupts():
            press()
        done.append(2)
    assert done == [1, 2] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with no_interrupts():
        pass


def test_an_error_of_the_body_is_kept():
    with pytest.raises(KeyboardInterrupt) as e, no_interrupts():
        press()
        raise ValueError("mine")
    assert isinstance(e.value.__context__, ValueError)
    with pytest.raises(ValueError), no_interrupts():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_is_called_and_put_back():
    calls = []
    handler = lambda number, frame: calls.append(number)
    old = signal.signal(signal.SIGINT, handler)
    try:
        with no_interrupts():
            press()
            assert calls == []
        assert calls == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with no_interrupts():
            press()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, old)


def test_other_threads_do_not_touch_the_handler():
    seen = []

    def work():
        with no_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    t = threading.Thread(target=work)
    t.start()
    t.join(60)
    assert seen == [signal.default_int_handler]


# -- values ------------------------------------------------------------------------------------------------------------------
class Pressing(np.ndarray):
    """Ctrl-C falls right after somebody has written into it."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        press()


def test_loading_is_whole():
    m = model()
    new = {k: v + 1 for k, v in m.state_dict().items()}
    slot = m.store["body.0.weight"]
    slot.buffer = slot.buffer.view(Pressing)
    version = m.store.version
    with pytest.raises(KeyboardInterrupt):
        m.load_state_dict(new)
    slot.buffer = slot.buffer.view(np.ndarray)
    assert m.store.version > version and all(np.array_equal(v, new[k]) for k, v in m.state_dict().items())


def test_a_prediction_after_a_step_that_was_interrupted(monkeypatch):
    """The step ran; what was derived from the old weights is derived anew."""
    m, other = model(), model()
    x, y = batch()
    for each in (m, other):
        each.train_on_batch(x, y)
        each.predict(x)
    run = Binding.run

    def interrupted(self, args):
        out = run(self, args)
        if self.program.schedule.graph.updates:
            raise KeyboardInterrupt
        return out

    monkeypatch.setattr(Binding, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        m.train_on_batch(x, y)
    monkeypatch.undo()
    other.train_on_batch(x, y)
    assert weights(m) == weights(other) and np.array_equal(m.predict(x), other.predict(x))


# -- compiling ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("at", range(4))
def test_a_model_whose_parameters_were_being_made(at):
    """The same network is compiled again: its values are those that it would have had."""

    def network():
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def compiled(net):
        gc.set_seed(8)
        return gc.compile(net, gc.spec("N", 6), loss="cross_entropy", optimizer=optim.Adam(1e-2), target="reference")

    net = network()
    parameter = list(net.parameters())[at]
    init = parameter.init

    def interrupted(shape, random):
        made = init(shape, random)
        press()
        return made

    parameter.init = interrupted
    with pytest.raises(KeyboardInterrupt):
        compiled(net)
    parameter.init = init
    x, y = np.ones((4, 6), "f"), np.arange(4) % 3
    results = []
    for n in (net, network()):
        m = compiled(n)
        m.fit(x, y, epochs=2, verbose=0)
        results.append(weights(m))
    assert results[0] == results[1]


def test_kernels_that_were_being_compiled(tmp_path):
    number = int.from_bytes(os.urandom(3), "little") >> 4  # a kernel that no cache has; nine times it is exact in float32
    told = []

    def progress(done, count, name):
        told.append(done)
        if len(told) == 2:
            raise KeyboardInterrupt

    f = gc.compile(lambda a: ((a * float(number)).sum(0, keepdims=True) + a).sum() - float(number), gc.spec("N", 3), progress=progress)
    x = np.eye(3, dtype="f")
    with pytest.raises(KeyboardInterrupt):
        f(x)
    assert f(x) == 8 * number + 3


# -- training ----------------------------------------------------------------------------------------------------------------
def test_interrupt_main_while_a_model_trains(tmp_path):
    """As a notebook or a debugger does it, from another thread. The training goes on from its place to the same end."""
    x, y = batch()
    whole, m = model(), model()
    whole.fit(x, y, batch_size=32, epochs=40, verbose=0)
    began = threading.Event()

    def stop():
        began.wait(60)
        _thread.interrupt_main()

    class Tell(callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            if self.model.steps == 50:
                began.set()
            elif began.is_set():
                time.sleep(0.01)  # so that it does not end before

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        m.fit(x, y, batch_size=32, epochs=40, verbose=0, callbacks=[Tell()])
    stopper.join(60)
    assert 50 <= m.steps < whole.steps
    m.save_checkpoint(tmp_path / "c")
    m.fit(x, y, batch_size=32, epochs=40, verbose=0, resume=tmp_path / "c")
    assert weights(m) == weights(whole)


def test_predictions_that_are_interrupted_again_and_again():
    m = model()
    x, _ = batch()
    wanted = m.predict(x)

    def interrupt(*_):
        raise KeyboardInterrupt

    count = 0
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        end = time.monotonic() + 60
        while count < 60 and time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.00013 * (count % 7))
                while True:
                    assert np.array_equal(m.predict(x), wanted)
            except KeyboardInterrupt:
                count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert count == 60 and np.array_equal(m.predict(x), wanted)


# -- short forms of the script -----------------------------------------------------------------------------------------------
def test_four_processes_get_ctrl_c():
    seen, delays = interrupts.kills(4, seed=3, cold=0)
    assert sum(seen.values()) == 4 and len(delays) >= 2


def test_cells_of_a_notebook():
    told = interrupts.cells(12, seed=1, patience=250)
    assert sum(told["interrupts"].values()) >= 12
