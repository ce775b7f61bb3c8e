"""The port of a store of blobs, whatever it is made of: a folder, S3, or anything fsspec speaks to.

Keys below `BLOBS` are content-addressed: their name is the sha256 of their bytes. They are the only ones a collector ever
removes, and the ones `renew` is about. Adapters live in `adapters/object_store*`; what a collector and a writer owe each
other is written down in `adapters/sweeping`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

BLOBS = "blobs/sha256/"


class Blob(NamedTuple):
    """A finished file on its way into the store."""

    key: str
    path: Path
    digest: str


class Entry(NamedTuple):
    """What a store says of one key. ``modified`` is by the store's own clock, in UTC."""

    key: str
    bytes: int
    modified: datetime


class Leftover(NamedTuple):
    """Something a killed writer left that no key names. ``begun`` is by the store's own clock, in UTC."""

    what: str
    name: str
    bytes: int
    begun: datetime


def blob_key(digest: str, suffix: str = ".parquet") -> str:
    """The key of bytes with sha256 ``digest`` (64 hex)."""
    return f"{BLOBS}{digest[:2]}/{digest}{suffix}"


class ObjectStore(Protocol):
    """Blobs by key (``a/b/c.parquet``); keys never start with '/' or contain '..'. Safe to use from many threads."""

    url: str

    @property
    def conditional(self) -> bool:
        """Whether the store itself refuses to write a taken key, rather than this adapter looking first."""
        ...

    def put(self, key: str, data: bytes | Path, *, overwrite: bool = False, digest: str | None = None, move: bool = False) -> str:
        """Store ``data`` under ``key`` and return its URI; durable when this returns.

        Without ``overwrite`` the write is conditional: the same bytes already there are a success, others raise `Conflict`.
        A remote store's bytes are read back and hashed.

        Args:
            digest: sha256 of ``data`` where the caller hashed it while writing; saves reading it again.
            move: ``data`` is a file that nobody else will write to, given up. From `scratch()` a file store links it in.
        """
        ...

    def put_many(self, blobs: Iterable[Blob], progress: Callable[[int], None] = ...) -> list[str]:
        """`put` each with ``move``, several at a time; their URIs in order.

        Args:
            blobs: taken as places come free, so a generator may make them meanwhile.
            progress: called with the bytes of each blob that has arrived.
        """
        ...

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder of its own for files that are still being written, removed with what is left in it when the block ends.

        It lies where a finished file becomes a blob without a second copy. A disk that fills up inside the block raises
        `Unavailable`. A killed holder's folder is removed a day later.
        """
        ...

    def get(self, key: str) -> bytes:
        """The bytes of ``key``; `NotFound` where there are none."""
        ...

    def fetch(self, key: str) -> Path:
        """A local, read-only file with the bytes of ``key`` and its suffix (downloaded once, cached by key)."""
        ...

    def exists(self, key: str) -> bool: ...
    def digest(self, key: str) -> str | None:
        """sha256 of what the store itself holds now, read to the end and never from a cache; None where it holds nothing."""
        ...

    def entries(self, prefix: str) -> Iterator[Entry]:
        """As `list`, with sizes and ages; never from a cache."""
        ...

    def uri(self, key: str) -> str: ...
    def create(self, key: str, data: bytes) -> bool | None:
        """One conditional write, without looking first; False: another writer took the key. None: this one's earlier try may have."""
        ...

    def renew(self, keys: Iterable[str]) -> list[str]:
        """Keep blobs from the collector as if they were written now; those of ``keys`` that are not there.

        A blob that is there when this returns stays for a grace period (24 h): time for a manifest to name it.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove ``key``; nothing happens where there is none. For the collector and the doctor's probe only."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """What killed writers left, of any age: temporary files, unfinished uploads."""
        ...

    def discard(self, leftover: Leftover) -> None:
        """Remove a leftover; nothing happens where it is gone."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted. A prefix is text, not a folder: ``a/b`` finds ``a/bc`` too."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """What a store may offer beside: to begin with a blob that is not to be seen yet."""

    def prepare(self, blob: Blob) -> None:
        """Do what takes time and shows nothing: the file's bytes to the disk, the folder for its name. From any thread, in any order.

        `put_many` does what is left. The file may still be written again, with the same bytes; nothing happens where it is gone.
        """
        ...
