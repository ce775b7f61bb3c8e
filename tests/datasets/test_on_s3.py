"""An ingest into S3: the manifest is the one that files would give, and it comes last or not at all."""

import uuid
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError

from tests.adapters.s3_servers import client, credentials, moto
from tests.datasets.conftest import Bench, csv_bytes, people
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.errors import Conflict, Unavailable

__all__ = ["credentials", "moto"]  # fixtures


@pytest.fixture
def s3(moto: str, tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "s3")
    bench.store = open_store(f"s3://lake/{uuid.uuid4().hex}", cache=tmp_path / "cache", endpoint_url=moto)
    bench.manifests = ManifestFolder(bench.folder / "manifests", bench.store)
    bench.put("a.csv", csv_bytes(people()))
    return bench


def test_the_same_rows_are_the_same_manifest_in_every_store(s3: Bench, bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    done, here = s3.ingest(), bench.ingest()
    assert (done.created, done.manifest.id) == (True, here.manifest.id)
    assert done.manifest.artifacts[0].uri.startswith("s3://lake/")
    assert [a.digest for a in done.manifest.artifacts] == [a.digest for a in here.manifest.artifacts]
    assert s3.rows(done).equals(bench.rows(here))
    assert not s3.ingest().created
    clone = ManifestFolder(s3.folder / "clone", s3.store)
    assert clone.list("people") == [done.manifest]


@pytest.mark.parametrize("dies_at", range(1, 5))
def test_a_store_that_turns_away_between_writes_leaves_no_manifest_and_a_rerun_completes(s3: Bench, dies_at: int) -> None:
    writes = iter(range(1, 99))

    def die(**_: object) -> None:
        if next(writes) >= dies_at:
            raise NoCredentialsError  # unlike a lost connection, not retried for seconds

    events = s3.store.client.meta.events  # type: ignore[attr-defined]
    events.register("before-send.s3.PutObject", die)
    with pytest.raises(Unavailable, match="cannot be used"):
        s3.ingest()
    events.unregister("before-send.s3.PutObject", die)
    assert s3.manifests.list() == []
    assert not any(f.startswith("manifests/") for f in s3.files())
    assert s3.ingest().created


def test_a_blob_somebody_replaced_is_found_before_the_manifest_is_written(s3: Bench, moto: str) -> None:
    first = s3.ingest()
    key = first.manifest.artifacts[0].key
    prefix = s3.store.url.split("/", 3)[3]
    for path in s3.folder.parent.glob("cache/*/blobs/**/*.parquet"):
        path.unlink()
    for name in s3.store.list("manifests/"):
        client(moto).delete_object(Bucket="lake", Key=f"{prefix}/{name}")
    (s3.folder / "manifests" / "people" / f"{first.manifest.id}.json").unlink()
    client(moto).put_object(Bucket="lake", Key=f"{prefix}/{key}", Body=b"somebody else's bytes")
    with pytest.raises(Conflict, match="holds other bytes"):
        s3.ingest()
    assert s3.manifests.list() == []
