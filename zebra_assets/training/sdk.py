"""What a train.py may import: ``from zebra_assets.training import sdk``; light, and not needed by anybody.

    run = sdk.current()
    frame = run.train()
    model.fit(frame[run.features], frame[run.label.column])
    run.log_metrics({"roc_auc": 0.84})
    run.save_model(model)

Reads the config file named by ``--config`` or ZEBRA_CONFIG and writes to the output folder; talks to no server.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from zebra_assets.contracts.dataset_spec import LabelSpec
from zebra_assets.errors import NotFound, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Current:
    """The run this process is part of.

    Attributes:
        params: hyper-parameters: the spec's, overlaid with those of the command.
        features: columns that are neither key nor label, in stored order.
        output_dir: what is written here is kept with the run.
        values: the whole config file.
    """

    params: dict[str, Any]
    label: LabelSpec
    features: list[str]
    seed: int
    output_dir: Path
    values: dict[str, Any]

    def table(self, role: str) -> "pa.Table":
        """The rows of a role (train, valid, test). Raises `NotFound` for a role that model.yaml does not name."""
        import pyarrow.parquet as pq

        datasets = self.values["datasets"]
        if role not in datasets:
            raise NotFound(f"This run has no {role} rows; it has {', '.join(datasets)}.", fix=f"add datasets.{role} to model.yaml")
        return pq.read_table(datasets[role]["path"])

    def train(self) -> "pd.DataFrame":
        """The train rows with every column."""
        return self.table("train").to_pandas(date_as_object=False)

    def valid(self) -> "pd.DataFrame":
        """The valid rows with every column."""
        return self.table("valid").to_pandas(date_as_object=False)

    def test(self) -> "pd.DataFrame":
        """The test rows with every column. For final figures; choosing a model by them spoils them."""
        return self.table("test").to_pandas(date_as_object=False)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Add to the run's metrics; the last value of a name wins."""
        self._merge("metrics.json", {name: float(value) for name, value in metrics.items()})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add to the run's parameters, beside those it was given."""
        self._merge("params.json", params)

    def save_model(self, model: Any, example: "pd.DataFrame | None" = None) -> Path:
        """Save a fitted scikit-learn model as the run's model and return its folder.

        Args:
            model: fitted on the dataset's own columns.
            example: a few rows to keep beside it, typical ones; default some from all over the train split.

        Raises:
            TrainingFailed: it was fitted on other columns than the dataset's, or holds classes that cannot be loaded safely.
        """
        import pyarrow as pa

        from zebra_assets.training.package import write_model

        rows = None if example is None else pa.Table.from_pandas(example, preserve_index=False)
        return write_model(model, self.output_dir / "model", self.values, rows)

    def _merge(self, name: str, more: Mapping[str, Any]) -> None:
        path = self.output_dir / name
        known = json.loads(path.read_text()) if path.exists() else {}
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps({**known, **more}, indent=2))
        scratch.replace(path)


def current() -> Current:
    """The run this process is part of.

    Raises:
        UsageError: neither ``--config PATH`` nor ZEBRA_CONFIG names a config file.
    """
    words = sys.argv[1:]
    named = words[words.index("--config") + 1] if "--config" in words[:-1] else os.environ.get("ZEBRA_CONFIG")
    if not named or not Path(named).is_file():
        raise UsageError(
            f"No config file{f' at {named}' if named else ''}: this script is started by a training run.",
            fix=f"mlops train {Path.cwd().name}, or python train.py --config .zebraops/runs/RUN/TRY/config.yaml",
        )
    values = yaml.safe_load(Path(named).read_text(encoding="utf-8"))
    return Current(
        params=values["params"],
        label=LabelSpec.model_validate(values["label"]),
        features=values["features"],
        seed=values["seed"],
        output_dir=Path(values["output_dir"]),
        values=values,
    )
