"""Arrow is loaded with the options of a stream, and nothing of them stays behind."""

import os
import subprocess
import sys

import pytest

from zebra_assets.datasets.allocator import OPTIONS

SCRIPT = """
import ctypes, os
from pathlib import Path
from zebra_assets.datasets.allocator import OPTIONS, load_arrow
before = dict(os.environ)
load_arrow()
assert dict(os.environ) == before
import pyarrow as pa
held = [pa.allocate_buffer(1 << 20) for _ in range(32)]
for buffer in held:
    ctypes.memset(buffer.address, 1, buffer.size)
huge = [line.split()[1] for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("AnonHugePages")]
print(pa.default_memory_pool().backend_name, int(huge[0]) > 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are told by Linux alone")
@pytest.mark.parametrize("said", [None, "1"])
def test_buffers_lie_in_ordinary_pages_unless_the_environment_says_otherwise(said: str | None) -> None:
    env = {name: value for name, value in os.environ.items() if name not in OPTIONS and name != "ARROW_DEFAULT_MEMORY_POOL"}
    if said:
        env["MIMALLOC_ALLOW_THP"] = said
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    backend, huge = done.stdout.split()
    assert huge == "False" or said == "1" or backend != "mimalloc"
