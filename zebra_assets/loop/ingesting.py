"""Ingest: a dataset's source becomes a manifest, with the project's secrets and engine, and an audit entry says so.

Imports little before the station runs: until its source is being read and hashed, one core waits.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zebra_assets import kinds
from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    from zebra_assets.datasets.engine import Engine
    from zebra_assets.datasets.ingest import Ingested

Progress = Callable[[str, int | None], Any]


def ingest_dataset(parts: Parts, spec: DatasetSpec, *, cause: str = "asked", progress: Progress = lambda stage, rows: None) -> "Ingested":
    """Commit the source's rows as a manifest, with the project's secrets, and leave an audit entry.

    Args:
        cause: why, for the audit log.

    Raises what `datasets.ingest` raises.
    """
    from zebra_assets.datasets.ingest import ingest

    settings = parts.settings
    with ThreadPoolExecutor(1, "audit") as beside:
        done = ingest(
            spec,
            project=settings.project_dir,
            store=parts.store,
            manifests=parts.manifests,
            secrets=settings.secrets,
            engine=_engine(parts),
            actor=settings.who,
            progress=progress,
            meanwhile=lambda: beside.submit(lambda: parts.audit),  # what an audit log imports takes 0.1 s
        )
    parts.audit.append(settings.who, "dataset.ingested", done.manifest.id, {"created": done.created, "cause": cause})
    return done


def _engine(parts: Parts) -> "Engine":
    settings = parts.settings
    kind = kinds.find("engine", settings.ingest_engine)
    made: Engine = kind(settings.dask_scheduler) if settings.ingest_engine == "dask" else kind()
    return made
