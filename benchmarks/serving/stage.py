"""The two models that every server of this benchmark serves, registered, promoted and compiled as the platform would have them.

`tabular-churn`, the shipped example: histogram gradient boosting behind an ordinal encoding of its words; and
`logistic`, the same rows through imputation, scaling, one-hot encoding and a logistic regression, in three versions to swap between.
Real customers (IBM's Telco sample).
"""

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.adapters.ledger import SqlLedger
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker, prepare
from zebra_assets.adapters.model_files import load_model, model_digest
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.promotion import Promotion
from zebra_assets.contracts.run import CodeRevision, Run
from zebra_assets.settings import Settings
from zebra_assets.training.package import write_model
from zebra_serving.compile.form import NUMPY, ONNX, PLAIN, Form, toolchain, write_form
from zebra_serving.compile.seal import key_at, seal
from zebra_serving.compile.workshop import Workshop

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "models" / "tabular-churn"
TYPES = {"int64": "int64", "double": "float64", "string": "string", "bool": "bool"}


@dataclass
class Staged:
    """One model: the folder and digest of its version 1, rows to ask about, and the promotion of each version."""

    name: str
    folder: Path
    digest: str
    rows: list[dict[str, Any]]
    versions: list[Promotion] = field(default_factory=list)

    def records(self, count: int) -> list[dict[str, Any]]:
        return [self.rows[i % len(self.rows)] for i in range(count)]


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"churn_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logistic(words: list[str], numbers: list[str], strength: float) -> Any:
    """A logistic regression as most people would write it."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers), (OneHotEncoder(handle_unknown="ignore"), words)
    )
    return make_pipeline(columns, LogisticRegression(C=strength, max_iter=1000))


def stage(project: Path) -> dict[str, Staged]:
    """Make a project below ``project`` with version 1 of both models promoted to prod, and its twin `plain` without compiled forms."""
    frame = _module("source").customers()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    project.mkdir(parents=True, exist_ok=True)
    (project / "manifests").mkdir(exist_ok=True)
    pq.write_table(table, project / "train.parquet")
    features = [n for n in table.column_names if n not in ("customer_id", "churn")]
    columns = {n: {"dtype": TYPES[str(table.schema.field(n).type)], "nullable": table.column(n).null_count > 0} for n in table.column_names}
    words = [n for n in features if columns[n]["dtype"] == "string"]
    numbers = [n for n in features if n not in words]
    params = {"learning_rate": 0.05, "max_iter": 120, "max_leaf_nodes": 8, "min_samples_leaf": 40, "l2_regularization": 1.0}
    settings = Settings(project_dir=project)
    prepare(settings.tracking, settings.artifacts)
    values = {
        "columns": columns, "features": features, "label": {"column": "churn", "type": "binary", "positive": "Yes"},
        "datasets": {"train": {"path": str(project / "train.parquet")}}, "pip_requirements": [],
    }  # fmt: skip
    rows = [row for row in table.select(features).slice(0, 1200).to_pylist() if None not in row.values()]
    models = {
        "logistic": [logistic(words, numbers, strength) for strength in (1.0, 0.1, 0.01)],
        "tabular-churn": [_module("train").build(words, 42, params)],
    }
    staged = {}
    for name, versions in models.items():
        # Without its spec a server does not know the sensitive columns and captures nothing, which would be cheating here.
        (project / "models" / name).mkdir(parents=True, exist_ok=True)
        (project / "models" / name / "model.yaml").write_text((EXAMPLE / "model.yaml").read_text().replace("tabular-churn", name))
        for number, model in enumerate(versions, start=1):
            folder = write_model(model.fit(frame[features], frame["churn"]), project / "folders" / f"{name}-{number}", values)
            digest = model_digest(folder)
            one = staged.setdefault(name, Staged(name, folder, digest, rows))
            one.versions.append(_registered(settings, name, number, folder, digest))
            Workshop(_store(project)).open(folder, digest)
        SqlLedger(settings.state).append(staged[name].versions[0])
    _withhold(project, staged)
    return staged


def _store(project: Path) -> Path:
    return project / ".zebraops" / "serving" / "compiled"


def _withhold(project: Path, models: dict[str, Staged]) -> None:
    """A twin of the project whose server believes that no model could be compiled."""
    twin = project.with_name("plain")
    shutil.copytree(project, twin)
    shutil.rmtree(_store(twin))
    for model in models.values():
        loaded = load_model(model.folder, model.digest)
        form = Form(
            model_digest=model.digest, form=PLAIN, refused=dict.fromkeys((ONNX, NUMPY), "withheld for the benchmark"), checked="",
            task=loaded.task, classes=loaded.classes, positive=loaded.classes.index(loaded.positive), made_with=toolchain(),
        )  # fmt: skip
        folder = _store(twin) / model.digest
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_form(folder, form, None)
        seal(folder, model.digest, key_at(_store(twin).with_name("compiled.key")))


def _registered(settings: Settings, name: str, number: int, folder: Path, digest: str) -> Promotion:
    """The promotion that puts this version to prod, once somebody appends it to the ledger."""
    run = Run(
        id=f"{name}-run-000{number}", model=name, manifest_id=f"{name}-00000000000000a{number}", roles={}, spec_digest="0" * 64,
        code=CodeRevision(digest="1" * 64), created_at=now(), model_digest=digest,
    )  # fmt: skip
    run = run.model_copy(update={"mlflow_run_id": MlflowTracker(settings.tracking, settings.artifacts).start(name, run, {})})
    version = MlflowRegistry(settings.tracking, ui_url=None).register(run, folder, digest)
    return Promotion(
        model=name, alias="prod", seq=1, kind="promote", version=version, from_version=None, run_id=run.id, manifest_id=run.manifest_id,
        model_digest=digest, decision_id="d" * 16, actor="benchmark", reason="", created_at=now(),
    )  # fmt: skip
