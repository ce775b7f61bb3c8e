"""Large blobs go to S3 in parts, are continued where they stopped, and are never half there."""

import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from tests.adapters.s3_servers import client, credentials, weed
from tests.faults.proxy import FaultProxy
from zebra_assets.adapters import object_store_multipart as multipart
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.digest import file_digest, sha256
from zebra_assets.contracts.object_store import blob_key
from zebra_assets.errors import Conflict, Unavailable

__all__ = ["credentials", "weed"]  # fixtures

PART = 5 << 20  # the least S3 takes


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh place in the bucket; parts are small, so that 22 MB are five."""
    monkeypatch.setattr(multipart, "THRESHOLD", PART)
    monkeypatch.setattr(multipart, "PART", PART)
    monkeypatch.setattr(multipart, "THREADS", 1)
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blob") / "blob"
    path.write_bytes(os.urandom(22_000_000))
    return path


@pytest.fixture(scope="module")
def key(blob: Path) -> str:
    return blob_key(file_digest(blob))


def store_at(endpoint: str, prefix: str, folder: Path) -> Any:
    return open_store(f"s3://lake/{prefix}", cache=folder / uuid.uuid4().hex, endpoint_url=endpoint)


def sent_parts(store: Any, *, dies_at: int = 99) -> list[int]:
    """The numbers of the parts that ``store`` sends from now on; it is cut off at one."""
    sent: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        number = int(params["query_string"]["partNumber"])
        if number >= dies_at:
            raise NoCredentialsError  # unlike a lost connection, not retried for seconds
        sent.append(number)

    store.client.meta.events.register("before-call.s3.UploadPart", note)
    return sent


def open_uploads(endpoint: str, prefix: str) -> list[Any]:
    return list(multipart.unfinished(client(endpoint), "lake", prefix))


def test_a_large_blob_arrives_whole_and_leaves_no_upload_open(weed: str, prefix: str, blob: Path, key: str, tmp_path: Path) -> None:
    store = store_at(weed, prefix, tmp_path)
    sent = sent_parts(store)
    store.put(key, blob)
    store.put(key, blob)
    assert sent == [1, 2, 3, 4, 5]
    assert store.digest(key) == file_digest(blob) == file_digest(store.fetch(key))
    assert open_uploads(weed, prefix) == []
    with pytest.raises(Conflict):
        store.put(key, b"other")


def test_an_interrupted_upload_is_continued_by_whoever_comes_next(weed: str, prefix: str, blob: Path, key: str, tmp_path: Path) -> None:
    first = store_at(weed, prefix, tmp_path)
    sent_parts(first, dies_at=3)
    with pytest.raises(Unavailable):
        first.put(key, blob)
    assert not first.exists(key)
    (upload,) = open_uploads(weed, prefix)
    assert upload["bytes"] == 2 * PART
    client(weed).upload_part(Bucket="lake", Key=upload["Key"], UploadId=upload["UploadId"], PartNumber=3, Body=b"x" * PART)
    second = store_at(weed, prefix, tmp_path)
    sent = sent_parts(second)
    second.put(key, blob)
    assert sent == [3, 4, 5], "the part that holds other bytes, and those that were missing"
    assert second.digest(key) == file_digest(blob)
    assert open_uploads(weed, prefix) == []


def test_an_upload_to_a_key_that_is_no_digest_is_not_continued(weed: str, prefix: str, blob: Path, tmp_path: Path) -> None:
    store = store_at(weed, prefix, tmp_path)
    sent_parts(store, dies_at=3)
    with pytest.raises(Unavailable):
        store.put("reports/big.html", blob, overwrite=True)
    assert open_uploads(weed, prefix) == [], "it was given up: the next one may have other bytes"


def test_writers_of_one_large_blob_at_once_all_succeed(weed: str, prefix: str, blob: Path, key: str, tmp_path: Path) -> None:
    stores = [store_at(weed, prefix, tmp_path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(lambda store: store.put(key, blob), stores)}) == 1
    assert stores[0].digest(key) == file_digest(blob)
    assert open_uploads(weed, prefix) == []


def test_replies_lost_on_the_way_leave_one_blob_and_no_open_upload(weed: str, prefix: str, blob: Path, key: str, tmp_path: Path) -> None:
    with FaultProxy(weed, share=0.3, seed=4, faults=("lost reply", "500", "reset")) as proxy:
        store = store_at(proxy.endpoint, prefix, tmp_path)
        for _ in range(10):
            try:
                store.put(key, blob)
                break
            except Unavailable:  # the outcome is unknown: again
                continue
        assert sum(proxy.harmed.values()) > 3
    assert store_at(weed, prefix, tmp_path).digest(key) == file_digest(blob)
    for upload in open_uploads(weed, prefix):  # a lost reply to the first call of an upload hides its id: the collector's work
        assert upload["bytes"] == 0


def test_parts_grow_with_the_blob_and_never_number_more_than_s3_takes() -> None:
    assert multipart.part_size(5 << 30) == 16 << 20
    for size in (1, 1 << 30, 150 << 30, 5 << 40):
        cut = multipart.part_size(size)
        assert cut % (1 << 20) == 0
        assert 5 << 20 <= cut <= 5 << 30
        assert -(-size // cut) <= 10_000


def test_an_etag_is_told_without_asking_the_server(weed: str, prefix: str, blob: Path, key: str, tmp_path: Path) -> None:
    store = store_at(weed, prefix, tmp_path)
    store.put(key, blob)
    assert store._head(key)["ETag"].strip('"') == multipart.etag(blob, whole=False)
    store.put("small", b"zebra")
    (tmp_path / "small").write_bytes(b"zebra")
    assert store._head("small")["ETag"].strip('"') == multipart.etag(tmp_path / "small", whole=True)
    assert store._says("small", b"zebra") is True
    assert store._says("small", b"zebrA") is False
    assert store._says("none", b"zebra") is None


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_blob_of_more_than_five_gibibytes(weed: str, tmp_path: Path) -> None:
    """What one PUT cannot carry. Needs 12 GB of disk: `pytest -m slow tests/adapters/test_multipart.py`."""
    if shutil.disk_usage(tmp_path).free < 25e9:
        pytest.skip("not enough disk")
    path = tmp_path / "huge"
    with path.open("wb") as out:
        out.truncate((5 << 30) + 12_345)
        out.seek(3 << 30)
        out.write(sha256(b"somewhere").encode())
    digest = file_digest(path)
    store = store_at(weed, uuid.uuid4().hex, tmp_path)
    store.put(blob_key(digest), path, digest=digest)
    assert store.digest(blob_key(digest)) == digest
