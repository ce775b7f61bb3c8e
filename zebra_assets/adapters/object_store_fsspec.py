"""Blobs wherever fsspec can write: Google (`gs://`), Azure (`abfs://`), SFTP and more. Opened by `open_store` only.

Google, Azure and S3 refuse a write to a taken key themselves: fsspec's ``mode="create"`` is `ifGenerationMatch=0`,
`If-None-Match: *` and `IfNoneMatch` there. Elsewhere we look first, write under a temporary name and rename: nothing is
half-visible, but of two writers at the same moment both may believe to be first; `mlops doctor` warns. What every remote
store does is in `object_store_remote`.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zebra_assets.adapters import durable
from zebra_assets.adapters.object_store import absent, check_key, no_store
from zebra_assets.adapters.object_store_remote import BrokenOff, RemoteStore
from zebra_assets.contracts.object_store import Entry, Leftover
from zebra_assets.errors import Unavailable, UsageError, ZebraError

CREATES = {"gs", "gcs", "abfs", "abfss", "az", "s3", "s3a"}
EXTRAS = {"gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
MODIFIED = ("mtime", "last_modified", "LastModified", "updated", "modified")  # s3fs, gcsfs, adlfs, sftp and local, each its own word
_making = threading.Lock()


def open_fsspec(url: str, *, cache: Path) -> "FsspecStore":
    """The store at ``url``; its file system is opened on first use.

    Raises:
        UsageError: fsspec knows no such protocol.
    """
    import fsspec

    protocol = url.partition("://")[0]
    if protocol not in fsspec.available_protocols():
        raise no_store(url)
    return FsspecStore(url, cache=cache)


class FsspecStore(RemoteStore):
    """Blobs below a URL.

    Args:
        url: as fsspec spells it; credentials come from the file system's own chain, or fsspec's configuration.
        make: another way to open the file system: answers it, and the path of the root.
    """

    def __init__(self, url: str, *, cache: Path, make: Callable[[], tuple[Any, str]] | None = None) -> None:
        super().__init__(url, cache=cache)
        self._make = make
        self._opened: tuple[Any, str] | None = None
        self.conditional = url.partition("://")[0] in CREATES

    def __getstate__(self) -> dict[str, Any]:
        """A worker on another machine opens its own file system."""
        return {**self.__dict__, "_opened": None}

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        with self._reachable(key):
            return bool(self.fs.isfile(self._path(key)))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `ObjectStore.entries`."""
        found = (Entry(key, info["size"] or 0, _modified(info)) for key, info in self._below(prefix) if not _temporary(key))
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._reachable(key), suppress(FileNotFoundError):
            self.fs.rm_file(self._path(key))

    def leftovers(self) -> Iterator[Leftover]:
        """See `ObjectStore.leftovers`."""
        for key, info in self._below(""):
            if _temporary(key):
                yield Leftover("temporary file", key, info["size"] or 0, _modified(info))

    def discard(self, leftover: Leftover) -> None:
        """See `ObjectStore.discard`."""
        with self._reachable(leftover.name), suppress(FileNotFoundError):
            self.fs.rm_file(self._at(leftover.name))

    @property
    def fs(self) -> Any:
        """The file system, without its cache of listings: another process writes here too."""
        return self._open()[0]

    @property
    def _root(self) -> str:
        return self._open()[1].rstrip("/")

    def _open(self) -> tuple[Any, str]:
        with _making:
            if self._opened is None:
                import fsspec

                make = self._make or (lambda: fsspec.core.url_to_fs(self.url, use_listings_cache=False))
                try:
                    self._opened = make()
                except ImportError as error:
                    protocol = self.url.partition("://")[0]
                    extra = f"pip install 'zebraops[{EXTRAS[protocol]}]'" if protocol in EXTRAS else "pip install it"
                    raise UsageError(f"{self.url} needs a package that is not installed: {error}", fix=extra) from error
        return self._opened

    def _send(self, key: str, data: bytes | Path, *, overwrite: bool) -> bool:
        path = self._path(key)
        with self._reachable(key, writing=True):
            if self.conditional:
                return self._write(path, data, mode="overwrite" if overwrite else "create")
            if not overwrite and self.fs.exists(path):
                return False
            temporary = self._at(f"{durable.PREFIX}{secrets.token_hex(12)}")
            self.fs.makedirs(self.fs._parent(path), exist_ok=True)
            self._write(temporary, data, mode="overwrite")
            self.fs.mv(temporary, path)
        return True

    def _write(self, path: str, data: bytes | Path, *, mode: str) -> bool:
        try:
            if isinstance(data, Path):
                self.fs.put_file(str(data), path, mode=mode)
            else:
                self.fs.pipe_file(path, data, mode=mode)
        except FileExistsError:
            return False
        except OSError as error:  # s3fs says EINVAL; what the server said is its cause
            response = getattr(error.__cause__, "response", None) or {}
            if response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return False
            raise
        return True

    def _chunks(self, key: str) -> Iterator[bytes]:
        with self._reachable(key):
            file = self.fs.open(self._path(key), "rb")
        with file:
            while True:
                try:
                    chunk = file.read(durable.CHUNK)
                except Exception as error:
                    raise BrokenOff(f"Reading {self.uri(key)} broke off: {error}", fix="check the network, then run again") from error
                if not chunk:
                    return
                yield chunk

    def _below(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        folder = prefix.rpartition("/")[0]
        with self._reachable(prefix):
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(self._at(folder) if folder else self._root, detail=True)
            except FileNotFoundError:
                found = {}
        above = f"{self._root}/" if self._root else ""
        keys = ((path.removeprefix(above), info) for path, info in found.items())
        return ((key, info) for key, info in keys if key.startswith(prefix))

    def _path(self, key: str) -> str:
        return self._at(check_key(key))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    @contextmanager
    def _reachable(self, key: str, *, writing: bool = False) -> Iterator[None]:
        """Turn whatever a file system's own library raises into ours: absent, or unknown because it cannot be asked."""
        try:
            yield
        except ZebraError:
            raise
        except Exception as error:
            if isinstance(error, FileNotFoundError) and not writing:
                raise absent(f"{self.url}/{key}") from error
            raise Unavailable(
                f"Object store {self.url} cannot be used: {type(error).__name__}: {error}",
                fix="correct ZEBRA_OBJECT_STORE_URL and the credentials, then: mlops doctor",
            ) from error


def _temporary(key: str) -> bool:
    return any(part.startswith(durable.PREFIX) for part in key.split("/"))


def _modified(info: dict[str, Any]) -> datetime:
    """When a file was written, as its file system tells it: a moment, or seconds. Where none is told it counts as new."""
    when = next((info[word] for word in MODIFIED if info.get(word) is not None), None)
    if isinstance(when, int | float):
        return datetime.fromtimestamp(when, UTC)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if when is None:
        return datetime.now(UTC)
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
