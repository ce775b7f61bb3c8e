"""What rests, looked at again: a manifest against the store, and one manifest against another. Changes nothing."""

import pyarrow.parquet as pq

from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.provenance import ManifestDiff, Verification
from zebra_assets.contracts.rows import files_of
from zebra_assets.datasets.diff import Distance, Side, diff
from zebra_assets.datasets.verify import verify
from zebra_assets.drift.binning import compare_summaries
from zebra_assets.drift.metrics import METRICS, js, psi
from zebra_assets.parts import Parts


def verify_manifest(parts: Parts, manifest: Manifest, *, rows: bool = True) -> Verification:
    """Re-hash every blob of a manifest and, unless told otherwise, its rows. Raises what `datasets.verify` raises."""
    return verify(manifest, parts.store, rows=rows)


def diff_manifests(parts: Parts, before: Manifest, after: Manifest, *, sensitive: frozenset[str]) -> ManifestDiff:
    """Compare two manifests row by row; ``sensitive`` columns are masked in the examples.

    Raises:
        NotFound: a blob is gone; `verify` says which.
    """
    return diff(_side(parts, before), _side(parts, after), sensitive=sensitive, distances=distance)


def distance(before: ColumnStats, after: ColumnStats) -> Distance | None:
    """Psi and js of two summaries of one column, as drift measures them; None where they cannot be compared."""
    table = compare_summaries(before, after)
    if table is None or not len(table.labels):
        return None
    return Distance(psi(table), js(table), METRICS["psi"].net(table) > METRICS["psi"].threshold)


def _side(parts: Parts, manifest: Manifest) -> Side:
    names = [c.name for c in manifest.columns.columns]
    return Side(manifest, {split: pq.read_table(files_of(manifest, split, parts.store), columns=names) for split in manifest.split_names()})
