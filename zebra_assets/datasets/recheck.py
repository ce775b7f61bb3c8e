"""Whether a manifest's rows keep the recipe as it reads today; it may have become stricter since they were ingested.

Reads the stored rows block by block, in bounded memory, and asks the same rules as the ingest. They rest split by split, so key
repeats are looked for by hash (`seen`) instead of between neighbours. Changes nothing. Called by `defs.datasets`.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.datasets.findings import Findings
from zebra_assets.datasets.seen import Question, Seen, marks, unique_questions
from zebra_assets.datasets.spill import Companions
from zebra_assets.datasets.validate import Check, conclude, examine

_BLOCK_ROWS = 65_536


def recheck(manifest: Manifest, store: ObjectStore, spec: DatasetSpec) -> list[Check]:
    """How every rule of ``spec`` goes for the manifest's rows. Row numbers in details count them as they rest, split by split.

    Where the recipe's columns are no longer the manifest's, that is the one check, and it does not pass.

    Raises:
        Unavailable: the store, or scratch space, cannot be reached.
    """
    stored = {c.name: c.dtype for c in manifest.columns.columns}
    wanted = {name: c.dtype for name, c in spec.columns.items()}
    if stored != wanted:
        apart = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
        detail = f"the manifest has other columns: {', '.join(apart[:5])}{', ...' if len(apart) > 5 else ''}"
        return [Check(rule="columns of the recipe", column=None, passed=False, detail=detail)]
    asked = [*unique_questions(spec), *([Question("unique", tuple(spec.key))] if spec.key else [])]
    total = Findings()
    with tempfile.TemporaryDirectory(prefix="zebra-recheck-") as scratch, Seen(asked, spec, Path(scratch)) as seen:
        for block in _blocks(manifest, store, [*wanted]):
            seen.add(marks(block, asked, first_row=total.rows))
            total.merge(examine(block, spec, first_row=total.rows))
        repeats = seen.repeats(lambda places: _rows_at(places, manifest, store, [*wanted]))
    return conclude(total, spec, repeats=repeats)


def _blocks(manifest: Manifest, store: ObjectStore, columns: list[str]) -> Iterator[pa.Table]:
    for artifact in manifest.artifacts:
        with pq.ParquetFile(store.fetch(artifact.key)) as file:
            for batch in file.iter_batches(_BLOCK_ROWS, columns=columns):
                yield pa.Table.from_batches([batch])


def _rows_at(places: Companions, manifest: Manifest, store: ObjectStore, columns: list[str]) -> pa.Table:
    """The rows at ascending positions, counted as `_blocks` gives them."""
    found, start = [], 0
    for block in _blocks(manifest, store, columns):
        low, high = np.searchsorted(places, [start, start + block.num_rows])
        found.append(block.take(pa.array(places[low:high] - start)))
        start += block.num_rows
    return pa.concat_tables(found)
