"""Blobs in an S3 bucket, by boto3: conditional writes (If-None-Match: *), large blobs in parts. Opened by `open_store` only.

Some servers ignore the condition; `mlops doctor` probes it. What every remote store does is in `object_store_remote`.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Any

from zebra_assets.adapters import durable
from zebra_assets.adapters import object_store_multipart as multipart
from zebra_assets.adapters.object_store import absent, check_key
from zebra_assets.adapters.object_store_remote import BrokenOff, RemoteStore
from zebra_assets.contracts.object_store import BLOBS, Entry, Leftover
from zebra_assets.errors import NotFound, Unavailable

MISSING = {"404", "NoSuchKey", "NotFound"}
_making = threading.Lock()


class S3Store(RemoteStore):
    """Blobs below ``s3://bucket/prefix``; credentials come from boto3's own chain."""

    def __init__(self, bucket: str, prefix: str, *, cache: Path, endpoint_url: str | None = None) -> None:
        super().__init__(f"s3://{bucket}/{prefix}", cache=cache, endpoint_url=endpoint_url)
        self.bucket, self.prefix = bucket, prefix
        self._client: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """A worker on another machine makes its own client."""
        return {**self.__dict__, "_client": None}

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        return self._head(key) is not None

    def entries(self, prefix: str) -> Iterator[Entry]:
        """See `ObjectStore.entries` (S3 lists in byte order of UTF-8)."""
        cut = len(self.prefix) + 1 if self.prefix else 0
        with self._reachable(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._below(prefix))
            found = [
                Entry(o["Key"][cut:], o["Size"], o["LastModified"].astimezone(UTC)) for page in pages for o in page.get("Contents", [])
            ]
        return iter(sorted(found))

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        with self._reachable(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def leftovers(self) -> Iterator[Leftover]:
        """See `ObjectStore.leftovers`: uploads in parts that nobody completed."""
        with self._reachable(""):
            for upload in multipart.unfinished(self.client, self.bucket, self._below("")):
                yield Leftover(
                    "unfinished upload", f"{upload['Key']} {upload['UploadId']}", upload["bytes"], upload["Initiated"].astimezone(UTC)
                )

    def discard(self, leftover: Leftover) -> None:
        """See `ObjectStore.discard`."""
        key, _, upload = leftover.name.rpartition(" ")
        with self._reachable(key):
            multipart.abort(self.client, self.bucket, key, upload)

    @property
    def client(self) -> Any:
        """The boto3 client, made on first use: importing boto3 takes 0.2 s."""
        with _making:
            if self._client is None:
                import boto3
                from botocore.config import Config

                config = Config(
                    connect_timeout=5,
                    read_timeout=60,
                    max_pool_connections=32,
                    # A server that is away is told so after 4 attempts, some 4 s; six would take 15 s.
                    retries={"total_max_attempts": 4, "mode": "standard"},
                    # Newer checksum trailers are refused by several S3 servers; the read-back verifies instead.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._client = boto3.session.Session().client("s3", endpoint_url=self.endpoint, config=config)
            return self._client

    def create_in_parts(self, key: str, data: Path) -> bool:
        """As `create`, the way large files go; the doctor asks whether the server minds the condition there, too."""
        with self._reachable(key):
            return multipart.upload(self.client, self.bucket, self._key(key), data, condition={"IfNoneMatch": "*"}, resume=False)

    def _send(self, key: str, data: bytes | Path, *, overwrite: bool) -> bool:
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        with self._reachable(key):
            if isinstance(data, Path) and data.stat().st_size > multipart.THRESHOLD:
                # Only a content-addressed key promises that parts left by somebody else are parts of these bytes.
                resume = key.startswith(BLOBS) and not overwrite
                return multipart.upload(self.client, self.bucket, self._key(key), data, condition=condition, resume=resume)
            with multipart.refusal() as answer:
                if isinstance(data, Path):
                    with data.open("rb") as body:
                        self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=body, **condition)
                else:
                    self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, **condition)
        return not answer.taken

    def _chunks(self, key: str) -> Iterator[bytes]:
        from botocore.exceptions import HTTPClientError, IncompleteReadError
        from urllib3.exceptions import HTTPError

        try:
            with self._reachable(key):
                body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
            yield from body.iter_chunks(durable.CHUNK)
        # botocore lets urllib3's own error out when the text of a 404 breaks off.
        except (HTTPClientError, IncompleteReadError, HTTPError) as error:
            raise BrokenOff(f"Reading {self.uri(key)} broke off: {error}", fix="check the network, then run again") from error

    def _says(self, key: str, data: bytes | Path) -> bool | None:
        """The ETag is the md5 the server computed of what it received (not where it encrypts with its own keys)."""
        head = self._head(key)
        if head is None:
            return None
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if head["ContentLength"] != size:
            return False
        if isinstance(data, bytes):
            expected = hashlib.md5(data, usedforsecurity=False).hexdigest()
        else:
            expected = multipart.etag(data, whole="-" not in head["ETag"])
        return bool(head["ETag"].strip('"') == expected)

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            with self._reachable(key):
                head: dict[str, Any] = self.client.head_object(Bucket=self.bucket, Key=self._key(key))
                return head
        except NotFound:
            return None

    def _below(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _key(self, key: str) -> str:
        return self._below(check_key(key))

    @contextmanager
    def _reachable(self, key: str) -> Iterator[None]:
        """Turn boto3's errors into ours: absent, or unknown because the server cannot be asked."""
        from botocore.exceptions import BotoCoreError, ClientError

        at = f" at {self.endpoint}" if self.endpoint else ""
        try:
            yield
        except ClientError as error:
            code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code in MISSING:
                raise absent(f"{self.url}/{key}") from error
            fix = f"aws s3 mb s3://{self.bucket}" if code == "NoSuchBucket" else f"check the credentials, then: aws s3 ls {self.url}/"
            raise Unavailable(f"Object store {self.url}{at} answered {code}: {said}", fix=fix) from error
        except BotoCoreError as error:
            raise Unavailable(
                f"Object store {self.url}{at} cannot be used: {error}",
                fix="start the S3 server, or correct ZEBRA_OBJECT_STORE_URL, ZEBRA_S3_ENDPOINT_URL and the AWS_* credentials",
            ) from error
