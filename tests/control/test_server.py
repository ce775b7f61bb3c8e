"""How a server is started: the same command everywhere, and an allocator whose stores per thread do not fill for an hour."""

import json
import subprocess
import sys

import pytest

from tests.infra import REPO
from zebra_assets.control import server

GIVEN_BACK = "glibc.malloc.tcache_count=0"
# Blocks of every small size, freed: a store per thread keeps up to seven of each, and counts them as in use (`uordblks`).
KEPT = """
import ctypes, json
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "a", "b", "c", "d", "e", "f", "used", "g", "h")]
libc.mallinfo2.restype = Info
def fill():
    blocks = [libc.malloc(size) for size in range(24, 1032, 16) for _ in range(7)]
    for block in blocks: libc.free(block)
before = libc.mallinfo2().used
fill()
print(json.dumps(libc.mallinfo2().used - before))
"""


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({}, GIVEN_BACK),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, f"glibc.malloc.arena_max=2:{GIVEN_BACK}"),
        ({"GLIBC_TUNABLES": "glibc.malloc.tcache_count=3"}, "glibc.malloc.tcache_count=3"),
    ],
    ids=["nothing", "something else", "its own size"],
)
def test_what_somebody_told_the_allocator_stays(theirs: dict[str, str], told: str) -> None:
    assert server.environment({"PATH": "/bin", **theirs}) == {"PATH": "/bin", "GLIBC_TUNABLES": told}


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
def test_the_setting_is_one_that_this_glibc_follows() -> None:
    def kept(env: dict[str, str]) -> int:
        return int(json.loads(subprocess.run([sys.executable, "-c", KEPT], env=env, capture_output=True, text=True, check=True).stdout))

    assert kept({}) > 100_000
    assert kept(server.environment({})) < 20_000


def test_a_container_is_told_the_same() -> None:
    assert f"GLIBC_TUNABLES={GIVEN_BACK} " in (REPO / "infra/docker/serving.Dockerfile").read_text()
