"""The disk fills up in the middle of an ingest: a clean error, nothing half-visible, and it works once there is room.

On file systems of chosen sizes in memory, where mounting is allowed; else under the kernel's limit on the size of a file.
All 32 sizes, in about a minute: `pytest -m slow tests/faults/test_full_disk.py`.
"""

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.naive import NaiveFiles
from tests.faults.rows import leftovers, run, source, wrongs
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store_file import FileStore
from zebra_assets.contracts.digest import sha256
from zebra_assets.contracts.object_store import blob_key
from zebra_assets.errors import Unavailable, ZebraError

ROWS = 6000
PAGE = 4096


class Disk:
    """A small file system at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def used(self) -> int:
        import shutil

        return shutil.disk_usage(self.folder).used


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Disk, kind: type[FileStore], sizes: Callable[[int, int], list[int]], seen: Callable[[str], None]) -> list[str]:
    """Ingest on disks of several sizes, from just more than the source to just enough; what each came to."""
    needed = _needed(disk, kind)
    came_to = []
    for number, size in enumerate(sizes(*needed)):
        home = disk.folder / f"try-{number}"
        spec = source(home, "shop", 0, ROWS)
        disk.resize(size)
        store = kind(home / "objects")
        try:
            run(spec, home, store)
            came_to.append("done")
        except ZebraError as error:
            assert isinstance(error, Unavailable), error
            assert error.fix
            came_to.append("full")
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            came_to.append("full, and said so badly")
        disk.resize(64 << 20)
        for wrong in wrongs(FileStore(home / "objects"), home):
            seen(f"{size} bytes: {wrong}")
        assert leftovers(home) == [] or kind is not FileStore
        if kind is FileStore:
            committed = list(store.list("manifests/"))  # a disk may be full right after the commit point
            assert run(spec, home, FileStore(home / "objects")).created == (not committed)
            assert len(ManifestFolder(home / "manifests", FileStore(home / "objects")).list()) == 1
        subprocess.run(["rm", "-rf", str(home)], check=True)
    return came_to


def _needed(disk: Disk, kind: type[FileStore]) -> tuple[int, int]:
    """Bytes that the source takes, and the source with all that an ingest leaves."""
    home = disk.folder / "whole"
    empty = disk.used()
    spec = source(home, "shop", 0, ROWS)
    before = disk.used() - empty
    run(spec, home, kind(home / "objects"))
    after = disk.used() - empty
    subprocess.run(["rm", "-rf", str(home)], check=True)
    return before, after


def spread(count: int) -> Callable[[int, int], list[int]]:
    """So many sizes from a page more than the source to a fifth more than all."""

    def sizes(before: int, after: int) -> list[int]:
        most = int((after - before) * 1.2) + 8 * PAGE
        return [before + PAGE + (most * step // (count - 1)) // PAGE * PAGE for step in range(count)]

    return sizes


def none(wrong: str) -> None:
    raise AssertionError(wrong)


def check(came_to: list[str], least: int) -> None:
    print(came_to)
    assert set(came_to) == {"full", "done"}, "every size says clearly what came of it, and the last ones have room"
    assert came_to.count("full") >= least


def test_a_disk_that_fills_up_at_six_sizes(disk: Disk) -> None:
    check(fill(disk, FileStore, spread(6), none), 3)


@pytest.mark.slow
def test_a_disk_that_fills_up_at_thirty_two_sizes(disk: Disk) -> None:
    check(fill(disk, FileStore, spread(32), none), 20)


def test_a_store_that_writes_to_the_final_name_is_caught(disk: Disk) -> None:
    """The same sizes on a planted bug: a harness that cannot go red proves nothing."""
    caught: list[str] = []
    fill(disk, NaiveFiles, spread(6), caught.append)
    assert caught


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 1, 100, 4_096, 20_000, 40_000])
@pytest.mark.parametrize("way", ["in scratch", "at once"])
def test_a_quota_that_is_reached(tmp_path: Path, size: int, way: str) -> None:
    """Where nothing can be mounted: write() fails in the middle of a file all the same."""
    store, data = FileStore(tmp_path / "objects"), os.urandom(60_000)
    blob = blob_key(sha256(data))
    with files_of_at_most(size), pytest.raises(Unavailable) as caught:
        if way == "at once":
            store.put(blob, data)
        with store.scratch() as scratch:
            (scratch / "part").write_bytes(data)
    assert "df -h" in str(caught.value.fix)
    assert leftovers(tmp_path) == list(store.list(""))
    store.put(blob, data)
    assert wrongs(store) == []


@pytest.mark.parametrize("size", [0, 100, 4_096, 20_000])
def test_a_quota_that_an_ingest_reaches(tmp_path: Path, size: int) -> None:
    spec, store = source(tmp_path, "shop", 0, ROWS), FileStore(tmp_path / "objects")
    with files_of_at_most(size), pytest.raises(Unavailable) as caught:
        run(spec, tmp_path, store)
    assert caught.value.fix
    assert wrongs(store, tmp_path) == [] == leftovers(tmp_path)
    assert run(spec, tmp_path, store).created
