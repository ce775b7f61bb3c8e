"""Evidently's own drift page, rendered in a process of its own; `drift_page` is ours, which opens at once and links to it.

Importing Evidently takes 5 to 9 s and 300 MB, so it never enters the process that judges drift: `drift_html` starts
``python -m zebra_assets.adapters.evidently_report BASELINE WINDOW OUT``. The verdict comes from `drift/monitor` and stands
whether or not this page could be drawn.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets import telemetry
from zebra_assets.adapters import durable
from zebra_assets.errors import Unavailable, UsageError

TIMEOUT_S = 120.0  # 6 s alone, 15 to 25 s on two busy cores


def drift_html(
    baseline: pa.Table, window: pa.Table, out: Path, *, sample: int = 2000, share: float = 0.3, timeout_s: float = TIMEOUT_S
) -> None:
    """Write Evidently's DataDriftPreset of the columns that both tables have to ``out``, a page of about 4 MB.

    Args:
        baseline, window: rows to compare ("reference" and "current" in Evidently's words).
        out: the file; complete when it appears.
        sample: most rows of each table that are drawn; which ones is fixed, so the same tables give the same picture.
        share: the model's `drift.share`, so that Evidently's headline goes by the same share (its column tests are its own).
        timeout_s: seconds after which the rendering process is killed.

    Raises:
        UsageError: the tables share no column, or one of them is empty.
        Unavailable: Evidently is not installed, failed or took too long. No file was written.
    """
    shared = [name for name in baseline.column_names if name in window.column_names]
    if not shared or not baseline.num_rows or not window.num_rows:
        raise UsageError(
            f"Nothing to compare: {baseline.num_rows:,} and {window.num_rows:,} rows share {len(shared)} columns.",
            fix="send predictions first; `mlops monitor` without --html needs none",
        )
    with tempfile.TemporaryDirectory(prefix="zebra-evidently-") as scratch:
        parts = [Path(scratch) / name for name in ("baseline.parquet", "window.parquet", "page.html")]
        for table, path in zip((baseline, window), parts, strict=False):
            pq.write_table(_sampled(table.select(shared), sample), path)
        _run([sys.executable, "-m", __spec__.name, *map(str, parts), str(share)], timeout_s)
        durable.write(out, parts[2].read_bytes())


def _run(argv: list[str], timeout_s: float) -> None:
    fix = "read the summary page, which does not need Evidently; `uv pip install 'zebraops[monitoring]'` brings it"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"Evidently's report was not drawn within {timeout_s:g} s; the drift verdict stands without it.", fix=fix
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"Evidently's report was not drawn ({last}); the drift verdict stands without it.", fix=fix)


def _sampled(table: pa.Table, most: int) -> pa.Table:
    if table.num_rows <= most:
        return table
    chosen = np.random.default_rng(0).choice(table.num_rows, most, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def _render(baseline: Path, window: Path, page: Path, share: float) -> None:
    """Runs in the process of its own."""
    telemetry.off()

    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    tables = [pq.read_table(path) for path in (baseline, window)]
    # One definition for both sides, from the baseline's types: left to itself, Evidently guesses each by its values.
    numbers = [f.name for f in tables[0].schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    texts = [name for name in tables[0].column_names if name not in numbers]
    frames = [table.to_pandas() for table in tables]
    for frame in frames:
        for name in numbers:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
        frame[texts] = frame[texts].astype("string").astype(object)
    # A column that is all null on one side has no distribution to draw; our own report counts its nulls.
    held = [name for name in frames[0].columns if all(frame[name].notna().any() for frame in frames)]
    definition = DataDefinition(
        numerical_columns=[n for n in numbers if n in held],
        categorical_columns=[n for n in texts if n in held],
    )
    base, now = (Dataset.from_pandas(frame[held], data_definition=definition) for frame in frames)
    Report([DataDriftPreset(drift_share=share)]).run(current_data=now, reference_data=base).save_html(str(page))


if __name__ == "__main__":
    first, second, result, portion = sys.argv[1:]
    _render(Path(first), Path(second), Path(result), float(portion))
