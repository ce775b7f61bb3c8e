"""Manifests: visible last, once, and never edited; restored from the mirror, repaired when blobs are lost."""

import io
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.adapters.object_store import open_store
from zebra_assets.contracts.dataset_spec import SplitSpec
from zebra_assets.contracts.digest import sha256
from zebra_assets.contracts.manifest import Artifact, Bundle, Column, Hashes, Manifest, Schema, Source, Stats, content_of, manifest_id
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import Conflict, NotFound, Refused, UsageError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "objects").as_uri(), cache=tmp_path / "cache")


@pytest.fixture
def manifests(tmp_path: Path, store: ObjectStore) -> ManifestFolder:
    return ManifestFolder(tmp_path / "manifests", store)


def parquet(rows: int, compression: str = "zstd") -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(rows))}), out, compression=compression)
    return out.getvalue()


def make(store: ObjectStore, rows: int = 3, dataset: str = "shop", compression: str = "zstd", **changes: Any) -> Manifest:
    """A manifest of ``rows`` rows in one split, its blob already in the store."""
    blob = parquet(rows, compression)
    key = f"blobs/sha256/{sha256(blob)[:2]}/{sha256(blob)}.parquet"
    schema, splits, blocks = (
        Schema(columns=[Column(name="id", dtype="int64", nullable=False)], key=["id"], label=None),
        SplitSpec(),
        [sha256(b"%d" % rows)],
    )
    content = content_of(schema, splits, rows=rows, blocks=blocks, block_rows=65536)
    fields: dict[str, Any] = {
        "id": manifest_id(dataset, content),
        "dataset": dataset,
        "created_at": NOON,
        "source": Source(connector="files", location="a.csv"),
        "columns": schema,
        "splits": splits,
        "stats": Stats(rows=rows, rows_by_split={"train": rows}, null_fraction={"id": 0}, columns={}),
        "artifacts": [Artifact(split="train", key=key, uri=store.put(key, blob), digest=sha256(blob), bytes=len(blob), rows=rows)],
        "hashes": Hashes(content=content, blocks=blocks, block_rows=65536),
    }
    return Manifest(**(fields | changes))


def test_a_committed_manifest_is_read_back_and_listed_newest_first(manifests: ManifestFolder, store: ObjectStore) -> None:
    made = [make(store, rows, created_at=NOON + timedelta(hours=rows)) for rows in (2, 9, 5)]
    assert [manifests.commit(m) for m in made] == [True, True, True]
    assert manifests.get(made[0].id) == made[0]
    assert manifests.list("shop") == manifests.list() == [made[1], made[2], made[0]]
    assert manifests.list("other") == []


def test_the_first_honest_writer_of_the_same_rows_stands(manifests: ManifestFolder, store: ObjectStore) -> None:
    first = make(store)
    later = make(store, created_at=NOON + timedelta(days=1), source=Source(connector="sql", location="db"))
    assert manifests.commit(first)
    assert not manifests.commit(later)
    assert manifests.get(first.id) == first


def test_a_manifest_that_names_an_absent_or_wrong_blob_is_refused(manifests: ManifestFolder, store: ObjectStore) -> None:
    good = make(store)
    artifact = good.artifacts[0]
    for wrong in (
        artifact.model_copy(update={"key": "blobs/none.parquet"}),
        artifact.model_copy(update={"digest": "0" * 64}),
        artifact.model_copy(update={"bytes": 1}),
    ):
        with pytest.raises(Refused):
            manifests.commit(good.model_copy(update={"artifacts": [wrong]}))
    assert manifests.list() == []
    assert list(store.list("manifests/")) == []


def test_a_lost_local_file_comes_back_from_the_mirror(manifests: ManifestFolder, store: ObjectStore) -> None:
    made = make(store)
    manifests.commit(made)
    path = manifests.folder / "shop" / f"{made.id}.json"
    before = path.read_bytes()
    path.unlink()
    assert manifests.list() == [made]
    assert path.read_bytes() == before


def test_a_lost_mirror_comes_back_with_the_next_commit(manifests: ManifestFolder, store: ObjectStore, tmp_path: Path) -> None:
    made = make(store)
    manifests.commit(made)
    mirror = tmp_path / "objects" / "manifests" / "shop" / f"{made.id}.json"
    mirror.unlink()
    assert manifests.get(made.id) == made
    assert not manifests.commit(make(store, created_at=NOON + timedelta(days=1)))
    assert Manifest.model_validate_json(mirror.read_bytes()) == made


def test_blobs_that_were_lost_are_named_anew_without_a_new_manifest(manifests: ManifestFolder, store: ObjectStore) -> None:
    first = make(store)
    manifests.commit(first)
    store.fetch(first.artifacts[0].key).unlink()
    again = make(store, compression="snappy")
    assert again.artifacts[0].key != first.artifacts[0].key
    assert not manifests.commit(again)
    assert manifests.get(first.id) == again
    assert ManifestFolder(manifests.folder / "elsewhere", store).get(first.id) == again


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"nullable": false', '"nullable": true'),
        ('"train": 0.7', '"train": 0.8'),
        ('"valid": 0.15', '"valid": 0.05'),
        ('"dtype": "int64"', '"dtype": "float64"'),
        ('"key": [', '"keys": ['),
        ("{", "{{"),
        ('"rows": 3', '"rows": 4'),
    ],
)
def test_an_edited_manifest_is_refused(manifests: ManifestFolder, store: ObjectStore, old: str, new: str) -> None:
    made = make(store)
    manifests.commit(made)
    path = manifests.folder / "shop" / f"{made.id}.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(Refused, match="was changed after it was committed") as caught:
        manifests.get(made.id)
    assert "restored from the object store" in str(caught.value.fix)
    path.unlink()
    assert manifests.get(made.id) == made


def test_a_manifest_under_anothers_name_is_refused(manifests: ManifestFolder, store: ObjectStore) -> None:
    made = make(store)
    manifests.commit(made)
    folder = manifests.folder / "shop"
    (folder / f"{made.id}.json").rename(folder / "shop-0123456789abcdef.json")
    with pytest.raises(Refused):
        manifests.get("shop-0123456789abcdef")
    with pytest.raises(Refused):
        manifests.commit(made.model_copy(update={"id": "shop-0123456789abcdef"}))


def test_two_contents_under_one_id_are_a_conflict(manifests: ManifestFolder, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen digits can be made to collide by somebody who tries; here all content digests share them."""
    monkeypatch.setattr("zebra_assets.adapters.manifests.content_of", lambda *_, rows, **__: "ab" * 8 + f"{rows:048x}")
    one, other = (
        m.model_copy(
            update={"id": "shop-" + "ab" * 8, "hashes": m.hashes.model_copy(update={"content": "ab" * 8 + f"{m.stats.rows:048x}"})}
        )
        for m in (make(store, 3), make(store, 4))
    )
    assert manifests.commit(one)
    with pytest.raises(Conflict, match="exists for other rows"):
        manifests.commit(other)
    assert manifests.get(one.id).hashes == one.hashes


def test_writers_at_once_make_one_manifest(manifests: ManifestFolder, store: ObjectStore) -> None:
    made = [make(store, created_at=NOON + timedelta(seconds=i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(manifests.commit, made))
    assert new.count(True) == 1
    stands = made[new.index(True)]
    assert manifests.get(stands.id) == stands
    assert ManifestFolder(manifests.folder / "elsewhere", store).get(stands.id) == stands


def test_of_writers_of_one_millisecond_whose_bytes_are_the_same_one_made_it(manifests: ManifestFolder, store: ObjectStore) -> None:
    bundle, at_once = Bundle(model="churn", roles={"train": make(store, 3).id}), threading.Barrier(4)  # can be waited at again
    for _ in range(20):
        shutil.rmtree(manifests.folder, ignore_errors=True)
        for key in list(store.list("manifests/")):
            store.delete(key)
        with ThreadPoolExecutor(4) as pool:
            new = list(pool.map(lambda m: (at_once.wait(), manifests.commit(m))[1], [make(store)] * 4))
            bundles = list(pool.map(lambda b: (at_once.wait(), manifests.commit_bundle(b))[1], [bundle] * 4))
        assert (new.count(True), bundles.count(True)) == (1, 1)


def test_an_unknown_manifest_names_the_ingest_and_guesses(manifests: ManifestFolder, store: ObjectStore) -> None:
    made = make(store)
    manifests.commit(made)
    with pytest.raises(NotFound, match=f"Did you mean '{made.id}'") as caught:
        manifests.get(made.id[:-1] + "z")
    assert caught.value.fix == "mlops ingest shop"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "..", "", "a/b-0123456789abcdef", "/etc-0123456789", "shop-\x00123456789", "SHOP-0123456789abcdef", "x" * 99],
)
def test_no_id_leads_out_of_the_folder(manifests: ManifestFolder, name: str) -> None:
    for verb in (manifests.get, manifests.bundle, manifests.list, manifests.bundles):
        with pytest.raises((UsageError, Refused)):
            verb(name)


def test_bundles_rest_beside_the_manifests_they_name(manifests: ManifestFolder, store: ObjectStore) -> None:
    one, two, three = (
        make(store, rows, dataset, created_at=NOON + timedelta(hours=rows)) for rows, dataset in ((2, "shop"), (5, "web"), (9, "web"))
    )
    late = Bundle(model="churn", roles={"train": one.id, "valid": three.id})
    early = Bundle(model="churn", roles={"train": one.id, "valid": two.id})
    with pytest.raises(NotFound):
        manifests.commit_bundle(late)
    for manifest in (one, two, three):
        manifests.commit(manifest)
    assert [manifests.commit_bundle(b) for b in (late, early, early)] == [True, True, False]
    assert manifests.bundles("churn") == [early, late]
    assert manifests.bundles("chur") == []
    assert manifests.list() == [three, two, one]
    assert ManifestFolder(manifests.folder / "elsewhere", store).bundle(late.id) == late
    with pytest.raises(NotFound):
        manifests.bundle("churn-0123456789abcdef")


def test_an_edited_bundle_is_refused(manifests: ManifestFolder, store: ObjectStore) -> None:
    one = make(store)
    manifests.commit(one)
    bundle = Bundle(model="churn", roles={"train": one.id, "valid": one.id})
    manifests.commit_bundle(bundle)
    path = manifests.folder / "_bundles" / f"{bundle.id}.json"
    path.write_text(path.read_text().replace('"valid"', '"test"'))
    with pytest.raises(Refused, match="its roles make it"):
        manifests.bundle(bundle.id)
