"""Verification asks the store itself, not what was once downloaded from it."""

import uuid
from pathlib import Path

from tests.adapters.s3_servers import client, credentials, moto
from tests.datasets.conftest import Bench, csv_bytes, people
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.datasets.verify import verify

__all__ = ["credentials", "moto"]  # fixtures


def test_an_object_overwritten_in_s3_is_noticed_although_the_cache_holds_the_right_one(moto: str, tmp_path: Path) -> None:
    bench, prefix = Bench(tmp_path / "s3"), uuid.uuid4().hex
    bench.store = open_store(f"s3://lake/{prefix}", cache=tmp_path / "cache", endpoint_url=moto)
    bench.manifests = ManifestFolder(bench.folder / "manifests", bench.store)
    bench.put("a.csv", csv_bytes(people()))
    manifest = bench.ingest().manifest
    whole = verify(manifest, bench.store)
    assert whole.ok and whole.content_found == manifest.hashes.content
    train = manifest.artifacts[0]
    client(moto).put_object(Bucket="lake", Key=f"{prefix}/{train.key}", Body=b"other bytes")
    spoilt = verify(manifest, bench.store)
    assert bench.store.fetch(train.key).stat().st_size == train.bytes  # the cache
    assert not spoilt.ok and [b.ok for b in spoilt.blobs] == [False, True, True, True]
