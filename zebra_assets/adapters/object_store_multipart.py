"""Large blobs go to S3 in parts; an interrupted upload is continued by whoever puts the same blob next.

A part that is there already is kept when its size and md5 are those of ours. An upload that failed stays open for that; the
collector aborts those older than its grace period, since open parts cost money and no listing shows them. Called by
`object_store_s3` only, which turns boto3's errors into ours and reads the whole back.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zebra_assets.adapters.object_store import in_parallel

THRESHOLD = 64 << 20
PART, MOST_PARTS = 16 << 20, 9_000  # S3 takes 10,000 parts of 5 MiB to 5 GiB: 16 MiB up to 140 GB, larger ones beyond
THREADS = 4  # so an upload holds at most 4 parts, 64 MB, in memory
TAKEN = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}
GONE = {"NoSuchUpload"}


@dataclass
class Answer:
    """What a conditional write was told."""

    taken: bool = False
    gone: bool = False


@contextmanager
def refusal() -> Iterator[Answer]:
    """Note a refused condition, or an upload that somebody completed or aborted; other errors pass."""
    from botocore.exceptions import ClientError

    answer = Answer()
    try:
        yield answer
    except ClientError as error:
        code = error.response["Error"]["Code"]
        answer.taken, answer.gone = code in TAKEN, code in GONE
        if not (answer.taken or answer.gone):
            raise


def upload(client: Any, bucket: str, key: str, path: Path, *, condition: dict[str, str], resume: bool) -> bool:
    """Put a file in parts.

    Args:
        condition: ``{"IfNoneMatch": "*"}`` or nothing; asked when the parts are put together.
        resume: continue an upload of the key that is open, and leave ours open if it fails.

    Returns:
        False when the key was taken, or the upload was completed or aborted by somebody else meanwhile.
    """
    at = {"Bucket": bucket, "Key": key}
    size = path.stat().st_size
    cut = part_size(size)
    opened = _open_upload(client, at) if resume else None
    at["UploadId"] = opened or client.create_multipart_upload(**at)["UploadId"]
    try:
        with refusal() as answer:
            have = set(_parts(client, at)) if opened else set()
            send = partial(_send, client, at, path, cut, have)
            parts = list(in_parallel(send, range(1, max(1, -(-size // cut)) + 1), THREADS))
            client.complete_multipart_upload(**at, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        if not resume:
            abort(client, bucket, key, at["UploadId"])
        raise
    if answer.taken:
        abort(client, bucket, key, at["UploadId"])
    return not (answer.taken or answer.gone)


def abort(client: Any, bucket: str, key: str, upload_id: str) -> None:
    """Give an upload up; nothing happens where it is gone."""
    with refusal():
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


def unfinished(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Uploads below ``prefix`` that nobody completed, as S3 lists them, with their ``bytes`` so far."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Uploads", []):
            with refusal() as answer:
                parts = _parts(client, {"Bucket": bucket, "Key": found["Key"], "UploadId": found["UploadId"]})
            if not answer.gone:
                yield {**found, "bytes": sum(size for _, size, _ in parts)}


def etag(path: Path, *, whole: bool) -> str:
    """The ETag S3 gives a file: the md5 of its bytes, or where it came in parts, of its parts' md5s, and their number."""
    if whole:
        with path.open("rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest()
    size = path.stat().st_size
    cut = part_size(size)
    count = max(1, -(-size // cut))
    digests = b"".join(_md5(_read(path, number, cut)).digest() for number in range(1, count + 1))
    return f"{_md5(digests).hexdigest()}-{count}"


def part_size(size: int) -> int:
    """Bytes of each part but the last. By the size alone, so that the next one to try cuts alike."""
    least = -(-size // MOST_PARTS)
    return max(PART, -(-least // (1 << 20)) << 20)


def _open_upload(client: Any, at: dict[str, str]) -> str | None:
    """The newest open upload of exactly this key."""
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=at["Bucket"], Prefix=at["Key"])
    found = [u for page in pages for u in page.get("Uploads", []) if u["Key"] == at["Key"]]
    return max(found, key=lambda u: u["Initiated"])["UploadId"] if found else None


def _parts(client: Any, at: dict[str, str]) -> list[tuple[int, int, str]]:
    """Number, size and ETag of the parts that are there. Some servers list a part that was sent again once for each."""
    pages = client.get_paginator("list_parts").paginate(**at)
    return [(p["PartNumber"], p["Size"], p["ETag"].strip('"')) for page in pages for p in page.get("Parts", [])]


def _send(client: Any, at: dict[str, str], path: Path, cut: int, have: set[tuple[int, int, str]], number: int) -> dict[str, Any]:
    body = _read(path, number, cut)
    mine = _md5(body).hexdigest()
    if (number, len(body), mine) in have:
        return {"PartNumber": number, "ETag": mine}
    return {"PartNumber": number, "ETag": client.upload_part(**at, PartNumber=number, Body=body)["ETag"]}


def _read(path: Path, number: int, cut: int) -> bytes:
    with path.open("rb") as file:
        file.seek((number - 1) * cut)
        return file.read(cut)


_md5 = partial(hashlib.md5, usedforsecurity=False)  # S3's own fingerprint of a part, not ours: ours is sha256 of the whole
