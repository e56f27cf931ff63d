"""Workers that read batches: threads, or processes that start safely whatever threads run here.

Batch k is read by worker k modulo their number and answers are taken in that order, so the order is the same for any number of
workers. Nothing is shared: a worker ends when its pipe or queue does, which happens when the loader is closed or freed, and when
this process ends in whatever way.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, WorkerError
from graphc.locate import Remote, leaving

from .fetch import END, Fetcher

__all__ = ["Pool"]

READY, BATCH, FAILED, REFUSED = range(4)
GUARD = (
    'a script whose workers are processes needs its main part under `if __name__ == "__main__":`, because each worker imports '
    'the script; or workers="thread"'
)


# -- what runs in a worker -------------------------------------------------------------------------------------------------
def _failure(e: BaseException) -> tuple[Any, str, str]:
    """(the exception, what it says, its traceback); without the exception where it cannot be sent."""
    leaving(e)
    text, said = traceback.format_exc(), f"{type(e).__name__}: {e}"
    try:
        sent = pickle.dumps(e)
        pickle.loads(sent)
    except Exception:
        return None, said, text
    return sent, said, text


def _pack(message: Any) -> tuple[bytes, list[memoryview]]:
    """A message as bytes, and its arrays beside them, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    return rest, [b.raw() for b in buffers]


def _send(pipe: Connection, rest: bytes, arrays: list[memoryview]) -> None:
    pipe.send_bytes(pickle.dumps([a.nbytes for a in arrays]))
    parts: tuple[bytes | memoryview, ...] = (rest, *arrays)
    for part in parts:
        if len(part):
            pipe.send_bytes(part)


def _receive(pipe: Connection) -> Any:
    sizes = pickle.loads(pipe.recv_bytes())
    rest = pipe.recv_bytes()
    buffers = [np.empty(n, dtype=np.uint8) for n in sizes]
    for b in buffers:
        if b.nbytes:
            pipe.recv_bytes_into(b.data)
    return pickle.loads(rest, buffers=buffers)


def _process(pipe: Connection, index: int) -> None:
    """A worker process: reads tasks, and sends answers from a thread, so that a full pipe never keeps it from reading."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    answers: SimpleQueue[Any] = SimpleQueue()

    def send() -> None:
        with contextlib.suppress(OSError):  # the parent is gone
            while (message := answers.get()) is not None:
                try:
                    packed = _pack(message)
                except Exception as e:
                    packed = _pack((message[0], FAILED, _failure(e)))
                _send(pipe, *packed)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with contextlib.suppress(EOFError, OSError):
        try:
            dataset, collate_fn, init = pickle.loads(pipe.recv_bytes())
            if init is not None:
                init(index)
            fetch = Fetcher(dataset, collate_fn, own_process=True)
        except Exception as e:
            answers.put((0, REFUSED, _failure(e)))
        else:
            answers.put((0, READY, None))
            while (message := pickle.loads(pipe.recv_bytes())) is not None:
                answers.put(_answer(fetch, message))
    answers.put(None)
    sender.join()


def _answer(fetch: Fetcher, message: tuple[int, Any]) -> tuple[int, int, Any]:
    generation, task = message
    try:
        return generation, BATCH, fetch(task)
    except Exception as e:
        return generation, FAILED, _failure(e)


def _thread(fetch: Fetcher, index: int, init: Callable[[int], Any] | None, tasks: SimpleQueue[Any], answers: SimpleQueue[Any]) -> None:
    try:
        if init is not None:
            init(index)
    except Exception as e:
        answers.put((0, REFUSED, e))
        return
    answers.put((0, READY, None))
    while (message := tasks.get()) is not None:
        generation, task = message
        try:
            answers.put((generation, BATCH, fetch(task)))
        except Exception as e:
            answers.put((generation, FAILED, e))


# -- one worker, seen from here --------------------------------------------------------------------------------------------
class _ThreadWorker:
    def __init__(self, index: int, fetch: Fetcher, init: Callable[[int], Any] | None):
        self.tasks: SimpleQueue[Any] = SimpleQueue()
        self.answers: SimpleQueue[Any] = SimpleQueue()
        arguments = (fetch, index, init, self.tasks, self.answers)
        self.thread = threading.Thread(target=_thread, args=arguments, name=f"graphc-data-{index}", daemon=True)
        self.thread.start()

    def put(self, message: Any) -> None:
        self.tasks.put(message)

    def get(self, timeout: float | None) -> Any:
        try:
            return self.answers.get(timeout=timeout)
        except Empty:
            return None

    def end(self) -> None:
        self.tasks.put(None)

    def join(self, timeout: float) -> None:
        self.thread.join(timeout)


class _ProcessWorker:
    def __init__(self, index: int, payload: bytes, context: Any):
        self.index = index
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_process, args=(other, index), name=f"graphc-data-{index}", daemon=True)
        # a worker that is still being imported must not die of Ctrl-C with a traceback of its own
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other.close()
        with contextlib.suppress(OSError):  # whether it lives shows when it is asked
            self.pipe.send_bytes(payload)

    def put(self, message: Any) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send_bytes(pickle.dumps(message))

    def get(self, timeout: float | None) -> Any:
        found = wait([self.pipe, self.process.sentinel], timeout)
        if self.pipe in found:
            try:
                return _receive(self.pipe)
            except (EOFError, OSError):
                pass
        elif not found:
            return None
        self.process.join(5)
        code = self.process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
        raise WorkerError(f"data worker {self.index} {how}")

    def end(self) -> None:
        if not self.pipe.closed:
            self.put(None)  # a closed pipe says the same, unless a process that was forked here holds it open
            self.pipe.close()

    def join(self, timeout: float) -> None:
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


# -- all workers of a loader -----------------------------------------------------------------------------------------------
def _end(workers: list[Any], pid: int) -> None:
    if os.getpid() == pid:
        for w in workers:
            w.end()


class Pool:
    """``count`` workers of one kind ("thread" or "process"), used by one iteration at a time."""

    def __init__(self, count: int, kind: str, dataset: Any, collate_fn: Any, init: Any, method: str, ahead: int, timeout: float | None):
        self.ahead, self.timeout, self.closed = ahead, timeout, False
        self.generation, self.pid = 0, os.getpid()
        self.workers: list[Any] = []
        weakref.finalize(self, _end, self.workers, self.pid)
        if kind == "thread":
            self.workers += [_ThreadWorker(i, Fetcher(dataset, collate_fn), init) for i in range(count)]
        else:
            payload, context = _payload(dataset, collate_fn, init), _context(method)
            for i in range(count):
                self.workers.append(_ProcessWorker(i, payload, context))
        self.starting = set(range(count))

    @property
    def usable(self) -> bool:
        """Whether the workers stand ready for this process."""
        return not self.closed and self.pid == os.getpid()

    def run(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """The batches of the tasks, in their order; END ends it."""
        self.generation += 1  # answers to tasks of an iteration that was left are passed over
        generation, source, pending = self.generation, enumerate(tasks), deque[int]()

        def hand_out() -> None:
            k, task = next(source, (0, None))
            if task is not None:
                self.workers[k % len(self.workers)].put((generation, task))
                pending.append(k % len(self.workers))

        for _ in range(len(self.workers) * self.ahead):
            hand_out()
        while pending:
            batch = self._take(pending.popleft(), generation)
            if batch is END:
                return
            hand_out()
            yield batch

    def _take(self, worker: int, generation: int) -> Any:
        while True:
            try:
                answer = self.workers[worker].get(self.timeout)
            except WorkerError as e:
                self.close()
                if "SIGKILL" in e.message:
                    e.hint = "the system may have been out of memory: smaller batches or fewer workers need less"
                elif worker in self.starting:
                    e.hint = "what it said itself is on stderr; " + GUARD
                raise
            if answer is None:
                self.close(0.1)
                raise WorkerError(f"data worker {worker} gave no batch within {self.timeout:g} s", hint="DataLoader(timeout=...)")
            number, kind, value = answer
            if kind == REFUSED:
                self.close()
                _raise(value, "a data worker could not start")
            elif kind == READY:
                self.starting.discard(worker)
            elif number == generation:
                if kind == FAILED:
                    _raise(value, "")
                return value

    def close(self, timeout: float = 5.0) -> None:
        """Ends the workers and waits for them; processes that do not end are ended."""
        if self.closed:
            return
        self.closed = True
        _end(self.workers, self.pid)
        if os.getpid() == self.pid:
            for w in self.workers:
                w.join(timeout)


def _raise(failure: Any, where: str) -> None:
    if isinstance(failure, BaseException):
        raise failure
    sent, said, text = failure
    hint = ""
    if where and "__main__" in said:
        hint = "what a notebook or an interactive session defines is unknown to other processes: put it into a module, or workers=\"thread\""
    if where:
        raise WorkerError(f"{where}: {said}", hint=hint) from Remote(text)
    if sent is None:
        raise WorkerError(said) from Remote(text)
    raise pickle.loads(sent) from Remote(text)


def _payload(dataset: Any, collate_fn: Any, init: Any) -> bytes:
    try:
        return pickle.dumps((dataset, collate_fn, init), protocol=5)
    except Exception as e:
        for name, value in (("the dataset", dataset), ("collate_fn", collate_fn), ("worker_init_fn", init)):
            place = _culprit(name, value, 3)
            if place:
                break
        raise ArgumentError(
            f"{place or 'the dataset'} cannot be sent to a worker process: {e}",
            hint='functions and classes must stand at the top of a module, and files be opened in __getitem__; workers="thread" sends nothing',
        ) from e


def _culprit(name: str, value: Any, depth: int) -> str:
    """Which part of a value does not pickle; "" where all do."""
    try:
        pickle.dumps(value, protocol=5)
        return ""
    except Exception:
        for k, v in getattr(value, "__dict__", {}).items() if depth else ():
            inner = _culprit(f"{name}.{k}", v, depth - 1)
            if inner:
                return inner
        return f"{name} ({type(value).__name__})"


_forked = False  # the server that forks workers belongs to the process that started it


def _mark_forked() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_mark_forked)


def _context(method: str) -> Any:
    if method == "forkserver" and _forked:
        method = "spawn"
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise WorkerError("this process is itself a worker that is importing the main script", hint=GUARD)
    if multiprocessing.current_process().daemon:
        raise WorkerError("a daemonic process cannot start worker processes", hint='workers="thread"')
    if method not in multiprocessing.get_all_start_methods():
        methods = ", ".join(multiprocessing.get_all_start_methods())
        raise ArgumentError(f"multiprocessing_context {method!r} on {sys.platform}", hint=methods)
    return multiprocessing.get_context(method)
