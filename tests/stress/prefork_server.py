"""A server in the manner of gunicorn's ``--preload``: the parent loads a model and predicts, then forks workers that serve.

    python -m tests.stress.prefork_server --workers 4 --requests 2000

Every worker reads requests from a pipe, answers them, and now and then trains a copy; a master replaces workers that end. All answers
must be, bit for bit, those of the parent, whose model must not change.
"""

from __future__ import annotations

import argparse
import os
import time
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import numpy as np

import graphc as gc
from graphc import nn, optim

KINDS = 16


def make() -> gc.Model:
    gc.set_seed(2)
    net = nn.Sequential(nn.Linear(96, 256), nn.GELU(), nn.Linear(256, 8))
    return gc.compile(net, gc.spec("N", 96), loss="cross_entropy", optimizer=optim.Adam(1e-2), threads=2)


def request(kind: int) -> np.ndarray:
    """Small ones, which run on one thread, and large ones."""
    return np.random.default_rng(kind).standard_normal(((1, 5, 64, 256)[kind % 4], 96)).astype(np.float32)


def serve(model: gc.Model, pipe: Connection, lives: int) -> None:
    """A worker: answers so many requests, then ends, as workers with ``--max-requests`` do."""
    for i in range(lives):
        kind = pipe.recv()
        if kind is None:
            return
        pipe.send((kind, model.predict(request(kind))))
        if i == lives // 2:  # its own: the parent and the other workers see nothing of it
            before = model.state_dict()
            x = request(3)
            model.train_on_batch(x, np.argmax(x[:, :8], 1))
            model.load_state_dict(before)


def run(workers: int, requests: int, lives: int = 500, patience: float = 300.0) -> tuple[int, float]:
    """(workers that were forked, seconds); raises AssertionError for a wrong or missing answer."""
    model = make()
    model._function("train_step").executable  # weights lie as training wants them before anybody predicts
    wanted = [model.predict(request(k)) for k in range(KINDS)]
    before = {k: v.copy() for k, v in model.state_dict().items()}
    forked, answered, sent = 0, 0, 0
    pipes: dict[Any, int] = {}
    load: dict[Any, int] = {}
    began = time.monotonic()

    def fork() -> None:
        nonlocal forked
        mine, other = Pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                mine.close()
                serve(model, other, lives)
                code = 0
            finally:
                os._exit(code)
        other.close()
        pipes[mine], load[mine] = pid, 0
        forked += 1

    def leave(pipe: Any) -> None:
        status = os.waitpid(pipes.pop(pipe), 0)[1]
        assert status == 0, f"a worker ended with status {status}"
        pipe.close()

    for _ in range(workers):
        fork()
    total = workers * requests
    while answered < total:
        assert time.monotonic() - began < patience, f"only {answered} answers"
        for pipe in pipes:
            if load[pipe] < lives and sent < total and sent - answered < 2 * workers:
                pipe.send(sent % KINDS)
                load[pipe] += 1
                sent += 1
        for pipe in wait(list(pipes), timeout=10):
            try:
                kind, answer = pipe.recv()
            except EOFError:
                assert load[pipe] >= lives, "a worker ended early"
                leave(pipe)
                fork()
                continue
            assert np.array_equal(answer, wanted[kind]), f"another answer to request {kind}"
            answered += 1
            if answered % 100 == 0:
                assert np.array_equal(model.predict(request(answered % KINDS)), wanted[answered % KINDS])
    for pipe in list(pipes):
        with suppress(OSError):  # it may have just ended
            pipe.send(None)
        leave(pipe)
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
    return forked, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--requests", type=int, default=2000, help="of each worker")
    args = parser.parse_args()
    forked, seconds = run(args.workers, args.requests)
    print(f"{args.workers} workers ({forked} processes in all), {args.workers * args.requests} predictions in {seconds:.1f} s: equal answers")


if __name__ == "__main__":
    main()
