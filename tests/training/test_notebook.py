"""Notebooks run untouched, with or without a parameters cell, on this interpreter whatever kernels are installed."""

import json
import sys
from pathlib import Path

import pytest

from tests.training.bench import Bench, notebook
from zebra_assets.errors import TrainingFailed


def test_a_notebook_becomes_a_version_and_its_executed_copy_is_kept(bench: Bench, quick_script: str) -> None:
    source = notebook(
        quick_script,
        "import sys\nassert C == 3 and model_name == 'book' and dataset_train_uri.startswith('file:///')\nprint('on', sys.executable)",
        parameters="C = 1\nmodel_name = run_id = output_dir = mlflow_tracking_uri = dataset_train_uri = None",
    )
    folder = bench.model("book", source)
    trained = bench.train(folder, params={"C": 3, "not-a-name": 1})
    assert trained.run.version == "1" and trained.run.metrics == {"accuracy": 0.75}
    assert (folder / "train.ipynb").read_text() == source
    assert any(f"on {sys.executable}" in line for line in bench.lines)
    kept = bench.mlflow.download_artifacts(trained.run.mlflow_run_id, "output/executed.ipynb")
    cells = json.loads(Path(kept).read_text())["cells"]
    assert cells[1]["metadata"]["tags"] == ["injected-parameters"] and "copied" in str(cells[2]["outputs"])


def test_a_failing_notebook_without_a_parameters_cell_shows_its_error(bench: Bench) -> None:
    folder = bench.model("book", notebook("print(run_id)\nraise ValueError('bad ' + model_name)"))
    with pytest.raises(TrainingFailed, match="ValueError: bad book"):
        bench.train(folder)
    [found] = bench.mlflow_runs()
    assert "output/executed.ipynb" in bench.artifact_names(found.info.run_id, "output")
    assert not bench.versions("book")
