"""A GPU made of NumPy memory and simulated kernels, with the methods of ``graphc.backends.cuda.gpu.Gpu``."""

from __future__ import annotations

import numpy as np

from graphc.backends.cuda.sim import Memory, launch
from graphc.errors import OutOfMemoryError


class FakeGpu:
    """Addresses are integers, 256 bytes apart at least; ``log`` says what was asked for."""

    def __init__(self, memory=2**30):
        self.blocks: dict[int, np.ndarray] = {}
        self.next = 4096
        self.left = memory
        self.log: list[str] = []

    def allocate(self, nbytes, what):
        if nbytes > self.left:
            raise OutOfMemoryError(f"out of memory on a made-up GPU: {what} needs {nbytes}, {self.left} are free")
        self.left -= nbytes
        address, self.next = self.next, self.next + -(-max(nbytes, 1) // 256) * 256 + 256
        self.blocks[address] = np.full(-(-max(nbytes, 1) // 16) * 16, 0xA5, np.uint8)  # nobody may rely on zeros
        self.log.append(f"allocate {what}")
        return address, self

    def _at(self, address, nbytes=None):
        base = max(b for b in self.blocks if b <= address)
        found = self.blocks[base][address - base :]
        assert found.size, "an address behind its memory"
        return found if nbytes is None else found[:nbytes]

    def upload(self, address, array):
        self.log.append("upload")
        self._at(address, array.nbytes)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def download(self, array, address):
        self.log.append("download")
        array.reshape(-1).view(np.uint8)[:] = self._at(address, array.nbytes)

    def load(self, printed):
        return printed

    def launch(self, kernel, blocks, threads, args):
        self.log.append("launch")
        made = {}
        for p, value in zip(kernel.params, args, strict=True):
            if p.kind == "buffer":
                data = self._at(value)
                value = Memory(p.name, data[: data.size // p.dtype.itemsize * p.dtype.itemsize].view("u1" if p.dtype.kind == "b" else p.dtype.numpy))
            made[p.name] = value
        launch(kernel.text, blocks, threads, made)

    def capture(self, launches):
        self.log.append("capture")

        def run():
            self.log.append("graph")
            launches()

        return run

    def synchronize(self):
        pass
