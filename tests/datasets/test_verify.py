"""Verification asks the store itself, not what was once downloaded from it."""

import uuid
from pathlib import Path

from tests.adapters.s3_servers import client, credentials, moto
from tests.datasets.conftest import Bench, csv_bytes, people
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.manifest import content_of, manifest_id
from zebra_assets.datasets.blocks import BLOCK_ROWS, block_digests
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


def test_a_manifest_whose_rows_were_hashed_as_before_is_read_and_verified_by_its_own_algorithm(bench: Bench) -> None:
    bench.put("a.csv", csv_bytes(people()))
    done = bench.ingest()
    now, blocks = done.manifest, block_digests(bench.rows(done), algorithm="zebra-rows-v1")
    content = content_of(now.columns, now.splits, rows=now.stats.rows, blocks=blocks, block_rows=BLOCK_ROWS, algorithm="zebra-rows-v1")
    hashes = now.hashes.model_copy(update={"algorithm": "zebra-rows-v1", "content": content, "blocks": blocks})
    before = now.model_copy(update={"id": manifest_id("people", content), "hashes": hashes})
    assert bench.manifests.commit(before)
    assert ManifestFolder(bench.folder / "elsewhere", bench.store).get(before.id) == before
    said = verify(before, bench.store)
    assert said.ok and said.content_found == content != now.hashes.content
    assert not verify(before.model_copy(update={"hashes": hashes.model_copy(update={"algorithm": "zebra-rows-v2"})}), bench.store).ok
