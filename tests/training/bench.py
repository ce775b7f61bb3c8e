"""A workbench for training tests: real stores in a temporary folder, a small manifest, and ways to write models on it."""

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from zebra_assets.adapters.locks import FileLocks
from zebra_assets.adapters.mlflow import MlflowRegistry, MlflowTracker, prepare
from zebra_assets.adapters.object_store import open_store
from zebra_assets.adapters.records import SqlRecords
from zebra_assets.adapters.state import migrate
from zebra_assets.contracts.dataset_spec import LabelSpec, SplitSpec
from zebra_assets.contracts.digest import file_digest
from zebra_assets.contracts.manifest import Artifact, Column, Hashes, Manifest, Schema, Source, Stats
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.contracts.noun import now
from zebra_assets.training.train import Trained, train

ROLES = ("train", "valid", "test")
DTYPES = {"id": "string", "age": "float64", "visits": "int64", "plan": "string", "churn": "string"}
NULLABLE = {"age"}
ROWS = 300


def rows(count: int = ROWS, seed: int = 0) -> pa.Table:
    """Customers whose churn follows age and plan, with some ages missing."""
    rng = np.random.default_rng(seed)
    age, plan = rng.normal(size=count), rng.choice(["basic", "gold", "free"], count)
    churn = np.where(age + (plan == "free") + rng.normal(scale=0.7, size=count) > 0.5, "Yes", "No")
    return pa.table(
        {
            "id": [f"c{i}" for i in range(count)],
            "age": pa.array(age, mask=rng.random(count) < 0.05),
            "visits": rng.integers(0, 9, count),
            "plan": plan,
            "churn": churn,
        }
    )


@cache
def template() -> Path:
    """Prepared, empty stores: MLflow's 40 migrations take 4 s, a copy 2 ms."""
    folder = Path(tempfile.mkdtemp(prefix="zebra-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())
    migrate(f"sqlite:///{folder / 'state.db'}")
    return folder


@dataclass
class Bench:
    """One set of stores and the models written on it."""

    folder: Path
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("mlflow.db", "state.db"):
            shutil.copyfile(template() / name, self.folder / name)
        self.uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.artifacts = (self.folder / "artifacts").as_uri()
        self.open()
        self.manifest = self._manifest()

    def open(self) -> None:
        """Open the adapters, as a new process would."""
        self.tracker = MlflowTracker(self.uri, self.artifacts)
        self.registry = MlflowRegistry(self.uri, ui_url=None)
        self.records = SqlRecords(f"sqlite:///{self.folder / 'state.db'}")
        self.locks = FileLocks(self.folder / "locks")
        self.store = open_store((self.folder / "objects").as_uri(), cache=self.folder / "cache")

    def _manifest(self) -> Manifest:
        artifacts = []
        for seed, split in enumerate(ROLES):
            path = self.folder / f"{split}.parquet"
            pq.write_table(rows(seed=seed), path)
            key = f"data/{split}.parquet"
            uri = self.store.put(key, path)
            digest = file_digest(path)
            artifacts.append(Artifact(split=split, key=key, uri=uri, digest=digest, bytes=path.stat().st_size, rows=ROWS))
        schema = Schema(
            columns=[Column(name=n, dtype=t, nullable=n in NULLABLE) for n, t in DTYPES.items()],
            key=["id"],
            label=LabelSpec(column="churn", type="binary", positive="Yes"),
        )
        return Manifest(
            id="customers-0123456789abcdef",
            dataset="customers",
            created_at=now(),
            source=Source(connector="files", location="here"),
            schema=schema,
            splits=SplitSpec(),
            stats=Stats(rows=3 * ROWS, rows_by_split=dict.fromkeys(ROLES, ROWS), null_fraction={}, columns={}),
            artifacts=artifacts,
            hashes=Hashes(content="a" * 64, blocks=[], block_rows=1),
        )

    def model(self, name: str, source: str, **spec: Any) -> Path:
        """Write models/<name> with a script, or with a notebook of the given cells when ``source`` is JSON."""
        folder = self.folder / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        kind, entrypoint = ("notebook", "train.ipynb") if source.startswith("{") else ("python", "train.py")
        (folder / entrypoint).write_text(source)
        document = {
            "name": name,
            "type": kind,
            "entrypoint": entrypoint,
            "datasets": dict.fromkeys(ROLES, "customers"),
            "tracking": {"experiment_name": "tests"},
            "metrics": [{"name": "roc_auc", "direction": "maximize", "threshold": 0.6}],
            **spec,
        }
        (folder / "model.yaml").write_text(yaml.safe_dump(document))
        return folder

    def train(self, folder: Path, **more: Any) -> Trained:
        return train(
            load_model_spec(folder),
            folder,
            dict.fromkeys(ROLES, self.manifest),
            self.manifest.id,
            **{
                "store": self.store,
                "tracker": self.tracker,
                "registry": self.registry,
                "records": self.records,
                "locks": self.locks,
                "workdir": self.folder / "runs",
                "log": self.lines.append,
                **more,
            },
        )

    @property
    def mlflow(self) -> Any:
        return self.tracker._client

    def mlflow_runs(self) -> list[Any]:
        found = self.mlflow.get_experiment_by_name("tests")
        return list(self.mlflow.search_runs([found.experiment_id])) if found else []

    def versions(self, name: str) -> list[Any]:
        return list(self.mlflow.search_model_versions(f"name = '{name}'"))

    def artifact_names(self, mlflow_run_id: str, path: str = "") -> set[str]:
        return {f.path for f in self.mlflow.list_artifacts(mlflow_run_id, path)}


def notebook(*cells: str, parameters: str | None = None) -> str:
    """A notebook's JSON; ``parameters`` is the source of the cell with that tag."""
    code = {"cell_type": "code", "execution_count": None, "outputs": []}
    first = [] if parameters is None else [{**code, "metadata": {"tags": ["parameters"]}, "source": parameters}]
    rest = [{**code, "metadata": {}, "source": cell} for cell in cells]
    return json.dumps({"cells": [*first, *rest], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
