"""What the C library has given out, to the byte; a process's resident memory moves by whole pages, and late."""

import ctypes


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def allocated() -> int:
    """Bytes that malloc has given out to this process. glibc only."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Mallinfo2
    return int(ask().uordblks)
