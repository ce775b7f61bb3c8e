"""Rows become a manifest: read, order, and block by block check, split, hash and write; then decide, store, commit.

Everything or nothing: pieces rest in a scratch folder until all rows passed all checks; blobs are content-addressed and
the manifest comes last, so a run that was killed anywhere leaves at worst blobs that nothing names, and the next one
completes. The same rows give the same manifest and no new one. Called by the `ingest` verb, the regular ingest job and
the drift sensor's request.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.ports import Manifests, ObjectStore
from zebra_assets.datasets.allocator import load_arrow
from zebra_assets.datasets.connector import Ahead
from zebra_assets.datasets.receipts import any_receipts, find_receipt, leave_receipt
from zebra_assets.errors import NotFound, SpecInvalid

if TYPE_CHECKING:  # to learn that a source has not changed, nothing of Arrow or numpy is imported (0.3 s)
    import pyarrow as pa

    from zebra_assets.datasets.connector import Connector
    from zebra_assets.datasets.engine import Engine
    from zebra_assets.datasets.validate import Check

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
    checks: "list[Check]"
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
    engine: "Engine | None" = None,
    actor: str = "unknown",
    progress: Progress = _quiet,
    meanwhile: Callable[[], object] = lambda: None,
) -> Ingested:
    """Commit the source's rows as a manifest.

    Args:
        project: folder that relative source paths start from.
        secrets: values for ``${NAME}`` in `source.url`.
        engine: what works on the row blocks; default the threads of this process.
        actor: who asked, for the manifest's provenance.
        progress: called with a stage (read, order, check, write, commit) and the rows so far, where counted.
        meanwhile: called once, where the source must be read, just before it is: to begin with what will be needed afterwards.

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
    with connector.ahead() if isinstance(connector, Ahead) else nullcontext():
        load_arrow()
        from zebra_assets.datasets.committing import commit

        meanwhile()
        done = commit(
            spec,
            connector,
            project=project,
            store=store,
            manifests=manifests,
            secrets=secrets,
            engine=engine or kinds.find("engine", "threads")(),
            actor=actor,
            progress=progress,
        )
    revision = connector.revision()
    if revision is not None:
        leave_receipt(spec, revision, done.manifest.id, store)
    return replace(done, seconds=time.monotonic() - began)


def read_source(spec: DatasetSpec, *, project: Path, secrets: Mapping[str, str] = {}) -> "pa.Table":
    """The source's rows with the declared columns and dtypes, in source order, unchecked. Raises what `ingest` raises."""
    import pyarrow as pa

    from zebra_assets.datasets.reading import cast_rows
    from zebra_assets.datasets.table import Caster

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


def _connector(spec: DatasetSpec, project: Path, secrets: Mapping[str, str]) -> "Connector":
    kind = kinds.find("connector", spec.source.connector)
    if not (isinstance(kind, type) and hasattr(kind, "batches")):
        raise SpecInvalid(
            f"source.connector '{spec.source.connector}' names no connector class.", fix="name a class with the methods of `Connector`"
        )
    connector: Connector = kind(spec.source, project=project, secrets=secrets)
    return connector


def _unchanged(spec: DatasetSpec, connector: "Connector", store: ObjectStore, manifests: Manifests) -> Manifest | None:
    """The manifest of the source as it is now, if an earlier ingest left a receipt for it and its blobs are still there."""
    if not any_receipts(spec, store):
        return None
    revision = connector.revision()
    known = find_receipt(spec, revision, store) if revision is not None else None
    return committed(manifests, store, known) if known is not None else None


def committed(manifests: Manifests, store: ObjectStore, name: str) -> Manifest | None:
    """The manifest of these rows, if it was committed before and its blobs are still there."""
    try:
        found = manifests.get(name)
    except NotFound:
        return None
    return found if all(map(store.exists, found.blob_keys())) else None
