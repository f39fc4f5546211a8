"""What a serving process asks of its interpreter and allocator, looked at in a process of its own."""

import ctypes
import subprocess
import sys

_LOOK = """
import ctypes, gc, sys
from overlay.cli import interpreter

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks u f k".split()]

mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", Mallinfo)  # another C library than glibc tells nothing
mallinfo.restype = Mallinfo
if "prepared" in sys.argv:
    interpreter.prepare()
    interpreter.settle()
freed = bytes(16 << 20)
del freed
before = mallinfo().hblks
held = bytes(8 << 20)
print(mallinfo().hblks - before, sys.getswitchinterval(), gc.get_freeze_count() > 0)
"""


def looked(*words: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", _LOOK, *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_memory_of_parts_goes_back_and_pages_get_their_turn() -> None:
    """A large block is mapped by itself, also after a larger one was freed; the lock changes hands after 1 ms."""
    assert looked("prepared") == ["1" if hasattr(ctypes.CDLL(None), "mallinfo2") else "0", "0.001", "True"]
    assert looked() == ["0", "0.005", "False"]
