"""The local files of a manifest's split, their bytes checked.

What training, evaluation and the pages read rows through. Reading Parquet stays theirs: this floor knows no Arrow.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Artifact, Manifest
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.errors import NotFound, Refused

AT_ONCE = 8  # downloads of small blobs wait for the network; hashing releases the GIL


def files_of(manifest: Manifest, split: str, store: ObjectStore) -> list[Path]:
    """The Parquet files of a split, in row order, downloaded where the store is remote.

    Raises:
        NotFound: the manifest has no such split, or a blob is gone.
        Refused: a blob's bytes are not those that the manifest names.
    """
    blobs = manifest.blobs(split)
    if not blobs:
        raise NotFound(
            f"Manifest {manifest.id} has no split '{split}'; it has {', '.join(manifest.split_names()) or 'none'}.",
            fix=f"give {split} rows (splits in manifests/{manifest.dataset}/dataset.yaml), then: mlops ingest {manifest.dataset}",
        )

    def one(blob: Artifact) -> Path:
        path = store.fetch(blob.key)
        if (found := file_digest(path)) != blob.digest:
            raise Refused(
                f"Rows of the {split} split at {blob.uri} are not those that {manifest.id} names: {found[:16]}, not {blob.digest[:16]}.",
                fix=f"delete {path} if it is a cached copy, else: mlops ingest {manifest.dataset}",
            )
        return path.resolve()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, blobs))
