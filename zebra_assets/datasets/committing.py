"""The long way of an ingest: have the rows worked on, judge the whole, make blobs of the pieces, and commit the manifest last.

Called by `ingest` when the source has changed, or does not say.
"""

from collections.abc import Mapping
from pathlib import Path

from zebra_assets.contracts.dataset_spec import SPLITS, DatasetSpec
from zebra_assets.contracts.digest import sha256
from zebra_assets.contracts.manifest import (
    Artifact,
    Column,
    Hashes,
    Manifest,
    Schema,
    Sketches,
    Source,
    Stats,
    content_of,
    manifest_id,
)
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.object_store import Blob, blob_key
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets.blocks import BLOCK_ROWS
from zebra_assets.datasets.connector import Connector
from zebra_assets.datasets.distribution import distribution_checks
from zebra_assets.datasets.engine import Engine
from zebra_assets.datasets.ingest import Ingested, Progress, committed
from zebra_assets.datasets.no_pandas import put_off_pandas
from zebra_assets.datasets.pointer import origin, pointers
from zebra_assets.datasets.reading import Work
from zebra_assets.datasets.validate import refuse_broken
from zebra_assets.datasets.whole import Whole
from zebra_assets.datasets.work import Piece
from zebra_assets.errors import Unavailable


def commit(
    spec: DatasetSpec,
    connector: Connector,
    *,
    project: Path,
    store: ObjectStore,
    manifests: Manifests,
    secrets: Mapping[str, str],
    engine: Engine,
    actor: str,
    progress: Progress,
) -> Ingested:
    """Commit what ``connector`` reads; arguments and errors as in `ingest`. The time it took is for the caller to tell."""
    put_off_pandas()
    with store.scratch() as scratch:
        work = Work(spec, connector, project, engine, scratch, store, progress)
        whole, checks = work.done()
        manifest = _manifest(spec, connector, whole)
        found = committed(manifests, store, manifest.id)
        created, stored = False, 0
        if found is None:
            before = next(iter(manifests.list(spec.name)), None)
            if before is not None:
                checks += distribution_checks(before.stats, manifest.stats, spec)
                refuse_broken(checks, spec)
            artifacts, stored = _store(whole.pieces, before, store, work.folder, progress)
            source = manifest.source.model_copy(update=_provenance(spec, project, secrets, actor))
            stats = manifest.stats.model_copy(update={"sketches": _store_sketches(whole, store)})
            progress("commit", None)
            whole_manifest = manifest.model_copy(update={"source": source, "artifacts": artifacts, "stats": stats})
            created = manifests.commit(whole_manifest, present={a.key for a in artifacts})
            found = manifests.get(manifest.id)
    return Ingested(found, created=created, seconds=0.0, checks=checks, stored=stored)


def _manifest(spec: DatasetSpec, connector: Connector, whole: Whole) -> Manifest:
    """The manifest of the rows, its blobs still to be named."""
    columns = Schema(
        columns=[Column(name=name, dtype=c.dtype, nullable=c.nullable) for name, c in spec.columns.items()], key=spec.key, label=spec.label
    )
    content = content_of(columns, spec.splits, rows=whole.rows, blocks=whole.digests, block_rows=BLOCK_ROWS)
    return Manifest(
        id=manifest_id(spec.name, content),
        dataset=spec.name,
        created_at=now(),
        source=Source(
            connector=spec.source.connector,
            location=connector.location(),
            parameters=spec.source.parameters,
            query=spec.source.query,
            revision=connector.revision(),
        ),
        columns=columns,
        splits=spec.splits,
        stats=Stats(
            rows=whole.rows,
            rows_by_split=whole.rows_by_split(),
            null_fraction={name: whole.findings.nulls[name] / whole.rows for name in spec.columns},
            columns=whole.summary.columns(),
        ),
        artifacts=[],
        hashes=Hashes(content=content, blocks=whole.digests, block_rows=BLOCK_ROWS),
    )


def _provenance(spec: DatasetSpec, project: Path, secrets: Mapping[str, str], actor: str) -> dict[str, object]:
    """What else is known of where rows came from; asked only for a new manifest, because git and DVC take their time."""
    return {
        "pointers": pointers(spec.source, project=project, secrets=secrets),
        "origin": origin(project / "manifests" / spec.name, actor=actor, at=now()),
    }


def _store(
    pieces: list[Piece], before: Manifest | None, store: ObjectStore, folder: Path, progress: Progress
) -> tuple[list[Artifact], int]:
    """Make blobs of the pieces; the artifacts in order of split and block, and how many bytes were new.

    What the manifest before names, too, is not sent again, only kept from the collector.
    """
    pieces = sorted(pieces, key=lambda p: (SPLITS.index(p.split), p.block))
    known = {a.key for a in before.artifacts} if before else set()
    # Workers elsewhere have put theirs into the store already, and left nothing here.
    files = {p.key: folder / f"{p.digest}.parquet" for p in pieces}
    there = [p.key for p in pieces if p.key in known or not files[p.key].is_file()]
    gone = set(store.renew(there)) if there else set()
    lost = [key for key in gone if not files[key].is_file()]
    if lost:
        raise Unavailable(f"{len(lost)} blobs that workers had stored are gone, {lost[0]} among them.", fix="ingest again")
    new = {p.key: p for p in pieces if p.key not in known or p.key in gone}
    written = 0

    def tell(size: int) -> None:
        nonlocal written
        written += size
        progress("write", written)

    progress("write", 0)
    store.put_many((Blob(p.key, files[p.key], p.digest) for p in new.values() if files[p.key].is_file()), tell)
    return [
        Artifact(split=p.split, block=p.block, key=p.key, uri=store.uri(p.key), digest=p.digest, bytes=p.bytes, rows=p.rows) for p in pieces
    ], sum(p.bytes for p in new.values())


def _store_sketches(whole: Whole, store: ObjectStore) -> Sketches:
    raw = whole.summary.to_bytes()
    digest = sha256(raw)
    key = blob_key(digest, ".arrow")
    store.put(key, raw, digest=digest)
    return Sketches(key=key, digest=digest, bytes=len(raw))
