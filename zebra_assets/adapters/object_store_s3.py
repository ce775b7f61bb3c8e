"""Blobs in an S3 bucket, with conditional writes (If-None-Match: *) and read-back verification.

A lost reply makes boto3 send a PUT again, and the second one meets the first: 412 or 409 may be *our own* write, so the
bytes are read back and compared. Some servers accept a wrong checksum or ignore the condition; `mlops doctor` probes the
latter, and the read-back catches the former. Opened by `object_store.open_store` only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zebra_assets.adapters import durable
from zebra_assets.adapters.object_store import absent, check_key, conflict, data_digest
from zebra_assets.contracts.digest import file_digest, sha256, stream_digest
from zebra_assets.contracts.names import safe_join
from zebra_assets.errors import NotFound, Refused, Unavailable

MISSING = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}
MAX_PUT = 5 * 1024**3  # S3's limit for a single PUT; multipart uploads cannot be conditional everywhere
CONTENT = "blobs/sha256/"


class S3Store:
    """Blobs below ``s3://bucket/prefix``; credentials come from boto3's own chain."""

    def __init__(self, bucket: str, prefix: str, *, cache: Path, endpoint_url: str | None = None) -> None:
        self.bucket, self.prefix, self.endpoint = bucket, prefix, endpoint_url
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        # One folder per store, so that two stores with one key never share a cached file.
        self.cache = cache / sha256(f"{endpoint_url or ''} {self.url}".encode())[:16]
        self._client: Any = None

    def put(self, key: str, data: bytes | Path, *, overwrite: bool = False) -> str:
        """See `ObjectStore.put`."""
        uri, wanted = self.uri(key), data_digest(data)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if size > MAX_PUT:
            raise Refused(f"{uri}: {size:,} bytes exceed the 5 GiB of one S3 PUT.", fix="split the dataset, or use a file:// store")
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        for _ in range(3):  # 409 means another conditional write was under way, which may yet fail: then ours is due
            if not overwrite and (there := self.digest(key)) is not None:
                return self._same(uri, there, wanted)
            if self._send(key, data, condition):
                break
        there = self.digest(key)
        if there is None:
            raise Unavailable(f"{uri} was written but cannot be read back.", fix="check the S3 server's logs, then run again")
        return self._same(uri, there, wanted)

    def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        with self._reachable(key):
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
            return body

    def fetch(self, key: str) -> Path:
        """See `ObjectStore.fetch`. Only content-addressed keys are answered from the cache without asking the server."""
        target = safe_join(self.cache, *check_key(key).split("/"))
        digest = Path(key).stem if key.startswith(CONTENT) else None
        if digest and target.is_file() and file_digest(target) == digest:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with durable.staged(target, b"", mode=0o644) as temporary, self._reachable(key):
            self.client.download_file(self.bucket, self._key(key), str(temporary))
            if digest and (found := file_digest(temporary)) != digest:
                said = f"{self.uri(key)} holds bytes with digest {found[:12]}, not {digest[:12]}."
                raise Refused(said, fix="remove the object, then ingest again")
            temporary.chmod(0o444)
            temporary.replace(target)
        return target

    def exists(self, key: str) -> bool:
        """Whether there is a blob."""
        try:
            with self._reachable(key):
                self.client.head_object(Bucket=self.bucket, Key=self._key(key))
        except NotFound:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted (S3 lists in byte order of UTF-8)."""
        cut = len(self.prefix) + 1 if self.prefix else 0
        with self._reachable(prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._below(prefix))
            keys = [item["Key"][cut:] for page in pages for item in page.get("Contents", [])]
        return iter(sorted(keys))

    def uri(self, key: str) -> str:
        """``s3://`` URI of a key."""
        return f"{self.url}/{check_key(key)}"

    @property
    def client(self) -> Any:
        """The boto3 client, made on first use: importing boto3 takes 0.2 s."""
        if self._client is None:
            import boto3
            from botocore.config import Config

            config = Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"max_attempts": 3, "mode": "standard"},
                # Newer checksum trailers are refused by several S3 servers; the read-back verifies instead.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
            self._client = boto3.session.Session().client("s3", endpoint_url=self.endpoint, config=config)
        return self._client

    def _below(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _key(self, key: str) -> str:
        return self._below(check_key(key))

    def _same(self, uri: str, there: str, wanted: str) -> str:
        if there != wanted:
            raise conflict(uri, there, wanted)
        return uri

    def digest(self, key: str) -> str | None:
        """See `ObjectStore.digest`; streamed."""
        try:
            with self._reachable(key):
                body = self.client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"]
                return stream_digest(body.iter_chunks(durable.CHUNK))
        except NotFound:
            return None

    def _send(self, key: str, data: bytes | Path, condition: dict[str, str]) -> bool:
        """One PUT; False when the condition did not hold."""
        from botocore.exceptions import ClientError

        with self._reachable(key):
            try:
                if isinstance(data, Path):
                    with data.open("rb") as body:
                        self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=body, **condition)
                else:
                    self.client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] in TAKEN:
                    return False
                raise
        return True

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
