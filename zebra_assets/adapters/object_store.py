"""Blobs by key: `open_store` picks the store a URL names, and `FileStore` keeps blobs in a folder.

The S3 store lives next door in `object_store_s3`. Both write conditionally: a key that is taken by the same bytes is a
success, by other bytes a `Conflict`; nothing else in the house needs a lock to write a blob. Knows no manifests.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zebra_assets.adapters import durable
from zebra_assets.contracts.digest import file_digest, sha256
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Refused, Unavailable, UsageError


def open_store(url: str, *, cache: Path, endpoint_url: str | None = None) -> ObjectStore:
    """The store at ``url``.

    Args:
        url: ``file:///folder`` or ``s3://bucket/prefix``.
        cache: folder for downloads; the file store needs none.
        endpoint_url: S3 server that is not AWS.

    Raises:
        UsageError: another scheme, or no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from zebra_assets.adapters.object_store_s3 import S3Store

        return S3Store(parts.netloc, unquote(parts.path).strip("/"), cache=cache, endpoint_url=endpoint_url)
    raise UsageError(
        f"Object store URL {url!r} is neither file:///folder nor s3://bucket/prefix.",
        fix="export ZEBRA_OBJECT_STORE_URL=s3://my-bucket/zebra   # or unset it: files below .zebraops/objects",
    )


def check_key(key: str) -> str:
    """Return ``key`` if it names a blob below the store's root, else raise `Refused`."""
    parts = key.split("/")
    if "\x00" in key or "\\" in key or len(key.encode()) > 900 or any(p in ("", ".", "..") or p.startswith(durable.PREFIX) for p in parts):
        raise Refused(f"Object key {key!r} was refused.", fix="use a relative key such as 'reports/churn/evaluation.html'")
    return key


def conflict(uri: str, there: str, wanted: str) -> Conflict:
    """The error for a key that holds other bytes."""
    return Conflict(
        f"{uri} holds other bytes ({there[:12]}) than the ones to be written ({wanted[:12]}); it was left alone.",
        fix="if the stored object is wrong, move it away by hand and run the command again",
    )


def absent(uri: str) -> NotFound:
    """The error for a key without a blob."""
    fix = "ingest or train again, or point ZEBRA_OBJECT_STORE_URL at the store that has it"
    return NotFound(f"{uri} is not in the object store.", fix=fix)


def data_digest(data: bytes | Path) -> str:
    """sha256 of what is to be written."""
    return file_digest(data) if isinstance(data, Path) else sha256(data)


class FileStore:
    """Blobs as read-only files in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()  # safe_join answers with resolved paths, and list() compares the two
        self.url = self.root.as_uri()
        if self.root.is_dir():
            durable.sweep(self.root)

    def put(self, key: str, data: bytes | Path, *, overwrite: bool = False) -> str:
        """See `ObjectStore.put`."""
        target, uri = self._path(key), self.uri(key)
        with self._reachable("write"):
            wanted = data_digest(data)
            if not overwrite and target.exists():
                return self._same(target, uri, wanted)
            with durable.staged(target, data, mode=0o444) as temporary:
                written = file_digest(temporary)
                if written != wanted:
                    raise Unavailable(f"{uri}: the disk gave back other bytes than were written.", fix="check the disk, then run again")
                if overwrite:
                    temporary.replace(target)
                    durable.sync_folder(target.parent)
                elif not durable.create(temporary, target):
                    return self._same(target, uri, wanted)
        return uri

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

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted. A prefix is text, not a folder: ``a/b`` finds ``a/bc`` too."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self.root
        keys = (p.relative_to(self.root).as_posix() for p in start.rglob("*") if not p.name.startswith(durable.PREFIX) and p.is_file())
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def uri(self, key: str) -> str:
        """``file://`` URI of a key."""
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        return safe_join(self.root, *check_key(key).split("/"))

    def _same(self, target: Path, uri: str, wanted: str) -> str:
        there = file_digest(target)
        if there != wanted:
            raise conflict(uri, there, wanted)
        return uri

    @contextmanager
    def _reachable(self, verb: str) -> Iterator[None]:
        """Turn the disk's complaints (full, read-only, no permission, no hard links) into `Unavailable`."""
        try:
            yield
        except OSError as error:
            links = error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) and error.filename2 is not None
            why = "its file system has no hard links" if links else os.strerror(error.errno or errno.EIO)
            raise Unavailable(
                f"Cannot {verb} in the object store {self.url}: {why}.",
                fix=f"df -h {self.root}; ls -ld {self.root}   # or set ZEBRA_OBJECT_STORE_URL to another place",
            ) from error
