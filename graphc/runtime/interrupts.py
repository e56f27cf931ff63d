"""Ctrl-C between whole pieces of work: writes to a model are done or not begun."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["no_interrupts"]


@contextmanager
def no_interrupts() -> Iterator[None]:
    """While the body runs Ctrl-C waits for its end. For short pieces: nothing shows meanwhile.

    Only the main thread is ever interrupted; what is no Python function (``signal.SIG_IGN``) is left alone.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[-1])
