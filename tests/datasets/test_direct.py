"""Files written past the page cache hold what was handed over, whatever its length and wherever they are."""

import os
import resource
import tempfile
from pathlib import Path

import pytest

from zebra_assets.datasets import direct


@pytest.mark.parametrize("size", [0, 1, direct.PAGE, direct.PAGE + 1, direct.AT_ONCE, direct.AT_ONCE + 5000])
def test_a_file_of_any_length_is_what_was_handed_over(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    direct.write(tmp_path / "a", memoryview(data))
    assert (tmp_path / "a").read_bytes() == data


def test_a_longer_file_is_replaced(tmp_path: Path) -> None:
    direct.write(tmp_path / "a", memoryview(os.urandom(9 * direct.PAGE)))
    direct.write(tmp_path / "a", memoryview(b"short"))
    assert (tmp_path / "a").read_bytes() == b"short"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a file system in memory is needed")
def test_a_file_system_in_memory_is_written_as_ever() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        direct.write(Path(folder) / "a", memoryview(b"x" * 5000))
        assert (Path(folder) / "a").read_bytes() == b"x" * 5000


@pytest.mark.parametrize("most", [3 * direct.PAGE, 3 * direct.PAGE + 100])
def test_a_full_disk_is_an_error_as_ever(tmp_path: Path, most: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(27)):
            direct.write(tmp_path / "a", memoryview(os.urandom(9 * direct.PAGE)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
