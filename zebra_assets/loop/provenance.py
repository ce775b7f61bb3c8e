"""What rests, looked at again: a manifest against the store, and one manifest against another. Changes nothing."""

from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.provenance import ManifestDiff, Verification
from zebra_assets.contracts.verdicts import DriftBin
from zebra_assets.datasets.diff import Distance, diff
from zebra_assets.datasets.tally import Counted
from zebra_assets.datasets.verify import verify
from zebra_assets.drift.binning import compare_counted
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
    return diff(before, after, parts.store, sensitive=sensitive, distances=distance)


def distance(bins: ColumnStats, before: Counted, after: Counted) -> Distance | None:
    """Psi and js of two counts over the bins of one summary, as drift measures them; None where they say nothing."""
    if bins.kind == "categorical" and not bins.values:  # hidden, or without a value
        return None
    outside = before.cells[0] + before.cells[-1] if bins.kind == "numeric" else 0
    inner = before.cells[1:-1] if bins.kind == "numeric" else before.cells[:-1]
    if inner and outside:  # a sketched summary's range may miss its own rows by a little
        inner = [inner[0] + before.cells[0], *inner[1:]]
        inner[-1] += before.cells[-1]
    exact = bins.model_copy(
        update={"counts": inner, "nulls": before.nulls, "rows": before.rows, "other": 0 if bins.kind == "numeric" else before.cells[-1]}
    )
    table = compare_counted(exact, after.cells, after.nulls, rows=after.rows)
    if not len(table.labels):
        return None
    base, now = (counts / max(int(counts.sum()), 1) for counts in (table.baseline, table.window))
    shares = [DriftBin(label=n, baseline=float(b), window=float(w)) for n, b, w in zip(table.labels, base, now, strict=True)]
    return Distance(psi(table), js(table), METRICS["psi"].net(table) > METRICS["psi"].threshold, shares)
