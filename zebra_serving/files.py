"""Small files that are either as before or complete, locks between processes, and names for both that cost memory once."""

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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process and thread at a time; the file stays, the lock goes with whoever held it, however that ends.

    Where the file cannot be written there is no lock, as there is nothing that two could write.
    """
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(path.open("ab")), fcntl.LOCK_EX)
        yield
