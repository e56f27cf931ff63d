"""A kernel that measures another one. A profiled launch list is the plain one with each kernel called through this.

A kernel text like driver_code.py. Each thread has a block of words and writes two times a call, one behind the other; what was
called is known from the launch list. The list begins and ends with a row of its own, so that only whole runs count.
"""

from graphc.backends.cpu.machine.sync import call_kernel, get, now, put, words

# words of a call's block
KERNEL, ARGS, THREADS, TURN = 0, 1, 2, 3
BEGIN, END = 0, 1  # for KERNEL in the rows around the list, with what it is in ARGS
# words of a thread's block, each thread on cache lines of its own
NEXT, RUN, RUNS, FIRST, BYTES, PLACES = 0, 1, 2, 3, 4, 5
BLOCK = 128


def kernel(tid, nthreads, args, trip):
    """Calls KERNEL with ARGS and writes when it began and ended; begins or ends a run where KERNEL is 0."""
    mine = words(args[THREADS] + BLOCK * tid)
    if args[KERNEL] != 0:
        at = get(mine, NEXT)
        put(words(at), 0, now())
        share = tid + args[TURN]
        if share >= nthreads:
            share -= nthreads
        status = call_kernel(args[KERNEL], share, nthreads, words(args[ARGS]), trip)
        put(words(at), 1, now())
        put(mine, NEXT, at + 16)
        if status != 0:
            raise ValueError("the kernel raised")
    elif args[ARGS] == BEGIN:
        put(mine, NEXT, get(mine, RUN) + 16)
        put(words(get(mine, RUN)), 0, now())
    else:
        put(words(get(mine, RUN)), 1, now())
        runs = get(mine, RUNS) + 1
        put(mine, RUNS, runs)
        put(mine, RUN, get(mine, FIRST) + runs % get(mine, PLACES) * get(mine, BYTES))
