"""Opens the store a URL names, and holds what all stores share: which keys are legal, how errors read, many puts at once.

`FileStore` lives in `object_store_file`, S3 in `object_store_s3`, everything else by fsspec in `object_store_fsspec`. All
write conditionally: a key that is taken by the same bytes is a success, by other bytes a `Conflict`; nothing else in the
house needs a lock to write a blob. Knows no manifests.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from zebra_assets.adapters import durable
from zebra_assets.contracts.digest import file_digest, sha256
from zebra_assets.contracts.object_store import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Refused, UsageError

# 459 files of 2.2 MB, each with its own fsync, on ext4: 2.6 s one after another, 0.6 s by 4 threads, 0.5 s by 16, and
# 0.7-0.9 s with one syncfs at the end, which flushes other people's files too. Small ones (20 kB): 0.5 s, 0.2 s, 0.2 s.
THREADS = 8
READ_ONLY = ("http", "https", "data", "github", "git", "zip", "tar", "memory", "generic", "reference")
A = TypeVar("A")
B = TypeVar("B")


def open_store(url: str, *, cache: Path, endpoint_url: str | None = None) -> ObjectStore:
    """The store at ``url``.

    Args:
        url: ``file:///folder``, ``s3://bucket/prefix``, or ``gs://``, ``abfs://`` and whatever else fsspec can write to.
        cache: folder for downloads; the file store needs none.
        endpoint_url: S3 server that is not AWS.

    Raises:
        UsageError: no such kind of store, or no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path:
        from zebra_assets.adapters.object_store_file import FileStore

        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        from zebra_assets.adapters.object_store_s3 import S3Store

        return S3Store(parts.netloc, unquote(parts.path).strip("/"), cache=cache, endpoint_url=endpoint_url)
    if parts.netloc and parts.scheme not in ("", "file", "s3", *READ_ONLY):
        from zebra_assets.adapters.object_store_fsspec import open_fsspec

        return open_fsspec(url, cache=cache)
    raise no_store(url)


def no_store(url: str) -> UsageError:
    """The error for a URL that names no store we can open."""
    return UsageError(
        f"Object store URL {url!r} is neither file:///folder nor s3://bucket/prefix, nor one that fsspec can write to.",
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


def in_parallel(work: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """``work`` of each item, in order, by a few threads. Items are taken as places come free; the first error ends it."""
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zebra-store")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def nobody(_: int) -> None:
    """Progress for nobody."""
