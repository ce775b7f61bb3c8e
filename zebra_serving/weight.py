"""What a model costs in memory, and the allocator: what is freed is used again, or goes back to the machine.

A model's weight is what the process grew by while the model was opened, at least the bytes of the files it was made from: a
model that moves into pages that another one left behind makes nothing grow. Libraries are imported before, as they stay when
the model goes. An estimate: requests that are answered in the same milliseconds are counted in.
"""

import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_STATM = Path("/proc/self/statm")
_alone = threading.Lock()
# Looked up once: every `CDLL` makes a class of its own. There are none where there is no glibc.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_trim: Callable[[int], int] | None = getattr(_libc, "malloc_trim", None)
_option: Callable[[int, int], int] | None = getattr(_libc, "mallopt", None)
_ARENA_MAX = -8  # malloc.h


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def weighed(make: Callable[[], T], least: int, libraries: Iterable[str] = ()) -> tuple[T, int]:
    """What ``make`` gives, and its weight in bytes.

    Args:
        least: bytes of the files it is made from.
        libraries: modules that ``make`` would import and that are not to be weighed.
    """
    for name in libraries:
        with suppress(ImportError):  # ``make`` knows what to do without it
            importlib.import_module(name)
    with _alone:  # two at once would each be given the weight of both
        before = resident()
        made = make()
        return made, max(resident() - before, least)


def share_heap() -> None:
    """Let all threads take memory from one heap, before there are any others. Does nothing where there is no glibc.

    By itself glibc gives every thread one of its own, and what a version left in the loader's is of no use to the event loop's.
    """
    if _option is not None:
        _option(_ARENA_MAX, 1)


def give_back() -> None:
    """Return freed pages to the system; glibc keeps them otherwise. Does nothing where there is no glibc."""
    if _trim is not None:
        _trim(0)
