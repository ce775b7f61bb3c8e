"""Planted bugs: stores as they are written when nobody thinks of crashes. The harnesses of this room must catch each.

Everything else of them is the real store's, so what a harness sees is the one mistake.
"""

import contextlib
import time
from pathlib import Path
from typing import Any

from zebra_assets.adapters.object_store_file import FileStore
from zebra_assets.adapters.object_store_s3 import S3Store
from zebra_assets.errors import Unavailable


class NaiveFiles(FileStore):
    """Opens the final name and writes, a kilobyte at a time with two milliseconds between: a slow disk."""

    def put(self, key: str, data: bytes | Path, **_: Any) -> str:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            body = data.read_bytes() if isinstance(data, Path) else data
            with target.open("wb", buffering=0) as out:
                for start in range(0, len(body), 1024):
                    out.write(body[start : start + 1024])
                    time.sleep(0.002)
        return self.uri(key)

    def put_many(self, blobs: Any, progress: Any = lambda _: None) -> list[str]:
        return [self.put(blob.key, blob.path) for blob in blobs]


class FireAndForget(S3Store):
    """Keeps what it is given in the cache, sends it once, and takes the cache's word for what the server has."""

    def __init__(self, bucket: str, prefix: str, *, cache: Path, endpoint_url: str) -> None:
        import boto3
        from botocore.config import Config

        super().__init__(bucket, prefix, cache=cache, endpoint_url=endpoint_url)
        once = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
        self._client = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=once)

    def _put(self, key: str, data: bytes | Path, wanted: str, **_: Any) -> str:
        cached = self._cached(key)
        cached.parent.mkdir(parents=True, exist_ok=True)
        body = data.read_bytes() if isinstance(data, Path) else data
        cached.write_bytes(body)
        with contextlib.suppress(Unavailable):  # it will have arrived
            self._send(key, body, overwrite=True)
        return self.uri(key)

    def exists(self, key: str) -> bool:
        return self._cached(key).exists() or super().exists(key)

    def fetch(self, key: str) -> Path:
        return cached if (cached := self._cached(key)).exists() else super().fetch(key)
