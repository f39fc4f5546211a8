"""What a serving process asks of the interpreter and of the C library, so that pages are quick and memory goes back."""

import ctypes
import gc
import sys
from typing import Final

# How long a thread that computes may keep the interpreter from the loop, which wants it several times for each page:
# with Python's 5 ms a page took 30 ms while a listing of S3 was read.
_SWITCH_S: Final = 0.001
# glibc raises its own limit to the largest block that was freed, and then every thread keeps blocks of a part's size:
# a worker grew by 102 MiB for an upload of a gibibyte, with a limit that stays by 46 (mallopt(3)).
_MAPPED_BYTES: Final = 1024 * 1024
_M_MMAP_THRESHOLD: Final = -3


def prepare() -> None:
    """Set what holds from the start. Another C library than glibc has no such limit, and is left as it is."""
    sys.setswitchinterval(_SWITCH_S)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def settle() -> None:
    """Take what is there by now for what stays: each full collection would look through it, 70 ms of boto3's alone."""
    gc.freeze()
