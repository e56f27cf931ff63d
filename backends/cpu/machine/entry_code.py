"""The compiled entry of a small program: looks at the user's array by its fields, and runs if it is what the program expects.

A kernel text like driver_code.py. An array's fields lie where numpy/ndarraytypes.h (PyArrayObject_fields) puts them behind the
header of a Python object; :mod:`entry` makes sure of that before this runs.
"""

from graphc.backends.cpu.machine.kernel_target import helper
from graphc.backends.cpu.machine.sync import call_kernel, fastcall, get, put, words

# words of an entry's block
OTHER, TYPE, DESCR, RANK, START, NOWHERE, DESCRIPTOR, IO, DIMS = 0, 1, 2, 3, 4, 5, 6, 7, 8
STATUS = 5  # word of a program's descriptor
# words of an array object
OB_TYPE, OB_DATA, OB_RANK, OB_DIMS, OB_DESCR, OB_FLAGS = 1, 2, 3, 4, 7, 8
WANTED = 0x101  # C-contiguous and aligned


@helper
def fits(a, e):
    """Whether an array has the type, dtype, order and shape of the entry."""
    if get(a, OB_TYPE) != get(e, TYPE) or get(a, OB_DESCR) != get(e, DESCR):
        return 0
    rank = get(e, RANK)
    if (get(a, OB_RANK) & 0xFFFFFFFF) != rank or (get(a, OB_FLAGS) & WANTED) != WANTED:
        return 0
    dims = words(get(a, OB_DIMS))
    for i in range(rank):
        if get(dims, i) != get(e, DIMS + i):
            return 0
    return 1


def enter(array, out, e, ask):
    """Runs the program from ``array`` to ``out`` (addresses of array objects); OTHER says whether something was different.

    With ``ask`` it only gives, in OTHER, the address by which Python can call it.
    """
    if ask == 1:
        put(e, OTHER, fastcall(0))
    else:
        put(e, OTHER, 1)
        a = words(array)
        if fits(a, e) == 1:
            io = words(get(e, IO))
            put(io, 0, get(a, OB_DATA))
            put(io, 1, get(words(out), OB_DATA))
            call_kernel(get(e, START), 0, 1, words(get(e, NOWHERE)), get(e, DESCRIPTOR))
            put(e, OTHER, get(words(get(e, DESCRIPTOR)), STATUS))


kernel = enter
