"""Rows become a manifest: read, cast, order, check, split, hash, store, commit. Everything or nothing.

Nothing is written before all rows passed all checks; blobs are content-addressed and the manifest comes last, so a run
that was killed anywhere leaves at worst blobs that nothing names, and the next one completes. The same rows give the
same manifest and no new one. Called by the `ingest` verb, the regular ingest job and the drift sensor's request.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import DatasetSpec, SplitName
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Artifact, Column, Hashes, Manifest, Schema, Source, Stats, content_of, manifest_id
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets.blocks import BLOCK_ROWS, block_digests
from zebra_assets.datasets.connector import Connector, match_columns
from zebra_assets.datasets.leaks import refuse_leaks
from zebra_assets.datasets.split import assign
from zebra_assets.datasets.summary import null_fractions, summarise
from zebra_assets.datasets.table import Caster, arrange, schema_of
from zebra_assets.datasets.validate import Check, refuse_broken, validate
from zebra_assets.errors import DataInvalid, NotFound

Progress = Callable[[str, int | None], None]


@dataclass(frozen=True)
class Ingested:
    """What an ingest came to. `created` is False when the same rows had been committed before."""

    manifest: Manifest
    created: bool
    seconds: float
    checks: list[Check]


def _quiet(stage: str, rows: int | None) -> None:
    """Progress for nobody."""


def ingest(
    spec: DatasetSpec,
    *,
    project: Path,
    store: ObjectStore,
    manifests: Manifests,
    secrets: Mapping[str, str] = {},
    progress: Progress = _quiet,
) -> Ingested:
    """Commit the source's rows as a manifest.

    Args:
        project: folder that relative source paths start from.
        secrets: values for ``${NAME}`` in `source.url`.
        progress: called with a stage (read, order, check, hash, summarise, write, commit) and the rows so far, where counted.

    Raises:
        NotFound: the source does not exist.
        DataInvalid: the rows are not what the recipe says; nothing was written.
        SpecInvalid: the source's options are wrong.
        Unavailable: source or store cannot be reached.
    """
    began = time.monotonic()
    connector = _connector(spec, project, secrets)
    table = _read(spec, connector, project, progress)
    progress("order", table.num_rows)
    table, came_from = arrange(table, spec.key)
    progress("check", table.num_rows)
    checks = validate(table, spec, came_from)
    refuse_broken(checks, spec)
    masks = assign(table, spec.key, spec.splits, column=spec.split_column)
    _refuse_empty_splits(masks, spec)
    refuse_leaks(table, masks, spec)
    progress("hash", table.num_rows)
    columns, hashes = _identify(table, spec)
    found = _committed(manifests, store, manifest_id(spec.name, hashes.content))
    if found is not None:
        return Ingested(found, created=False, seconds=time.monotonic() - began, checks=checks)
    progress("summarise", table.num_rows)
    stats = Stats(
        rows=table.num_rows,
        rows_by_split={name: mask.true_count for name, mask in masks.items()},
        null_fraction=null_fractions(table),
        columns=summarise(table.filter(masks["train"]), spec),
    )
    manifest = Manifest(
        id=manifest_id(spec.name, hashes.content),
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
        stats=stats,
        artifacts=_store(table, masks, spec, store, progress),
        hashes=hashes,
    )
    progress("commit", None)
    created = manifests.commit(manifest)
    return Ingested(manifests.get(manifest.id), created=created, seconds=time.monotonic() - began, checks=checks)


def read_source(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}, progress: Progress = _quiet) -> pa.Table:
    """The source's rows with the declared columns and dtypes, in source order, unchecked. Raises what `ingest` raises."""
    return _read(spec, _connector(spec, project, secrets), project, progress)


def revision_of(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> str | None:
    """What the source's revision is now; None where it has none, or is not there. Reads no rows."""
    try:
        return _connector(spec, project, secrets).revision()
    except NotFound:
        return None


def _connector(spec: DatasetSpec, project: Path, secrets: Mapping[str, str]) -> Connector:
    connector: Connector = kinds.find("connector", spec.source.connector)(spec.source, project=project, secrets=secrets)
    return connector


def _read(spec: DatasetSpec, connector: Connector, project: Path, progress: Progress) -> pa.Table:
    caster = Caster(spec)
    batches = list(_cast(spec, connector, project, caster, progress))
    caster.finish()
    if not caster.rows:
        raise DataInvalid(
            f"Dataset '{spec.name}': {connector.location()} has no rows.", fix="fill the source, then: mlops ingest " + spec.name
        )
    return pa.Table.from_batches(batches)


def _cast(spec: DatasetSpec, connector: Connector, project: Path, caster: Caster, progress: Progress) -> Iterator[pa.RecordBatch]:
    columns = {name: column.dtype for name, column in spec.columns.items()}
    try:
        for batch in connector.batches(columns):
            match_columns(batch.schema.names, columns, connector.location())
            yield caster.cast(batch)
            progress("read", caster.rows)
    except NotFound as error:
        script = Path("models") / spec.name / "source.py"
        if (project / script).is_file():
            raise NotFound(error.message, fix=f"cd {shlex.quote(str(project))} && {shlex.quote(sys.executable)} {script}") from error
        raise


def _identify(table: pa.Table, spec: DatasetSpec) -> tuple[Schema, Hashes]:
    columns = Schema(
        columns=[Column(name=name, dtype=c.dtype, nullable=c.nullable) for name, c in spec.columns.items()], key=spec.key, label=spec.label
    )
    blocks = block_digests(table)
    content = content_of(columns, spec.splits, rows=table.num_rows, blocks=blocks, block_rows=BLOCK_ROWS)
    return columns, Hashes(content=content, blocks=blocks, block_rows=BLOCK_ROWS)


def _committed(manifests: Manifests, store: ObjectStore, name: str) -> Manifest | None:
    """The manifest of these rows, if it was committed before and its blobs are still there."""
    try:
        found = manifests.get(name)
    except NotFound:
        return None
    return found if all(store.exists(a.key) for a in found.artifacts) else None


def _refuse_empty_splits(masks: Mapping[SplitName, pa.BooleanArray], spec: DatasetSpec) -> None:
    empty = [name for name, mask in masks.items() if not mask.true_count]
    if empty:
        rows = len(next(iter(masks.values())))
        raise DataInvalid(
            f"Dataset '{spec.name}': of {rows:,} rows none falls into split {' or '.join(empty)}.",
            fix="give the source more rows, or set splits (fractions, salt, cuts) in dataset.yaml",
        )


def _store(
    table: pa.Table, masks: Mapping[SplitName, pa.BooleanArray], spec: DatasetSpec, store: ObjectStore, progress: Progress
) -> list[Artifact]:
    """Each split as one Parquet blob whose key is its digest."""
    artifacts, written = [], 0
    progress("write", written)
    repeated = [name for name, column in spec.columns.items() if column.dtype == "string" and name not in spec.key]
    with tempfile.TemporaryDirectory(prefix="zebra-ingest-") as scratch:
        for name, mask in masks.items():
            path = Path(scratch) / f"{name}.parquet"
            rows = table.filter(mask).cast(schema_of(spec))
            # Dictionaries pay for repeated text only; on numbers and keys they cost 3 times the time and 1.3 times the bytes.
            pq.write_table(rows, path, compression="zstd", compression_level=1, row_group_size=BLOCK_ROWS, use_dictionary=repeated)
            digest, size = file_digest(path), path.stat().st_size
            key = f"blobs/sha256/{digest[:2]}/{digest}.parquet"
            uri = store.put(key, path)
            artifacts.append(Artifact(split=name, key=key, uri=uri, digest=digest, bytes=size, rows=rows.num_rows))
            path.unlink()
            written += rows.num_rows
            progress("write", written)
    return artifacts
