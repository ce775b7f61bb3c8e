"""A manifest's rows read back from the store, batch by batch and in the order they rest in. Called by `diff`.

Bytes are not checked against their digests here: that is what `verify` is for.
"""

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.datasets.tally import Tally

BATCH_ROWS = 65_536
TRAIN = "train"


class Stored:
    """One manifest's rows.

    Args:
        bins: by column the summary over whose bins the train split's rows are counted as they pass; see `tallies`.
    """

    def __init__(self, manifest: Manifest, store: ObjectStore, bins: Mapping[str, ColumnStats]) -> None:
        self.manifest, self.store = manifest, store
        self.dtypes = {c.name: c.dtype for c in manifest.columns.columns}
        self.splits = list(dict.fromkeys(a.split for a in manifest.artifacts))
        self.tallies = {name: Tally(stats) for name, stats in bins.items() if name in self.dtypes}

    def batches(self, split: str, columns: list[str], *, count: bool = True) -> Iterator[pa.Table]:
        """A split's rows in the order they are stored, only the named columns."""
        tallies = self.tallies if split == TRAIN and count else {}
        wanted = [*columns, *(name for name in tallies if name not in columns)]
        for artifact in (a for a in self.manifest.artifacts if a.split == split):
            with pq.ParquetFile(self.store.fetch(artifact.key)) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                    table = pa.Table.from_batches([batch])
                    for name, tally in tallies.items():
                        tally.add(table[name])
                    yield table.select(columns)

    def every(self, columns: list[str], *, count: bool = True) -> Iterator[pa.Table]:
        """All splits' rows, one split after another."""
        for split in self.splits:
            yield from self.batches(split, columns, count=count)
