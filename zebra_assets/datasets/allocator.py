"""Arrow with its memory kept in hand: what a block has let go of, the next one takes, and the system is not asked again.

Arrow's allocator (mimalloc) by itself gives back what was free for a second and asks for huge pages, each of which is cleared
whole to hold a few buffers. Both cost a stream of blocks a third of its system time. It reads its options when the library is
loaded, so this does nothing where somebody has imported pyarrow before. Called by `ingest`.
"""

import os
import sys

OPTIONS = {"MIMALLOC_ALLOW_THP": "0", "MIMALLOC_PURGE_DELAY": "10000"}  # ms; what nobody takes for so long is given back


def load_arrow() -> None:
    """Import pyarrow; what the environment says of the same options goes first, and the environment stays as it was."""
    if "pyarrow" in sys.modules:
        return
    ours = {name: value for name, value in OPTIONS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        import pyarrow  # noqa: F401
    finally:
        for name in ours:
            del os.environ[name]
