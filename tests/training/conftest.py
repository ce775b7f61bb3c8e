"""Fixtures of the training room: a workbench per test, one trained model for the whole session."""

from pathlib import Path

import pytest

from tests.training.bench import Bench
from zebra_assets.training.train import Trained

SDK_SCRIPT = """
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from zebra_assets.training import sdk

run = sdk.current()
frame = run.train()
columns = make_column_transformer((SimpleImputer(), ["age"]), (OneHotEncoder(), ["plan"]), ("passthrough", ["visits"]))
model = make_pipeline(columns, LogisticRegression(C=run.params["C"]))
model.fit(frame[run.features], frame[run.label.column])
valid = run.valid()
run.log_metrics({"accuracy": model.score(valid[run.features], valid[run.label.column])})
run.log_params({"rows": len(frame)})
run.save_model(model)
print("fitted", len(frame), "rows")
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def sdk_bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Trained]:
    """A workbench on which a script that uses the sdk was trained once (2.5 s)."""
    bench = Bench(tmp_path_factory.mktemp("sdk"))
    folder = bench.model("with-sdk", SDK_SCRIPT, hyperparams={"params": {"C": 1.0}}, notes="first")
    return bench, bench.train(folder, params={"C": 0.5})


@pytest.fixture(scope="session")
def quick_script(sdk_bench: tuple[Bench, Trained]) -> str:
    """A script that leaves a good model within 0.1 s: it copies one that was fitted before."""
    _, trained = sdk_bench
    return f"""
import json, os, pathlib, shutil
output = pathlib.Path(os.environ["ZEBRA_OUTPUT_DIR"])
shutil.copytree({str(trained.folder)!r}, output / "model")
(output / "metrics.json").write_text(json.dumps({{"accuracy": 0.75}}))
print("copied")
"""
