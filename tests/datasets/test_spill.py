"""More hashes than memory holds: walked in ascending ranges, whether they went to disk or not, and nothing is left behind."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from zebra_assets.datasets.spill import Spill
from zebra_assets.errors import Unavailable


def filled(folder: Path | None, run: int, hashes: np.ndarray, block: int = 97) -> Spill:
    spill = Spill(folder, run=run)
    for start in range(0, len(hashes), block):
        part = hashes[start : start + block]
        spill.add(part, np.arange(start, start + len(part)))
    return spill


def walked(spill: Spill) -> list[tuple[int, int]]:
    return [(int(h), int(c)) for pieces in spill.partitions() for hashes, places in pieces for h, c in zip(hashes, places, strict=True)]


@pytest.mark.parametrize("run", [1, 200, 1000, 10**6])
def test_the_walk_ascends_by_top_byte_and_keeps_the_order_of_arrival_on_disk_as_in_memory(tmp_path: Path, run: int) -> None:
    hashes = np.random.default_rng(1).integers(0, 2**64, 3000, dtype=np.uint64)
    hashes[::5] = hashes[0]
    found = walked(filled(tmp_path, run, hashes))
    assert found == walked(filled(None, run, hashes))
    assert found == [(int(hashes[i]), i) for i in sorted(range(3000), key=lambda i: (int(hashes[i]) >> 56, i))]


def test_a_partition_beyond_a_run_comes_in_pieces(tmp_path: Path) -> None:
    spill = filled(tmp_path, 500, np.full(5000, 7, dtype=np.uint64))
    sizes = [len(hashes) for pieces in spill.partitions() for hashes, _ in pieces]
    assert sum(sizes) == 5000
    assert max(sizes) < 1200
    assert len(sizes) > 4


def test_nothing_is_left_in_the_scratch_folder_even_while_it_is_used(tmp_path: Path) -> None:
    """The file has no name, so a killed process leaves nothing either."""
    spill = filled(tmp_path / "deep" / "scratch", 100, np.arange(1000, dtype=np.uint64))
    assert list((tmp_path / "deep" / "scratch").iterdir()) == []
    assert len(walked(spill)) == 1000
    spill.close()
    assert walked(spill) == []


def test_a_full_disk_is_told_with_the_folder_and_what_is_needed() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the system has no device that is always full")
    spill = Spill(Path("/dev"), run=10)
    spill._file = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 # the spill closes it
    with pytest.raises(Unavailable, match=os.strerror(errno.ENOSPC)) as caught:
        spill.add(np.arange(10, dtype=np.uint64), np.arange(10))
    assert "16 bytes a row" in str(caught.value.fix)


def test_a_scratch_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be written"):
        Spill(tmp_path / "file" / "scratch", run=1).add(np.arange(1, dtype=np.uint64), np.arange(1))
