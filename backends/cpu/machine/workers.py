"""Processes that compile kernels beside this one.

They start with the interpreter and Numba, which takes as long as a few kernels; so they may be started early, when it is likely that kernels
will be missing. A worker says when it begins and ends a job: what it has not begun can be taken back.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Workers", "start_early", "started", "stop_early"]

DEPTH = 2
"""Jobs that a worker is given at once, so that it need not wait for the next."""
PATIENCE = 60.0
"""Seconds without a word after which a worker is taken for lost."""

Job = tuple[str, Path]


class _Worker:
    def __init__(self, said: queue.SimpleQueue[tuple[_Worker, str]]):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-m", f"{__package__}.compile_worker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, text=True, bufsize=1
        )
        self.jobs: list[str] = []
        self.begun = ""
        self.listener = threading.Thread(target=self._listen, args=(said,), daemon=True, name="graphc-compiling")
        self.listener.start()

    def _listen(self, said: queue.SimpleQueue[tuple[_Worker, str]]) -> None:
        assert self.process.stdout is not None
        with suppress(OSError, ValueError):  # closed under our hands
            for line in self.process.stdout:
                said.put((self, line.rstrip("\n")))
        said.put((self, ""))

    def end(self) -> None:
        """Ends the process and closes its pipes."""
        self.process.kill()
        self.process.wait()
        self.listener.join(1.0)
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()


class Workers:
    """``count`` processes that put the objects of kernels into the cache's folder."""

    def __init__(self, count: int):
        self._said: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        for _ in range(count):
            try:
                self._workers.append(_Worker(self._said))
            except OSError:  # no more processes, or no interpreter to start: the caller compiles alone
                break

    def fill(self, pending: deque[Job]) -> None:
        """Hands jobs from the front of the list to workers that have room."""
        for _ in range(DEPTH):
            for w in self._workers:
                if pending and len(w.jobs) < DEPTH:
                    key, path = pending[0]
                    with suppress(OSError, ValueError):  # a worker that died closes the pipe; its end is heard below
                        assert w.process.stdin is not None
                        w.process.stdin.write(f"{key} {path}\n")
                        w.jobs.append(key)
                        pending.popleft()

    def take_back(self) -> str:
        """A job that no worker has begun, which is the caller's now; "" if there is none."""
        for w in self._workers:
            for key in reversed(w.jobs):
                if key != w.begun:
                    w.jobs.remove(key)
                    return key
        return ""

    def ended(self, *, wait: bool) -> Iterator[str]:
        """Jobs that came to an end, whether there is an object or not; with ``wait`` not before there is one, if any is under way."""
        while wait or not self._said.empty():
            if not any(w.jobs for w in self._workers):
                return
            try:
                w, line = self._said.get(timeout=PATIENCE)
            except queue.Empty:
                lost = [key for w in self._workers for key in w.jobs]
                self.stop()
                yield from lost
                return
            mark, key = line[:1], line[1:]
            if not line:
                lost, w.jobs = w.jobs, []
                self._workers = [x for x in self._workers if x is not w]
                w.end()
                yield from lost
                wait = wait and not lost
            elif mark == "+":
                w.begun = key
            elif key in w.jobs:
                w.jobs.remove(key)
                yield key
                wait = False

    def stop(self) -> None:
        """Ends the processes."""
        for w in self._workers:
            w.end()
        self._workers = []


_early: list[Workers] = []


def start_early(count: int) -> None:
    """Starts workers for what will be missing soon; they wait until :func:`started` asks for them."""
    if not _early and count > 0:
        _early.append(Workers(count))


def started(count: int) -> Workers:
    """Those that were started early, or new ones."""
    return _early.pop() if _early else Workers(count)


def stop_early() -> None:
    """Ends workers that nobody needed after all."""
    while _early:
        _early.pop().stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_early.clear)  # the parent's
