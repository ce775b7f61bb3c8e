"""Rows become a manifest: read, order, and block by block check, split, hash and write; then decide, store, commit.

Everything or nothing: pieces rest in a scratch folder until all rows passed all checks; blobs are content-addressed and
the manifest comes last, so a run that was killed anywhere leaves at worst blobs that nothing names, and the next one
completes. The same rows give the same manifest and no new one. Called by the `ingest` verb, the regular ingest job and
the drift sensor's request.
"""

import logging
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import SPLITS, DatasetSpec
from zebra_assets.contracts.manifest import Artifact, Column, Hashes, Manifest, Schema, Source, Stats, content_of, manifest_id
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets.blocks import BLOCK_ROWS
from zebra_assets.datasets.connector import Connector, match_columns
from zebra_assets.datasets.engine import Engine
from zebra_assets.datasets.order import Replay, in_order
from zebra_assets.datasets.receipts import any_receipts, find_receipt, leave_receipt
from zebra_assets.datasets.split import plan
from zebra_assets.datasets.stream import OutOfOrder, blocks
from zebra_assets.datasets.table import Caster
from zebra_assets.datasets.validate import Check, conclude, refuse_broken
from zebra_assets.datasets.whole import Whole, gather
from zebra_assets.datasets.work import Job, Piece
from zebra_assets.errors import DataInvalid, NotFound

log = logging.getLogger(__name__)
Progress = Callable[[str, int | None], None]


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
    progress: Progress = _quiet,
) -> Ingested:
    """Commit the source's rows as a manifest.

    Args:
        project: folder that relative source paths start from.
        secrets: values for ``${NAME}`` in `source.url`.
        engine: what works on the row blocks; default the threads of this process.
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
        whole = _work(spec, connector, project, engine, scratch, None if engine.shares_disk else store, progress)
        progress("check", whole.rows)
        checks = conclude(whole.findings, spec)
        refuse_broken(checks, spec)
        _refuse_empty_splits(whole, spec)
        manifest = _manifest(spec, connector, whole)
        found = _committed(manifests, store, manifest.id)
        created, stored = False, 0
        if found is None:
            artifacts, stored = _store(whole.pieces, store, scratch, progress)
            progress("commit", None)
            created = manifests.commit(manifest.model_copy(update={"artifacts": artifacts}))
            found = manifests.get(manifest.id)
    revision = connector.revision()
    if revision is not None:
        leave_receipt(spec, revision, found.id, store)
    return Ingested(found, created=created, seconds=time.monotonic() - began, checks=checks, stored=stored)


def read_source(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> pa.Table:
    """The source's rows with the declared columns and dtypes, in source order, unchecked. Raises what `ingest` raises."""
    connector, caster = _connector(spec, project, secrets), Caster(spec)
    batches = list(_cast(spec, connector, project, caster, _quiet))
    caster.finish()
    return pa.Table.from_batches(batches)


def revision_of(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> str | None:
    """What the source's revision is now; None where it has none, or is not there. Reads no rows."""
    try:
        return _connector(spec, project, secrets).revision()
    except NotFound:
        return None


def _connector(spec: DatasetSpec, project: Path, secrets: Mapping[str, str]) -> Connector:
    connector: Connector = kinds.find("connector", spec.source.connector)(spec.source, project=project, secrets=secrets)
    return connector


def _unchanged(spec: DatasetSpec, connector: Connector, store: ObjectStore, manifests: Manifests) -> Manifest | None:
    """The manifest of the source as it is now, if an earlier ingest left a receipt for it and its blobs are still there."""
    if not any_receipts(spec, store):
        return None
    revision = connector.revision()
    known = find_receipt(spec, revision, store) if revision is not None else None
    return _committed(manifests, store, known) if known is not None else None


def _work(
    spec: DatasetSpec, connector: Connector, project: Path, engine: Engine, scratch: Path, upload: ObjectStore | None, progress: Progress
) -> Whole:
    """Have all blocks worked on; a source that turns out not to stand in key order is sorted, and read again if it is large."""
    job = Job(spec, plan(spec), scratch / "pieces", upload)
    job.folder.mkdir()
    caster = Caster(spec)
    replay = Replay(_cast(spec, connector, project, caster, progress))
    try:
        whole = gather(engine.run(job, blocks(replay, spec.key)), spec)
    except OutOfOrder:
        progress("order", None)
        for path in job.folder.iterdir():
            path.unlink()
        again = replay.again()
        if again is None:
            log.info("%s does not hand its rows over in key order; it is read again and sorted on disk", connector.location())
            caster = Caster(spec)
            again = _cast(spec, connector, project, caster, progress)
        ordered = in_order(again, spec.key, scratch)
        whole = gather(engine.run(job, blocks(ordered, spec.key, positions=True)), spec)
    caster.finish()
    if not caster.rows:
        raise DataInvalid(
            f"Dataset '{spec.name}': {connector.location()} has no rows.", fix="fill the source, then: mlops ingest " + spec.name
        )
    return whole


def _cast(spec: DatasetSpec, connector: Connector, project: Path, caster: Caster, progress: Progress) -> Iterator[pa.RecordBatch]:
    columns = {name: column.dtype for name, column in spec.columns.items()}
    try:
        for batch in connector.batches(columns):
            match_columns(batch.schema.names, columns, connector.location())
            if batch.num_rows:
                cast = caster.cast(batch)
                progress("read", caster.rows)
                yield cast
    except NotFound as error:
        script = Path("models") / spec.name / "source.py"
        if (project / script).is_file():
            raise NotFound(error.message, fix=f"cd {shlex.quote(str(project))} && {shlex.quote(sys.executable)} {script}") from error
        raise


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


def _committed(manifests: Manifests, store: ObjectStore, name: str) -> Manifest | None:
    """The manifest of these rows, if it was committed before and its blobs are still there."""
    try:
        found = manifests.get(name)
    except NotFound:
        return None
    return found if all(store.exists(a.key) for a in found.artifacts) else None


def _refuse_empty_splits(whole: Whole, spec: DatasetSpec) -> None:
    expected = {"explicit": ["train"], "time": ["train", *spec.splits.cuts]}.get(spec.splits.strategy, list(spec.splits.fractions))
    have = whole.rows_by_split()
    empty = [name for name in expected if name not in have]
    if empty:
        raise DataInvalid(
            f"Dataset '{spec.name}': of {whole.rows:,} rows none falls into split {' or '.join(empty)}.",
            fix="give the source more rows, or set splits (fractions, salt, cuts) in dataset.yaml",
        )


def _store(pieces: list[Piece], store: ObjectStore, scratch: Path, progress: Progress) -> tuple[list[Artifact], int]:
    """Make blobs of the pieces; the artifacts in order of split and block, and how many bytes are new."""
    written = stored = 0
    artifacts = []
    progress("write", 0)
    for piece in sorted(pieces, key=lambda p: (SPLITS.index(p.split), p.block)):
        path = scratch / "pieces" / f"{piece.digest}.parquet"
        stored += 0 if store.exists(piece.key) else piece.bytes
        uri = store.put(piece.key, path)
        artifacts.append(
            Artifact(split=piece.split, block=piece.block, key=piece.key, uri=uri, digest=piece.digest, bytes=piece.bytes, rows=piece.rows)
        )
        written += piece.rows
        progress("write", written)
    return artifacts, stored
