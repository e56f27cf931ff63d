"""The driver's numbers, for those who must not import Numba. A test compares them with driver_code.py."""

LAYOUT = 2
"""The version of these numbers, and of the arguments of kernels and entries: bundles of another version are refused."""

# rows of a program: [op, a, b, turn, 0, 0, 0, 0]
CALL, BARRIER, LOOP, ENDLOOP, CHECK_F32, CHECK_F64 = 0, 1, 2, 3, 4, 5
# words of the pool's control block
GO, STOP, COUNT, GENERATION, DONE, DESCRIPTOR, CPU, CALLING, SEEN = 0, 8, 16, 24, 32, 40, 48, 56, 64
# words of a program's descriptor
ROWS, NROWS, PATCHES, NPATCHES, IO, STATUS, SCRATCH, FAILED = 0, 1, 2, 3, 4, 5, 6, 7
