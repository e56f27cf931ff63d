"""Settings for the whole suite, made before graphc is imported."""

from __future__ import annotations

import os
import signal
import threading

# numpy is an oracle for speed nowhere and for values everywhere: let it use the kernels that fit this machine
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

# tests change the compiler under way and look at what it does: programs of another run would hide that
os.environ.setdefault("GRAPHC_PROGRAMS", "off")

# a shell that starts a run in the background lets it, and all that it starts, ignore Ctrl-C, which some tests press
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
