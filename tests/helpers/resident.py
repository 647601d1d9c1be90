"""Memory of this process as Linux counts it."""

import ctypes
import gc
from pathlib import Path

MiB = 2**20


def status(name):
    """Bytes in a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def resident():
    """Bytes in memory, once what was freed is given back to the system."""
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
    return status("VmRSS")


class Peak:
    """What a block takes at most beyond what there is at its start: `bytes`, after the block."""

    def __enter__(self):
        self.before = resident()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
        return self

    def __exit__(self, *_):
        self.bytes = status("VmHWM") - self.before
