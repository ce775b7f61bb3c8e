"""Files that nobody here reads again soon, written past the page cache where the system can.

A page of the cache has to be had and filled before it goes to disk, which takes as long as all of the hashing; and what is in
the cache is still to be written when a file must be durable. Called by `work` for pieces. Durable they are made by the store.
"""

import errno
import mmap
import os
import threading
from pathlib import Path

import numpy as np

PAGE = 4096  # every block device's sectors divide it
AT_ONCE = 4 << 20  # bytes that a call hands over
_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux has it; elsewhere files are written as ever


class _Desk(threading.local):
    """A thread's memory at a page's border, as the disk takes it; the same pages for one file after another."""

    def __init__(self) -> None:
        self.pages = mmap.mmap(-1, AT_ONCE)
        self.bytes = np.frombuffer(self.pages, np.uint8)  # numpy copies without the interpreter, which 300 MB would hold for 0.05 s


_desk = _Desk()


def write(path: Path, data: memoryview) -> None:
    """Make a file of ``data``, or replace one. What is left after an `OSError` (disk full) is of any length."""
    if not _DIRECT or not _written(path, data):
        path.write_bytes(data)


def _written(path: Path, data: memoryview) -> bool:
    """Whether the file system took it so; some (in memory, on a network) do not."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _DIRECT, 0o666)
    except OSError as error:
        return _or_raise(error)
    try:
        for start in range(0, len(data), AT_ONCE):
            part = data[start : start + AT_ONCE]
            _desk.bytes[: len(part)] = np.frombuffer(part, np.uint8)
            with memoryview(_desk.pages) as pages:
                left = pages[: -(-len(part) // PAGE) * PAGE]
                while left:
                    left = left[os.write(file, left) :]
        os.ftruncate(file, len(data))
    except OSError as error:
        return _or_raise(error)
    finally:
        os.close(file)
    return True


def _or_raise(error: OSError) -> bool:
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # of open: not here at all; of write: a disk full to a part of a page
        return False
    raise error
