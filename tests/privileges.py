"""Do something as if by anybody: permissions of files count, for root too."""

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

T = TypeVar("T")

VERSION = 0x20080522  # of the interface, with 64 capabilities
OVERRIDE = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def as_anybody(action: Callable[[], T]) -> T:
    """Call it on a thread that has no leave to read and write whatever it likes."""
    if os.geteuid() != 0:
        return action()
    if sys.platform != "linux":
        pytest.skip("root may read and write anything")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_give_up_override).result()
        return pool.submit(action).result()


def _give_up_override() -> None:
    """Take the capabilities from this thread for good; those that it starts have none either."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    for call in (libc.capget, libc.capset):
        for kind in range(3):  # effective, permitted and inheritable, of the first 32
            sets[kind] &= ~OVERRIDE
        if call(header, sets):
            raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
