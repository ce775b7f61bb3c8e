"""What every store behind a network has in common; how to speak to one is its subclass's (`_s3`, `_fsspec`).

A write is conditional and then read back to the end and hashed: some servers accept a wrong checksum. A lost reply makes a
client send a write again, and the second one meets the first: a refusal may be about *our own* write, so the bytes there
are compared. A read that breaks off half-way is begun again, three times. Downloads, and what was moved in, rest in a cache
that is trusted for content-addressed keys only.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from zebra_assets.adapters import durable, sweeping
from zebra_assets.adapters.object_store import THREADS, check_key, conflict, data_digest, in_parallel, nobody
from zebra_assets.contracts.digest import file_digest, sha256, stream_digest
from zebra_assets.contracts.names import safe_join
from zebra_assets.contracts.object_store import BLOBS, Blob, Entry, Leftover
from zebra_assets.errors import NotFound, Refused, Unavailable

TRIES, PAUSE_S = 3, 0.2
BATCH = 8 * THREADS  # blobs that share one claim
T = TypeVar("T")


class BrokenOff(Unavailable):
    """The answer began, and did not end."""


class RemoteStore(ABC):
    """Blobs below a URL. Subclasses raise `NotFound` for what is absent, `Unavailable` for what cannot be told."""

    conditional = True

    def __init__(self, url: str, *, cache: Path, endpoint_url: str | None = None) -> None:
        self.url, self.endpoint = url.rstrip("/"), endpoint_url
        # One folder per store, so that two stores with one key never share a cached file.
        self.cache = cache / sha256(f"{endpoint_url or ''} {self.url}".encode())[:16]

    @abstractmethod
    def _send(self, key: str, data: bytes | Path, *, overwrite: bool) -> bool:
        """Write; False when the key was taken, or another write to it got in the way."""

    @abstractmethod
    def _chunks(self, key: str) -> Iterator[bytes]:
        """The bytes of a key as the store has them now; `NotFound` where there are none."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is a blob."""

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `ObjectStore.entries`."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""

    @abstractmethod
    def leftovers(self) -> Iterator[Leftover]:
        """See `ObjectStore.leftovers`."""

    @abstractmethod
    def discard(self, leftover: Leftover) -> None:
        """See `ObjectStore.discard`."""

    def put(self, key: str, data: bytes | Path, *, overwrite: bool = False, digest: str | None = None, move: bool = False) -> str:
        """See `ObjectStore.put`."""
        return self._put(key, data, digest or data_digest(data), overwrite=overwrite, move=move)

    def put_many(self, blobs: Iterable[Blob], progress: Callable[[int], None] = nobody) -> list[str]:
        """See `ObjectStore.put_many`. What is there already is claimed by one document a batch, not one a blob."""
        uris: list[str] = []

        def one(each: tuple[Blob, bool]) -> tuple[str, int]:
            blob, found = each
            size = blob.path.stat().st_size
            return self._put(blob.key, blob.path, blob.digest, move=True, fresh=not found, claimed=found), size

        def send(batch: list[Blob]) -> None:
            there = list(in_parallel(lambda blob: self.exists(blob.key), batch))
            if any(there):
                self.renew(blob.key for blob, found in zip(batch, there, strict=True) if found)
            for uri, size in in_parallel(one, zip(batch, there, strict=True)):
                uris.append(uri)
                progress(size)

        batch: list[Blob] = []
        for blob in blobs:
            batch.append(blob)
            if len(batch) == BATCH:
                send(batch)
                batch = []
        send(batch)
        return uris

    def scratch(self) -> AbstractContextManager[Path]:
        """See `ObjectStore.scratch`: a folder in the cache."""
        durable.sweep(self.cache)
        return durable.scratch(self.cache)

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        return self._again(lambda: b"".join(self._chunks(key)))

    def digest(self, key: str) -> str | None:
        """See `ObjectStore.digest`; streamed."""
        try:
            return self._again(lambda: stream_digest(self._chunks(key)))
        except NotFound:
            return None

    def fetch(self, key: str) -> Path:
        """See `ObjectStore.fetch`. Only content-addressed keys are answered from the cache without asking the server."""
        target = self._cached(key)
        digest = Path(key).stem if key.startswith(BLOBS) else None
        if digest and target.is_file() and file_digest(target) == digest:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with durable.room(self.cache), durable.staged(target, b"", mode=0o644) as temporary:
            found = self._again(lambda: self._download(key, temporary))
            if digest and found != digest:
                said = f"{self.uri(key)} holds bytes with digest {found[:12]}, not {digest[:12]}."
                raise Refused(said, fix="remove the object, then ingest again")
            temporary.chmod(0o444)
            temporary.replace(target)
        return target

    def uri(self, key: str) -> str:
        """The store's URL with the key."""
        return f"{self.url}/{check_key(key)}"

    def create(self, key: str, data: bytes) -> bool | None:
        """See `ObjectStore.create`: clients try again by themselves, so a refusal may be about their own first try."""
        check_key(key)
        return self._send(key, data, overwrite=False) or None

    def renew(self, keys: Iterable[str]) -> list[str]:
        """See `ObjectStore.renew`: the keys are claimed."""
        wanted = list(keys)
        if not wanted:
            return []
        sweeping.claim(self, wanted)
        sweeping.wait_for_sweep(self)
        return [key for key, found in zip(wanted, in_parallel(self.exists, wanted), strict=True) if not found]

    def list(self, prefix: str) -> Iterator[str]:
        """See `ObjectStore.list`."""
        return (entry.key for entry in self.entries(prefix))

    def _put(
        self,
        key: str,
        data: bytes | Path,
        wanted: str,
        *,
        overwrite: bool = False,
        move: bool = False,
        fresh: bool = False,
        claimed: bool = False,
    ) -> str:
        """`put`; ``fresh`` when the key was just seen to be free, ``claimed`` when it was just renewed."""
        uri = self.uri(key)
        for _ in range(TRIES):  # a refusal means another write was under way, which may yet fail: then ours is due
            if not (overwrite or fresh) and self._reused(key, data, wanted, claimed):
                break
            if self._send(key, data, overwrite=overwrite):
                self._read_back(key, wanted)
                break
            fresh = claimed = False
        else:
            raise Unavailable(f"{uri} was refused {TRIES} times and is not there either.", fix="check the server's logs, then run again")
        if move and isinstance(data, Path):
            self._keep(key, data)
        return uri

    def _reused(self, key: str, data: bytes | Path, wanted: str, claimed: bool) -> bool:
        """Whether ``key`` holds the wanted bytes already, and a blob is safe from the collector."""
        same = self._says(key, data)
        if same is None:
            return False
        if not same and (there := self.digest(key)) != wanted:
            if there is None:
                return False
            raise conflict(self.uri(key), there, wanted)
        return claimed or not key.startswith(BLOBS) or not self.renew([key])

    def _says(self, key: str, data: bytes | Path) -> bool | None:
        """Whether the server itself knows that ``key`` holds these bytes. False sends us to read them; None: it is absent."""
        return False if self.exists(key) else None

    def _read_back(self, key: str, wanted: str) -> None:
        there = self.digest(key)
        if there is None:
            raise Unavailable(f"{self.uri(key)} was written but cannot be read back.", fix="check the server's logs, then run again")
        if there != wanted:
            raise conflict(self.uri(key), there, wanted)

    def _download(self, key: str, into: Path) -> str:
        with into.open("wb") as out:
            return stream_digest(_written(self._chunks(key), out.write))

    def _keep(self, key: str, data: Path) -> None:
        """What was moved in and verified is the cached copy, where it lies on the cache's disk; given up in any case."""
        target = self._cached(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if data.stat().st_dev == target.parent.stat().st_dev:
            data.chmod(0o444)
            data.replace(target)
        else:
            data.unlink()

    def _cached(self, key: str) -> Path:
        return safe_join(self.cache, *check_key(key).split("/"))

    def _again(self, read: Callable[[], T]) -> T:
        """A read, begun again when it broke off: clients retry a request by themselves, but not a body half read."""
        for pause in range(1, TRIES):
            try:
                return read()
            except BrokenOff:
                time.sleep(PAUSE_S * pause)
        return read()


def _written(chunks: Iterable[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        write(chunk)
        yield chunk
