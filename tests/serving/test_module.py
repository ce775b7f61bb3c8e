"""A `module` model on its whole way: trained, judged, promoted, approved, served from a process of its own."""

from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.serving.conftest import Bench, Shelf, served, until
from zebra_assets.adapters.mlflow import MlflowRegistry
from zebra_assets.cli.init import write_project
from zebra_assets.contracts.rows import files_of
from zebra_assets.control import code, operations
from zebra_assets.loop.predictions import predictions
from zebra_assets.parts import Parts
from zebra_assets.settings import load_settings
from zebra_serving.app import create_app

NAME = "nuclei"
MODULE = '''
import json
from pathlib import Path

import pyarrow.parquet as pq

from curve import chance


class ModelException(Exception):
    """What the team says when it will not."""


def train(data, folder_path, secrets):
    label, rows = data["label"], pq.read_table(data["datasets"]["train"]["path"]).to_pylist()
    sides = [[r["radius"] for r in rows if (r[label["column"]] == label["positive"]) == side] for side in (True, False)]
    means = [sum(side) / len(side) for side in sides]
    words = {True: label["positive"], False: next(w for w in (r[label["column"]] for r in rows) if w != label["positive"])}
    kept = {"cut": sum(means) / 2, "up": means[0] > means[1], "yes": words[True], "no": words[False]}
    Path(folder_path, "kept.json").write_text(json.dumps(kept))
    return {"cut": kept["cut"], "secrets": len(secrets)}


def initialization(artifact_folder, secrets):
    return json.loads(Path(artifact_folder, "kept.json").read_text())


def predict(data, init_object, secrets):
    if any(row["radius"] < 0 for row in data["input"]):
        raise ModelException("a nucleus has a radius")
    if any(row["radius"] > 1e9 for row in data["input"]):
        return 1 / 0
    scores = [chance(row["radius"] - init_object["cut"], init_object["up"]) for row in data["input"]]
    return {"prediction": [init_object["yes" if s > 0.5 else "no"] for s in scores], "score": scores}
'''
CURVE = """
import math


def chance(away, up):
    return 1 / (1 + math.exp(-away if up else away))
"""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A project whose model is a module: trained, judged and promoted, not approved."""
    folder = tmp_path_factory.mktemp("module") / NAME
    write_project(folder, NAME, "tabular")
    home = folder / "models" / NAME
    (home / "train.py").unlink()
    (home / "model.py").write_text(MODULE)
    (home / "curve.py").write_text(CURVE)
    spec = (home / "model.yaml").read_text()
    (home / "model.yaml").write_text(spec.replace("type: python", "type: module").replace("entrypoint: train.py", "entrypoint: model.py"))
    found = Parts(load_settings(folder).model_copy(update={"reload_interval_s": 0.05}))
    operations.ingest(found, NAME)
    operations.train(found, NAME)
    judged = operations.evaluate(found, NAME)
    assert judged.report.candidate.metrics["roc_auc"] > 0.9
    operations.promote(found, NAME)
    return found


def rows_of(parts: Parts) -> list[dict[str, Any]]:
    spec = parts.records.runs(NAME)[0]
    manifest = parts.manifests.get(spec.manifest_id)
    table = pq.read_table(files_of(manifest, "valid", parts.store))
    assert manifest.columns.label is not None
    found: list[dict[str, Any]] = table.drop_columns([manifest.columns.label.column, *manifest.columns.key]).slice(0, 12).to_pylist()
    return found


def test_a_module_is_judged_without_a_word_and_served_only_on_an_approver_s(parts: Parts) -> None:
    bench = Bench(parts.settings, Shelf(parts.settings.tracking, Path()))
    app = create_app(parts.settings, NAME, registry=MlflowRegistry(parts.settings.tracking, ui_url=None))
    with bench.running(app) as client:
        failure = until(lambda: client.get("/model").json()["last_reload_failure"])
        assert failure["reason"] == "refused"
        assert "mlops code approve" in failure["fix"]
        assert client.get("/ready").status_code == 503
        code.approve(parts, NAME, "1", "read model.py and curve.py")
        until(lambda: served(app) == "1")
        answers_like_the_evaluation(client, parts)
        the_akerbp_door_keeps_its_contract(client, parts)


def answers_like_the_evaluation(client: httpx.Client, parts: Parts) -> None:
    run, rows = parts.records.runs(NAME)[0], rows_of(parts)
    assert run.version is not None
    assert run.model_digest is not None
    kept = predictions(parts, NAME, run.version, run.model_digest, parts.manifests.get(run.manifest_id), "valid")
    answer = client.post("/predict", json={"rows": rows}).json()["predictions"]
    assert [a["score"] for a in answer] == pytest.approx(kept["score"].to_pylist()[:12])
    assert client.get("/model").json()["own_code"]["reason"] == "read model.py and curve.py"


def the_akerbp_door_keeps_its_contract(client: httpx.Client, parts: Parts) -> None:
    row = rows_of(parts)[0]
    said = client.post("/akerbp/predict", json=row).json()
    assert (said["status"], said["model_id"], len(said["prediction"])) == ("ok", f"{NAME}-prod-1", 1)
    refused = client.post("/akerbp/predict", json={**row, "radius": -1.0})
    assert (refused.status_code, refused.json()["status"]) == (422, "error")
    assert "a nucleus has a radius" in refused.json()["message"]
    failed = client.post("/akerbp/predict", json={**row, "radius": 2e9})
    assert (failed.status_code, failed.json()["status"]) == (500, "error")
    assert "Traceback" not in failed.text
    assert client.post("/akerbp/predict", json=row).json() == said
