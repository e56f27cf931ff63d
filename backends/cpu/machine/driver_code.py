"""The compiled driver: walks a launch list on every thread and lets worker threads wait for the next.

This file is itself a kernel text: :mod:`pool` compiles it through the kernel cache, so it has the kernels' calling convention
and a warm start needs no Numba.
"""

from graphc.backends.cpu.machine.kernel_target import helper
from graphc.backends.cpu.machine.sync import (
    call_kernel,
    current_cpu,
    fetch_add,
    finite_f32,
    finite_f64,
    get,
    load,
    pause,
    put,
    store,
    words,
    yield_cpu,
)

# rows of a program: [op, a, b, turn, 0, 0, 0, 0]; a call's thread t does the share of thread (t + turn) % nthreads
CALL, BARRIER, LOOP, ENDLOOP, CHECK_F32, CHECK_F64 = 0, 1, 2, 3, 4, 5
# words of the pool's control block, each on its own cache line
GO, STOP, COUNT, GENERATION, DONE, DESCRIPTOR, CPU, CALLING, SEEN = 0, 8, 16, 24, 32, 40, 48, 56, 64
# words of a program's descriptor
ROWS, NROWS, PATCHES, NPATCHES, IO, STATUS, SCRATCH, FAILED = 0, 1, 2, 3, 4, 5, 6, 7


@helper
def meet(c, nthreads):
    """All threads wait for each other: spin, then yield, since two threads may share one core."""
    g = load(c, GENERATION)
    if fetch_add(c, COUNT, 1) == nthreads - 1:
        store(c, COUNT, 0)
        store(c, GENERATION, g + 1)
    else:
        n = 0
        while load(c, GENERATION) == g:
            pause()
            n += 1
            if n > 1000:
                yield_cpu()


@helper
def run_list(tid, nthreads, c, d):
    """This thread's part of every row. A loop's state lies in the thread's scratch: (start row, trips left, trip)."""
    rows = words(get(d, ROWS))
    count = get(d, NROWS)
    stack = words(get(d, SCRATCH) + tid * 512)
    depth = 0
    trip = 0
    i = 0
    while i < count:
        op = get(rows, 8 * i)
        if op == CALL:
            share = tid + get(rows, 8 * i + 3)
            if share >= nthreads:
                share -= nthreads
            if call_kernel(get(rows, 8 * i + 1), share, nthreads, words(get(rows, 8 * i + 2)), trip) != 0:
                store(d, FAILED, i + 1)  # the others may wait at a barrier: carry on, and say so at the end
        elif op == BARRIER:
            if nthreads > 1:
                meet(c, nthreads)
        elif op == LOOP:
            trips = get(words(get(rows, 8 * i + 1)), 0)
            if trips <= 0:
                i = get(rows, 8 * i + 2)
            else:
                put(stack, 4 * depth, i)
                put(stack, 4 * depth + 1, trips)
                put(stack, 4 * depth + 2, trip)
                trip = trip * trips
                depth += 1
        elif op == ENDLOOP:
            left = get(stack, 4 * depth - 3) - 1
            put(stack, 4 * depth - 3, left)
            if left > 0:
                trip += 1
                i = get(stack, 4 * depth - 4)
            else:
                depth -= 1
                trip = get(stack, 4 * depth + 2)
        elif op == CHECK_F32 or op == CHECK_F64:  # noqa: SIM109  (a tuple is more to compile)
            where = get(words(get(rows, 8 * i + 1)), 0)
            good = finite_f32(where) if op == CHECK_F32 else finite_f64(where)
            if nthreads > 1:
                meet(c, nthreads)  # nobody may write the value again before all have seen it, or they would part ways
            if good == 0:
                if tid == 0:
                    put(d, STATUS, i + 1)
                i = count
        i += 1


@helper
def start(nthreads, c, descriptor):
    """Thread 0: fills in the user's addresses, runs its share, waits until all are done."""
    d = words(descriptor)
    if (
        nthreads > 1
    ):  # posted here and not from Python, so that no interrupt comes between the call and this thread's part
        store(c, DESCRIPTOR, descriptor)
        store(c, DONE, 0)
        store(c, GO, load(c, GO) + 1)
    patches = words(get(d, PATCHES))
    io = words(get(d, IO))
    for k in range(get(d, NPATCHES)):
        put(words(get(patches, 3 * k)), 0, get(io, get(patches, 3 * k + 1)) + get(patches, 3 * k + 2))
    put(d, STATUS, 0)
    put(d, FAILED, 0)
    if nthreads > 1:
        store(c, CPU, current_cpu())
        meet(c, nthreads)
    run_list(0, nthreads, c, d)
    if nthreads > 1:
        n = 0
        while load(c, DONE) < nthreads - 1:
            pause()
            n += 1
            if n > 1000:
                yield_cpu()
    if get(d, FAILED) != 0:
        put(d, STATUS, -get(d, FAILED))


@helper
def work(tid, nthreads, c, patience):
    """A worker: runs when the run number changes; comes back when nothing came for ``patience`` rounds, or to stop."""
    n = 0
    while n <= patience and load(c, STOP) == 0:
        now = load(c, GO)
        if now != load(c, SEEN + 8 * tid):
            store(c, SEEN + 8 * tid, now)
            meet(c, nthreads)
            run_list(tid, nthreads, c, words(load(c, DESCRIPTOR)))
            fetch_add(c, DONE, 1)
            n = 0
        else:
            pause()
            n += 1
            if n > 400:
                yield_cpu()


def kernel(tid, nthreads, c, word):
    """Thread 0 runs the program at ``word``; the others work, with ``word`` as their patience."""
    if tid == 0:
        start(nthreads, c, word)
    else:
        work(tid, nthreads, c, word)
