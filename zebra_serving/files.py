"""Small files that are either as before or complete, locks between processes and threads, and names for both that cost memory once."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1024)
def part(name: str) -> str:
    """A part of a path that is made again and again.

    `pathlib` interns every part. One that nothing else holds takes another place in the interpreter's table of strings each time,
    and a table without free places is made anew at twice the size: after 400 changes of version a server grew by 2 MB at once.
    """
    return sys.intern(name)


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside ``path``, flush to disk, then rename over it. Raises `OSError` as the file system does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(part(f".{path.name}.{os.getpid()}"))
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def read_only(folder: Path) -> None:
    """Take away the right to write what was verified, from this server too. A link's target keeps its rights."""
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)


def used_at(path: Path) -> float:
    """When a file or folder was made or touched last; ages ago, if somebody has just taken it away."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """One process and thread at a time. The file goes with whoever held the lock; one that a killed process left is taken over.

    Where the file cannot be written there is no lock, as there is nothing that two could write.

    Args:
        wait: for whoever holds it; otherwise the block is entered anyway, and told.

    Yields:
        Whether the block may do what the lock is for.
    """
    with ExitStack() as held:
        free = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while not _taken(path, held, wait):
                pass
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free


class Hold:
    """Says for as long as it lives that something is in use, also to other processes: `locked` without waiting finds it taken.

    Raises:
        OSError: where ``path`` cannot be written.
    """

    __slots__ = ("_file",)

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # it could not be opened
            os.close(self._file)


def sweep(folder: Path, locks: str) -> None:
    """Take away the locks' files that killed processes left."""
    for path in folder.glob(locks):
        with locked(path, wait=False):
            pass


def _taken(path: Path, held: ExitStack, wait: bool) -> bool:
    """Lock the file at ``path`` until ``held`` ends; not while somebody took it away or put another there meanwhile."""
    with ExitStack() as mine:
        file = mine.enter_context(path.open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        try:
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return False
        except FileNotFoundError:
            return False
        held.push(mine.pop_all())
        held.callback(_remove, path)  # before the lock is let go: only who holds it takes its file away
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
