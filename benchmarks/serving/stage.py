"""The two models that every server of this benchmark serves, registered and promoted as the platform would have them.

`tabular-churn`, the shipped example: histogram gradient boosting behind an ordinal encoding of its words; and
`logistic`, the same rows through imputation, scaling, one-hot encoding and a logistic regression. Real customers (IBM's Telco sample).
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker, prepare
from zebra_assets.adapters.model_files import model_digest
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.settings import Settings
from zebra_assets.training.package import write_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "models" / "tabular-churn"
TYPES = {"int64": "int64", "double": "float64", "string": "string", "bool": "bool"}


@dataclass
class Staged:
    """One model: its folder on disk and the request bodies by number of rows, as records."""

    name: str
    folder: Path
    rows: list[dict[str, Any]]

    def records(self, count: int) -> list[dict[str, Any]]:
        return [self.rows[i % len(self.rows)] for i in range(count)]


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"churn_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logistic(words: list[str], numbers: list[str]) -> Any:
    """A logistic regression as most people would write it."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), words)
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


def stage(project: Path) -> dict[str, Staged]:
    """Make a project below ``project`` with both models promoted to prod; the real rows of the example."""
    frame = _module("source").customers()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    project.mkdir(parents=True, exist_ok=True)
    (project / "manifests").mkdir(exist_ok=True)
    pq.write_table(table, project / "train.parquet")
    features = [n for n in table.column_names if n not in ("customer_id", "churn")]
    columns = {n: {"dtype": TYPES[str(table.schema.field(n).type)], "nullable": table.column(n).null_count > 0} for n in table.column_names}
    words = [n for n in features if columns[n]["dtype"] == "string"]
    params = {"learning_rate": 0.05, "max_iter": 120, "max_leaf_nodes": 8, "min_samples_leaf": 40, "l2_regularization": 1.0}
    settings = Settings(project_dir=project)
    prepare(settings.tracking, settings.artifacts)
    values = {
        "columns": columns, "features": features, "label": {"column": "churn", "type": "binary", "positive": "Yes"},
        "datasets": {"train": {"path": str(project / "train.parquet")}}, "pip_requirements": [],
    }  # fmt: skip
    rows = [row for row in table.select(features).slice(0, 200).to_pylist() if None not in row.values()]
    models = {
        "tabular-churn": _module("train").build(words, 42, params),
        "logistic": logistic(words, [n for n in features if n not in words]),
    }
    staged = {}
    for name, model in models.items():
        folder = write_model(model.fit(frame[features], frame["churn"]), project / "folders" / name, values)
        # Without its spec a server does not know the sensitive columns and captures nothing, which would be cheating here.
        (project / "models" / name).mkdir(parents=True, exist_ok=True)
        (project / "models" / name / "model.yaml").write_text((EXAMPLE / "model.yaml").read_text().replace("tabular-churn", name))
        _promote(settings, name, folder)
        staged[name] = Staged(name, folder, rows)
    (project / "digests.json").write_text(json.dumps({name: model_digest(one.folder) for name, one in staged.items()}))
    return staged


def _promote(settings: Settings, name: str, folder: Path) -> None:
    digest = model_digest(folder)
    run = Run(
        id=f"{name}-run-0001", model=name, manifest_id=f"{name}-00000000000000a1", roles={}, spec_digest="0" * 64,
        code=CodeRevision(digest="1" * 64), created_at=now(), model_digest=digest,
    )  # fmt: skip
    run = run.model_copy(update={"mlflow_run_id": MlflowTracker(settings.tracking, settings.artifacts).start(name, run, {})})
    version = MlflowRegistry(settings.tracking, ui_url=None).register(run, folder, digest)
    ledger = SqlLedger(settings.state)
    if ledger.head(name, "prod") is None:
        promotion = Promotion(
            model=name, alias="prod", seq=1, kind="promote", version=version, from_version=None, run_id=run.id,
            manifest_id=run.manifest_id, model_digest=digest, decision_id="d" * 16, actor="benchmark", reason="", created_at=now(),
        )  # fmt: skip
        ledger.append(promotion)
