"""Rows become a manifest: read, order, and block by block check, split, hash and write; then decide, store, commit.

Everything or nothing: pieces rest in a scratch folder until all rows passed all checks; blobs are content-addressed and
the manifest comes last, so a run that was killed anywhere leaves at worst blobs that nothing names, and the next one
completes. The same rows give the same manifest and no new one. Called by the `ingest` verb, the regular ingest job and
the drift sensor's request.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import SPLITS, DatasetSpec
from zebra_assets.contracts.digest import sha256
from zebra_assets.contracts.manifest import Artifact, Column, Hashes, Manifest, Schema, Sketches, Source, Stats, content_of, manifest_id
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.object_store import Blob, blob_key
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets.blocks import BLOCK_ROWS
from zebra_assets.datasets.connector import Connector
from zebra_assets.datasets.distribution import distribution_checks
from zebra_assets.datasets.engine import Engine
from zebra_assets.datasets.pointer import origin, pointers
from zebra_assets.datasets.reading import Progress, Work, cast_rows
from zebra_assets.datasets.receipts import any_receipts, find_receipt, leave_receipt
from zebra_assets.datasets.table import Caster
from zebra_assets.datasets.validate import Check, refuse_broken
from zebra_assets.datasets.whole import Whole
from zebra_assets.datasets.work import Piece
from zebra_assets.errors import NotFound, SpecInvalid, Unavailable


@dataclass(frozen=True)
class Ingested:
    """What an ingest came to.

    `created` is False when the same rows had been committed before; `read` is False when the source said that it has not
    changed since; `stored` is how many bytes of blobs are new in the store.
    """

    manifest: Manifest
    created: bool
    seconds: float
    checks: list[Check]
    read: bool = True
    stored: int = 0


def _quiet(stage: str, rows: int | None) -> None:
    """Progress for nobody."""


def ingest(
    spec: DatasetSpec,
    *,
    project: Path,
    store: ObjectStore,
    manifests: Manifests,
    secrets: Mapping[str, str] = {},
    engine: Engine | None = None,
    actor: str = "unknown",
    progress: Progress = _quiet,
) -> Ingested:
    """Commit the source's rows as a manifest.

    Args:
        project: folder that relative source paths start from.
        secrets: values for ``${NAME}`` in `source.url`.
        engine: what works on the row blocks; default the threads of this process.
        actor: who asked, for the manifest's provenance.
        progress: called with a stage (read, order, check, write, commit) and the rows so far, where counted.

    Raises:
        NotFound: the source does not exist.
        DataInvalid: the rows are not what the recipe says; nothing was committed.
        SpecInvalid: the source's options are wrong.
        Unavailable: source, store or engine cannot be reached.
    """
    began = time.monotonic()
    connector = _connector(spec, project, secrets)
    unchanged = _unchanged(spec, connector, store, manifests)
    if unchanged is not None:
        return Ingested(unchanged, created=False, seconds=time.monotonic() - began, checks=[], read=False)
    engine = engine or kinds.find("engine", "threads")()
    with store.scratch() as scratch:
        work = Work(spec, connector, project, engine, scratch, store, progress)
        whole, checks = work.done()
        manifest = _manifest(spec, connector, whole)
        found = _committed(manifests, store, manifest.id)
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
    revision = connector.revision()
    if revision is not None:
        leave_receipt(spec, revision, found.id, store)
    return Ingested(found, created=created, seconds=time.monotonic() - began, checks=checks, stored=stored)


def read_source(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> pa.Table:
    """The source's rows with the declared columns and dtypes, in source order, unchecked. Raises what `ingest` raises."""
    connector, caster = _connector(spec, project, secrets), Caster(spec)
    batches = list(cast_rows(spec, connector, project, caster, _quiet))
    caster.finish()
    return pa.Table.from_batches(batches)


def revision_of(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> str | None:
    """What the source's revision is now; None where it has none, or is not there. Reads no rows."""
    try:
        return _connector(spec, project, secrets).revision()
    except NotFound:
        return None


def _connector(spec: DatasetSpec, project: Path, secrets: Mapping[str, str]) -> Connector:
    kind = kinds.find("connector", spec.source.connector)
    if not (isinstance(kind, type) and hasattr(kind, "batches")):
        raise SpecInvalid(
            f"source.connector '{spec.source.connector}' names no connector class.", fix="name a class with the methods of `Connector`"
        )
    connector: Connector = kind(spec.source, project=project, secrets=secrets)
    return connector


def _unchanged(spec: DatasetSpec, connector: Connector, store: ObjectStore, manifests: Manifests) -> Manifest | None:
    """The manifest of the source as it is now, if an earlier ingest left a receipt for it and its blobs are still there."""
    if not any_receipts(spec, store):
        return None
    revision = connector.revision()
    known = find_receipt(spec, revision, store) if revision is not None else None
    return _committed(manifests, store, known) if known is not None else None


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


def _committed(manifests: Manifests, store: ObjectStore, name: str) -> Manifest | None:
    """The manifest of these rows, if it was committed before and its blobs are still there."""
    try:
        found = manifests.get(name)
    except NotFound:
        return None
    return found if all(map(store.exists, found.blob_keys())) else None


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
