"""Small datasets, each with rows of its own, and what must be true of a store whatever was done to it."""

import shutil
from pathlib import Path
from typing import Any

from tests.datasets.conftest import csv_bytes, people, recipe
from zebra_assets.adapters.manifests import ManifestFolder
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.object_store import BLOBS, ObjectStore
from zebra_assets.datasets.ingest import Ingested, ingest


def source(folder: Path, name: str, number: int, rows: int = 300) -> Any:
    """Write the rows of dataset ``number`` below ``folder`` and return the recipe that reads them."""
    table = people(rows)
    at = table.schema.get_field_index("visits")
    import pyarrow as pa

    table = table.set_column(at, table.schema.field(at), pa.array([i * 3 + number for i in range(rows)], pa.int64()))
    path = folder / "data" / name / "rows.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(csv_bytes(table))
    return recipe(name=name, source={"connector": "files", "path": f"data/{name}/*"})


def run(spec: Any, folder: Path, store: ObjectStore) -> Ingested:
    """One ingest by the public door."""
    return ingest(spec, project=folder, store=store, manifests=ManifestFolder(folder / "manifests", store))


def wrongs(store: ObjectStore, folder: Path | None = None) -> list[str]:
    """What is half-visible or dangling in ``store``, told by a reader who trusts nothing; empty when all is well.

    Args:
        store: opened afresh, with an empty cache.
        folder: the project, whose own manifest files count too.
    """
    found = []
    digests = {key: store.digest(key) for key in store.list("blobs/")}
    for key, digest in digests.items():
        if not (key.startswith(BLOBS) and Path(key).stem == digest):
            found.append(f"{key} holds {digest}")
    clone = Path(str(folder or "/nonexistent")) / "clone-of-manifests"
    for origin in [clone, *([folder / "manifests"] if folder else [])]:
        try:
            for manifest in ManifestFolder(origin, store).list():
                found += [f"{manifest.id} names {a.key}" for a in manifest.artifacts if digests.get(a.key) != a.digest]
        except Exception as error:
            found.append(f"manifests do not read: {error}")
    shutil.rmtree(clone, ignore_errors=True)
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files below ``folder``."""
    return [p.relative_to(folder).as_posix() for p in folder.rglob(".tmp-*")]


__all__ = ["file_digest", "leftovers", "run", "source", "wrongs"]
