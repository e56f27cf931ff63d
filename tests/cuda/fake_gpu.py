"""A driver of a GPU that is made of NumPy memory and simulated kernels, with the methods of ``graphc.backends.cuda.driver.Driver``.

Everything happens at once, in the order in which it is asked for. Whether a GPU, which works behind the host's back and on several streams, would
give the same is checked: every access of host, copies and kernels to memory must be ordered with those before it, by a stream, an event or the
host's waiting for one.
"""

from __future__ import annotations

import ctypes
import re
import time
from collections import defaultdict

import numpy as np

from graphc.backends.cuda.gpu import Gpu
from graphc.backends.cuda.sim import Memory, launch
from graphc.backends.cuda.toolchain import find_kernel

HOST = "host"


class RaceError(AssertionError):
    """Two accesses to the same bytes that nothing orders."""


class Bytes(np.ndarray):
    """Pinned memory: touched through the driver alone."""

    def __getitem__(self, key):
        raise AssertionError("pinned memory is touched through fill and drain")

    __setitem__ = __getitem__


class FakeDriver:
    """Addresses are those of NumPy memory. ``log`` says what was asked for; ``archs`` makes it load machine code from the cache too."""

    name, index = "a made-up GPU", 0

    def __init__(self, memory=2**30, archs=()):
        self.total = self.left = memory
        self.archs = list(archs)
        self.blocks = {}  # address -> bytes
        self.freed = []  # kept, so that no address comes twice
        self.log = []
        self.compute, self.copies = "compute", "copies"
        self.clocks = defaultdict(lambda: defaultdict(int))  # timeline -> what it knows of all timelines
        self.accesses = []  # (start, stop, writes, timeline, its time, what)
        self.ignored = set()  # kinds of waiting that are left out: tests of the check
        self.loaded = []

    # -- who has seen what -----------------------------------------------------------------------------------------------
    def _touch(self, timeline, what, reads=(), writes=()):
        """An access to ranges of addresses, behind what the timeline knows; on a stream, behind the host's past too."""
        clock = self.clocks[timeline]
        if timeline != HOST:
            self._learn(clock, self.clocks[HOST])
        clock[timeline] += 1
        for spans, writing in ((reads, False), (writes, True)):
            for start, stop in spans:
                for a, b, wrote, who, when, before in self.accesses:
                    if a < stop and start < b and (writing or wrote) and clock[who] < when:
                        raise RaceError(f"{what} ({timeline}) does not wait for {before} ({who})")
                # what this one is behind of needs no longer be remembered, where it covers it
                self.accesses = [e for e in self.accesses if not (writing and start <= e[0] and e[1] <= stop)]
                self.accesses.append((start, stop, writing, timeline, clock[timeline], what))

    @staticmethod
    def _learn(clock, other):
        for who, when in other.items():
            clock[who] = max(clock[who], when)

    def event(self, timed=False):
        return {}

    def record(self, event, stream):
        self._learn(self.clocks[stream], self.clocks[HOST])
        event["clock"], event["at"] = dict(self.clocks[stream]), time.perf_counter()

    def wait(self, stream, event):
        if f"wait {stream}" not in self.ignored:
            self._learn(self.clocks[stream], event.get("clock", {}))

    def finish(self, event):
        if "finish" not in self.ignored:
            self._learn(self.clocks[HOST], event.get("clock", {}))

    def is_over(self, event):
        return all(self.clocks[HOST][who] >= when for who, when in event["clock"].items())

    def elapsed(self, start, end):
        return end["at"] - start["at"]

    def synchronize(self):
        for stream in (self.compute, self.copies):
            self._learn(self.clocks[HOST], self.clocks[stream])

    def stream_of(self, handle):
        return f"stream {handle}"

    def handle_of(self, stream):
        return 77

    def activate(self):
        return "before"

    def restore(self, before):
        assert before == "before"

    # -- memory ----------------------------------------------------------------------------------------------------------
    def allocate(self, nbytes):
        if nbytes > self.left:
            return None
        size = -(-max(nbytes, 1) // 16) * 16
        self.left -= size
        whole = np.full(size + 256, 0xA5, np.uint8)  # nobody may rely on zeros
        start = -whole.ctypes.data % 256
        data = whole[start : start + size]
        self.blocks[data.ctypes.data] = data
        self.log.append("allocate")
        return data.ctypes.data

    def free(self, address):
        self.synchronize()  # as the driver does
        self.freed.append(self.blocks.pop(address))
        self.left += self.freed[-1].nbytes

    def memory(self):
        return self.left, self.total

    def lend(self, array):
        """The address of another library's memory on this GPU."""
        flat = array.reshape(-1).view(np.uint8)
        assert np.shares_memory(flat, array)
        self.blocks[array.ctypes.data] = flat
        return array.ctypes.data

    def _at(self, address, nbytes=None):
        base = max(b for b in self.blocks if b <= address)
        found = self.blocks[base][address - base :]
        assert found.size, "an address behind its memory"
        assert nbytes is None or found.size >= nbytes, "memory ends before a copy does"
        return found if nbytes is None else found[:nbytes]

    def pin(self, nbytes):
        self.log.append("pin")
        return np.full(nbytes, 0xA5, np.uint8).view(Bytes)

    def _pinned(self, pinned, at, nbytes):
        start = pinned.ctypes.data + at
        assert at + nbytes <= pinned.size
        return (start, start + nbytes), np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(start))

    def fill(self, pinned, at, data):
        span, there = self._pinned(pinned, at, data.nbytes)
        self._touch(HOST, "fill", writes=[span])
        there[:] = data

    def drain(self, into, pinned, at):
        span, there = self._pinned(pinned, at, into.nbytes)
        self._touch(HOST, "drain", reads=[span])
        into[:] = there

    def copy_in(self, address, pinned, at, nbytes):
        self.log.append("copy in")
        span, there = self._pinned(pinned, at, nbytes)
        self._touch(self.copies, "copy in", [span], [(address, address + nbytes)])
        self._at(address, nbytes)[:] = there

    def copy_out(self, pinned, at, address, nbytes):
        self.log.append("copy out")
        span, there = self._pinned(pinned, at, nbytes)
        self._touch(self.copies, "copy out", [(address, address + nbytes)], [span])
        there[:] = self._at(address, nbytes)

    def copy(self, address, source, nbytes):
        self.log.append("copy")
        self._touch(self.compute, "copy", [(source, source + nbytes)], [(address, address + nbytes)])
        self._at(address, nbytes)[:] = self._at(source, nbytes)

    # -- kernels ---------------------------------------------------------------------------------------------------------
    def load(self, printed):
        if self.archs:
            self.loaded.append(find_kernel(printed, self.archs, self.name))
        return printed

    def launch(self, kernel, blocks, threads, args):
        self.log.append("launch")
        made, reads, writes = {}, [], []
        for p, value in zip(kernel.params, args, strict=True):
            if p.kind == "buffer":
                data = self._at(value)
                (writes if _stores(kernel.text, p.name) else reads).append((value, value + data.nbytes))
                value = Memory(p.name, data[: data.size // p.dtype.itemsize * p.dtype.itemsize].view("u1" if p.dtype.kind == "b" else p.dtype.numpy))
            made[p.name] = value
        self._touch(self.compute, "a kernel", reads, writes)
        launch(kernel.text, blocks, threads, made)

    def capture(self, launches):
        self.log.append("capture")

        def run():
            self.log.append("graph")
            launches()

        return run


def _stores(text, name):
    return bool(re.search(rf"^\s*{name}\[.*?\] [^=]?= |store\w*\({name}, |atomic\w*\.\w+\({name}, ", text, re.M))


def fake_gpu(memory=2**30, archs=()):
    """A GPU whose driver is made up: ``gpu.driver.log`` says what it did."""
    return Gpu(FakeDriver(memory, archs))
