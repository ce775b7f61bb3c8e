"""One candidate per run id: what a good script, a bad script and a cut wire leave behind."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.training.bench import ROLES, Bench, rows
from zebra_assets import telemetry
from zebra_assets.adapters.mlflow import MlflowTracker
from zebra_assets.adapters.model_files import load_model
from zebra_assets.contracts.model_spec import load_model_spec
from zebra_assets.errors import Conflict, NotFound, Refused, SpecInvalid, TrainingFailed, Unavailable, UsageError
from zebra_assets.training.train import Trained


def test_a_script_that_uses_the_sdk_becomes_a_version(sdk_bench: tuple[Bench, Trained]) -> None:
    bench, trained = sdk_bench
    run = trained.run
    assert trained.created
    assert (run.state, run.version, run.attempt, run.params) == ("finished", "1", 1, {"C": 0.5})
    assert run.metrics.keys() == {"accuracy"} and run.metrics["accuracy"] > 0.7
    assert run.roles == dict.fromkeys(ROLES, bench.manifest.id)
    assert bench.records.run(run.id) == run
    assert "fitted 300 rows" in bench.lines


def test_the_mlflow_run_tells_spec_code_data_and_environment(sdk_bench: tuple[Bench, Trained]) -> None:
    bench, trained = sdk_bench
    run = trained.run
    [found] = bench.mlflow_runs()
    assert found.info.run_id == run.mlflow_run_id and found.info.status == "FINISHED"
    tags = found.data.tags
    assert tags["zebra.run_id"] == run.id and tags["zebra.model"] == run.model
    assert tags["zebra.manifest"] == bench.manifest.id and tags["zebra.spec"] == run.spec_digest
    assert tags["zebra.code"] == run.code.digest and tags["zebra.environment"] == run.environment
    assert found.data.params == {"C": "0.5", "rows": "300"}
    assert found.data.metrics == run.metrics
    kept = bench.artifact_names(found.info.run_id)
    assert kept >= {"config.yaml", "model.yaml", "train.log", "environment.json", "requirements.txt", "model"}
    [version] = bench.versions(run.model)
    assert version.tags["zebra.digest"] == run.model_digest and version.run_id == run.mlflow_run_id


def test_the_registered_model_predicts_what_the_script_fitted(sdk_bench: tuple[Bench, Trained], tmp_path: Path) -> None:
    bench, trained = sdk_bench
    folder = bench.registry.download(trained.run.model, "1", tmp_path)
    model = load_model(folder, trained.run.model_digest)
    assert [(f.name, f.dtype, f.required) for f in model.features] == [
        ("age", "float64", False),
        ("visits", "int64", True),
        ("plan", "string", True),
    ]
    assert (model.task, model.classes, model.positive, model.label) == ("binary", ["No", "Yes"], "Yes", "churn")
    table = rows(seed=1)
    predicted = model.predict(table)
    assert np.mean(predicted.labels == table.column("churn").to_numpy()) == trained.run.metrics["accuracy"]
    assert predicted.scores is not None and ((predicted.scores > 0.5) == (predicted.labels == "Yes")).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # mlflow.pyfunc warns about its own type hints on import
def test_mlflow_itself_loads_the_version_and_leaves_its_digest(sdk_bench: tuple[Bench, Trained], tmp_path: Path) -> None:
    import mlflow

    bench, trained = sdk_bench
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(bench.uri)
    try:
        loaded = mlflow.pyfunc.load_model(f"models:/{trained.run.model}/1")
        table = rows(seed=1)
        assert (loaded.predict(table.to_pandas()) == load_model(trained.folder, None).predict(table).labels).all()
        example = loaded.input_example
    finally:
        mlflow.set_tracking_uri(before)
    assert list(example.columns) == ["age", "visits", "plan"] and len(example) == 32
    load_model(bench.registry.download(trained.run.model, "1", tmp_path), trained.run.model_digest)


def test_the_same_inputs_again_return_the_finished_run(sdk_bench: tuple[Bench, Trained]) -> None:
    bench, trained = sdk_bench
    folder = bench.folder / "models" / "with-sdk"
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("first", "words that change nothing"))
    repeated = bench.train(folder, params={"C": 0.5})
    assert not repeated.created and repeated.run == trained.run
    assert len(bench.mlflow_runs()) == len(bench.versions("with-sdk")) == 1


def test_again_and_other_parameters_make_other_runs(bench: Bench, quick_script: str) -> None:
    folder = bench.model("quick", quick_script)
    first, second = bench.train(folder), bench.train(folder, again=True)
    other = bench.train(folder, params={"C": 2})
    assert [t.run.version for t in (first, second, other)] == ["1", "2", "3"]
    assert [t.run.attempt for t in (first, second, other)] == [1, 2, 1]
    assert bench.train(folder).run.id == second.run.id
    assert len({t.run.id for t in (first, second, other)}) == len(bench.mlflow_runs()) == 3


def test_an_edited_script_is_another_run(bench: Bench, quick_script: str) -> None:
    first = bench.train(bench.model("quick", quick_script), tags={"dagster_run_id": "abc"})
    assert bench.mlflow_runs()[0].data.tags["dagster_run_id"] == "abc"
    second = bench.train(bench.model("quick", quick_script + "# edited\n"))
    assert second.created and second.run.code.digest != first.run.code.digest


PLAIN = """
import argparse, json, pathlib, joblib, pandas, yaml
from sklearn.ensemble import RandomForestClassifier
parser = argparse.ArgumentParser()
parser.add_argument("--config")
config = yaml.safe_load(open(parser.parse_args().config))
frame = pandas.read_parquet(config["datasets"]["train"]["uri"]).dropna()
model = RandomForestClassifier(10, random_state=0).fit(frame[["age", "visits"]], (frame.churn == "Yes").astype(int))
output = pathlib.Path(config["output_dir"])
joblib.dump(model, output / "model.joblib")
(output / "metrics.json").write_text(json.dumps({"depth": 3, "bad": float("nan")}))
"""


def test_a_script_that_only_reads_its_config_works_with_a_pickle_and_an_encoded_label(bench: Bench) -> None:
    trained = bench.train(bench.model("plain", PLAIN))
    assert trained.run.metrics == {"depth": 3.0}
    assert trained.folder is not None and not list(trained.folder.glob("*.joblib"))
    model = load_model(trained.folder, trained.run.model_digest)
    assert [f.name for f in model.features] == ["age", "visits"]
    assert (model.classes, model.positive) == (["No", "Yes"], "Yes")
    table = rows(seed=1).drop_null()
    predicted = model.predict(table)
    assert set(predicted.labels) == {"No", "Yes"}
    assert predicted.scores is not None and np.corrcoef(predicted.scores, table.column("age").to_numpy())[0, 1] > 0.5


LOGGING = """
import mlflow, mlflow.sklearn, os, pandas
from sklearn.linear_model import LogisticRegression
frame = pandas.read_parquet(os.environ["ZEBRA_DATASET_TRAIN_URI"]).dropna()
with mlflow.start_run():
    mlflow.log_metric("seen", len(frame))
    model = LogisticRegression().fit(frame[["age", "visits"]], frame.churn)
    mlflow.sklearn.log_model(model, name="anything", pip_requirements=["scikit-learn"])
"""


def test_a_script_that_logs_its_model_to_mlflow_lands_in_the_same_run(bench: Bench) -> None:
    trained = bench.train(bench.model("logging", LOGGING))
    [found] = bench.mlflow_runs()
    assert found.info.run_id == trained.run.mlflow_run_id and found.info.status == "FINISHED"
    assert trained.run.metrics["seen"] > 200
    assert load_model(trained.folder, trained.run.model_digest).positive == "Yes"


def failed(bench: Bench, source: str, **spec: Any) -> tuple[TrainingFailed, Any]:
    folder = bench.model("broken", source, **spec)
    with pytest.raises(TrainingFailed) as caught:
        bench.train(folder)
    [run] = bench.records.runs("broken")
    [found] = bench.mlflow_runs()
    assert run.state == "failed" and run.error and found.info.status == "FAILED"
    assert run.version is None and not bench.versions("broken")
    assert caught.value.fix
    return caught.value, found


def test_a_script_that_exits_1_shows_its_last_lines_and_registers_nothing(bench: Bench) -> None:
    error, found = failed(bench, "import sys\nfor i in range(30): print('line', i, file=sys.stderr)\nraise ValueError('bad C')")
    assert error.message.startswith("models/broken/train.py exited with 1: ValueError: bad C")
    assert error.message.count("\n  | ") == 20
    assert "train.log" in bench.artifact_names(found.info.run_id)
    assert "--config" in (error.fix or "")


def test_a_silent_script_without_a_model_is_told_how_to_save_one(bench: Bench) -> None:
    error, _ = failed(bench, "")
    assert "left no model" in error.message and "save_model" in (error.fix or "")


def test_broken_metrics_are_named(bench: Bench, quick_script: str) -> None:
    error, _ = failed(bench, quick_script + "(output / 'metrics.json').write_text('{\"auc\": \"high\"}')")
    assert "auc is not a number" in error.message


def test_a_hanging_script_is_killed_with_its_grandchild(bench: Bench) -> None:
    source = "import os, subprocess, time\np = subprocess.Popen(['sleep', '600'])\nprint('pids', os.getpid(), p.pid, flush=True)\ntime.sleep(600)"
    began = time.monotonic()
    error, _ = failed(bench, source, resources={"timeout_s": 1})
    assert "timed out after 1 s" in error.message and time.monotonic() - began < 60  # it would sleep 600 s
    [line] = [line for line in bench.lines if line.startswith("pids")]
    assert not [pid for pid in map(int, line.split()[1:]) if psutil.pid_exists(pid)]


def test_what_is_written_after_the_script_ended_does_not_count(bench: Bench, quick_script: str) -> None:
    late = (
        "import subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 0.3; echo late > $ZEBRA_OUTPUT_DIR/model/late; echo late'],"
        " start_new_session=True)\n"
    )
    trained = bench.train(bench.model("late", quick_script + late))
    time.sleep(0.2)
    time.sleep(0.2)
    assert trained.folder is not None and not (trained.folder / "late").exists() and "late" not in bench.lines


def test_a_model_folder_that_could_run_code_is_refused_before_registration(bench: Bench, quick_script: str) -> None:
    folder = bench.model("hostile", quick_script + "(output / 'model' / 'code').mkdir()\n")
    with pytest.raises(Refused, match="code/"):
        bench.train(folder)
    assert not bench.versions("hostile") and bench.records.runs("hostile")[0].state == "failed"


def test_no_secret_of_this_process_reaches_the_script(bench: Bench, quick_script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "ZEBRA_SERVING_TOKEN", "DATABASE_URL", "MLFLOW_TRACKING_PASSWORD", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "canary-4711")
    script = quick_script + "(output / 'env.txt').write_text('\\n'.join(f'{k}={v}' for k, v in os.environ.items()))\n"
    trained = bench.train(bench.model("nosy", script))
    folder = bench.mlflow.download_artifacts(trained.run.mlflow_run_id, "output")
    seen = dict(line.partition("=")[::2] for line in (Path(folder) / "env.txt").read_text().splitlines())
    assert not [name for name, value in seen.items() if "canary" in value]
    assert seen["ZEBRA_MODEL_NAME"] == "nosy" and seen["ZEBRA_RUN_ID"] == trained.run.id
    assert seen["MLFLOW_TRACKING_URI"] == bench.uri and seen["MLFLOW_EXPERIMENT_NAME"] == "tests"
    assert {f"ZEBRA_DATASET_{role}_URI" for role in ("TRAIN", "VALID", "TEST")} <= seen.keys()
    assert os.environ["PATH"] == seen["PATH"] and telemetry.OFF.items() <= seen.items()


def test_a_link_in_the_output_folder_uploads_nothing_of_this_machine(bench: Bench, quick_script: str) -> None:
    trained = bench.train(bench.model("linking", quick_script + "(output / 'passwd').symlink_to('/etc/passwd')\n"))
    assert bench.artifact_names(trained.run.mlflow_run_id or "", "output") == {"output/metrics.json"}


def test_a_cancelled_training_says_so_and_leaves_no_process(bench: Bench) -> None:
    folder = bench.model("long", "import os, time\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)")
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.train(folder, log=stop)
    [run], [found] = bench.records.runs("long"), bench.mlflow_runs()
    assert run.state == "cancelled" and found.info.status == "KILLED"
    assert not psutil.pid_exists(int(lines[0].split()[1]))


def test_an_unreachable_mlflow_is_reported_at_once_and_nothing_changes(bench: Bench, quick_script: str) -> None:
    folder = bench.model("quick", quick_script)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9") as caught:
        bench.train(folder, tracker=MlflowTracker("http://127.0.0.1:9", ""))
    assert time.monotonic() - began < 30 and caught.value.fix  # MLflow by itself tries for minutes
    assert not bench.records.runs() and not (bench.folder / "runs").exists()


def test_a_second_trainer_of_the_same_run_is_turned_away(bench: Bench, quick_script: str) -> None:
    folder = bench.model("quick", quick_script)
    trained = bench.train(folder)
    with bench.locks.hold(trained.run.id):
        assert not bench.train(folder).created  # a finished run needs no lock
    bench.model("quick", quick_script + "#\n")
    inside: list[str] = []

    def again(line: str) -> None:
        if line == "copied":
            with pytest.raises(Conflict):
                bench.train(folder, log=lambda _: None)
            inside.append(line)

    assert bench.train(folder, log=again).created and inside


def test_what_cannot_be_trained_is_refused_before_anything_starts(bench: Bench, quick_script: str) -> None:
    folder = bench.model("quick", quick_script, env={"python_version": "3.9"})
    with pytest.raises(SpecInvalid, match="python_version"):
        bench.train(folder)
    folder = bench.model("quick", quick_script)
    with pytest.raises(UsageError, match="Parameters"):
        bench.train(folder, params={"C": float("nan")})
    (folder / "train.py").unlink()
    with pytest.raises(NotFound, match=r"train\.py"):
        bench.train(folder)
    assert not bench.records.runs() and not bench.mlflow_runs()


def test_changed_bytes_of_a_split_are_refused(bench: Bench, quick_script: str) -> None:
    artifact = bench.manifest.artifacts[0]
    other = artifact.model_copy(update={"digest": "0" * 64})
    bench.manifest = bench.manifest.model_copy(update={"artifacts": [other, *bench.manifest.artifacts[1:]]})
    with pytest.raises(Refused, match="train split"):
        bench.train(bench.model("quick", quick_script))
    bench.manifest = bench.manifest.model_copy(update={"artifacts": [artifact]})
    with pytest.raises(NotFound, match="no split 'valid'"):
        bench.train(bench.model("quick", quick_script + "#"))


def test_the_spec_of_the_shipped_example_loads() -> None:
    spec = load_model_spec(Path(__file__).parents[2] / "models" / "tabular-churn")
    assert spec.primary.threshold == 0.78
