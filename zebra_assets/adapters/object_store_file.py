"""Blobs as read-only files in a folder. Opened by `object_store.open_store` only.

A file that was written in `scratch()` becomes a blob by fsync and link, without a second copy. It is not read back: the
page cache would answer, not the disk, at 0.8 s per gigabyte. What holds the bytes to the digest its writer took is fsync,
which reports what went wrong on the way to the disk, and `mlops verify` at any time after. What is copied is compared.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from zebra_assets.adapters import durable, sweeping
from zebra_assets.adapters.object_store import absent, check_key, conflict, data_digest, in_parallel, nobody
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.object_store import BLOBS, Blob, Entry, Leftover
from zebra_assets.errors import Unavailable

MODE = 0o444  # of a blob


class FileStore:
    """Blobs below one folder of a local or network file system that has hard links."""

    conditional = True

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()  # safe_join answers with resolved paths, and list() compares the two
        self.url = self.root.as_uri()
        self._prepared: dict[Path, tuple[int, ...]] = {}  # durable files that have no name here yet, and what they were then
        if self.root.is_dir():
            durable.sweep(self.root)

    def put(self, key: str, data: bytes | Path, *, overwrite: bool = False, digest: str | None = None, move: bool = False) -> str:
        """See `ObjectStore.put`."""
        target, uri = self._path(key), self.uri(key)
        with self._reachable("write"):
            wanted = digest or data_digest(data)
            if overwrite:
                with self._ready(target, data, wanted, move) as temporary:
                    temporary.replace(target)
                    durable.sync_folder(target.parent)
                return uri
            self._take(key, target, data, wanted, move)
        return uri

    def put_many(self, blobs: Iterable[Blob], progress: Callable[[int], None] = nobody) -> list[str]:
        """See `ObjectStore.put_many`: files that are not `prepare`d are synced several at a time, each folder once with all names in it."""
        folders: set[Path] = set()

        def one(blob: Blob) -> tuple[str, int]:
            size, target = blob.path.stat().st_size, self._path(blob.key)
            self._take(blob.key, target, blob.path, blob.digest, move=True, later=folders)
            folders.add(target.parent)  # also of a blob that was there: whoever is putting it may not have come so far
            return self.uri(blob.key), size

        uris = []
        with self._reachable("write"):
            # What is prepared is only given its name, and by threads that takes thrice as long as by one: they wait for the interpreter.
            for uri, size in map(one, blobs) if self._prepared else in_parallel(one, blobs):
                uris.append(uri)
                progress(size)
            deque(in_parallel(durable.sync_folder, sorted(folders)), maxlen=0)
        return uris

    def prepare(self, blob: Blob) -> None:
        """See `Prepares.prepare`."""
        target = self._path(blob.key)
        with self._reachable("write"), suppress(FileNotFoundError):
            self._prepared[blob.path] = _stamp(durable.settle(blob.path, MODE))
            durable.make_folder(target.parent)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `ObjectStore.scratch`: a folder inside the store, which no listing shows."""
        try:
            with durable.scratch(self.root) as folder:
                yield folder
        finally:  # what was prepared there and never named: a blob that was there already, or an ingest that was refused
            for path in [path for path in list(self._prepared) if not path.parent.is_dir()]:
                self._prepared.pop(path, None)

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        with self._reachable("read"):
            return self.fetch(key).read_bytes()

    def fetch(self, key: str) -> Path:
        """See `ObjectStore.fetch`: here the blob itself."""
        path = self._path(key)
        with self._reachable("read"):
            if not path.is_file():
                raise absent(self.uri(key))
        return path

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        with self._reachable("read"):
            return self._path(key).is_file()

    def digest(self, key: str) -> str | None:
        """See `ObjectStore.digest`."""
        path = self._path(key)
        with self._reachable("read"):
            return file_digest(path) if path.is_file() else None

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `ObjectStore.entries`."""
        for key in self.list(prefix):
            try:
                stat = self._path(key).stat()
            except FileNotFoundError:  # removed since it was listed
                continue
            yield Entry(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def uri(self, key: str) -> str:
        """``file://`` URI of a key."""
        return f"{self.url}/{quote(check_key(key))}"

    def create(self, key: str, data: bytes) -> bool:
        """See `ObjectStore.create`."""
        target = self._path(key)
        with self._reachable("write"), self._ready(target, data, data_digest(data), move=False) as temporary:
            return durable.create(temporary, target)

    def renew(self, keys: Iterable[str]) -> list[str]:
        """See `ObjectStore.renew`: the file's mtime is its age; a file of another user's is claimed instead."""
        wanted = list(keys)
        with self._reachable("renew"):
            for path in map(self._path, wanted):
                try:
                    os.utime(path)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    sweeping.claim(self, wanted)
                    break
            sweeping.wait_for_sweep(self)
            return [key for key in wanted if not self._path(key).is_file()]

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        path = self._path(key)
        with self._reachable("delete"):
            path.unlink(missing_ok=True)

    def leftovers(self) -> Iterator[Leftover]:
        """See `ObjectStore.leftovers`."""
        for path, size, written in durable.leftovers(self.root, deep=True):
            yield Leftover("temporary file", path.relative_to(self.root).as_posix(), size, datetime.fromtimestamp(written, UTC))

    def discard(self, leftover: Leftover) -> None:
        """See `ObjectStore.discard`."""
        with self._reachable("delete"):
            durable.discard(safe_join(self.root, leftover.name))

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        return iter(sorted(self._below(prefix)))

    def _path(self, key: str) -> Path:
        return safe_join(self.root, *check_key(key).split("/"))

    def _below(self, prefix: str) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        for path, folders, files in os.walk(self._path(folder) if folder else self.root):
            folders[:] = [name for name in folders if not name.startswith(durable.PREFIX)]
            above = Path(path).relative_to(self.root).as_posix()
            keys = (name if above == "." else f"{above}/{name}" for name in files if not name.startswith(durable.PREFIX))
            yield from (key for key in keys if key.startswith(prefix))

    def _take(self, key: str, target: Path, data: bytes | Path, wanted: str, move: bool, later: set[Path] | None = None) -> None:
        """Have ``target`` hold ``data``; a file that was given up is gone afterwards. ``later`` as in `durable.create`."""
        while not self._reused(key, target, wanted):  # again only when a collector removed it between two looks
            with self._ready(target, data, wanted, move, later) as temporary:
                if durable.create(temporary, target, later):
                    break
        if move and isinstance(data, Path):
            data.unlink(missing_ok=True)

    def _reused(self, key: str, target: Path, wanted: str) -> bool:
        """Whether ``key`` holds the wanted bytes already, and a blob is safe from the collector."""
        try:
            there = file_digest(target)
        except FileNotFoundError:
            return False
        if there != wanted:
            raise conflict(self.uri(key), there, wanted)
        return not key.startswith(BLOBS) or not self.renew([key])

    @contextmanager
    def _ready(self, target: Path, data: bytes | Path, wanted: str, move: bool, later: set[Path] | None = None) -> Iterator[Path]:
        """A durable file on the store's own file system: the given one where it is given up, else a verified copy."""
        durable.make_folder(target.parent, later)
        if move and isinstance(data, Path) and (found := data.stat()).st_dev == self.root.stat().st_dev:
            if self._prepared.pop(data, None) != _stamp(found):
                durable.settle(data, MODE)
            yield data
            return
        with durable.staged(target, data, mode=MODE, within=self.root) as temporary:
            if file_digest(temporary) != wanted:
                said = f"{target.as_uri()}: the copy has other bytes than were to be written."
                raise Unavailable(said, fix="nobody may write to the file meanwhile; check the disk, then run again")
            yield temporary

    @contextmanager
    def _reachable(self, verb: str) -> Iterator[None]:
        """Turn the disk's complaints (full, read-only, no permission, no hard links) into `Unavailable`."""
        try:
            yield
        except durable.DiskFull:
            raise
        except OSError as error:
            links = error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) and error.filename2 is not None
            why = "its file system has no hard links" if links else os.strerror(error.errno or errno.EIO)
            raise Unavailable(
                f"Cannot {verb} in the object store {self.url}: {why}.",
                fix=f"df -h {self.root}; ls -ld {self.root}   # or set ZEBRA_OBJECT_STORE_URL to another place",
            ) from error


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """What tells a file from one that was written since."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
